//! The graph behind a store: what is found while it is built, after deletes, and by other stores of the file.

use std::sync::atomic::{AtomicBool, Ordering};

use precedent_core::index::Hit;
use precedent_core::store::{HnswSettings, Options, SearchOptions, Store};
use precedent_core::{Error, Filter};

use crate::world::*;

/// How a store with a graph of its own is opened, however few rows it has.
pub(crate) fn graphed() -> Options {
    let hnsw = HnswSettings { build_above: Some(0), ..HnswSettings::default() };
    Options { hnsw, ..options() }
}

pub(crate) fn open(folder: &Folder) -> Store {
    Store::open(&folder.path("store.db"), graphed()).unwrap()
}

pub(crate) fn flush(store: &Store) {
    store.flush(&mut || Ok(())).unwrap();
}

fn indexed(store: &Store) -> (&'static str, usize) {
    let stats = store.stats().unwrap();
    (stats.index_state, stats.unindexed)
}

/// The share of the ten nearest that a store finds, over states it does not have.
pub(crate) fn recall(store: &Store, filter: &Filter) -> f64 {
    let queries: Vec<f32> = (0..40).flat_map(|i| state(900_000 + i)).collect();
    let options = |exact| SearchOptions {
        k: 10,
        threshold: None,
        filter: filter.clone(),
        exact,
        ..SearchOptions::default()
    };
    let found = store.search_ids(&queries, &options(false), &mut || Ok(())).unwrap();
    let truth = store.search_ids(&queries, &options(true), &mut || Ok(())).unwrap();
    let wanted: usize = truth.iter().map(Vec::len).sum();
    let hit = |(found, truth): (&Vec<Hit>, &Vec<Hit>)| {
        assert_eq!(found.len(), truth.len());
        truth.iter().filter(|hit| found.contains(hit)).count()
    };
    found.iter().zip(&truth).map(hit).sum::<usize>() as f64 / wanted as f64
}

#[test]
fn a_row_is_found_the_instant_its_insert_returned_and_a_deleted_one_never_again() {
    let folder = Folder::new();
    for store in [open(&folder), Store::open(":memory:".as_ref(), graphed()).unwrap()] {
        insert(&store, &steps("first", 1500, 0));
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..60 {
                        let seed = 100_000 * (thread + 1) + round;
                        let ids = insert(store, &steps(&format!("e{thread}"), 1, seed));
                        let nearest = nearest(state(seed), 1);
                        assert_eq!(store.search(&nearest).unwrap().rows.ids, ids);
                        if round % 3 == 0 {
                            store.delete(&ids).unwrap();
                            assert_ne!(store.search(&nearest).unwrap().rows.ids, ids);
                        }
                    }
                });
            }
        });
        flush(&store);
        assert_eq!(indexed(&store), ("graph", 0));
        assert_eq!(size(&store), 1500 + 3 * 40);
        assert!(recall(&store, &all()) >= 0.95);
        assert!(
            store.verify(true, &mut || Ok(())).unwrap().ok(),
            "{:?}",
            store.verify(true, &mut || Ok(())).unwrap()
        );
        store.close().unwrap();
    }
}

#[test]
fn a_graph_is_built_from_the_size_on_that_the_caller_names() {
    let hnsw = |hnsw| Options { hnsw, ..options() };
    let rows = steps("e", 300, 0);
    let above = |rows| HnswSettings { build_above: Some(rows), ..HnswSettings::default() };
    let never = HnswSettings { enabled: Some(false), ..above(0) };
    let cases = [
        (HnswSettings::default(), "scan"),
        (above(301), "scan"),
        (above(300), "graph"),
        (above(0), "graph"),
        (never, "scan"),
    ];
    for (settings, expected) in cases {
        let store = Store::open(":memory:".as_ref(), hnsw(settings.clone())).unwrap();
        insert(&store, &rows);
        flush(&store);
        assert_eq!(indexed(&store), (expected, 0), "{settings:?}");
    }
}

#[test]
fn filters_of_every_selectivity_are_answered_among_their_matches() {
    let store = Store::open(":memory:".as_ref(), graphed()).unwrap();
    insert(&store, &steps("e", 6000, 0));
    flush(&store);
    for share in [1.0, 0.5, 0.1, 0.01, 0.001] {
        let first = NOW + 6000 - (6000.0 * share) as i64;
        let found = recall(&store, &Filter { after_timestamp: Some(first), ..all() });
        assert!(found >= 0.95, "{share}: {found}");
    }
    let one = |name: &str| Some(vec![name.to_owned()]);
    let found = recall(&store, &Filter { task_types: one("plan"), patterns: one("p1"), ..all() });
    assert!(found >= 0.95, "{found}");
}

