//! Files that are not what they seem.

use std::io::{Seek, SeekFrom, Write};

use precedent_core::Error;
use precedent_core::store::{Options, Store};
use rusqlite::Connection;

use crate::world::*;

#[test]
fn a_file_of_another_kind_is_refused_untouched() {
    let folder = Folder::new();
    let path = folder.path("notes.txt");
    for text in ["short", &"long enough to be a header of something else ".repeat(10)] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(Store::open(&path, options()), Err(Error::Format { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_database_of_another_program_is_refused_untouched() {
    let folder = Folder::new();
    let path = folder.path("other.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE trajectory (id)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(&path, options()), Err(Error::Format { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let folder = Folder::new();
    std::fs::write(folder.path("store.db"), "").unwrap();
    let read_only = Options { read_only: true, ..Options::default() };
    let refused = Store::open(&folder.path("store.db"), read_only);
    assert!(matches!(refused, Err(Error::Format { .. })));
    insert(&folder.store(), &steps("e", 1, 0));
}

#[test]
fn a_file_of_a_newer_version_is_refused_with_both_numbers() {
    let folder = Folder::new();
    drop(folder.store());
    let raw = Connection::open(folder.path("store.db")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    let refused = Store::open(&folder.path("store.db"), options());
    assert!(matches!(refused, Err(Error::Version { found: 99, newest: 1, .. })));
}

/// A store with five rows, changed behind its back; what `verify` says.
fn verified_after(sql: &str) -> Vec<String> {
    let folder = Folder::new();
    let store = folder.store();
    insert(&store, &steps("e", 5, 0));
    store.close().unwrap();
    Connection::open(folder.path("store.db")).unwrap().execute_batch(sql).unwrap();
    let report = folder.store().verify(false).unwrap();
    assert_eq!(report.ok(), report.problems.is_empty());
    report.problems
}

#[test]
fn every_broken_promise_of_the_tables_is_told() {
    let told = |sql: &str, words: &str| {
        let problems = verified_after(sql);
        assert!(problems.iter().any(|problem| problem.contains(words)), "{sql}: {problems:?}");
    };
    assert_eq!(verified_after("SELECT 1"), [] as [&str; 0]);
    told("DELETE FROM vector WHERE id = 3", "row 3 has no state");
    told("DELETE FROM trajectory WHERE id = 2", "state 2 belongs to no row");
    told("UPDATE vector SET state = x'00' WHERE id = 4", "state 4 has 0 dimensions");
    told(
        "UPDATE vector SET state = zeroblob(length(state)) WHERE id = 4",
        "state 4 is not the one",
    );
    let infinite =
        "UPDATE vector SET state = CAST(x'0000807f' || substr(state, 5) AS BLOB) WHERE id = 1";
    told(infinite, "state 1");
    told("UPDATE episode SET steps = 4", "episode 1 does not count");
    told("DELETE FROM episode", "episode that is not there");
    told("DELETE FROM label", "label that is not there");
    told("UPDATE action SET uses = 7 WHERE id = 1", "action 1 does not count");
    told("DELETE FROM action_vector WHERE id = 2", "action 2 has no embedding");
    told("UPDATE pattern SET uses = 0 WHERE id = 2", "pattern 2 does not count");
}

#[test]
fn a_torn_page_is_told_or_refused_but_never_believed() {
    let folder = Folder::new();
    let path = folder.path("store.db");
    let store = folder.store();
    insert(&store, &steps("e", 2000, 0));
    store.close().unwrap();
    let whole = std::fs::read(&path).unwrap();
    for page in 1..whole.len() / 8192 {
        std::fs::write(&path, &whole).unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(page as u64 * 8192)).unwrap();
        file.write_all(&[0xA5; 8192]).unwrap();
        drop(file);
        match Store::open(&path, options()) {
            Ok(store) => assert!(!store.verify(false).unwrap().ok(), "page {page}"),
            Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "page {page}: {error}"),
        }
    }
}
