//! The graph beside `instant-distance`, and what a walk costs at which recall. `cargo bench --bench graph`; the
//! environment variable `PRECEDENT_BENCH_ROWS` sets the rows of the table (10,000 without it).

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use divan::Bencher;
use instant_distance::{Builder, HnswMap, Search};
use precedent_bench::vectors::Clustered;
use precedent_core::Metric;
use precedent_core::hnsw::{Graph, GraphScratch, NodeId, Params, Prepared, Quantization};
use precedent_core::kernel::distance::Kernel;
use precedent_core::pool::Pool;

const DIMENSION: usize = 768;
const ROWS: usize = 10_000;
const QUERIES: u64 = 200;
const K: usize = 10;
/// Candidates that are measured again at full precision.
const MEASURED: usize = 30;

fn main() {
    table();
    divan::main();
}

/// Rows, queries and the true nearest of each.
struct Data {
    rows: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
    nearest: Vec<Vec<usize>>,
}

impl Data {
    fn new(count: usize) -> Self {
        let manifold = Clustered::new(DIMENSION, 3);
        let rows: Vec<_> = (0..count as u64).map(|i| manifold.vector(i)).collect();
        let queries: Vec<_> = (0..QUERIES).map(|i| manifold.vector((1 << 40) + i)).collect();
        let nearest = queries.iter().map(|query| measured(&rows, query, 0..count)).collect();
        Self { rows, queries, nearest }
    }

    fn graph(&self, quantization: Quantization) -> Graph {
        let metric = Metric::Cosine;
        let params = Params { m: 16, ef_construction: 200, metric, quantization, seed: 1 };
        let graph = Graph::new(DIMENSION, params);
        for row in &self.rows {
            graph.push(row);
        }
        let pool = Pool::new(2).expect("two threads");
        graph.link(usize::MAX, &pool, &AtomicBool::new(false));
        graph
    }
}

fn small() -> &'static Data {
    static DATA: OnceLock<Data> = OnceLock::new();
    DATA.get_or_init(|| Data::new(ROWS))
}

/// The nearest ten of some rows at full precision; all are of unit length.
fn measured(rows: &[Vec<f32>], query: &[f32], among: impl Iterator<Item = usize>) -> Vec<usize> {
    let kernel = Kernel::best();
    let mut all: Vec<(f64, usize)> =
        among.map(|at| (-kernel.products(query, &rows[at]).0, at)).collect();
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    all.into_iter().take(K).map(|(_, at)| at).collect()
}

/// What one thread keeps from query to query.
#[derive(Default)]
struct Desk {
    query: Prepared,
    scratch: GraphScratch,
    found: Vec<(NodeId, f32)>,
}

impl Desk {
    fn search(&mut self, graph: &Graph, data: &Data, query: &[f32], ef: usize) -> Vec<usize> {
        let Self { query: prepared, scratch, found } = self;
        graph.prepare(query, prepared);
        graph.search(prepared, ef, None, None, scratch, found);
        let best = found.iter().take(MEASURED).map(|(node, _)| node.0 as usize);
        measured(&data.rows, query, best)
    }
}

#[expect(clippy::print_stdout, reason = "recall belongs beside every figure")]
fn table() {
    let wanted = std::env::var("PRECEDENT_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok());
    let own = wanted.filter(|&rows| rows != ROWS).map(Data::new);
    let data = own.as_ref().unwrap_or_else(|| small());
    for quantization in [Quantization::Int8, Quantization::Binary, Quantization::None] {
        let start = Instant::now();
        let graph = data.graph(quantization);
        let (rows, seconds) = (graph.len(), start.elapsed().as_secs_f64());
        let (name, bytes) = (quantization.name(), graph.bytes() / rows);
        println!("{name}, {rows} x {DIMENSION}: built in {seconds:.2} s, {bytes} bytes a row");
        let mut desk = Desk::default();
        for ef in [10, 16, 24, 32, 40, 50, 64, 100] {
            let (mut rounds, mut hits) = (Vec::new(), 0);
            for _ in 0..5 {
                hits = 0;
                let start = Instant::now();
                for (query, nearest) in data.queries.iter().zip(&data.nearest) {
                    let found = desk.search(&graph, data, query, ef);
                    hits += found.iter().filter(|at| nearest.contains(at)).count();
                }
                rounds.push(start.elapsed().as_secs_f64());
            }
            rounds.sort_by(f64::total_cmp);
            let recall = hits as f64 / (K as u64 * QUERIES) as f64;
            let each = rounds[2] / QUERIES as f64 * 1e3;
            println!("  ef {ef:3}: recall@10 {recall:.4}, {each:.4} ms");
        }
    }
}

/// One query after the other, at an ef whose recall is above 0.985.
#[divan::bench(args = ["int8", "binary", "none"])]
fn search(bencher: Bencher<'_, '_>, quantization: &str) {
    let graph = small().graph(quantization.parse().expect("a quantization"));
    let (mut desk, mut turn) = (Desk::default(), 0);
    bencher.bench_local(|| {
        turn = (turn + 1) % small().queries.len();
        desk.search(&graph, small(), &small().queries[turn], 32)
    });
}

#[divan::bench(args = ["int8", "binary", "none"], sample_count = 3, sample_size = 1)]
fn build(bencher: Bencher<'_, '_>, quantization: &str) {
    let quantization = quantization.parse().expect("a quantization");
    bencher.bench_local(|| small().graph(quantization));
}

#[derive(Clone)]
struct Point(Vec<f32>);

impl instant_distance::Point for Point {
    fn distance(&self, other: &Self) -> f32 {
        1.0 - self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum::<f32>()
    }
}

fn peer() -> HnswMap<Point, usize> {
    let points = small().rows.iter().cloned().map(Point).collect();
    Builder::default().ef_construction(200).ef_search(50).seed(1).build(points, (0..ROWS).collect())
}

#[divan::bench]
fn search_of_instant_distance(bencher: Bencher<'_, '_>) {
    static PEER: OnceLock<HnswMap<Point, usize>> = OnceLock::new();
    let peer = PEER.get_or_init(peer);
    let (mut search, mut turn) = (Search::default(), 0);
    bencher.bench_local(|| {
        turn = (turn + 1) % small().queries.len();
        let query = Point(small().queries[turn].clone());
        peer.search(&query, &mut search).take(K).map(|item| *item.value).collect::<Vec<_>>()
    });
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn build_of_instant_distance(bencher: Bencher<'_, '_>) {
    bencher.bench_local(peer);
}