#[test]
fn a_fifth_of_dead_rows_is_cleared_out_of_the_graph() {
    let store = Store::open(":memory:".as_ref(), graphed()).unwrap();
    let ids = insert(&store, &steps("e", 4000, 0));
    flush(&store);
    let full = store.stats().unwrap().index_size;
    store.delete(&ids[..1900]).unwrap();
    assert!(recall(&store, &all()) >= 0.95);
    flush(&store);
    assert!(store.stats().unwrap().index_size * 3 < full * 2, "the dead still take room");
    assert_eq!(indexed(&store), ("graph", 0));
    assert!(recall(&store, &all()) >= 0.95);
    for at in (1900..4000).step_by(97) {
        assert_eq!(store.search(&nearest(state(at), 1)).unwrap().rows.ids, ids[at as usize..][..1]);
    }
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn a_graph_whose_rows_became_fewer_than_one_is_built_for_is_still_looked_after() {
    let hnsw = HnswSettings { build_above: Some(3000), ..HnswSettings::default() };
    let settings = Options { hnsw, ..options() };
    let folder = Folder::new();
    let again = || Store::open(&folder.path("store.db"), settings.clone()).unwrap();
    let store = again();
    let ids = insert(&store, &steps("e", 4000, 0));
    flush(&store);
    let full = store.stats().unwrap().index_size;
    store.delete(&ids[..2000]).unwrap();
    insert(&store, &steps("f", 5, 9000));
    flush(&store);
    assert_eq!(indexed(&store), ("graph", 0));
    assert!(store.stats().unwrap().index_size * 3 < full * 2, "the dead still take room");
    store.close().unwrap();
    let store = again();
    insert(&store, &steps("g", 5, 19_000));
    flush(&store);
    assert_eq!(indexed(&store), ("graph", 0));
    assert!(recall(&store, &all()) >= 0.95);
}

#[test]
fn as_many_candidates_as_anybody_may_ask_for_take_no_more_memory_than_there_are_rows() {
    let hnsw = HnswSettings {
        ef_construction: Some(1 << 39),
        ef_search: Some(1 << 39),
        build_above: Some(0),
        ..HnswSettings::default()
    };
    let store = Store::open(":memory:".as_ref(), Options { hnsw, ..options() }).unwrap();
    insert(&store, &steps("e", 300, 0));
    flush(&store);
    assert_eq!(indexed(&store), ("graph", 0));
    let some = Filter { min_reward: Some(0.0), ..all() };
    for filter in [all(), some] {
        assert!(recall(&store, &filter) >= 0.99);
    }
}

#[test]
fn all_rows_may_die_and_others_come() {
    let store = Store::open(":memory:".as_ref(), graphed()).unwrap();
    for round in 0..3 {
        let ids = insert(&store, &steps("e", 500, round * 1000));
        flush(&store);
        assert_eq!(store.search(&nearest(state(round * 1000 + 7), 1)).unwrap().rows.ids, ids[7..8]);
        store.delete(&ids).unwrap();
        assert_eq!(store.search(&nearest(state(7), 5)).unwrap().hits, []);
        flush(&store);
    }
    assert_eq!(size(&store), 0);
}

#[test]
fn stores_on_one_file_follow_each_other_with_graphs_of_their_own() {
    let folder = Folder::new();
    let (writer, reader) = (open(&folder), open(&folder));
    let ids = insert(&writer, &steps("e", 1200, 0));
    flush(&reader);
    assert_eq!(indexed(&reader), ("graph", 0));
    assert_eq!(reader.search(&nearest(state(600), 1)).unwrap().rows.ids, ids[600..601]);
    writer.delete(&ids[600..601]).unwrap();
    assert_ne!(reader.search(&nearest(state(600), 1)).unwrap().rows.ids, ids[600..601]);
    let new = insert(&writer, &steps("f", 1, 50_000));
    assert_eq!(reader.search(&nearest(state(50_000), 1)).unwrap().rows.ids, new);
    writer.delete(&ids[..500]).unwrap();
    flush(&reader);
    assert!(recall(&reader, &all()) >= 0.95);
    for store in [writer, reader] {
        assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
        store.close().unwrap();
    }
}

#[test]
fn a_close_while_rows_are_linked_loses_none_and_the_next_opening_goes_on() {
    let folder = Folder::new();
    let store = open(&folder);
    let ids = insert(&store, &steps("e", 20_000, 0));
    store.search(&nearest(state(1), 1)).unwrap();
    store.close().unwrap();
    // when all rows are linked the index is saved
    assert!(!folder.path("store.db-index").exists(), "it waited until all were linked");
    let store = open(&folder);
    assert_eq!(store.search(&nearest(state(11_111), 1)).unwrap().rows.ids, ids[11_111..11_112]);
    store.close().unwrap();
}

#[test]
fn a_flush_ends_when_the_caller_says_so_and_when_the_store_is_closed() {
    let store = Store::open(":memory:".as_ref(), graphed()).unwrap();
    insert(&store, &steps("e", 8000, 0));
    let mut asked = 0;
    let outcome = store.flush(&mut || {
        asked += 1;
        if asked == 2 { Err(Error::Interrupted) } else { Ok(()) }
    });
    assert!(asked < 2 || matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    let waits = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| {
            store.flush(&mut || {
                waits.store(true, Ordering::Release);
                Ok(())
            })
        });
        while !waits.load(Ordering::Acquire) && !flush.is_finished() {
            std::thread::yield_now();
        }
        store.close().unwrap();
        let outcome = flush.join().unwrap();
        assert!(outcome.is_ok() || matches!(outcome, Err(Error::Closed(_))), "{outcome:?}");
    });
}
