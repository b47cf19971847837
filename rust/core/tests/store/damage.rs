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

#[test]
fn a_reader_refuses_a_file_of_an_older_version_and_says_what_to_do() {
    let folder = Folder::new();
    insert(&folder.store(), &steps("e", 3, 0));
    let raw = Connection::open(folder.path("store.db")).unwrap();
    raw.pragma_update(None, "user_version", 0).unwrap();
    drop(raw);
    let read_only = Options { read_only: true, ..Options::default() };
    let refused = Store::open(&folder.path("store.db"), read_only).map(drop).unwrap_err();
    assert!(matches!(&refused, Error::Access { .. }), "{refused:?}");
    assert!(refused.to_string().contains("version 0"), "{refused}");
    assert!(refused.to_string().contains("open it once for writing"), "{refused}");
}

/// A store with five rows, changed behind its back; what `verify` says.
fn verified_after(sql: &str) -> Vec<String> {
    let folder = Folder::new();
    let store = folder.store();
    let mut rows = steps("e", 5, 0);
    rows.extras = Some(vec![Some("{\"a\":1}".to_owned()); 5]);
    insert(&store, &rows);
    store.upsert_pattern("p0", Some(&action(9)), None, Some("[1]")).unwrap();
    store.close().unwrap();
    Connection::open(folder.path("store.db")).unwrap().execute_batch(sql).unwrap();
    let report = folder.store().verify(false, &mut || Ok(())).unwrap();
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
    told("UPDATE vector SET state = x'00' WHERE id = 4", "state 4 has 1 bytes, expected 32");
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
    told("UPDATE pattern SET successes = 99 WHERE id = 1", "pattern 1 does not count");
    told("UPDATE pattern SET reward_sum = 1e9 WHERE id = 3", "pattern 3 does not hold the sum");
    told("UPDATE episode SET total_reward = 9e999", "episode 1 does not hold the sum");
    told("UPDATE episode SET total_reward = 1.001", "episode 1 does not hold the sum");
    told("UPDATE episode SET metadata = '[1]'", "episode 1 has metadata that is no JSON");
    told("UPDATE meta SET value = 1 WHERE key = 'next_row'", "at or below the newest row, 5");
    told("UPDATE meta SET value = 5 WHERE key = 'next_row'", "at or below the newest row, 5");
    told("UPDATE trajectory SET uuid = randomblob(16) WHERE id = 2", "row 2 has an id");
    told("UPDATE trajectory SET uuid = substr(uuid, 2) WHERE id = 2", "row 2 has an id");
    told("UPDATE trajectory SET quality = 7 WHERE id = 3", "row 3 has a quality");
    told("UPDATE trajectory SET quality = -1e999 WHERE id = 3", "row 3 has a quality");
    told("UPDATE trajectory SET ended = 9 WHERE id = 3", "row 3 has a flag");
    told("UPDATE trajectory SET success = 2 WHERE id = 3", "row 3 has a flag");
    told("UPDATE trajectory SET return_to_go = -9e999 WHERE id = 3", "row 3 has a reward or a");
    told("UPDATE action SET hash = hash - 1 WHERE id = 2", "action 2 is not the one whose hash");
    told("UPDATE trajectory SET extra = '{' WHERE id = 4", "row 4 has metadata that is no JSON");
    told("UPDATE trajectory SET extra = '3' WHERE id = 4", "row 4 has metadata that is no JSON");
    told("UPDATE trajectory SET action_metadata = 'no' WHERE id = 4", "row 4 has metadata");
    told("UPDATE pattern_entry SET payload = '[1'", "pattern 1 has a payload that is no JSON");
    told("UPDATE pattern_entry SET embedding = x'00'", "pattern 1 has 1 bytes, expected 12");
    let nan = "UPDATE pattern_entry SET embedding = x'000000000000c07f00000000'";
    told(nan, "the embedding of pattern 1 holds a number that is not finite");
    told("PRAGMA foreign_keys = 0; UPDATE pattern_entry SET pattern = 77", "describes nothing");
    told("INSERT INTO priority VALUES (77, 1.0)", "priority 77 belongs to no row");
    told("INSERT INTO span VALUES (1, 3, 4)", "row 3 is found by an episode that it is not of");
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
            Ok(store) => assert!(!store.verify(false, &mut || Ok(())).unwrap().ok(), "page {page}"),
            Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "page {page}: {error}"),
        }
    }
}
