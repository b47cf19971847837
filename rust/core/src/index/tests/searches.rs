//! The scan answers what measuring everything would answer, whatever lies in the index.

use proptest::prelude::*;

use crate::rng::Rng;

use super::*;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::Dot];

/// How the states of one index are made.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    seed: u64,
    dimension: usize,
    /// Distinct directions; fewer than rows means duplicates.
    distinct: u64,
    /// How far a row is from its direction.
    spread: f32,
    /// The ten powers that lengths are drawn from.
    sizes: &'static [i32],
}

impl Recipe {
    /// A row, or a query (below zero).
    fn state(&self, number: i64) -> Vec<f32> {
        let own = Rng::new(self.seed, number as u64);
        if own.below(0, 12) == 0 && number >= 0 {
            return vec![0.0; self.dimension];
        }
        let base = Rng::new(self.seed, 1 << 40 | own.below(1, self.distinct));
        let size = 10_f64.powi(self.sizes[own.below(2, self.sizes.len() as u64) as usize]);
        (0..self.dimension as u64)
            .map(|i| {
                let x = base.normal(i) + f64::from(self.spread) * own.normal(10 + i);
                ((x * size) as f32).clamp(f32::MIN, f32::MAX)
            })
            .collect()
    }
}

fn recipe() -> impl Strategy<Value = Recipe> {
    // from 193 on codes are in halves
    let dimension = prop_oneof![8 => 1..40_usize, 3 => 190..330_usize, 1 => Just(768_usize)];
    let spread = prop_oneof![Just(0.0_f32), Just(1e-6), Just(0.1), Just(3.0)];
    let sizes = prop_oneof![
        4 => Just(&[0][..]),
        1 => Just(&[-20][..]),
        1 => Just(&[18][..]),
        1 => Just(&[-1, 0, 1][..]),
        1 => Just(&[-44, -38, -31, -20, 0, 18, 30, 38, 39][..]),
    ];
    (any::<u64>(), dimension, 1..200_u64, spread, sizes).prop_map(
        |(seed, dimension, distinct, spread, sizes)| Recipe {
            seed,
            dimension,
            distinct,
            spread,
            sizes,
        },
    )
}

fn filter() -> impl Strategy<Value = Resolved> {
    let any = Resolved::default();
    prop_oneof![
        3 => Just(any.clone()),
        1 => Just(Resolved { task_types: Some(vec![LabelId(1)]), ..any.clone() }),
        1 => Just(Resolved { min_episode_reward: Some(5.0), success: Some(false), ..any.clone() }),
        1 => Just(Resolved { episodes: Some(vec![EpisodeId(103), EpisodeId(101)]), ..any.clone() }),
        1 => Just(Resolved { patterns: Some(vec![]), ..any }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn the_scan_equals_brute_force(
        recipe in recipe(),
        graph in prop::sample::select(&METRICS[..]),
        codes in prop::sample::select(&[Quantization::None, Quantization::Int8, Quantization::Binary][..]),
        rows in prop_oneof![3 => 1..400_i64, 1 => 400..1500_i64],
        removed in prop::collection::vec(0..400_i64, 0..120),
        k in prop_oneof![1..12_usize, Just(1000_usize)],
        filter in filter(),
        isa in prop::sample::select(Isa::available()),
    ) {
        let made = params(graph, codes);
        let (mut index, mut shelf) = filled_under(made, rows, |number| recipe.state(number));
        index.kernel = Kernel::of(isa).unwrap();
        for keys in removed.chunks(30) {
            let keys: Vec<RowKey> = keys.iter().map(|number| RowKey(number * 3)).collect();
            index.remove(&keys);
            shelf.states.retain(|key, _| !keys.contains(key));
        }
        let mut scratch = Scratch::default();
        // a fresh query, one that is in the index, and nothing
        let queries = [recipe.state(-1), recipe.state(rows / 2), vec![0.0; recipe.dimension]];
        for (query, metric) in queries.iter().flat_map(|query| METRICS.map(|m| (query, m))) {
            let expected = brute::search(&index, query, metric, k, &filter, &mut shelf);
            let question = exactly(query, metric, k, &filter);
            let got = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
            prop_assert_eq!(got, expected, "{:?}", metric);
        }
    }
}

/// Unit vectors around the centres of clusters on a manifold of 64 dimensions, with some noise off it: what the
/// embeddings of texts look like.
fn clustered(dimension: usize, clusters: u64) -> impl Fn(i64) -> Vec<f32> {
    let rng = Rng::new(11, 0);
    let basis: Vec<f64> = (0..64 * dimension as u64).map(|i| rng.normal(i)).collect();
    move |number| {
        let own = rng.child(1).child(number as u64);
        let centre = rng.child(2).child(own.below(0, clusters));
        let latent: Vec<f64> = (0..64).map(|i| centre.normal(i) + own.normal(8 + i)).collect();
        let mut x: Vec<f64> = (0..dimension as u64).map(|i| 0.8 * own.normal(100 + i)).collect();
        for (share, direction) in latent.iter().zip(basis.chunks(dimension)) {
            for (x, d) in x.iter_mut().zip(direction) {
                *x += share * d;
            }
        }
        let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.iter().map(|x| (x / length) as f32).collect()
    }
}

#[test]
fn on_clustered_data_few_originals_are_read() {
    let make = clustered(256, 100);
    let (index, mut shelf) = filled(5000, &make);
    let mut scratch = Scratch::default();
    let all = Resolved::default();
    for metric in METRICS {
        shelf.read = 0;
        for number in 0..10 {
            let query = make(-1 - number);
            let question = exactly(&query, metric, 10, &all);
            index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
        }
        assert!(shelf.read < 10 * 60, "{metric:?}: {} originals in ten searches", shelf.read);
    }
}

#[test]
fn appending_after_a_compaction_keeps_codes_and_rows_together() {
    // 40 rows of 16,384 dimensions a segment or more: the copies cross segments
    let state = |number: i64| {
        let mut x = vec![0.0_f32; 16_384];
        x[number as usize] = 1.0 + number as f32;
        x
    };
    let mut index = Index::new(16_384, params(Metric::Cosine, Quantization::Int8));
    let mut shelf = Shelf::default();
    let add = |index: &mut Index, shelf: &mut Shelf, numbers: std::ops::Range<i64>| {
        for number in numbers {
            index.append(&entry(number), &state(number));
            shelf.states.insert(entry(number).key, state(number));
        }
    };
    add(&mut index, &mut shelf, 0..700);
    let gone: Vec<RowKey> = (0..300).map(|number| entry(number * 2).key).collect();
    index.remove(&gone);
    add(&mut index, &mut shelf, 700..730);
    assert_eq!((index.len(), index.columns.len()), (430, 430));
    let mut scratch = Scratch::default();
    for number in [1, 299, 599, 600, 699, 700, 729] {
        let (query, all) = (state(number), Resolved::default());
        let question = exactly(&query, Metric::Cosine, 1, &all);
        let hits = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
        assert_eq!((hits[0].key, hits[0].distance), (entry(number).key, 0.0));
    }
}
