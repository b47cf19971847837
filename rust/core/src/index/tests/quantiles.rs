//! Quantiles kept in order against sorting from scratch, under any sequence of changes.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Append,
    Remove(usize),
    Return(usize, Option<i32>),
    Total(i64, i32),
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => Just(Change::Append),
        2 => (0..400_usize).prop_map(Change::Remove),
        3 => (0..400_usize, prop::option::of(-9..9)).prop_map(|(at, ret)| Change::Return(at, ret)),
        2 => (0..100_i64, -9..9).prop_map(|(episode, total)| Change::Total(episode, total)),
    ]
}

fn questions() -> Vec<(Scale, Resolved)> {
    let any = Resolved::default;
    let filters = [
        any(),
        Resolved { min_episode_reward: Some(1.0), ..any() },
        Resolved { min_return: Some(0.0), ..any() },
        Resolved { task_types: Some(vec![LabelId(2), LabelId(0)]), ..any() },
    ];
    let scales = [Scale::Return, Scale::Episode];
    // one more than is kept, so that some are forgotten and asked again
    filters
        .into_iter()
        .flat_map(|filter| scales.map(|scale| (scale, filter.clone())))
        .chain([(Scale::Return, Resolved { success: Some(true), ..any() })])
        .collect()
}

/// The plain way: collect, sort, interpolate.
fn sorted(
    index: &Index,
    totals: &BTreeMap<EpisodeId, f64>,
    of: &(Scale, Resolved),
    q: f64,
) -> Option<f64> {
    let (scale, filter) = of;
    let mut values: Vec<f64> = match scale {
        Scale::Return => {
            let keys = index.keys_matching(filter);
            keys.iter().filter_map(|&key| index.entry(key).unwrap().ret).collect()
        }
        Scale::Episode => {
            let episodes = index.episodes_matching(filter);
            episodes.iter().filter_map(|episode| totals.get(episode)).copied().collect()
        }
    };
    values.sort_by(f64::total_cmp);
    let position = q * (values.len().checked_sub(1)?) as f64;
    let (low, high) = (values[position.floor() as usize], values[position.ceil() as usize]);
    Some(low + (high - low) * position.fract())
}

pub(super) fn apply(
    index: &mut Index,
    totals: &mut BTreeMap<EpisodeId, f64>,
    next: &mut i64,
    change: Change,
) {
    match change {
        Change::Append => {
            // an episode is gone with its last row: one that comes back is told its total again, as by the store
            let episode = entry(*next).episode;
            let back = !index.episodes_matching(&Resolved::default()).contains(&episode);
            index.append(&entry(*next), &[1.0]);
            if let Some(&total) = totals.get(&episode).filter(|_| back) {
                index.set_episode_total(episode, total);
            }
            *next += 1;
        }
        Change::Remove(at) => index.remove(&[RowKey(at as i64 * 3)]),
        Change::Return(at, ret) => index.set_return(RowKey(at as i64 * 3), ret.map(f64::from)),
        Change::Total(episode, total) => {
            index.set_episode_total(EpisodeId(100 + episode), f64::from(total));
            totals.insert(EpisodeId(100 + episode), f64::from(total));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn kept_quantiles_equal_sorting_anew(
        start in 0..300_i64,
        changes in prop::collection::vec((change(), 0..9_usize, 0.0..=1.0), 0..300),
    ) {
        let (mut index, _) = filled(start, |_| vec![1.0]);
        let mut totals = BTreeMap::new();
        for episode in (0..start).map(|number| entry(number).episode) {
            totals.insert(episode, (episode.0 % 10) as f64);
        }
        let questions = questions();
        let mut next = start;
        for (change, question, q) in changes {
            apply(&mut index, &mut totals, &mut next, change);
            let (scale, filter) = &questions[question];
            let expected = sorted(&index, &totals, &questions[question], q);
            let got = index.quantile(*scale, filter, q);
            let near = |(got, expected): (f64, f64)| (got - expected).abs() < 1e-12;
            prop_assert_eq!(got.is_some(), expected.is_some());
            prop_assert!(got.zip(expected).is_none_or(near), "{:?} {:?} {:?}", got, expected, filter);
        }
    }
}

#[test]
fn quantiles_interpolate_between_ranks_and_skip_what_is_not_computed() {
    let (mut index, _) = filled(5, |_| vec![1.0]);
    let all = Resolved::default();
    for (number, ret) in [(0, None), (1, Some(4.0)), (2, Some(1.0)), (3, Some(2.0)), (4, None)] {
        index.set_return(RowKey(number * 3), ret);
    }
    let ask = |q| index.quantile(Scale::Return, &all, q).unwrap();
    assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(ask), [1.0, 1.5, 2.0, 3.0, 4.0]);
    let none = Resolved { patterns: Some(vec![]), ..all };
    assert_eq!(index.quantile(Scale::Episode, &none, 0.5), None);
}
