//! Totals and counters follow every write.

use precedent_core::{Error, Filter};

use crate::world::*;

#[test]
fn an_episode_is_the_sum_of_its_steps_and_gone_with_the_last() {
    let store = memory();
    let ids = insert(&store, &steps("e", 4, 0));
    insert(&store, &steps("e", 3, 50));
    assert!((store.episode("e").unwrap().total_reward - 0.9).abs() < 1e-12);
    store.delete(&ids).unwrap();
    let left = store.episode("e").unwrap();
    assert_eq!(left.rows.len, 3);
    assert!((left.total_reward - 0.3).abs() < 1e-12);
    store.delete(&left.rows.ids).unwrap();
    assert!(matches!(store.episode("e"), Err(Error::NotFound { what: "episode", .. })));
    assert_eq!(store.stats().unwrap().total_episodes, 0);
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn an_episode_succeeds_by_its_last_step_unless_it_was_said_otherwise() {
    let store = memory();
    let mut rows = steps("e", 2, 0);
    rows.rewards = vec![0.0, 0.51];
    insert(&store, &rows);
    assert!(store.episode("e").unwrap().success);
    store.set_episode("e", Some(false), Some("{}")).unwrap();
    store.set_episode("e", None, None).unwrap();
    let episode = store.episode("e").unwrap();
    assert_eq!((episode.success, episode.metadata.as_deref()), (false, Some("{}")));
    assert!(matches!(store.set_episode("f", Some(true), None), Err(Error::NotFound { .. })));
    rows.successes = Some(vec![Some(true), Some(false)]);
    rows.episodes = std::iter::repeat_n("g", 2).collect();
    insert(&store, &rows);
    assert!(!store.episode("g").unwrap().success);
}

#[test]
fn episodes_are_named_in_the_order_of_their_creation() {
    let store = memory();
    for name in ["c", "a", "b"] {
        insert(&store, &steps(name, 2, 0));
    }
    insert(&store, &steps("c", 1, 60));
    assert_eq!(store.episode_names(&all()).unwrap(), ["c", "a", "b"]);
    let later = Filter { episodes: Some(vec!["b".into(), "c".into()]), ..all() };
    assert_eq!(store.episode_names(&later).unwrap(), ["c", "b"]);
}

#[test]
fn patterns_count_their_uses_and_go_with_the_last() {
    let store = memory();
    let ids = insert(&store, &steps("e", 9, 0));
    let pattern = store.get_pattern("p2").unwrap();
    assert_eq!((pattern.uses, pattern.successes), (3, 1));
    assert!((pattern.mean_reward.unwrap() - 0.5).abs() < 1e-12);
    store.delete(&[ids[8], ids[2]]).unwrap();
    let pattern = store.get_pattern("p2").unwrap();
    assert_eq!((pattern.uses, pattern.successes, pattern.mean_reward), (1, 0, Some(0.5)));
    store.delete(&[ids[5]]).unwrap();
    assert!(matches!(store.get_pattern("p2"), Err(Error::NotFound { what: "pattern", .. })));
    assert_eq!(store.pattern_ids().unwrap(), ["p0", "p1"]);
}

#[test]
fn a_pattern_keeps_its_small_rewards_when_an_enormous_one_leaves() {
    let store = memory();
    let mut rows = steps("e", 9, 0);
    rows.rewards = vec![1e300, 0.1, 0.1, 1.0, -0.7, 0.3, 1.0, 0.1, 0.2];
    let ids = insert(&store, &rows);
    store.delete(&ids[..1]).unwrap();
    assert_eq!(store.get_pattern("p0").unwrap().mean_reward, Some(1.0));
    assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0]);
    store.delete(&ids[4..5]).unwrap();
    assert!((store.get_pattern("p1").unwrap().mean_reward.unwrap() - 0.1).abs() < 1e-12);
    assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0]);
}

#[test]
fn rounding_of_rewards_that_cancel_out_is_no_damage() {
    let store = memory();
    let mut ids = Vec::new();
    for round in 0..60 {
        let mut rows = steps("e", 30, round);
        rows.rewards = (0..30).map(|i| (f64::from(i) - 14.5) * 0.1 + round as f64 * 1e6).collect();
        ids.extend(insert(&store, &rows));
    }
    store.delete(&ids.into_iter().step_by(3).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0]);
}

#[test]
fn a_delete_is_all_or_nothing() {
    let store = memory();
    let ids = insert(&store, &steps("e", 5, 0));
    store.delete(&ids[4..]).unwrap();
    assert!(matches!(store.delete(&ids), Err(Error::NotFound { .. })));
    let twice = store.delete(&[ids[0], ids[1], ids[0]]);
    assert!(matches!(twice, Err(Error::Invalid { field, .. }) if field == "ids[2]"));
    assert_eq!(size(&store), 4);
    assert_eq!(store.delete(&[]).unwrap(), 0);
    assert_eq!(store.delete(&ids[..4]).unwrap(), 4);
    assert_eq!(size(&store), 0);
}

#[test]
fn an_empty_store_has_no_averages() {
    let store = memory();
    let stats = store.stats().unwrap();
    assert_eq!((stats.total_trajectories, stats.total_episodes, stats.unindexed), (0, 0, 0));
    assert_eq!((stats.avg_reward, stats.avg_return, stats.success_rate), (None, None, None));
    assert_eq!((stats.avg_episode_length, stats.oldest_timestamp), (None, None));
    assert_eq!(stats.index_state, "scan");
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn stats_are_the_counts_and_means_of_the_rows() {
    let folder = Folder::new();
    let store = folder.store();
    let mut rows = steps("a", 4, 0);
    rows.returns = vec![1.0, 2.0, f64::NAN, f64::NAN];
    rows.successes = Some(vec![Some(true), Some(false), None, None]);
    insert(&store, &rows);
    insert(&store, &steps("b", 2, 9));
    store.flush(&mut || Ok(())).unwrap();
    let stats = store.stats().unwrap();
    assert_eq!((stats.total_trajectories, stats.total_episodes), (6, 2));
    assert_eq!((stats.avg_episode_length, stats.avg_return), (Some(3.0), Some(1.5)));
    assert!((stats.avg_reward.unwrap() - 0.7 / 6.0).abs() < 1e-12);
    assert_eq!(stats.success_rate, Some(1.0 / 6.0));
    assert_eq!(stats.task_types, [("act".to_owned(), 3), ("plan".to_owned(), 3)]);
    assert_eq!((stats.oldest_timestamp, stats.newest_timestamp), (Some(NOW), Some(NOW + 3)));
    assert!(stats.storage_size > 0 && stats.index_size > 0 && stats.sidecar_size == 0);
}
