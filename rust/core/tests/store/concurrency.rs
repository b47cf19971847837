//! Several stores on one file, several threads on one store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use precedent_core::store::{Naming, Options, SearchOptions, Store};
use precedent_core::{Error, Filter};

use crate::world::*;

#[test]
fn a_store_sees_every_kind_of_write_of_another_at_its_next_question() {
    let folder = Folder::new();
    let (writer, reader) = (folder.store(), folder.store());
    let count = |filter: Filter| reader.keys_matching(&filter).unwrap().len();
    let at_least = |value| Filter { min_return: Some(value), ..all() };
    let ids = insert(&writer, &steps("e", 6, 0));
    assert_eq!(count(all()), 6);
    assert_eq!(reader.search(&nearest(state(3), 1)).unwrap().rows.ids, ids[3..4]);
    writer.compute_returns("e", 1.0, None).unwrap();
    assert_eq!(count(at_least(1.0)), 4);
    writer.compute_all_returns(0.0, false, &mut || Ok(())).unwrap();
    assert_eq!(count(at_least(0.45)), 1);
    writer.delete(&ids[5..]).unwrap();
    assert_eq!(count(all()), 5);
    assert_eq!(count(Filter { min_episode_reward: Some(1.2), ..all() }), 0);
    insert(&writer, &steps("e", 2, 50));
    assert_eq!(count(Filter { min_episode_reward: Some(1.05), ..all() }), 7);
    writer.upsert_pattern("new", Some(&action(9)), None, None).unwrap();
    assert_eq!(reader.search_patterns(&action(9), 1).unwrap()[0].0.pattern_id, "new");
    let back = insert(&reader, &steps("f", 1, 70));
    assert_eq!(writer.search(&nearest(state(70), 1)).unwrap().rows.ids, back);
    assert!(
        reader.verify(true, &mut || Ok(())).unwrap().ok()
            && writer.verify(true, &mut || Ok(())).unwrap().ok()
    );
}

#[test]
fn a_cached_answer_does_not_outlive_a_write_of_another_store() {
    let folder = Folder::new();
    let (writer, reader) = (folder.store(), folder.store());
    insert(&writer, &steps("e", 3, 0));
    let query = nearest(state(80), 1);
    let before = reader.search(&query).unwrap().rows.ids.clone();
    assert_eq!(reader.search(&query).unwrap().rows.ids, before);
    let ids = insert(&writer, &steps("f", 1, 80));
    assert_eq!(reader.search(&query).unwrap().rows.ids, ids);
}

#[test]
fn many_stores_may_create_one_file_at_once() {
    let folder = Folder::new();
    let threads = 6;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let folder = &folder;
            scope.spawn(move || insert(&folder.store(), &steps(&format!("e{thread}"), 5, thread)));
        }
    });
    let store = folder.store();
    assert_eq!(size(&store), 5 * threads as usize);
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn searches_during_inserts_and_deletes_answer_with_whole_rows() {
    let folder = Folder::new();
    let store = folder.store();
    insert(&store, &steps("first", 10, 0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let mut query = nearest(state(seed), 8);
                    query.options.metric = Some(precedent_core::Metric::Euclidean);
                    let answer = store.search(&query).unwrap();
                    assert_eq!(answer.hits.len(), 8);
                    let size = store.keys_matching(&all()).unwrap().len();
                    assert!(size >= 10, "the first ten were never deleted, {size} seen");
                    seen += 1;
                }
                assert!(seen > 0);
            });
        }
        for round in 0..60 {
            let ids = insert(&store, &steps("more", 20, 100 + round));
            store.delete(&ids[..10]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(size(&store), 10 + 60 * 10);
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn writers_of_two_stores_take_turns() {
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let store = folder.store();
            scope.spawn(move || {
                for round in 0..40 {
                    insert(&store, &steps(&format!("e{round}"), 3, seed));
                }
            });
        }
    });
    let store = folder.store();
    assert_eq!(size(&store), 240);
    assert_eq!(store.episode("e7").unwrap().rows.len, 6);
}

#[test]
fn a_lock_that_is_held_too_long_is_told_as_busy() {
    let folder = Folder::new();
    let busy_timeout = Duration::from_millis(20);
    let store =
        Store::open(&folder.path("store.db"), Options { busy_timeout, ..options() }).unwrap();
    let other = rusqlite::Connection::open(folder.path("store.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.insert(&steps("e", 1, 0), Naming::One);
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    assert_eq!(size(&store), 0, "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    insert(&store, &steps("e", 1, 0));
}

#[test]
fn a_close_ends_the_searches_that_run() {
    let store = memory();
    for round in 0..20 {
        insert(&store, &steps(&format!("e{round}"), 500, round * 500));
    }
    let queries: Vec<f32> = (0..20_000).flat_map(state).collect();
    let started = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let search = scope.spawn(|| {
            started.store(true, Ordering::Release);
            store.search_ids(&queries, &SearchOptions::default(), &mut || Ok(()))
        });
        while !started.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        store.close().unwrap();
        assert!(matches!(search.join().unwrap(), Err(Error::Closed(_))));
    });
}

#[test]
fn a_log_that_was_trimmed_beyond_a_reader_makes_it_load_everything() {
    let folder = Folder::new();
    let reader = folder.store();
    let writer = folder.store();
    let ids = insert(&writer, &steps("e", 6, 0));
    assert_eq!(reader.keys_matching(&all()).unwrap().len(), 6);
    writer.delete(&ids[..2]).unwrap();
    writer.set_episode("e", Some(true), None).unwrap();
    let raw = rusqlite::Connection::open(folder.path("store.db")).unwrap();
    raw.execute_batch("DELETE FROM change WHERE seq < (SELECT max(seq) FROM change)").unwrap();
    assert_eq!(reader.keys_matching(&all()).unwrap().len(), 4);
    assert!(reader.verify(true, &mut || Ok(())).unwrap().ok());
}
