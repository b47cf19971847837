//! A store against a list that does the same: whatever is done to both, they agree.

use precedent_core::Filter;
use precedent_core::ids::TrajectoryId;
use precedent_core::store::{Prune, Store, Unit};
use proptest::prelude::*;

use crate::world::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert { episode: u8, n: usize, seed: u64 },
    Delete { from: usize, n: usize },
    Returns { episode: u8 },
    Prune { size: usize },
    Search { seed: u64, k: usize, episode: Option<u8> },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, 1..9_usize, 0..40_u64).prop_map(|(episode, n, seed)| Step::Insert { episode, n, seed }),
        2 => (any::<usize>(), 0..6_usize).prop_map(|(from, n)| Step::Delete { from, n }),
        1 => (0..4_u8).prop_map(|episode| Step::Returns { episode }),
        1 => (0..25_usize).prop_map(|size| Step::Prune { size }),
        3 => (0..60_u64, 1..9_usize, proptest::option::of(0..4_u8))
            .prop_map(|(seed, k, episode)| Step::Search { seed, k, episode }),
        1 => Just(Step::Reopen),
    ]
}

/// A row, as the list keeps it.
#[derive(Clone, Debug)]
struct Kept {
    id: TrajectoryId,
    episode: String,
    state: Vec<f32>,
    step: i64,
    time: i64,
    reward: f64,
    value: Option<f64>,
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn name(episode: u8) -> String {
    format!("e{episode}")
}

fn apply(store: &Store, list: &mut Vec<Kept>, step: Step) {
    match step {
        Step::Insert { episode, n, seed } => {
            let rows = steps(&name(episode), n, seed);
            let ids = insert(store, &rows);
            list.extend(ids.into_iter().enumerate().map(|(i, id)| Kept {
                id,
                episode: name(episode),
                state: state(seed + i as u64),
                step: i as i64,
                time: NOW + i as i64,
                reward: rows.rewards[i],
                value: None,
            }));
        }
        Step::Delete { from, n } => {
            let from = from % (list.len() + 1);
            let until = (from + n).min(list.len());
            let ids: Vec<_> = list.drain(from..until).map(|kept| kept.id).collect();
            assert_eq!(store.delete(&ids).unwrap(), ids.len());
        }
        Step::Returns { episode } => {
            let mut steps: Vec<_> =
                list.iter_mut().filter(|kept| kept.episode == name(episode)).collect();
            steps.sort_by_key(|kept| (kept.step, kept.time, kept.id));
            let outcome = store.compute_returns(&name(episode), 0.5, None);
            assert_eq!(outcome.is_ok(), !steps.is_empty());
            let mut next = 0.0;
            for kept in steps.into_iter().rev() {
                next = kept.reward + 0.5 * next;
                kept.value = Some(next);
            }
        }
        Step::Prune { size } => {
            let rule = Prune {
                keep_days: None,
                min_return: None,
                max_size: Some(size),
                keep_successful: false,
                unit: Unit::Step,
                dry_run: false,
            };
            let gone = store.prune(&rule, &mut || Ok(())).unwrap();
            assert_eq!(gone, list.len().saturating_sub(size));
            let value = |kept: &Kept| kept.value.unwrap_or(f64::NEG_INFINITY);
            list.sort_by(|a, b| {
                value(b).total_cmp(&value(a)).then((b.time, b.id).cmp(&(a.time, a.id)))
            });
            list.truncate(size);
            list.sort_by_key(|kept| kept.id);
        }
        Step::Search { seed, k, episode } => {
            let mut query = nearest(state(seed), k);
            query.options.filter.episodes = episode.map(|episode| vec![name(episode)]);
            let answer = store.search(&query).unwrap();
            let among = list.iter().filter(|kept| episode.is_none_or(|e| kept.episode == name(e)));
            let mut expected: Vec<_> =
                among.map(|kept| (distance(&query.vector, &kept.state), kept)).collect();
            expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.id.cmp(&b.1.id)));
            expected.truncate(k);
            let found: Vec<_> = answer.rows.ids.clone();
            assert_eq!(found, expected.iter().map(|(_, kept)| kept.id).collect::<Vec<_>>());
        }
        Step::Reopen => {}
    }
}

fn agree(store: &Store, list: &[Kept]) {
    let rows = store.get_keys(&store.keys_matching(&all()).unwrap()).unwrap();
    assert_eq!(rows.ids, list.iter().map(|kept| kept.id).collect::<Vec<_>>());
    for (at, kept) in list.iter().enumerate() {
        assert_eq!(rows.episodes.get(at), kept.episode);
        let value = Some(rows.returns[at]).filter(|value| !value.is_nan());
        assert_eq!(value, kept.value);
    }
    for episode in store.episode_names(&all()).unwrap() {
        let total: f64 =
            list.iter().filter(|kept| kept.episode == episode).map(|kept| kept.reward).sum();
        assert!((store.episode(&episode).unwrap().total_reward - total).abs() < 1e-9);
        let rich = Filter {
            min_episode_reward: Some(total - 1e-9),
            episodes: Some(vec![episode]),
            ..all()
        };
        assert!(!store.keys_matching(&rich).unwrap().is_empty());
    }
    let report = store.verify(true, &mut || Ok(())).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_store_and_a_list_agree_whatever_is_done(plan in proptest::collection::vec(step(), 1..25)) {
        let folder = Folder::new();
        let mut store = folder.store();
        let second = folder.store();
        let mut list = Vec::new();
        for step in plan {
            if matches!(step, Step::Reopen) {
                agree(&store, &list);
                store = folder.store();
            }
            apply(&store, &mut list, step);
        }
        agree(&store, &list);
        agree(&second, &list);
    }
}
