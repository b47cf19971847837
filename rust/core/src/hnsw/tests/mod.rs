mod filters;
mod hostile;
mod life;
mod random;
mod recall;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::pool::Pool;
use crate::rng::Rng;

/// Rows of twenty clusters, as wide within as between.
pub(super) fn vector(dimension: usize, number: u64) -> Vec<f32> {
    let rng = Rng::new(3, number);
    let centre = Rng::new(4, rng.below(999, 20));
    (0..dimension as u64).map(|i| (centre.normal(i) + rng.normal(i)) as f32).collect()
}

pub(super) fn params(metric: Metric, quantization: Quantization) -> Params {
    Params { m: 8, ef_construction: 60, metric, quantization, seed: 1 }
}

/// A graph of these rows, linked by so many threads.
pub(super) fn built(params: Params, rows: &[Vec<f32>], threads: usize) -> Graph {
    let graph = Graph::new(rows[0].len(), params);
    for row in rows {
        graph.push(row);
    }
    let pool = Pool::new(threads).unwrap();
    assert_eq!(graph.link(usize::MAX, &pool, &AtomicBool::new(false)), rows.len());
    graph
}

/// Every list of every linked row.
fn lists(graph: &Graph) -> Vec<Vec<u32>> {
    let layers = |node| (0..=graph.level(node)).map(move |layer| (node, layer));
    let all = (0..graph.linked() as u32).flat_map(layers);
    all.map(|(node, layer)| graph.links(node, layer).words().collect()).collect()
}

/// What must hold of every graph that was made here.
fn assert_sound(graph: &Graph) {
    for list in lists(graph) {
        let nodes: BTreeSet<u32> = list.iter().map(|word| word & !FIXED).collect();
        assert_eq!(nodes.len(), list.len(), "a link twice: {list:?}");
    }
    assert_whole(graph);
}

/// What must hold of every graph, wherever it comes from.
fn assert_whole(graph: &Graph) {
    let linked = graph.linked() as u32;
    let m = graph.params().m;
    for node in 0..graph.len() as u32 {
        for layer in 0..=graph.level(node) {
            let nodes: Vec<u32> = graph.links(node, layer).nodes().collect();
            assert!(nodes.len() <= if layer == 0 { 2 * m } else { m }, "{node}: {nodes:?}");
            assert!(node < linked || nodes.is_empty(), "{node} is not linked");
            for next in nodes {
                assert!(next != node && next < linked, "{node} to {next} of {linked}");
                assert!(graph.level(next) >= layer, "{node} to {next} in layer {layer}");
            }
        }
    }
    if linked > 0 {
        let (entry, top) = graph.entry();
        assert_eq!(graph.level(entry), top);
        let mut seen = vec![false; linked as usize];
        let mut queue = vec![entry];
        seen[entry as usize] = true;
        while let Some(node) = queue.pop() {
            let fresh = graph.links(node, 0).nodes().filter(|&next| !seen[next as usize]);
            let fresh: Vec<u32> = fresh.collect();
            for &next in &fresh {
                seen[next as usize] = true;
            }
            queue.extend(fresh);
        }
        let lost = seen.iter().filter(|seen| !**seen).count();
        assert_eq!(lost, 0, "of {linked} rows");
    }
}

/// The nearest rows that pass, by the exact distance.
pub(super) fn brute(
    metric: Metric,
    rows: &[Vec<f32>],
    query: &[f32],
    k: usize,
    passes: impl Fn(usize) -> bool,
) -> Vec<u32> {
    let sum = |terms: &mut dyn Iterator<Item = f64>| terms.sum::<f64>();
    let dot = |a: &[f32], b: &[f32]| {
        sum(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)))
    };
    let distance = |row: &[f32]| match metric {
        Metric::Cosine => 1.0 - dot(row, query) / (dot(row, row) * dot(query, query)).sqrt(),
        Metric::Dot => -dot(row, query),
        Metric::Euclidean => {
            sum(&mut row.iter().zip(query).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)))
        }
    };
    let passing = rows.iter().enumerate().filter(|(at, _)| passes(*at));
    let mut all: Vec<(f64, u32)> = passing.map(|(at, row)| (distance(row), at as u32)).collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    all.truncate(k);
    all.into_iter().map(|(_, at)| at).collect()
}

/// The share of the true ten nearest among the candidates of a walk, over queries that are no rows.
fn recall(graph: &Graph, rows: &[Vec<f32>], queries: &[Vec<f32>], ef: usize) -> f64 {
    let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
    let (mut found, mut hits, mut wanted) = (Vec::new(), 0, 0);
    for state in queries {
        graph.prepare(state, &mut query);
        graph.search(&query, ef, None, None, &mut scratch, &mut found);
        assert!(found.len() <= ef && found.is_sorted_by(|a, b| a.1 <= b.1));
        let truth = brute(graph.params().metric, rows, state, 10, |at| at < graph.linked());
        hits += truth.iter().filter(|node| found.iter().any(|f| f.0.0 == **node)).count();
        wanted += truth.len();
    }
    hits as f64 / wanted as f64
}
