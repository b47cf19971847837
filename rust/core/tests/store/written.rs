//! What goes in comes out.

use precedent_core::Error;
use precedent_core::ids::{RowKey, TrajectoryId};
use precedent_core::store::{Naming, Options, Storage, Store};
use precedent_core::{Labels, Rows};
use rusqlite::Connection;

use crate::world::*;

#[test]
fn every_field_comes_back_as_it_was_given() {
    let store = memory();
    let mut rows = steps("e", 3, 7);
    rows.returns = vec![1.5, f64::NAN, -2.0];
    rows.terminated = Some(vec![false, false, true]);
    rows.truncated = Some(vec![false, true, false]);
    rows.durations = Some(vec![Some(5), None, Some(i64::MAX)]);
    rows.tokens_used = Some(vec![None, Some(0), Some(-1)]);
    rows.context_lengths = Some(vec![Some(1), Some(2), Some(3)]);
    rows.agent_types = Some(vec![None, Some("coder".into()), Some("plan".into())]);
    rows.task_ids = Some(vec![Some(String::new()), None, Some("t\0ü".into())]);
    rows.successes = Some(vec![Some(true), Some(false), None]);
    rows.qualities = Some(vec![Some(0.0), None, Some(1.0)]);
    rows.extras = Some(vec![None, None, Some("{\"a\":1}".into())]);
    rows.action_metadata = Some(vec![Some("{}".into()), None, None]);
    let ids = insert(&store, &rows);
    let mut back = store.get(&ids).unwrap();
    assert_eq!(back.ids, ids);
    assert_eq!(back.keys, ids.iter().map(|id| id.row_key()).collect::<Vec<_>>());
    assert!(back.returns[1].is_nan());
    (back.returns[1], rows.returns[1]) = (0.0, 0.0);
    (back.ids, back.keys) = (Vec::new(), Vec::new());
    assert_eq!(back, rows);
}

#[test]
fn rows_come_in_the_order_they_are_asked_for() {
    let store = memory();
    let ids = insert(&store, &steps("e", 5, 0));
    let asked = [ids[3], ids[0], ids[3]];
    let back = store.get(&asked).unwrap();
    assert_eq!(back.ids, asked);
    assert_eq!(back.rewards, [0.3, 0.0, 0.3]);
    assert_eq!(&back.actions[2 * ACTION..], &action(0)[..]);
    assert_eq!(back.patterns.get(1), "p0");
}

#[test]
fn a_time_that_is_not_said_is_the_moment_of_the_insert() {
    let (store, _) = at_noon();
    let mut rows = steps("e", 2, 0);
    rows.timestamps = Some(vec![None, Some(3)]);
    let back = store.get(&insert(&store, &rows)).unwrap();
    assert_eq!(back.timestamps, Some(vec![Some(NOW), Some(3)]));
}

#[test]
fn an_id_that_was_made_up_is_not_found_although_its_row_is_there() {
    let store = memory();
    let ids = insert(&store, &steps("e", 1, 0));
    let made_up = TrajectoryId::next(ids[0].row_key(), NOW);
    assert!(matches!(store.get(&[made_up]), Err(Error::NotFound { .. })));
    assert!(matches!(store.delete(&[made_up]), Err(Error::NotFound { .. })));
    assert!(matches!(store.get_keys(&[RowKey(-1)]), Err(Error::NotFound { .. })));
    assert_eq!(size(&store), 1);
}

#[test]
fn keys_of_deleted_rows_are_skipped_or_refused_but_never_given_again() {
    let store = memory();
    let first = insert(&store, &steps("e", 3, 0));
    store.delete(&first[1..]).unwrap();
    let keys: Vec<RowKey> = first.iter().map(|id| id.row_key()).collect();
    assert_eq!(store.get_keys_present(&keys).unwrap().ids, first[..1]);
    assert!(matches!(store.get_keys(&keys), Err(Error::NotFound { .. })));
    let second = insert(&store, &steps("e", 1, 0));
    assert!(second[0].row_key() > keys[2]);
}

