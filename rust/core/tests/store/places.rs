//! Paths: what may lie there, and what may be done with it.

use precedent_core::Error;
use precedent_core::store::{Options, Prune, Store};

use crate::world::*;

#[test]
fn missing_folders_are_made() {
    let folder = Folder::new();
    let path = folder.path("a/b/c.db");
    drop(Store::open(&path, options()).unwrap());
    assert!(path.is_file());
}

#[test]
fn a_folder_in_the_files_place_is_refused() {
    let folder = Folder::new();
    assert!(matches!(Store::open(&folder.path(""), options()), Err(Error::Access { .. })));
    std::fs::write(folder.path("file"), "").unwrap();
    let below = Store::open(&folder.path("file/store.db"), options());
    let Err(Error::Access { source: Some(said), .. }) = below else {
        panic!("a file in the folder's place")
    };
    assert_eq!(said.kind(), std::io::ErrorKind::NotADirectory, "the system's word is kept");
}

#[test]
fn a_name_that_looks_like_a_uri_is_a_name() {
    let folder = Folder::new();
    let path = folder.path("file:x?mode=memory&a b%20.db");
    let store = Store::open(&path, options()).unwrap();
    insert(&store, &steps("e", 1, 0));
    store.close().unwrap();
    assert!(path.is_file());
}

#[test]
fn a_store_that_is_only_read_needs_a_file_and_leaves_it_alone() {
    let folder = Folder::new();
    let read_only = || Options { read_only: true, ..Options::default() };
    let path = folder.path("store.db");
    assert!(matches!(Store::open(&path, read_only()), Err(Error::Access { .. })));
    assert!(matches!(Store::open(":memory:".as_ref(), read_only()), Err(Error::Invalid { .. })));
    assert!(!path.exists());
    let store = folder.store();
    let ids = insert(&store, &steps("e", 5, 0));
    store.close().unwrap();
    let before = std::fs::read(&path).unwrap();
    let store = Store::open(&path, read_only()).unwrap();
    assert_eq!(store.search(&nearest(state(2), 1)).unwrap().rows.ids, ids[2..3]);
    assert_eq!(
        store.prune(&Prune { dry_run: true, ..Prune::default() }, &mut || Ok(())).unwrap(),
        5
    );
    let writes: [(&str, Result<(), Error>); 9] = [
        ("insert", store.insert(&steps("e", 1, 0), precedent_core::store::Naming::One).map(drop)),
        ("delete", store.delete(&ids).map(drop)),
        ("set_episode", store.set_episode("e", Some(true), None)),
        ("compute_returns", store.compute_returns("e", 0.9, None).map(drop)),
        ("compute_all_returns", store.compute_all_returns(0.9, false, &mut || Ok(())).map(drop)),
        ("prune", store.prune(&Prune::default(), &mut || Ok(())).map(drop)),
        ("upsert_pattern", store.upsert_pattern("p", None, None, None)),
        ("delete_pattern", store.delete_pattern("p0")),
        ("save_model", store.save_model("m", b"").map(drop)),
    ];
    for (name, outcome) in writes {
        assert!(matches!(outcome, Err(Error::ReadOnly { .. })), "{name}: {outcome:?}");
    }
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
    store.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_reader_sees_what_a_writer_of_the_same_file_commits() {
    let folder = Folder::new();
    let writer = folder.store();
    let options = Options { read_only: true, ..Options::default() };
    let reader = Store::open(&folder.path("store.db"), options).unwrap();
    let ids = insert(&writer, &steps("e", 3, 0));
    assert_eq!(reader.search(&nearest(state(1), 1)).unwrap().rows.ids, ids[1..2]);
}
