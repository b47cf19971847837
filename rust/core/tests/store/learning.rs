//! The store as a trainer sees it.

use precedent_core::ids::RowKey;
use precedent_core::nn::Experience;
use precedent_core::{Error, Filter};

use crate::world::*;

#[test]
fn episodes_come_whole_in_order_and_say_which_steps_match() {
    let store = memory();
    let mut rows = steps("a", 4, 0);
    rows.step_indices = Some([3, 2, 1, 0].map(Some).to_vec());
    rows.returns = vec![1.0, f64::NAN, 3.0, 4.0];
    rows.durations = Some(vec![Some(10), None, Some(30), None]);
    rows.truncated = Some(vec![true, false, false, false]); // the first row is the last step
    let keys: Vec<RowKey> = insert(&store, &rows).iter().map(|id| id.row_key()).collect();
    insert(&store, &steps("unasked", 2, 50));
    let mut rows = steps("b", 2, 90);
    rows.rewards = vec![0.9, 0.1];
    rows.truncated = Some(vec![false, true]);
    rows.terminated = Some(vec![false, true]);
    insert(&store, &rows);
    let found = store.episodes(&Filter { min_reward: Some(0.2), ..all() }).unwrap();
    assert_eq!(found.names, ["a", "b"]);
    assert_eq!(found.bounds, [0, 4, 6]);
    assert_eq!(found.keys[..4], [keys[3], keys[2], keys[1], keys[0]]);
    assert_eq!(found.rewards, [0.3, 0.2, 0.1, 0.0, 0.9, 0.1]);
    assert_eq!(found.selected, [true, true, false, false, true, false]);
    assert_eq!(found.cut_off, [true, false]);
    assert_eq!(found.durations, [0, 30, 0, 10, 0, 0]);
    assert!(found.returns[2].is_nan() && found.returns[0] == 4.0);
    assert!((found.total_rewards[0] - 0.6).abs() < 1e-12);
    let patterns: Vec<_> =
        found.patterns.iter().map(|p| &found.pattern_names[*p as usize]).collect();
    assert_eq!(patterns, ["p0", "p2", "p1", "p0", "p0", "p1"]);
    let types: Vec<_> =
        found.task_types.iter().map(|t| &found.task_type_names[*t as usize]).collect();
    assert_eq!(types, ["act", "plan", "act", "plan", "plan", "act"]);
    let everything = store.episodes(&all()).unwrap();
    assert_eq!(everything.names, ["a", "unasked", "b"]);
    assert!(everything.selected.iter().all(|selected| *selected));
}

#[test]
fn steps_that_arrive_by_turns_belong_to_their_episodes() {
    let store = memory();
    let mut rows = steps("x", 9, 0);
    rows.episodes = (0..9).map(|i| ["x", "y", "z"][i % 3]).collect();
    let ids = insert(&store, &rows);
    insert(&store, &steps("y", 2, 40));
    store.delete(&[ids[1], ids[4]]).unwrap();
    let found = store.episodes(&all()).unwrap();
    let lengths: Vec<_> = found.bounds.windows(2).map(|ends| ends[1] - ends[0]).collect();
    assert_eq!((found.names.concat().as_str(), lengths), ("xyz", vec![3, 3, 3]));
    assert_eq!(store.episode("z").unwrap().rows.ids, [ids[2], ids[5], ids[8]]);
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn vectors_are_read_in_the_order_of_the_keys() {
    let store = memory();
    let ids = insert(&store, &steps("e", 6, 0));
    let keys: Vec<RowKey> = [4, 1, 1, 5].iter().map(|&at: &usize| ids[at].row_key()).collect();
    let (mut states, mut actions) = (vec![0.0; 4 * WIDE], vec![0.0; 4 * ACTION]);
    store.read_vectors(&keys, Some(&mut states), Some(&mut actions)).unwrap();
    assert_eq!(states, [4, 1, 1, 5].map(state).concat());
    assert_eq!(actions, [1, 1, 1, 2].map(action).concat());
    let gone = store.read_vectors(&[RowKey(99)], Some(&mut states), None);
    assert!(matches!(gone, Err(Error::NotFound { .. })));
    let gone = store.read_vectors(&[RowKey(99)], None, Some(&mut actions));
    assert!(matches!(gone, Err(Error::NotFound { .. })));
}

#[test]
fn patterns_without_an_embedding_are_left_out() {
    let store = memory();
    insert(&store, &steps("e", 2, 0));
    store.upsert_pattern("bare", None, Some("name"), None).unwrap();
    store.upsert_pattern("given", Some(&action(8)), None, None).unwrap();
    let (names, embeddings) = store.pattern_embeddings().unwrap();
    assert_eq!(names, ["p0", "p1", "given"]);
    assert_eq!(embeddings, [0, 1, 8].map(action).concat());
    assert_eq!((store.state_size(), store.action_size()), (WIDE, ACTION));
}
