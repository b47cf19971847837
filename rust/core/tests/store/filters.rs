//! Filtered searches of a graph that is large enough to be walked: what matches may lie anywhere, near the query, or
//! everywhere but there.

use precedent_core::rng::Rng;
use precedent_core::store::{HnswSettings, Naming, Options, SearchOptions, Store};
use precedent_core::{Filter, Rows};

use crate::world::{ACTION, NOW, all};

const ROWS: usize = 24_000;
const WIDTH: usize = 16;
const CLUSTERS: u64 = 40;

fn cluster(number: u64) -> u64 {
    Rng::new(21, number).below(999, CLUSTERS)
}

fn centre(cluster: u64) -> Vec<f32> {
    (0..WIDTH as u64).map(|i| Rng::new(22, cluster).normal(i) as f32).collect()
}

/// As wide within a cluster as between them.
fn state(number: u64) -> Vec<f32> {
    let own = Rng::new(21, number);
    (0..).zip(centre(cluster(number))).map(|(i, x)| x + own.normal(i) as f32).collect()
}

/// Rows in no order, each of the task type that its cluster names, in a graph of this M.
fn filled(m: usize, ef_construction: usize) -> Store {
    let names: Vec<String> = (0..CLUSTERS).map(|cluster| cluster.to_string()).collect();
    let rows = 0..ROWS as u64;
    let hnsw = HnswSettings {
        build_above: Some(0),
        m: Some(m),
        ef_construction: Some(ef_construction),
        ef_search: Some(44),
        ..HnswSettings::default()
    };
    let (dimension, action_dimension) = (Some(WIDTH), Some(ACTION));
    let options = Options { dimension, action_dimension, hnsw, ..Options::default() };
    let store = Store::open(":memory:".as_ref(), options).unwrap();
    let columns = Rows {
        len: ROWS,
        states: rows.clone().flat_map(state).collect(),
        actions: vec![1.0; ROWS * ACTION],
        rewards: vec![0.0; ROWS],
        returns: vec![f64::NAN; ROWS],
        patterns: std::iter::repeat_n("p", ROWS).collect(),
        episodes: std::iter::repeat_n("e", ROWS).collect(),
        task_types: rows.map(|row| names[cluster(row) as usize].as_str()).collect(),
        timestamps: Some((0..ROWS as i64).map(|i| Some(NOW + i)).collect()),
        ..Rows::default()
    };
    store.insert(&columns, Naming::Columns).unwrap();
    store.flush(&mut || Ok(())).unwrap();
    store
}

/// The share of the ten nearest matches that thirty searches find.
fn recall(store: &Store, filter: impl Fn(u64) -> Filter) -> f64 {
    let (mut hits, mut wanted) = (0, 0);
    for number in 1 << 40..(1 << 40) + 30 {
        let ask = |exact| {
            let filter = filter(number);
            let options =
                SearchOptions { k: 10, threshold: None, filter, exact, ..SearchOptions::default() };
            store.search_ids(&state(number), &options, &mut || Ok(())).unwrap().remove(0)
        };
        let (found, truth) = (ask(false), ask(true));
        assert_eq!(found.len(), truth.len());
        hits += truth.iter().filter(|hit| found.contains(hit)).count();
        wanted += truth.len();
    }
    hits as f64 / f64::from(wanted as u32)
}

#[test]
fn filters_that_go_with_the_query_or_against_it_lose_no_more_than_others() {
    let store = filled(16, 100);
    let types = |wanted: &dyn Fn(u64) -> bool| {
        Some((0..CLUSTERS).filter(|&c| wanted(c)).map(|c| c.to_string()).collect())
    };
    // clusters, the nearest to the query's own first
    let by_distance = |number: u64| -> Vec<u64> {
        let own = centre(cluster(number));
        let far = |c: u64| -> f32 { own.iter().zip(centre(c)).map(|(a, b)| (a - b).powi(2)).sum() };
        let mut order: Vec<u64> = (0..CLUSTERS).collect();
        order.sort_by(|a, b| far(*a).total_cmp(&far(*b)));
        order
    };
    for share in [1.0, 0.5, 0.2, 0.1, 0.05, 0.01, 0.001] {
        let after_timestamp = Some(NOW + ROWS as i64 - (ROWS as f64 * share) as i64);
        let newest = Filter { after_timestamp, ..all() };
        let found = recall(&store, |_| newest.clone());
        assert!(found >= 0.95, "{share} anywhere: {found}");
        let found = recall(&store, |number| {
            let task_types = types(&|c| c != cluster(number));
            Filter { task_types, ..newest.clone() }
        });
        assert!(found >= 0.95, "{share} of all other clusters: {found}");
        let found = recall(&store, |number| {
            let task_types = types(&|c| c == cluster(number));
            Filter { task_types, ..newest.clone() }
        });
        assert!(found >= 0.95, "{share} of the own cluster: {found}");
    }
    for share in [0.5, 0.25, 0.1, 0.025] {
        let some = (CLUSTERS as f64 * share) as usize;
        let found = recall(&store, |number| {
            let order = by_distance(number);
            let task_types = types(&|c| order[CLUSTERS as usize - some..].contains(&c));
            Filter { task_types, ..all() }
        });
        assert!(found >= 0.95, "{share}, the farthest clusters: {found}");
        let found = recall(&store, |number| {
            let order = by_distance(number);
            let task_types = types(&|c| order[..some].contains(&c));
            Filter { task_types, ..all() }
        });
        assert!(found >= 0.95, "{share}, the nearest clusters: {found}");
    }
}

#[test]
fn a_graph_of_few_links_finds_as_much_through_a_filter() {
    let store = filled(8, 60);
    for share in [0.5, 0.3, 0.2, 0.1, 0.05] {
        let after_timestamp = Some(NOW + ROWS as i64 - (ROWS as f64 * share) as i64);
        let found = recall(&store, |_| Filter { after_timestamp, ..all() });
        assert!(found >= 0.95, "{share} anywhere: {found}");
    }
}
