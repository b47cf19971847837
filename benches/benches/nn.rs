//! The network beside its peer: products at its shapes, a prediction, a training step. `cargo bench --bench nn`.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use precedent_core::kernel::gemm::{Gemm, Left, Start};
use precedent_core::nn::{Batch, DecisionLayer, LayerSettings, Questions};
use precedent_core::pool::Pool;

fn main() {
    divan::main();
}

/// The products of one training step at 768/256/768 and 32 samples: rows, columns, depth.
const SHAPES: [(usize, usize, usize); 5] =
    [(32, 256, 2304), (32, 768, 256), (256, 32, 768), (256, 768, 32), (2304, 256, 32)];

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919) % 1009) as f32 / 1009.0 - 0.5).collect()
}

#[divan::bench(args = SHAPES)]
fn gemm(bencher: Bencher<'_, '_>, (m, n, k): (usize, usize, usize)) {
    let (gemm, a, b, mut c) = (Gemm::best(), numbers(m * k), numbers(k * n), vec![0.0; m * n]);
    bencher.counter(ItemsCount::new(2 * m * n * k)).bench_local(|| {
        let left = if m > 256 { Left::transposed(&a, m, 0) } else { Left::rows(&a, k) };
        gemm.multiply(left, black_box(&b), n, &mut c, Start::Zero);
    });
}

#[divan::bench(args = SHAPES)]
fn gemm_matrixmultiply(bencher: Bencher<'_, '_>, (m, n, k): (usize, usize, usize)) {
    let (a, b, mut c) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
    let (row, step) = if m > 256 { (1, m as isize) } else { (k as isize, 1) };
    bencher.counter(ItemsCount::new(2 * m * n * k)).bench_local(|| {
        let (a, b, c) = (a.as_ptr(), black_box(&b).as_ptr(), c.as_mut_ptr());
        #[expect(unsafe_code, reason = "the peer's interface is made of pointers")]
        // SAFETY: the strides describe whole matrices of these sizes.
        unsafe {
            matrixmultiply::sgemm(
                m, k, n, 1.0, a, row, step, b, n as isize, 1, 0.0, c, n as isize, 1,
            );
        }
    });
}

const BATCH: usize = 32;

/// A layer at the default sizes that has learned for one step, and what it learned from.
fn learner() -> (DecisionLayer, Vec<f32>, Vec<f32>, Vec<f64>) {
    let mut layer = DecisionLayer::new(LayerSettings::new(768, 768)).expect("valid settings");
    let (states, actions) = (unit_rows(1), unit_rows(2));
    let returns: Vec<f64> = (0..BATCH).map(|i| i as f64 / BATCH as f64).collect();
    layer.train(&batch(&states, &actions, &returns)).expect("a finite loss");
    (layer, states, actions, returns)
}

fn unit_rows(seed: usize) -> Vec<f32> {
    let mut rows = numbers((BATCH + seed) * 768).split_off(seed * 768);
    for row in rows.chunks_exact_mut(768) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        for x in row {
            *x /= norm;
        }
    }
    rows
}

fn batch<'a>(states: &'a [f32], actions: &'a [f32], returns: &'a [f64]) -> Batch<'a> {
    let questions = Questions { states, returns, contexts: None, timesteps: None };
    Batch { questions, actions, weights: None }
}

#[divan::bench]
fn predict_one(bencher: Bencher<'_, '_>) {
    let (layer, states, mut action, _) = learner();
    let action = &mut action[..768];
    bencher.bench_local(|| {
        layer.predict_into(black_box(&states[..768]), 0.9, None, None, action).expect("trained");
    });
}

#[divan::bench]
fn predict_one_with_a_new_return_and_a_context(bencher: Bencher<'_, '_>) {
    let (layer, states, mut action, _) = learner();
    let (action, mut desired) = (&mut action[..768], 0.0);
    bencher.bench_local(|| {
        desired += 1e-3;
        let context = Some(&states[768..2 * 768]);
        layer
            .predict_into(&states[..768], black_box(desired), context, Some(3), action)
            .expect("trained");
    });
}

#[divan::bench]
fn predict_many(bencher: Bencher<'_, '_>) {
    let (layer, states, _, returns) = learner();
    let (states, returns) = (states.repeat(32), returns.repeat(32));
    let questions =
        Questions { states: &states, returns: &returns, contexts: None, timesteps: None };
    bencher
        .counter(ItemsCount::new(returns.len()))
        .bench_local(|| layer.predict_many(black_box(&questions)).expect("trained"));
}

#[divan::bench(args = [1, 2])]
fn train_step(bencher: Bencher<'_, '_>, threads: usize) {
    let pool = Pool::new(threads).expect("threads start");
    let (mut layer, states, actions, returns) = learner();
    let batch = batch(&states, &actions, &returns);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| layer.train_on(black_box(&batch), Some(&pool)).expect("a finite loss"));
}