#[test]
fn a_half_precision_store_keeps_and_compares_rounded_numbers() {
    let options = Options { storage: Some(Storage::F16), ..options() };
    let store = Store::open(":memory:".as_ref(), options).unwrap();
    let mut rows = steps("e", 1, 0);
    rows.states = vec![1.000_1; WIDE];
    let ids = insert(&store, &rows);
    assert_eq!(store.get(&ids).unwrap().states, vec![1.0; WIDE]);
    assert_eq!(store.by_state(&[1.0; WIDE], &all()).unwrap().ids, ids);
    assert_eq!(store.by_state(&[0.999_99; WIDE], &all()).unwrap().ids, ids);
    rows.states = vec![1e-9; WIDE];
    let zero = store.insert(&rows, Naming::One);
    assert!(matches!(zero, Err(Error::Invalid { field, .. }) if field == "state_embedding"));
    rows.states = vec![1e6; WIDE];
    assert!(matches!(store.insert(&rows, Naming::One), Err(Error::Invalid { .. })));
    assert_eq!(size(&store), 1);
}

#[test]
fn equal_states_are_found_by_their_bits_in_the_order_of_insertion() {
    let store = memory();
    let first = insert(&store, &steps("a", 2, 0));
    let again = insert(&store, &steps("b", 2, 0));
    assert_eq!(store.by_state(&state(1), &all()).unwrap().ids, [first[1], again[1]]);
    let only = precedent_core::Filter { episodes: Some(vec!["b".into()]), ..all() };
    assert_eq!(store.by_state(&state(1), &only).unwrap().ids, [again[1]]);
    let mut near = state(1);
    near[0] = near[0].next_up();
    assert_eq!(store.by_state(&near, &all()).unwrap().len, 0);
}

#[test]
fn steps_without_an_index_come_last_then_time_decides_then_insertion() {
    let store = memory();
    let mut rows = steps("e", 6, 0);
    rows.step_indices = Some(vec![None, Some(1), None, Some(0), Some(1), None]);
    rows.timestamps = Some([9, 5, 7, 8, 4, 7].map(Some).to_vec());
    let ids = insert(&store, &rows);
    let episode = store.episode("e").unwrap();
    assert_eq!(episode.rows.ids, [ids[3], ids[4], ids[1], ids[2], ids[5], ids[0]]);
}

