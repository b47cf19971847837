//! The index on disk: what it saves, and that nothing which is wrong with it is ever believed or an error.

use std::path::PathBuf;

use precedent_core::Metric;
use precedent_core::store::{HnswSettings, Options, Storage, Store};

use crate::graph::{flush, graphed, open, recall};
use crate::world::*;

fn beside(folder: &Folder) -> PathBuf {
    folder.path("store.db-index")
}

/// A file of so many rows whose index was saved.
fn saved(folder: &Folder, rows: usize) -> Vec<precedent_core::ids::TrajectoryId> {
    let store = open(folder);
    let ids = insert(&store, &steps("e", rows, 0));
    flush(&store);
    store.close().unwrap();
    assert!(beside(folder).exists(), "nothing was saved");
    ids
}

/// Opens the file, links what is left, finds everything, and gives what was told.
fn found_again(folder: &Folder, rows: usize) -> Vec<String> {
    let store = open(folder);
    let nearest = store.search(&nearest(state(3), 1)).unwrap().hits[0];
    assert!(nearest.distance < 1e-6, "{nearest:?}");
    flush(&store);
    let stats = store.stats().unwrap();
    assert_eq!((stats.total_trajectories, stats.index_state), (rows, "graph"));
    assert!(recall(&store, &all()) >= 0.95);
    let report = store.verify(true, &mut || Ok(())).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
    store.close().unwrap();
    store.news()
}

#[test]
fn a_reopened_store_reads_its_index_and_says_nothing() {
    for storage in [Storage::F32, Storage::F16] {
        let folder = Folder::new();
        let options = Options { storage: Some(storage), ..graphed() };
        Store::open(&folder.path("store.db"), options).unwrap().close().unwrap();
        saved(&folder, 800);
        let store = open(&folder);
        store.search(&nearest(state(1), 1)).unwrap();
        assert_eq!(store.stats().unwrap().index_state, "graph", "nothing was left to link");
        assert!(store.stats().unwrap().sidecar_size > 800 * 60);
        drop(store);
        assert_eq!(found_again(&folder, 800), [""; 0]);
        assert!(
            std::fs::read_dir(folder.path("")).unwrap().count() == 2,
            "something was left behind"
        );
    }
}

#[test]
fn what_was_written_after_the_index_was_saved_is_caught_up() {
    let folder = Folder::new();
    let ids = saved(&folder, 1000);
    let plain = folder.store(); // links nothing and saves nothing
    plain.delete(&ids[10..40]).unwrap();
    let more = insert(&plain, &steps("f", 20, 5000));
    plain.compute_returns("e", 0.5, None).unwrap();
    plain.close().unwrap();
    let store = open(&folder);
    assert_eq!(store.search(&nearest(state(5007), 1)).unwrap().rows.ids, more[7..8]);
    assert_ne!(store.search(&nearest(state(20), 1)).unwrap().rows.ids, ids[20..21]);
    drop(store);
    assert_eq!(found_again(&folder, 990), [""; 0]);
}

#[test]
fn whatever_lies_in_its_place_is_never_believed_and_never_an_error() {
    let folder = Folder::new();
    saved(&folder, 600);
    let whole = std::fs::read(beside(&folder)).unwrap();
    let mut flipped = whole.clone();
    flipped[3 * whole.len() / 5] ^= 4;
    let mut other_version = whole.clone();
    other_version[8] = 9;
    let cases: [(&str, Vec<u8>); 6] = [
        ("nothing", Vec::new()),
        ("another program's", b"GIF89a".repeat(2000)),
        ("its beginning", whole[..whole.len() / 3].to_vec()),
        ("its header", whole[..2000].to_vec()),
        ("another version", other_version),
        ("a flipped bit", flipped),
    ];
    for (what, bytes) in cases {
        std::fs::write(beside(&folder), bytes).unwrap();
        let news = found_again(&folder, 600);
        assert!(what == "a flipped bit" || news.len() == 1, "{what}: {news:?}");
        assert_eq!(std::fs::read(beside(&folder)).unwrap().len(), whole.len(), "{what}: it stayed");
    }
    std::fs::remove_file(beside(&folder)).unwrap();
    assert_eq!(found_again(&folder, 600).len(), 1);
    std::fs::remove_file(beside(&folder)).unwrap();
    std::fs::create_dir(beside(&folder)).unwrap();
    let news = found_again(&folder, 600);
    assert!(news.iter().any(|line| line.contains("could not be saved")), "{news:?}");
}

#[test]
fn the_index_of_another_database_or_of_another_past_is_not_used() {
    let (folder, other) = (Folder::new(), Folder::new());
    saved(&folder, 500);
    saved(&other, 500);
    std::fs::copy(beside(&other), beside(&folder)).unwrap();
    let news = found_again(&folder, 500);
    assert!(news[0].contains("another database"), "{news:?}");

    // the database goes back to a copy of itself, and on from there with other rows
    std::fs::copy(folder.path("store.db"), folder.path("before.db")).unwrap();
    let store = open(&folder);
    insert(&store, &steps("f", 400, 2000));
    flush(&store);
    store.close().unwrap();
    std::fs::copy(folder.path("before.db"), folder.path("store.db")).unwrap();
    let news = found_again(&folder, 500);
    assert!(news[0].contains("another past"), "{news:?}");
    let store = open(&folder);
    insert(&store, &steps("f", 400, 2000));
    flush(&store);
    store.close().unwrap();
    let ahead = std::fs::read(beside(&folder)).unwrap();
    std::fs::copy(folder.path("before.db"), folder.path("store.db")).unwrap();
    let plain = folder.store();
    let rows = insert(&plain, &steps("g", 450, 3000));
    plain.close().unwrap();
    std::fs::write(beside(&folder), ahead).unwrap();
    let news = found_again(&folder, 950);
    assert!(news[0].contains("another past"), "{news:?}");
    let store = open(&folder);
    assert_eq!(store.search(&nearest(state(3100), 1)).unwrap().rows.ids, rows[100..101]);
}

