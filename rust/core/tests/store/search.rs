//! Answers: which rows, in which order, and when an answer may be repeated.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use precedent_core::store::{CacheSettings, Options, Query, SearchOptions, Store};
use precedent_core::{Error, Filter, Metric};

use crate::world::*;

#[test]
fn the_nearest_come_first_with_their_rows() {
    let store = memory();
    let ids = insert(&store, &steps("e", 20, 0));
    let answer = store.search(&nearest(state(4), 3)).unwrap();
    assert_eq!(answer.rows.ids[0], ids[4]);
    assert!((answer.hits[0].similarity - 1.0).abs() < 1e-6);
    assert!(answer.hits.is_sorted_by_key(|hit| hit.distance));
    let keys: Vec<_> = answer.hits.iter().map(|hit| hit.key).collect();
    assert_eq!(answer.rows.keys, keys);
    assert_eq!(&answer.rows.states[..WIDE], &state(4)[..]);
}

#[test]
fn more_than_there_are_is_all_and_of_nothing_nothing() {
    let store = memory();
    assert_eq!(store.search(&nearest(state(0), 7)).unwrap().hits, []);
    insert(&store, &steps("e", 4, 0));
    assert_eq!(store.search(&nearest(state(0), 700)).unwrap().hits.len(), 4);
}

#[test]
fn a_threshold_is_a_least_similarity_that_counts_itself() {
    let store = memory();
    insert(&store, &steps("e", 20, 0));
    let open = store.search(&nearest(state(4), 20)).unwrap();
    let mut query = nearest(state(4), 20);
    query.options.threshold = Some(open.hits[6].similarity);
    assert_eq!(store.search(&query).unwrap().hits, open.hits[..7]);
    query.options.threshold = Some(2.0);
    assert_eq!(store.search(&query).unwrap().hits, []);
}

#[test]
fn a_filter_is_answered_among_its_matches() {
    let store = memory();
    let mut rows = steps("e", 30, 0);
    rows.agent_types = Some((0..30).map(|i| (i % 4 == 0).then(|| "coder".to_owned())).collect());
    rows.returns = (0..30).map(|i| if i % 2 == 0 { f64::from(i) } else { f64::NAN }).collect();
    insert(&store, &rows);
    insert(&store, &steps("other", 3, 100));
    let matches = |filter: Filter| {
        let mut query = nearest(state(1), 100);
        query.options.filter = filter.clone();
        let found = store.search(&query).unwrap();
        assert_eq!(store.keys_matching(&filter).unwrap().len(), found.hits.len());
        found.hits.len()
    };
    let name = |name: &str| Some(vec![name.to_owned()]);
    assert_eq!(matches(Filter { task_types: name("plan"), ..all() }), 15 + 2);
    assert_eq!(matches(Filter { episodes: name("other"), ..all() }), 3);
    assert_eq!(matches(Filter { patterns: name("p1"), ..all() }), 10 + 1);
    assert_eq!(matches(Filter { agent_type: Some("coder".into()), ..all() }), 8);
    assert_eq!(matches(Filter { min_return: Some(10.0), ..all() }), 10);
    assert_eq!(matches(Filter { min_reward: Some(0.5), ..all() }), 25);
    assert_eq!(matches(Filter { min_episode_reward: Some(1.0), ..all() }), 30);
    assert_eq!(matches(Filter { after_timestamp: Some(NOW + 20), ..all() }), 10);
    assert_eq!(matches(Filter { before_timestamp: Some(NOW + 2), ..all() }), 4);
    assert_eq!(matches(Filter { success: Some(true), ..all() }), 24);
    assert_eq!(matches(Filter { task_types: name("nobody"), ..all() }), 0);
    assert_eq!(matches(Filter { agent_type: Some("nobody".into()), ..all() }), 0);
    let both = Filter { task_types: name("act"), success: Some(false), ..all() };
    assert_eq!(matches(both), 3 + 1);
}

#[test]
fn filters_follow_returns_and_totals_that_change_later() {
    let store = memory();
    let ids = insert(&store, &steps("e", 5, 0));
    let rich = Filter { min_episode_reward: Some(1.0), ..all() };
    let computed = Filter { min_return: Some(0.0), ..all() };
    assert_eq!(store.keys_matching(&rich).unwrap().len(), 5);
    assert_eq!(store.keys_matching(&computed).unwrap().len(), 0);
    store.compute_returns("e", 0.9, None).unwrap();
    assert_eq!(store.keys_matching(&computed).unwrap().len(), 5);
    store.delete(&ids[4..]).unwrap();
    assert_eq!(store.keys_matching(&rich).unwrap().len(), 0);
}

#[test]
fn many_at_once_are_answered_as_one_by_one() {
    let folder = Folder::new();
    for store in [memory(), folder.store()] {
        let mut rows = steps("e", 50, 0);
        rows.returns.fill(0.0); // NaN is not equal to itself
        insert(&store, &rows);
        let queries: Vec<f32> = (200..220).flat_map(state).collect();
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
            let options = SearchOptions {
                k: 4,
                metric: Some(metric),
                threshold: None,
                ..SearchOptions::default()
            };
            let many = store.search_many(&queries, &options, &mut || Ok(())).unwrap();
            let ids = store.search_ids(&queries, &options, &mut || Ok(())).unwrap();
            assert_eq!((many.len(), ids.len()), (20, 20));
            for (at, answer) in many.iter().enumerate() {
                let vector = queries[at * WIDE..][..WIDE].to_vec();
                let query = Query { vector, options: options.clone() };
                assert_eq!(*answer, *store.search(&query).unwrap());
                assert_eq!(ids[at], answer.hits);
            }
        }
        assert_eq!(store.search_many(&[], &SearchOptions::default(), &mut || Ok(())).unwrap(), []);
    }
}

