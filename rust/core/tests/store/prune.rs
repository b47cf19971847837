//! What is forgotten, and what is not.

use precedent_core::Error;
use precedent_core::store::{Prune, Store, Unit};

use crate::world::*;

const NOTHING: Prune = Prune {
    keep_days: None,
    min_return: None,
    max_size: None,
    keep_successful: true,
    unit: Unit::Step,
    dry_run: false,
};

/// Steps of one episode: (days old, return, succeeded). The reward of step i is i, so that it can be told apart.
fn put(store: &Store, episode: &str, said: &[(f64, Option<f64>, bool)]) {
    let mut rows = steps(episode, said.len(), 0);
    let old = |days: f64| NOW - (days * DAY as f64) as i64;
    rows.timestamps = Some(said.iter().map(|(days, ..)| Some(old(*days))).collect());
    rows.returns = said.iter().map(|(_, value, _)| value.unwrap_or(f64::NAN)).collect();
    rows.successes = Some(said.iter().map(|(.., success)| Some(*success)).collect());
    rows.rewards = (0..said.len()).map(|i| i as f64).collect();
    insert(store, &rows);
}

/// Prunes by count first, then for good; the rewards that are left.
fn left(store: &Store, rule: Prune) -> Vec<f64> {
    let before = size(store);
    let counted = store.prune(&Prune { dry_run: true, ..rule }, &mut || Ok(())).unwrap();
    assert_eq!(size(store), before, "a dry run deletes nothing");
    assert_eq!(store.prune(&rule, &mut || Ok(())).unwrap(), counted);
    assert_eq!(size(store), before - counted);
    let report = store.verify(true, &mut || Ok(())).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
    store.get_keys(&store.keys_matching(&all()).unwrap()).unwrap().rewards
}

#[test]
fn old_and_poor_steps_go_unless_they_succeeded() {
    let said = [
        (40.0, None, false),
        (40.0, None, true),
        (1.0, Some(0.1), false),
        (1.0, Some(0.1), true),
        (1.0, None, false),
        (29.9, Some(0.5), false),
        (30.0, Some(0.5), false),
    ];
    let rule = Prune { keep_days: Some(30.0), min_return: Some(0.5), ..NOTHING };
    let (store, _) = at_noon();
    put(&store, "e", &said);
    assert_eq!(left(&store, rule), [1.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(left(&store, Prune { keep_successful: false, ..rule }), [4.0, 5.0, 6.0]);
    assert_eq!(left(&store, NOTHING).len(), 3);
}

#[test]
fn beyond_the_size_the_worst_go_successful_ones_too() {
    let said = [
        (3.0, None, true),
        (2.0, Some(0.2), true),
        (5.0, Some(9.0), false),
        (4.0, Some(0.2), false),
        (3.0, Some(0.2), false),
        (1.0, None, false),
    ];
    let (store, _) = at_noon();
    put(&store, "e", &said);
    let rule = |max_size| Prune { max_size: Some(max_size), ..NOTHING };
    assert_eq!(left(&store, rule(5)), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(left(&store, rule(4)), [0.0, 1.0, 2.0, 4.0]);
    assert_eq!(left(&store, rule(2)), [0.0, 1.0]);
    assert_eq!(left(&store, rule(1)), [1.0]);
    assert_eq!(left(&store, rule(0)), [] as [f64; 0]);
    put(&store, "e", &said);
    assert_eq!(left(&store, Prune { keep_successful: false, ..rule(2) }), [1.0, 2.0]);
}

#[test]
fn a_whole_episode_goes_only_if_all_of_it_would() {
    let (store, _) = at_noon();
    put(&store, "old", &[(40.0, None, false), (41.0, None, false)]);
    put(&store, "mixed", &[(40.0, None, false), (40.0, None, true)]);
    let rule = Prune { keep_days: Some(30.0), unit: Unit::Episode, ..NOTHING };
    left(&store, rule);
    assert_eq!(store.episode_names(&all()).unwrap(), ["mixed"]);
    assert_eq!(size(&store), 2);
}

#[test]
fn whole_episodes_go_worst_first_until_the_size_holds() {
    let (store, _) = at_noon();
    put(&store, "failed", &[(1.0, Some(9.0), true), (1.0, Some(9.0), false)]);
    put(&store, "poor", &[(1.0, Some(1.0), false), (1.0, Some(1.0), true)]);
    put(&store, "rich", &[(1.0, Some(2.0), true)]);
    put(&store, "said", &[(1.0, Some(1.0), false), (0.5, Some(1.0), false)]);
    put(&store, "unknown", &[(0.1, None, true)]);
    store.set_episode("said", Some(true), None).unwrap();
    let names = |max_size| {
        left(&store, Prune { max_size: Some(max_size), unit: Unit::Episode, ..NOTHING });
        store.episode_names(&all()).unwrap()
    };
    assert_eq!(names(8).len(), 5);
    assert_eq!(names(7), ["poor", "rich", "said", "unknown"]);
    assert_eq!(names(5), ["poor", "rich", "said"]);
    assert_eq!(names(4), ["rich", "said"]);
    assert_eq!(names(2), ["rich"]);
}

#[test]
fn rules_that_are_not_numbers_are_refused() {
    let store = memory();
    let refused = |rule: Prune| match store.prune(&rule, &mut || Ok(())) {
        Err(Error::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Prune { keep_days: Some(-1.0), ..NOTHING }), "keep_days");
    assert_eq!(refused(Prune { keep_days: Some(f64::NAN), ..NOTHING }), "keep_days");
    assert_eq!(refused(Prune { min_return: Some(f64::NAN), ..NOTHING }), "min_return");
    assert!("row".parse::<Unit>().is_err());
}