#[test]
fn other_settings_of_the_graph_build_another_one() {
    let folder = Folder::new();
    saved(&folder, 500);
    let hnsw = HnswSettings { m: Some(24), ..graphed().hnsw };
    let store = Store::open(&folder.path("store.db"), Options { hnsw, ..graphed() }).unwrap();
    assert!(store.news()[0].contains("m=24"));
    flush(&store);
    assert!(store.news().iter().any(|line| line.contains("other settings")));
    store.close().unwrap();
    assert_eq!(found_again(&folder, 500), [""; 0]);
}

#[test]
fn a_copy_of_a_store_has_an_identity_of_its_own() {
    let folder = Folder::new();
    saved(&folder, 500);
    let store = open(&folder);
    let copy = Folder::new();
    store.backup(&copy.path("store.db"), &mut || Ok(())).unwrap();
    drop(store);
    std::fs::copy(beside(&folder), beside(&copy)).unwrap();
    let news = found_again(&copy, 500);
    assert!(news[0].contains("another database"), "{news:?}");
}

#[test]
fn a_store_for_reading_reads_the_index_and_leaves_it_alone() {
    let folder = Folder::new();
    let ids = saved(&folder, 700);
    let before = std::fs::read(beside(&folder)).unwrap();
    let read_only = || Options { read_only: true, ..graphed() };
    let store = Store::open(&folder.path("store.db"), read_only()).unwrap();
    assert_eq!(store.search(&nearest(state(99), 1)).unwrap().rows.ids, ids[99..100]);
    assert_eq!(store.stats().unwrap().index_state, "graph");
    store.close().unwrap();
    std::fs::remove_file(beside(&folder)).unwrap();
    let store = Store::open(&folder.path("store.db"), read_only()).unwrap();
    flush(&store);
    assert_eq!(store.stats().unwrap().index_state, "graph");
    store.close().unwrap();
    assert!(!beside(&folder).exists(), "a store for reading has written");
    std::fs::write(beside(&folder), before).unwrap();
    let without = HnswSettings { enabled: Some(false), ..HnswSettings::default() };
    let store =
        Store::open(&folder.path("store.db"), Options { hnsw: without, ..options() }).unwrap();
    store.search(&nearest(state(99), 1)).unwrap();
    assert_eq!((store.stats().unwrap().index_state, store.news().len()), ("scan", 0));
}

#[test]
fn small_changes_are_not_worth_a_new_file() {
    let folder = Folder::new();
    saved(&folder, 1000);
    let before = std::fs::read(beside(&folder)).unwrap();
    let store = open(&folder);
    insert(&store, &steps("f", 30, 7000));
    flush(&store);
    store.close().unwrap();
    assert!(std::fs::read(beside(&folder)).unwrap() == before, "three rows in a hundred");
    let store = open(&folder);
    insert(&store, &steps("g", 60, 8000));
    flush(&store);
    store.close().unwrap();
    assert!(std::fs::read(beside(&folder)).unwrap() != before, "nine rows in a hundred");
    assert_eq!(found_again(&folder, 1090), [""; 0]);
}

#[test]
fn two_stores_that_save_at_once_leave_one_whole_index() {
    let folder = Folder::new();
    drop(open(&folder));
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let folder = &folder;
            scope.spawn(move || {
                let store = open(folder);
                for round in 0..5 {
                    insert(&store, &steps("e", 100, 10_000 * (seed + 1) + 100 * round));
                    flush(&store);
                }
                store.close().unwrap();
            });
        }
    });
    let store = open(&folder);
    insert(&store, &steps("last", 10, 0));
    assert_eq!(store.search(&nearest(state(10_250), 1)).unwrap().hits[0].distance, 0.0);
    drop(store);
    found_again(&folder, 1010);
}

#[test]
fn every_metric_and_every_code_is_saved_and_found() {
    use precedent_core::hnsw::Quantization;
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
        for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
            let folder = Folder::new();
            let hnsw = HnswSettings {
                metric: Some(metric),
                quantization: Some(quantization),
                ..graphed().hnsw
            };
            let options = Options { hnsw, ..graphed() };
            let path = folder.path("store.db");
            let store = Store::open(&path, options.clone()).unwrap();
            insert(&store, &steps("e", 400, 0));
            flush(&store);
            store.close().unwrap();
            let store = Store::open(&path, options).unwrap();
            store.search(&nearest(state(1), 1)).unwrap();
            assert_eq!(store.stats().unwrap().index_state, "graph");
            assert!(recall(&store, &all()) >= 0.9, "{metric:?} {quantization:?}");
            assert!(
                store.verify(true, &mut || Ok(())).unwrap().ok(),
                "{metric:?} {quantization:?}"
            );
            assert_eq!(store.news(), [""; 0]);
        }
    }
}
