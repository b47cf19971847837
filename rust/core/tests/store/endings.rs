//! Long work that is ended before it is done: by the caller, or by closing the store.

use std::cell::Cell;

use precedent_core::store::{HnswSettings, Naming, Options, Prune, SearchOptions, Store};
use precedent_core::{Error, Result};
use rusqlite::Connection;

use crate::world::*;

const DIMENSION: usize = 512;

/// A store without a graph that is linked behind it.
fn large(folder: &Folder) -> Store {
    let hnsw = HnswSettings { enabled: Some(false), ..HnswSettings::default() };
    let options = Options { dimension: Some(DIMENSION), hnsw, ..options() };
    Store::open(&folder.path("store.db"), options).unwrap()
}

/// Inserts an episode of `n` rows.
fn grow(folder: &Folder, n: usize) {
    let store = large(folder);
    let episode = format!("of {n}");
    let mut rows = steps(&episode, n, 0);
    rows.states = (0..n * DIMENSION).map(|i| (i % 977) as f32 - 488.0).collect();
    insert(&store, &rows);
    store.close().unwrap();
}

type Poll<'a> = &'a mut dyn FnMut() -> Result<()>;
type Work = fn(&Store, &Folder, Poll<'_>) -> Result<()>;

const READING: [(&str, Work); 4] = [
    ("verify", |store, _, poll| store.verify(true, poll).map(drop)),
    ("backup", |store, folder, poll| store.backup(&folder.path("copy.db"), poll)),
    ("awaken", |store, _, poll| store.awaken(poll)),
    ("search_ids", |store, _, poll| {
        store.search_ids(&[1.0; DIMENSION], &SearchOptions::default(), poll).map(drop)
    }),
];

/// Ends each kind of reading by what `end` makes of the first question. How many rows take so long that there is a
/// question depends on the machine: what was done before it was asked is asked of four times the rows.
fn reading_ends(end: fn(&Store) -> Result<()>, expected: fn(&Error) -> bool) {
    let folder = Folder::new();
    let mut rows = 12_000;
    grow(&folder, rows);
    for (name, work) in READING {
        let (store, outcome) = loop {
            let store = large(&folder);
            let outcome = work(&store, &folder, &mut || end(&store));
            if outcome.is_err() || rows > 150_000 {
                break (store, outcome);
            }
            store.close().unwrap();
            let _ = std::fs::remove_file(folder.path("copy.db"));
            grow(&folder, 3 * rows);
            rows *= 4;
        };
        assert!(matches!(&outcome, Err(why) if expected(why)), "{name}, {rows} rows: {outcome:?}");
        assert!(!folder.path("copy.db").exists(), "{name} left half a copy");
        drop(store);
        work(&large(&folder), &folder, &mut || Ok(())).unwrap();
        let _ = std::fs::remove_file(folder.path("copy.db"));
    }
}

#[test]
fn long_reading_ends_when_the_caller_has_had_enough() {
    reading_ends(|_| Err(Error::Interrupted), |why| matches!(why, Error::Interrupted));
}

#[test]
fn long_reading_ends_when_asking_whether_to_go_on_closes_the_store() {
    reading_ends(Store::close, |why| matches!(why, Error::Closed(_)));
}

const WRITING: [(&str, Work); 3] = [
    ("insert_many", |store, _, poll| {
        store.insert_many(&steps("new", 3000, 9), Naming::Columns, poll).map(drop)
    }),
    ("prune", |store, _, poll| {
        store.prune(&Prune { max_size: Some(7), ..Prune::default() }, poll).map(drop)
    }),
    ("compute_all_returns", |store, _, poll| store.compute_all_returns(0.5, false, poll).map(drop)),
];

/// Ends each kind of writing by what `end` makes of the first question; another process holds the lock until then, so
/// the question comes before the work is done.
fn ended(end: fn(&Store) -> Result<()>, expected: fn(&Error) -> bool) {
    for (name, work) in WRITING {
        let folder = Folder::new();
        let store = folder.store();
        insert(&store, &steps("e", 2000, 0));
        store.compute_returns("e", 0.0, None).unwrap();
        let before = store.stats().unwrap();
        let other = Connection::open(folder.path("store.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let held = Cell::new(true);
        let outcome = work(&store, &folder, &mut || {
            if held.replace(false) {
                other.execute_batch("ROLLBACK").unwrap();
            }
            end(&store)
        });
        assert!(matches!(&outcome, Err(why) if expected(why)), "{name}: {outcome:?}");
        let store = folder.store();
        let after = store.stats().unwrap();
        assert_eq!(
            (after.total_trajectories, after.total_episodes, after.avg_return),
            (before.total_trajectories, before.total_episodes, before.avg_return),
            "{name}"
        );
        assert_eq!(store.verify(true, &mut || Ok(())).unwrap().problems, [] as [&str; 0], "{name}");
        work(&store, &folder, &mut || Ok(())).unwrap();
    }
}

#[test]
fn writing_that_is_interrupted_is_undone_as_a_whole() {
    ended(|_| Err(Error::Interrupted), |why| matches!(why, Error::Interrupted));
}

#[test]
fn writing_that_a_close_ends_is_undone_as_a_whole() {
    ended(Store::close, |why| matches!(why, Error::Closed(_)));
}

#[test]
fn a_closed_store_refuses_no_queries_at_all() {
    let store = memory();
    store.close().unwrap();
    let options = SearchOptions::default();
    let many = store.search_many(&[], &options, &mut || Ok(())).map(drop);
    let ids = store.search_ids(&[], &options, &mut || Ok(())).map(drop);
    assert!(matches!(many, Err(Error::Closed(_))), "{many:?}");
    assert!(matches!(ids, Err(Error::Closed(_))), "{ids:?}");
}
