//! A returned id is a durable row.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use precedent_core::Error;
use precedent_core::ids::TrajectoryId;
use precedent_core::store::Store;

use crate::world::*;

const PLACE: &str = "PRECEDENT_TEST_WRITES_TO";

/// Not a test of its own: the process that `what_was_returned_survives_a_kill` kills.
#[test]
#[expect(clippy::print_stdout, reason = "how the parent learns of the ids")]
fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var(PLACE) else { return };
    let store = Store::open(path.as_ref(), options()).unwrap();
    for round in 0.. {
        for id in insert(&store, &steps(&format!("e{round}"), 3, round)) {
            println!("id {id}");
        }
    }
}

#[test]
fn what_was_returned_survives_a_kill() {
    let folder = Folder::new();
    let path = folder.path("store.db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::writes_until_it_is_killed", "--nocapture"])
        .env(PLACE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = lines
        .map(|line| line.unwrap())
        .filter_map(|line| line.strip_prefix("id ").map(str::to_owned));
    let told: Vec<String> = told.take(300).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let ids: Vec<_> = told.iter().map(|id| TrajectoryId::parse(id).unwrap()).collect();
    assert_eq!(ids.len(), 300);
    let store = folder.store();
    assert_eq!(store.get(&ids).unwrap().len, 300);
    let report = store.verify(true, &mut || Ok(())).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
    assert_eq!(report.rows % 3, 0, "half a transaction");
}

#[test]
fn closing_leaves_one_file_and_reopening_finds_everything() {
    let folder = Folder::new();
    let store = folder.store();
    let ids = insert(&store, &steps("e", 40, 0));
    store.search(&nearest(state(0), 3)).unwrap();
    store.close().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path("")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let store = folder.store();
    assert_eq!(store.search(&nearest(state(5), 1)).unwrap().rows.ids, ids[5..6]);
}

#[test]
fn after_the_close_every_use_is_refused_and_a_second_close_is_nothing() {
    for store in [memory(), Folder::new().store()] {
        let ids = insert(&store, &steps("e", 2, 0));
        assert!(!store.is_closed());
        store.close().unwrap();
        store.close().unwrap();
        assert!(store.is_closed());
        let uses: [Result<(), Error>; 6] = [
            store.get(&ids).map(drop),
            store.search(&nearest(state(0), 1)).map(drop),
            store.delete(&ids).map(drop),
            store.stats().map(drop),
            store.flush(&mut || Ok(())),
            store.insert(&steps("e", 1, 0), precedent_core::store::Naming::One).map(drop),
        ];
        assert!(uses.iter().all(|outcome| matches!(outcome, Err(Error::Closed(_)))), "{uses:?}");
        assert_eq!(store.dimension(), WIDE);
    }
}

#[test]
fn a_failed_insert_leaves_no_trace() {
    let folder = Folder::new();
    let store = folder.store();
    insert(&store, &steps("e", 2, 0));
    let mut rows = steps("f", 3, 5);
    rows.rewards = vec![f64::MAX, f64::MAX, 0.0]; // their sum is found out inside the transaction
    assert!(store.insert(&rows, precedent_core::store::Naming::Columns).is_err());
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
    assert_eq!(store.episode_names(&all()).unwrap(), ["e"]);
    let ids = insert(&store, &steps("g", 1, 9));
    assert_eq!(ids[0].row_key().0, 3, "a key was lost");
}