#[test]
fn a_copy_is_a_whole_store_that_goes_its_own_way() {
    let folder = Folder::new();
    let store = folder.store();
    let mut rows = steps("e", 4, 0);
    rows.returns.fill(0.0); // NaN is not equal to itself
    let ids = insert(&store, &rows);
    let copy = folder.path("deep/copy.db");
    store.backup(&copy, &mut || Ok(())).unwrap();
    store.backup(&copy, &mut || Ok(())).unwrap();
    insert(&store, &steps("later", 1, 9));
    let other = Store::open(&copy, options()).unwrap();
    assert_eq!(other.get(&ids).unwrap(), store.get(&ids).unwrap());
    assert_eq!(size(&other), 4);
    assert!(other.verify(true, &mut || Ok(())).unwrap().ok());
    assert!(
        matches!(store.backup(&copy, &mut || Ok(())), Err(Error::Access { .. })),
        "the copy is open"
    );
    assert!(matches!(
        store.backup(&folder.path("store.db"), &mut || Ok(())),
        Err(Error::Invalid { .. })
    ));
    assert!(matches!(
        store.backup(&folder.path("deep"), &mut || Ok(())),
        Err(Error::Access { .. })
    ));
    let none: Vec<_> =
        std::fs::read_dir(folder.path("deep")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(none.iter().all(|name| !name.to_string_lossy().starts_with(".copy")), "{none:?}");
}

#[test]
fn what_is_in_memory_can_be_copied_to_a_file() {
    let folder = Folder::new();
    let store = memory();
    let ids = insert(&store, &steps("e", 2, 0));
    store.backup(&folder.path("copy.db"), &mut || Ok(())).unwrap();
    let read_only = Options { read_only: true, ..Options::default() };
    let copy = Store::open(&folder.path("copy.db"), read_only).unwrap();
    assert_eq!(copy.get(&ids).unwrap().rewards, [0.0, 0.1]);
}

#[test]
fn the_newest_version_of_a_model_is_loaded() {
    let store = memory();
    assert_eq!(store.load_model("layer").unwrap(), None);
    assert_eq!(store.save_model("layer", b"one").unwrap(), 1);
    assert_eq!(store.save_model("layer", b"two").unwrap(), 2);
    assert_eq!(store.save_model("other", b"three").unwrap(), 1);
    assert_eq!(store.load_model("layer").unwrap().as_deref(), Some(&b"two"[..]));
}

/// Steps whose every action is another.
fn all_different(n: usize, seed: u64) -> Rows {
    let actions = (0..n as u64).flat_map(|i| action(1000 + seed + i)).collect();
    Rows { actions, ..steps("e", n, seed) }
}

#[test]
fn batches_of_every_length_come_back_whole_and_in_order() {
    let store = memory();
    let mut seed = 0;
    for n in (1..=50).chain([160, 161]) {
        let rows = all_different(n, seed);
        let ids = insert(&store, &rows);
        let back = store.get(&ids).unwrap();
        assert_eq!((&back.states, &back.actions), (&rows.states, &rows.actions), "{n} rows");
        assert!(ids.is_sorted_by(|a, b| a.row_key().0 + 1 == b.row_key().0), "{n} rows");
        seed += n as u64;
    }
    assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0]);
}

#[test]
fn keys_go_on_after_the_newest_rows_were_deleted() {
    let store = memory();
    let ids = insert(&store, &all_different(40, 0));
    store.delete(&ids[20..]).unwrap();
    let rows = all_different(40, 40);
    let later = insert(&store, &rows);
    assert_eq!(later[0].row_key().0, ids[39].row_key().0 + 1);
    assert_eq!(store.get(&later).unwrap().states, rows.states);
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn actions_that_share_a_hash_stay_apart() {
    let folder = Folder::new();
    let store = folder.store();
    insert(&store, &all_different(20, 0));
    store.close().unwrap();
    // Now every action but the last has the hash of another one.
    let raw = Connection::open(folder.path("store.db")).unwrap();
    let shift = "UPDATE action_vector SET embedding =
                 (SELECT n.embedding FROM action_vector n WHERE n.id = action_vector.id + 1) WHERE id < 20";
    assert_eq!(raw.execute(shift, []).unwrap(), 19);
    drop(raw);
    let store = folder.store();
    let rows = all_different(40, 0);
    for _ in 0..2 {
        let ids = insert(&store, &rows);
        assert_eq!(store.get(&ids).unwrap().actions, rows.actions);
    }
    let actions: i64 = Connection::open(folder.path("store.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM action", [], |row| row.get(0))
        .unwrap();
    assert_eq!(actions, 20 + 20 + 19, "the second batch finds what the first one added");
    let problems = store.verify(true, &mut || Ok(())).unwrap().problems;
    assert_eq!(problems.len(), 19, "what was shifted, and none that gave way to it: {problems:?}");
    assert!(problems.iter().all(|told| told.contains("is not the one whose hash")), "{problems:?}");
}

#[test]
fn two_names_for_one_pattern_in_a_batch_share_its_actions() {
    let store = memory();
    let mut rows = steps("e", 2, 0);
    rows.actions = [action(0), action(0)].concat();
    rows.patterns = Labels { names: vec!["p0".into(), "p0".into()], codes: vec![0, 1] };
    insert(&store, &rows);
    assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0]);
}
