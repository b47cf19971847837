//! What is allocated, counted: nothing on the hot paths once they are warm, and never much more than a file holds.

#![expect(unsafe_code, reason = "an allocator that counts has to be one")]
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[expect(dead_code, reason = "this test needs the twin's samples only")]
mod twin;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use precedent_core::bits::Bits;
use precedent_core::hnsw::{
    Admitted, Cells, Graph, GraphScratch, Params, Prepared, Quantization, Wanted,
};
use precedent_core::nn::{DecisionLayer, LayerSettings};
use precedent_core::pool::Pool;
use precedent_core::rng::Rng;
use precedent_core::store::{HnswSettings, Naming, Options, SearchOptions, Store};
use precedent_core::{Filter, Metric, Rows};
use twin::Material;

/// The system's allocator with a tally for each thread.
struct Counting;

thread_local! {
    /// Allocations, and bytes in all of them.
    static TALLY: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (count, bytes) = TALLY.get();
        TALLY.set((count + 1, bytes + layout.size()));
        // SAFETY: the caller's promises are the system's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocates on this thread: times and bytes.
fn tally<T>(work: impl FnOnce() -> T) -> (usize, usize, T) {
    let before = TALLY.get();
    let result = work();
    let after = TALLY.get();
    (after.0 - before.0, after.1 - before.1, result)
}

#[test]
fn a_warm_layer_trains_and_answers_without_allocating() {
    // With a gradient that may be clipped, and with one that is gone down as it comes.
    for clip_norm in [Some(1e-3), None] {
        let settings = LayerSettings { hidden_size: 40, clip_norm, ..LayerSettings::new(30, 20) };
        let network =
            |seed| DecisionLayer::new(LayerSettings { seed, ..settings.clone() }).unwrap();
        trains_and_answers_without_allocating(network(0), &settings);
        let members = DecisionLayer::of_members((0..3).map(network).collect()).unwrap();
        trains_and_answers_without_allocating(members, &settings);
        let large = LayerSettings { hidden_size: 700, ..settings }; // its answers come from a copy
        trains_and_answers_without_allocating(DecisionLayer::new(large.clone()).unwrap(), &large);
    }
}

fn trains_and_answers_without_allocating(mut layer: DecisionLayer, settings: &LayerSettings) {
    let material = Material::new(1, settings, 32);
    let mut action = vec![0.0; 20];
    for round in 0..3 {
        let (count, _, ()) = tally(|| {
            layer.train(&material.full()).unwrap();
            layer.train(&material.plain()).unwrap();
        });
        assert!(count == 0 || round == 0, "{count} allocations in a warm training step");
    }
    for round in 0..3 {
        let context = Some(&material.contexts[..30]);
        let (count, _, ()) = tally(|| {
            for context in [None, context] {
                let state = &material.states[..30];
                layer.predict_into(state, 0.5, context, Some(3), &mut action).unwrap();
            }
        });
        assert!(count == 0 || round == 0, "{count} allocations in a warm answer");
    }
}

#[test]
fn a_file_never_makes_the_reader_allocate_much_more_than_it_holds() {
    let settings = LayerSettings { hidden_size: 16, ..LayerSettings::new(24, 8) };
    let layer = DecisionLayer::new(settings).unwrap();
    let bytes = layer.to_bytes().unwrap();
    let (_, most, _) = tally(|| DecisionLayer::from_bytes(&bytes).unwrap());
    assert!(most < 3 * bytes.len() + 4096, "{most} bytes for a file of {}", bytes.len());
    let mut spoiled = bytes.clone();
    for at in 0..bytes.len() {
        for byte in [0x00, 0x7F, 0xC6, 0xDB, 0xDD, 0xDF, 0xFF] {
            spoiled[at] = byte;
            let (_, most, _) = tally(|| DecisionLayer::from_bytes(&spoiled).is_ok());
            assert!(most < 3 * bytes.len() + 4096, "{most} bytes with {byte:#x} at {at}");
        }
        spoiled[at] = bytes[at];
    }
}

#[test]
fn a_warm_search_of_graph_and_cells_allocates_nothing() {
    for (quantization, dimension) in [
        (Quantization::None, 20),
        (Quantization::Int8, 20),
        (Quantization::Int8, 200),
        (Quantization::Binary, 20),
    ] {
        let vector = |number: u64| -> Vec<f32> {
            (0..dimension as u64).map(|i| Rng::new(1, number).normal(i) as f32).collect()
        };
        let metric = Metric::Cosine;
        let params = Params { m: 8, ef_construction: 40, metric, quantization, seed: 1 };
        let graph = Graph::new(dimension, params);
        for row in 0..800 {
            graph.push(&vector(row));
        }
        graph.link(usize::MAX, &Pool::new(1).unwrap(), &AtomicBool::new(false));
        let admit: Bits = (0..800).map(|row| row % 5 == 0).collect();
        let admitted = Admitted { rows: &admit, count: 160, otherwise: 160 };
        let (pool, stop) = (Pool::new(1).unwrap(), AtomicBool::new(false));
        let cells = Cells::of(&graph, None, &pool, &stop).unwrap();
        let arranged = cells.arrange(&admit);
        let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
        let mut found = Vec::new();
        let mut round = |first: u64| {
            for number in first..first + 50 {
                let state = &vector(number)[..];
                graph.prepare(state, &mut query);
                let (admit, arranged) = (&admit, &arranged);
                let (matches, arranged, or_walk) = (160, &|| arranged, false);
                let wanted = Wanted { state, k: 10, ef: 50, admit, matches, arranged, or_walk };
                let (walks, ..) = tally(|| {
                    graph.search(&query, 50, None, None, &mut scratch, &mut found);
                    graph.search(&query, 50, Some(admitted), None, &mut scratch, &mut found);
                    cells.search(&graph, &query, &wanted, &mut scratch, &mut found);
                });
                assert!(walks == 0 || first == 0, "{walks} allocations in a warm search");
            }
        };
        round(0);
        round(1000);
    }
}

/// A store in a file with a graph over 3000 rows, of which every tenth has a high reward.
fn store(folder: &std::path::Path) -> Store {
    const ROWS: usize = 3000;
    let hnsw = HnswSettings { build_above: Some(0), ..HnswSettings::default() };
    let (dimension, action_dimension) = (Some(20), Some(2));
    let options = Options { dimension, action_dimension, hnsw, ..Options::default() };
    let store = Store::open(&folder.join("store.db"), options).unwrap();
    let rows = Rows {
        len: ROWS,
        states: (0..ROWS as u64).flat_map(state).collect(),
        actions: vec![1.0; ROWS * 2],
        rewards: (0..ROWS).map(|row| if row % 10 == 0 { 1.0 } else { 0.0 }).collect(),
        returns: vec![f64::NAN; ROWS],
        patterns: std::iter::repeat_n("p", ROWS).collect(),
        episodes: std::iter::repeat_n("e", ROWS).collect(),
        task_types: std::iter::repeat_n("t", ROWS).collect(),
        ..Rows::default()
    };
    store.insert(&rows, Naming::Columns).unwrap();
    store.flush(&mut || Ok(())).unwrap();
    store
}

fn state(number: u64) -> Vec<f32> {
    (0..20).map(|i| Rng::new(1, number).normal(i) as f32).collect()
}

#[test]
fn a_warm_search_of_a_store_allocates_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let plain = SearchOptions { k: 10, threshold: None, ..SearchOptions::default() };
    let high = Filter { min_reward: Some(0.5), ..Filter::default() };
    let filtered = SearchOptions { filter: high, ..plain.clone() };
    for (options, most) in [(plain, 3), (filtered, 6)] {
        for round in 0..3 {
            for number in 5000..5100 {
                let query = state(number + round);
                let (count, bytes, found) =
                    tally(|| store.search_ids(&query, &options, &mut || Ok(())).unwrap());
                assert_eq!(found[0].len(), 10);
                let warm = count <= most && bytes <= 2048;
                assert!(warm || round == 0, "{count} allocations, {bytes} bytes: {options:?}");
            }
        }
    }
}
