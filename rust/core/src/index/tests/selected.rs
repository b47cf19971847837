//! Kept sets of rows against choosing them anew, under any sequence of changes.

use proptest::prelude::*;

use super::quantiles::{apply, change};
use super::*;

/// One more than is kept, so that some are forgotten and asked for again.
fn filters() -> Vec<Resolved> {
    let any = Resolved::default;
    let totals =
        [-3.0, 2.0, 6.0].map(|least| Resolved { min_episode_reward: Some(least), ..any() });
    let others = [
        Resolved { min_return: Some(0.0), ..any() },
        Resolved { min_return: Some(-0.5), min_episode_reward: Some(1.0), ..any() },
        Resolved { task_types: Some(vec![LabelId(2), LabelId(0)]), ..any() },
        Resolved { patterns: Some(vec![]), ..any() },
        Resolved { success: Some(false), ..any() },
        Resolved { after_timestamp: Some(900), ..any() },
    ];
    totals.into_iter().chain(others).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn kept_sets_of_rows_equal_choosing_anew(
        start in 0..300_i64,
        changes in prop::collection::vec((change(), 0..9_usize), 0..300),
    ) {
        let (mut index, _) = filled(start, |_| vec![1.0]);
        let (mut totals, mut next, mut spare) = (BTreeMap::new(), start, Selected::default());
        for episode in (0..start).map(|number| entry(number).episode) {
            totals.insert(episode, (episode.0 % 10) as f64);
        }
        let filters = filters();
        for (change, asked) in changes {
            apply(&mut index, &mut totals, &mut next, change);
            let selected = index.select(&filters[asked], &mut spare).unwrap();
            let anew = index.matching(&filters[asked]);
            prop_assert_eq!(&selected.rows, &anew, "{:?} after {:?}", &filters[asked], change);
            prop_assert_eq!(selected.count, anew.count());
        }
    }
}

#[test]
fn a_new_episode_of_a_large_index_is_judged_without_choosing_anew() {
    let (mut index, _) = filled(6000, |_| vec![1.0]);
    let filter = Resolved { min_episode_reward: Some(5.0), ..Resolved::default() };
    let mut spare = Selected::default();
    let before = index.select(&filter, &mut spare).unwrap().count;
    for number in 6000..6008 {
        index.append(&entry(number), &[1.0]);
        index.set_episode_total(entry(number).episode, 7.0);
    }
    assert!(index.chosen().find(&filter).is_some_and(|kept| kept.count == before + 8));
    // a change among old rows makes it worthless
    index.set_episode_total(entry(0).episode, 9.0);
    assert!(index.chosen().find(&filter).is_none());
    assert_eq!(index.select(&filter, &mut spare).unwrap().count, before + 12);
}
