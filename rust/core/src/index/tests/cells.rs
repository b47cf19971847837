//! Filters that exclude what a query is about: when cells are asked for, and what happens to them while rows come and go.

use crate::pool::Pool;
use crate::rng::Rng;

use super::*;

const WIDE: u64 = 16;
const CLUSTERS: u64 = 30;

fn cluster(number: i64) -> u64 {
    Rng::new(5, number as u64).below(99, CLUSTERS)
}

fn state(number: i64) -> Vec<f32> {
    let (own, centre) = (Rng::new(5, number as u64), Rng::new(6, cluster(number)));
    (0..WIDE).map(|i| (centre.normal(i) + own.normal(i)) as f32).collect()
}

/// A row whose pattern is its cluster.
fn of(number: i64) -> Entry {
    Entry { pattern: PatternId(cluster(number) as i64), ..entry(number) }
}

fn filled_with(rows: i64) -> (Index, Shelf) {
    let mut index =
        Index::new(WIDE as usize, params(Metric::Cosine, crate::hnsw::Quantization::Int8));
    let mut shelf = Shelf::default();
    append(&mut index, &mut shelf, 0..rows);
    link(&index);
    (index, shelf)
}

fn append(index: &mut Index, shelf: &mut Shelf, numbers: std::ops::Range<i64>) {
    for number in numbers {
        index.append(&of(number), &state(number));
        shelf.states.insert(of(number).key, state(number));
    }
}

fn link(index: &Index) {
    index.graph.link(usize::MAX, &Pool::new(2).unwrap(), &GO_ON);
}

/// Every cluster but that of a query.
fn others(query: i64) -> Resolved {
    let all = (0..CLUSTERS).filter(|other| *other != cluster(query));
    let patterns = all.map(|other| PatternId(other as i64)).collect();
    Resolved { patterns: Some(patterns), ..Resolved::default() }
}

fn ask(index: &Index, shelf: &mut Shelf, query: i64, filter: &Resolved) -> Vec<RowKey> {
    let state = state(query);
    let question = Question { ef: Some(50), ..exactly(&state, Metric::Cosine, 10, filter) };
    let hits = index.search(&question, shelf, &mut Scratch::default(), &GO_ON).unwrap();
    hits.into_iter().map(|hit| hit.key).collect()
}

/// The share of the ten nearest of other clusters that is found.
fn recall(index: &Index, shelf: &mut Shelf) -> f64 {
    let mut found = 0;
    for query in (-40..0).rev() {
        let filter = others(query);
        let hits = ask(index, shelf, query, &filter);
        let truth = brute::search(index, &state(query), Metric::Cosine, 10, &filter, shelf);
        assert!(hits.iter().all(|key| cluster(key.0 / 3) != cluster(query)));
        assert_eq!(hits.len(), truth.len());
        found += truth.iter().filter(|hit| hits.contains(&hit.key)).count();
    }
    f64::from(found as u32) / 400.0
}

fn take_cells(index: &mut Index) {
    let (graph, old) = (Arc::clone(index.graph()), index.cells().cloned());
    let cells = Cells::of(&graph, old.as_deref(), &Pool::new(2).unwrap(), &GO_ON).unwrap();
    index.take_cells(&graph, cells);
}

#[test]
fn cells_are_asked_for_where_a_filter_excludes_what_the_query_is_about() {
    let (mut index, mut shelf) = filled_with(9000);
    let none = Resolved::default();
    let own = Resolved { patterns: Some(vec![PatternId(3)]), ..Resolved::default() };
    let third = Resolved { task_types: Some(vec![LabelId(1)]), ..Resolved::default() };
    for filter in [&none, &own, &third] {
        ask(&index, &mut shelf, -1, filter);
        assert!(!index.lacks_cells(), "{filter:?}");
    }
    assert!(recall(&index, &mut shelf) >= 0.95);
    assert!(index.lacks_cells());
    let before = index.bytes();
    take_cells(&mut index);
    assert!(!index.lacks_cells() && index.bytes() > before + 9000 * 40);
    let share = recall(&index, &mut shelf);
    assert!(share >= 0.95, "{share}");
    assert!(!index.lacks_cells());
    // codes are asked without a state: those questions are walked or scanned as ever
    let mut code = Vec::new();
    index.graph.codec().encode(&state(-1), crate::hnsw::Role::Query, &mut code);
    let (filter, mut scratch) = (others(-1), Scratch::default());
    let by_code = index.search_code(&code, 10, &filter, Some(50), &mut scratch, &GO_ON).unwrap();
    assert_eq!(by_code.len(), 10);
}

#[test]
fn cells_follow_rows_that_come_go_and_change() {
    let (mut index, mut shelf) = filled_with(9000);
    recall(&index, &mut shelf);
    take_cells(&mut index);
    let (query, filter) = (-1, others(-1));
    // what is removed is found no more, though the filter was arranged with it
    let gone = ask(&index, &mut shelf, query, &filter);
    index.remove(&gone);
    let hits = ask(&index, &mut shelf, query, &filter);
    assert!(hits.len() == 10 && hits.iter().all(|key| !gone.contains(key)));
    // a row that no longer matches neither
    let good = Resolved { min_return: Some(-0.5), ..filter.clone() };
    let hits = ask(&index, &mut shelf, query, &good);
    index.set_return(hits[0], Some(-0.9));
    assert!(!ask(&index, &mut shelf, query, &good).contains(&hits[0]));
    index.set_return(hits[0], Some(0.9));
    assert!(ask(&index, &mut shelf, query, &good).contains(&hits[0]));
    // what comes is found before it is linked, before it is in a cell, and in one
    let mut near = of(20_000);
    near.pattern = PatternId((cluster(query) as i64 + 1) % CLUSTERS as i64);
    index.append(&near, &state(query));
    shelf.states.insert(near.key, state(query));
    assert_eq!(ask(&index, &mut shelf, query, &filter)[0], near.key);
    link(&index);
    assert_eq!(ask(&index, &mut shelf, query, &filter)[0], near.key);
    take_cells(&mut index);
    assert_eq!(ask(&index, &mut shelf, query, &filter)[0], near.key);
    // many that come make the cells be asked for anew
    append(&mut index, &mut shelf, 30_000..30_400);
    link(&index);
    ask(&index, &mut shelf, query, &filter);
    assert!(index.lacks_cells());
    take_cells(&mut index);
    assert!(recall(&index, &mut shelf) >= 0.95 && !index.lacks_cells());
    // and a compacted graph has none
    let dead: Vec<RowKey> = (0..3000).map(|number| of(number).key).collect();
    index.remove(&dead);
    let (graph, live) = (Arc::clone(index.graph()), index.worth_compacting().unwrap());
    let kept = graph.consolidated(&live, &Pool::new(2).unwrap(), &GO_ON).unwrap();
    let late = Cells::of(&graph, None, &Pool::new(2).unwrap(), &GO_ON).unwrap();
    index.swap(&graph, kept, &live);
    assert!(index.cells().is_none());
    index.take_cells(&graph, late);
    assert!(index.cells().is_none(), "cells of a graph that is gone");
    assert!(recall(&index, &mut shelf) >= 0.95 && index.lacks_cells());
}
