//! The exact scan of the index, against what the memory gives. `cargo bench --bench scan`.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use divan::Bencher;
use divan::counter::BytesCount;
use precedent_bench::vectors::{Clustered, gaussian};
use precedent_core::Metric;
use precedent_core::error::Result;
use precedent_core::hnsw::{Params, Quantization};
use precedent_core::ids::{EpisodeId, LabelId, PatternId, RowKey};
use precedent_core::index::{Entry, Index, Originals, Question, Resolved, Scale, Scratch};
use precedent_core::kernel::distance::Line;

const ROWS: usize = 100_000;
const DIMENSION: usize = 768;
const QUERIES: u64 = 64;
const K: usize = 10;
const PARAMS: Params = Params {
    m: 16,
    ef_construction: 200,
    metric: Metric::Cosine,
    quantization: Quantization::Int8,
    seed: 1,
};

fn main() {
    report("clustered", clustered(), |number| manifold().vector(number));
    report("gaussian", noise(), |number| gaussian(DIMENSION, 5, number));
    divan::main();
}

/// States in memory, in place of a file; counts what is read.
struct Shelf<'a> {
    states: &'a [f32],
    read: usize,
}

impl Originals for Shelf<'_> {
    fn read(&mut self, keys: &[RowKey], visit: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        self.read += keys.len();
        for (at, key) in keys.iter().enumerate() {
            visit(at, &self.states[key.0 as usize * DIMENSION..][..DIMENSION]);
        }
        Ok(())
    }
}

fn fill(rows: usize, vector: impl Fn(u64) -> Vec<f32>) -> (Index, Vec<f32>) {
    let (mut index, mut states) =
        (Index::new(DIMENSION, PARAMS), Vec::with_capacity(rows * DIMENSION));
    for row in 0..rows as i64 {
        let state = vector(row as u64);
        states.extend_from_slice(&state);
        let entry = Entry {
            key: RowKey(row),
            episode: EpisodeId(row / 40),
            pattern: PatternId(row % 64),
            task_type: LabelId(row % 100),
            agent_type: None,
            reward: row as f64,
            ret: Some((row * 7919 % 10_007) as f64),
            timestamp: row,
            succeeded: row % 2 == 0,
            state_hash: row as u64,
        };
        index.append(&entry, &state);
        index.set_episode_total(entry.episode, row as f64);
    }
    (index, states)
}

fn manifold() -> &'static Clustered {
    static MANIFOLD: OnceLock<Clustered> = OnceLock::new();
    MANIFOLD.get_or_init(|| Clustered::new(DIMENSION, 3))
}

fn clustered() -> &'static (Index, Vec<f32>) {
    static DATA: OnceLock<(Index, Vec<f32>)> = OnceLock::new();
    DATA.get_or_init(|| fill(ROWS, |number| manifold().vector(number)))
}

fn noise() -> &'static (Index, Vec<f32>) {
    static DATA: OnceLock<(Index, Vec<f32>)> = OnceLock::new();
    DATA.get_or_init(|| fill(ROWS / 4, |number| gaussian(DIMENSION, 5, number)))
}

#[expect(clippy::print_stdout, reason = "what a search reads belongs beside how long it takes")]
fn report(name: &str, data: &(Index, Vec<f32>), query: impl Fn(u64) -> Vec<f32>) {
    let (index, states) = data;
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
        let mut shelf = Shelf { states, read: 0 };
        for number in 0..QUERIES {
            let query = query(ROWS as u64 + number);
            let all = Resolved::default();
            search(index, &query, metric, &all, &mut shelf, &mut Scratch::default());
        }
        let (rows, read) = (index.len(), shelf.read as f64 / QUERIES as f64);
        println!("{name} {rows} x {DIMENSION}, {metric:?}: {read:.1} originals read for {K} rows");
    }
    println!("bytes a row: {}", index.bytes() / index.len());
}

fn search(
    index: &Index,
    query: &[f32],
    metric: Metric,
    filter: &Resolved,
    shelf: &mut Shelf<'_>,
    scratch: &mut Scratch,
) -> usize {
    let stop = AtomicBool::new(false);
    let question = Question { query, metric, k: K, filter, ef: None, threshold: None };
    let found = index.search(&question, shelf, scratch, &stop);
    found.expect("nothing stops it").len()
}