#[test]
fn many_searches_end_when_the_caller_says_so() {
    let (store, _) = at_noon();
    insert(&store, &steps("e", 10, 0));
    let queries: Vec<f32> = (0..1000).flat_map(|i| state(i % 10)).collect();
    let mut asked = 0;
    let outcome = store.search_many(&queries, &SearchOptions::default(), &mut || {
        asked += 1;
        if asked == 3 { Err(Error::Interrupted) } else { Ok(()) }
    });
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert_eq!(asked, 3);
}

/// A signal's handler may close the store, and runs where the caller is asked: it used to wait for itself.
#[test]
fn whoever_is_asked_whether_to_go_on_may_close_the_store() {
    let (store, _) = at_noon();
    insert(&store, &steps("e", 10, 0));
    let queries: Vec<f32> = (0..1000).flat_map(|i| state(i % 10)).collect();
    let (closed, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outcome = store.search_many(&queries, &SearchOptions::default(), &mut || store.close());
        closed.send(matches!(outcome, Err(Error::Closed(_)))).unwrap();
    });
    let patience = std::time::Duration::from_secs(60);
    assert_eq!(ended.recv_timeout(patience), Ok(true), "it waits for ever");
}

#[test]
fn an_answer_is_repeated_until_something_is_written_or_its_time_is_over() {
    let (store, clock) = at_noon();
    let ids = insert(&store, &steps("e", 10, 0));
    let query = nearest(state(3), 2);
    let counts = || {
        let stats = store.stats().unwrap();
        (stats.cache_hits, stats.cache_misses)
    };
    let first = store.search(&query).unwrap();
    assert!(Arc::ptr_eq(&first, &store.search(&query).unwrap()));
    assert_eq!(counts(), (1, 1));
    for change in 0..5 {
        let mut other = query.clone();
        match change {
            0 => other.options.k = 3,
            1 => other.options.threshold = Some(0.0),
            2 => other.options.metric = Some(Metric::Dot),
            3 => other.options.filter.min_reward = Some(-1.0),
            _ => other.vector[7] = other.vector[7].next_up(),
        }
        store.search(&other).unwrap();
    }
    assert_eq!(counts(), (1, 6));
    clock.0.fetch_add(3_600_000, Ordering::Relaxed);
    store.search(&query).unwrap();
    assert_eq!(counts(), (1, 7));
    let pattern = |store: &Store| store.upsert_pattern("p0", None, Some("name"), None).unwrap();
    let writes: [&dyn Fn(&Store); 5] = [
        &|store| drop(insert(store, &steps("new", 1, 77))),
        &|store| assert_eq!(store.delete(&ids[..1]).unwrap(), 1),
        &|store| drop(store.compute_returns("e", 0.5, None).unwrap()),
        &|store| store.set_episode("e", Some(true), None).unwrap(),
        &pattern,
    ];
    for (at, write) in writes.iter().enumerate() {
        write(&store);
        store.search(&query).unwrap();
        assert_eq!(counts(), (1, 8 + at as u64));
    }
}

#[test]
fn a_cache_that_is_off_keeps_nothing() {
    for cache in [
        CacheSettings { enabled: false, ..CacheSettings::default() },
        CacheSettings { max_size: 0, ..CacheSettings::default() },
    ] {
        let store = Store::open(":memory:".as_ref(), Options { cache, ..options() }).unwrap();
        insert(&store, &steps("e", 3, 0));
        let first = store.search(&nearest(state(0), 1)).unwrap();
        assert!(!Arc::ptr_eq(&first, &store.search(&nearest(state(0), 1)).unwrap()));
        assert_eq!(store.stats().unwrap().cache_hits, 0);
    }
}

#[test]
fn neighbors_tell_what_was_done_there_and_how_it_went() {
    let store = memory();
    insert(&store, &steps("e", 9, 0));
    let found = store.neighbors(&state(7), 2, &all()).unwrap();
    assert_eq!((found[0].pattern_name.as_str(), found[0].succeeded), ("p1", true));
    assert!(found[0].similarity > found[1].similarity);
}

#[test]
fn quantiles_are_those_of_numpy() {
    let store = memory();
    let mut rows = steps("e", 4, 0);
    rows.returns = vec![4.0, 1.0, f64::NAN, 2.0];
    insert(&store, &rows);
    let scale = precedent_core::index::Scale::Return;
    let found = store.quantiles(scale, &[0.0, 0.25, 0.5, 1.0], &all()).unwrap();
    assert_eq!(found, [Some(1.0), Some(1.5), Some(2.0), Some(4.0)]);
    let none = Filter { min_reward: Some(9.0), ..all() };
    assert_eq!(store.quantiles(scale, &[0.5], &none).unwrap(), [None]);
}
