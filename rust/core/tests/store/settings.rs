//! What the caller says against what the file says.

use precedent_core::store::{Durability, HnswSettings, Options, Storage, Store};
use precedent_core::{Error, Metric};

use crate::world::*;

fn reopen(folder: &Folder, options: Options) -> Result<Store, Error> {
    Store::open(&folder.path("store.db"), options)
}

#[test]
fn a_new_file_takes_the_defaults() {
    let folder = Folder::new();
    let store = reopen(&folder, Options::default()).unwrap();
    assert_eq!((store.dimension(), store.action_dimension()), (768, 768));
    assert_eq!(
        (store.storage(), store.metric(), store.encoder()),
        (Storage::F32, Metric::Cosine, None)
    );
    let hnsw = store.hnsw();
    assert_eq!((hnsw.enabled, hnsw.m, hnsw.ef_construction, hnsw.ef_search), (true, 16, 200, 50));
    assert_eq!((hnsw.quantization.name(), hnsw.build_above), ("int8", None));
}

#[test]
fn an_existing_file_keeps_what_it_was_made_with() {
    let folder = Folder::new();
    let hnsw = HnswSettings { metric: Some(Metric::Dot), m: Some(32), ..HnswSettings::default() };
    let first = Options {
        dimension: Some(5),
        storage: Some(Storage::F16),
        hnsw,
        durability: Durability::Full,
        ..Options::default()
    };
    reopen(&folder, first).unwrap();
    let store = reopen(&folder, Options::default()).unwrap();
    assert_eq!(
        (store.dimension(), store.action_dimension(), store.storage()),
        (5, 5, Storage::F16)
    );
    assert_eq!((store.metric(), store.hnsw().m), (Metric::Dot, 32));
}

#[test]
fn another_dimension_storage_or_metric_is_refused() {
    let folder = Folder::new();
    drop(folder.store());
    let dimension = reopen(&folder, Options { dimension: Some(9), ..Options::default() });
    assert!(matches!(dimension, Err(Error::Dimension { expected: WIDE, got: 9, .. })));
    let action = reopen(&folder, Options { action_dimension: Some(4), ..Options::default() });
    assert!(matches!(action, Err(Error::Dimension { expected: ACTION, got: 4, .. })));
    let storage = reopen(&folder, Options { storage: Some(Storage::F16), ..Options::default() });
    assert!(matches!(storage, Err(Error::Invalid { field, .. }) if field == "storage"));
    let hnsw = HnswSettings { metric: Some(Metric::Dot), ..HnswSettings::default() };
    let metric = reopen(&folder, Options { hnsw, ..Options::default() });
    assert!(matches!(metric, Err(Error::Invalid { field, .. }) if field == "hnsw.metric"));
}

#[test]
fn graph_settings_that_are_named_are_kept_from_then_on() {
    let folder = Folder::new();
    drop(folder.store());
    let hnsw = HnswSettings {
        m: Some(8),
        enabled: Some(false),
        ef_search: Some(99),
        build_above: Some(0),
        ..HnswSettings::default()
    };
    drop(reopen(&folder, Options { hnsw, ..Options::default() }).unwrap());
    let store = reopen(&folder, Options::default()).unwrap();
    let hnsw = store.hnsw();
    assert_eq!((hnsw.m, hnsw.enabled, hnsw.ef_search, hnsw.ef_construction), (8, false, 99, 200));
    assert_eq!(hnsw.build_above, Some(0), "0 is a number of rows like any other");
    let hnsw = HnswSettings { build_above: Some(70_000), ..HnswSettings::default() };
    drop(store);
    drop(reopen(&folder, Options { hnsw, ..Options::default() }).unwrap());
    let store = reopen(&folder, Options::default()).unwrap();
    assert_eq!((store.hnsw().build_above, store.hnsw().m), (Some(70_000), 8));
}

#[test]
fn a_reader_s_graph_settings_hold_for_its_opening_only() {
    let folder = Folder::new();
    drop(folder.store());
    let hnsw =
        HnswSettings { ef_search: Some(33), build_above: Some(5), ..HnswSettings::default() };
    let reader = Options { read_only: true, hnsw, ..Options::default() };
    let reader = reopen(&folder, reader).unwrap();
    assert_eq!((reader.hnsw().ef_search, reader.hnsw().build_above), (33, Some(5)));
    let later = reopen(&folder, Options::default()).unwrap();
    assert_eq!((later.hnsw().ef_search, later.hnsw().build_above), (50, None));
}

#[test]
fn the_encoder_is_remembered_and_another_is_refused() {
    let folder = Folder::new();
    let with = |name: &str| Options { encoder: Some(name.to_owned()), ..options() };
    drop(folder.store());
    drop(reopen(&folder, with("mine")).unwrap());
    assert_eq!(folder.store().encoder(), Some("mine"));
    let Err(Error::EncoderMismatch { stored, given }) = reopen(&folder, with("yours")) else {
        panic!("two encoders in one store");
    };
    assert_eq!((stored.as_str(), given.as_str()), ("mine", "yours"));
}