fn bench(bencher: Bencher<'_, '_>, metric: Metric, filter: &Resolved, rows: usize) {
    let (index, states) = clustered();
    let mut shelf = Shelf { states, read: 0 };
    let queries: Vec<_> = (0..QUERIES).map(|i| manifold().vector(ROWS as u64 + i)).collect();
    let mut scratch = Scratch::default();
    let mut turn = 0;
    bencher.counter(BytesCount::new(rows * DIMENSION)).bench_local(|| {
        turn = (turn + 1) % queries.len();
        search(index, &queries[turn], metric, filter, &mut shelf, &mut scratch)
    });
}

#[divan::bench(args = ["cosine", "euclidean", "dot"])]
fn all_rows(bencher: Bencher<'_, '_>, metric: &str) {
    bench(bencher, metric.parse().expect("a metric"), &Resolved::default(), ROWS);
}

/// A store that fits the cache: what the scan costs beside the wait for memory.
#[divan::bench]
fn small(bencher: Bencher<'_, '_>) {
    let (index, states) = fill(1000, |number| manifold().vector(number));
    let mut shelf = Shelf { states: &states, read: 0 };
    let (query, mut scratch) = (manifold().vector(1 << 30), Scratch::default());
    bencher.counter(BytesCount::new(index.len() * DIMENSION)).bench_local(|| {
        search(&index, &query, Metric::Cosine, &Resolved::default(), &mut shelf, &mut scratch)
    });
}

/// Of a hundred task types, spread evenly over the rows: nothing lies in a row.
#[divan::bench(args = [50, 10, 1])]
fn filtered(bencher: Bencher<'_, '_>, percent: usize) {
    let task_types = Some((0..percent as i64).map(LabelId).collect());
    let filter = Resolved { task_types, ..Resolved::default() };
    bench(bencher, Metric::Cosine, &filter, ROWS * percent / 100);
}

/// A filter alone, over all rows.
#[divan::bench]
fn filter_only(bencher: Bencher<'_, '_>) {
    let filter = Resolved { task_types: Some(vec![LabelId(3)]), ..Resolved::default() };
    bencher.bench_local(|| clustered().0.count_matching(&filter));
}

/// What the memory gives: the same bytes, read in order and summed.
#[divan::bench]
fn memory(bencher: Bencher<'_, '_>) {
    let lines = vec![Line([1; Line::LEN]); ROWS * DIMENSION / Line::LEN];
    bencher.counter(BytesCount::of_slice(&lines)).bench_local(|| {
        black_box(&lines).iter().fold([0_i8; Line::LEN], |mut sum, line| {
            sum.iter_mut().zip(line.0).for_each(|(sum, x)| *sum ^= x);
            sum
        })
    });
}

/// Selecting and inserting by turns: a quantile after every change.
#[divan::bench]
fn quantile_after_a_change(bencher: Bencher<'_, '_>) {
    let (mut index, _) = fill(20_000, |number| gaussian(DIMENSION, 5, number));
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 7919) % 20_000;
        index.set_return(RowKey(turn), Some(turn as f64));
        index.quantile(Scale::Return, &Resolved::default(), 0.9)
    });
}

/// A row's way into the index.
#[divan::bench]
fn append(bencher: Bencher<'_, '_>) {
    let states: Vec<_> = (0..256).map(|i| gaussian(DIMENSION, 5, i)).collect();
    let mut index = Index::new(DIMENSION, PARAMS);
    let mut next = 0;
    bencher.bench_local(|| {
        next += 1;
        let entry = Entry {
            key: RowKey(next),
            episode: EpisodeId(next / 40),
            pattern: PatternId(1),
            task_type: LabelId(1),
            agent_type: None,
            reward: 0.0,
            ret: None,
            timestamp: next,
            succeeded: false,
            state_hash: next as u64,
        };
        index.append(&entry, &states[next as usize % states.len()]);
    });
}
