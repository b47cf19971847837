//! A step whose samples lie apart is the step on all of them.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[expect(dead_code, reason = "this test needs no descent of the twin")]
mod twin;

use precedent_core::Error;
use precedent_core::nn::{Batch, DecisionLayer, LayerSettings, Optimizer, Questions, ShardLoss};
use precedent_core::pool::Pool;
use twin::{Blocks, Material, samples};

fn settings(optimizer: Optimizer) -> LayerSettings {
    LayerSettings {
        optimizer,
        weight_decay: 0.02,
        clip_norm: Some(0.4),
        ..LayerSettings { hidden_size: 13, ..LayerSettings::new(6, 5) }
    }
}

/// A layer that has learned a little, and one of the same bits.
fn twice(settings: &LayerSettings) -> [DecisionLayer; 2] {
    let mut layer = DecisionLayer::new(settings.clone()).unwrap();
    layer.train(&Material::new(1, settings, 9).plain()).unwrap();
    [layer.clone(), layer]
}

fn flat(layer: &mut DecisionLayer, batch: &Batch<'_>) -> (Vec<f32>, ShardLoss) {
    let mut gradient = Vec::new();
    let told = layer.gradient(batch, &mut gradient).unwrap();
    (gradient, told)
}

fn part<'a>(batch: &Batch<'a>, rows: std::ops::Range<usize>) -> Batch<'a> {
    let (d, a) = (6, 5);
    let asked = batch.questions;
    let wide = |x: &'a [f32], width: usize| &x[rows.start * width..rows.end * width];
    Batch {
        questions: Questions {
            states: wide(asked.states, d),
            returns: &asked.returns[rows.clone()],
            contexts: asked.contexts.map(|x| wide(x, d)),
            timesteps: asked.timesteps.map(|x| &x[rows.clone()]),
        },
        actions: wide(batch.actions, a),
        weights: batch.weights.map(|x| wide(x, 1)),
    }
}

#[test]
fn a_flat_gradient_is_that_of_the_twin_block_after_block_and_moves_nothing() {
    let settings = settings(Optimizer::AdamW);
    let [mut layer, before] = twice(&settings);
    let material = Material::new(2, &settings, 40);
    for batch in [material.plain(), material.full()] {
        let exact = Blocks::of(&layer).gradient(&samples(&layer, &batch));
        let exact: Vec<f64> = exact.parts().into_iter().flat_map(|part| part.2.clone()).collect();
        let (got, told) = flat(&mut layer, &batch);
        assert_eq!(got.len(), exact.len());
        for (at, (got, exact)) in got.iter().zip(&exact).enumerate() {
            assert!((f64::from(*got) - exact).abs() < 1e-6, "{at}: {got} for {exact}");
        }
        assert!((told.loss - layer.loss(&batch).unwrap()).abs() < 1e-12);
    }
    assert!(layer.to_bytes().unwrap() == before.to_bytes().unwrap());
}

#[test]
fn a_gradient_that_is_applied_is_a_training_step_to_the_bits_on_any_number_of_threads() {
    for optimizer in Optimizer::ALL {
        let settings = settings(*optimizer);
        for threads in 1..=3 {
            let pool = Pool::new(threads).unwrap();
            let [mut apart, mut whole] = twice(&settings);
            let mut gradient = Vec::new();
            for round in 0..4 {
                let material = Material::new(10 + round, &settings, 70);
                let batch = if round == 2 { material.full() } else { material.plain() };
                let told = apart.gradient_on(&batch, &mut gradient, Some(&pool)).unwrap();
                let step = apart.apply_on(&gradient, told.loss, Some(&pool)).unwrap();
                assert_eq!(step, whole.train(&batch).unwrap());
                assert!(apart.to_bytes().unwrap() == whole.to_bytes().unwrap(), "{optimizer:?}");
            }
        }
    }
}

/// Trains on four batches, and on the gradients of the same ones.
fn stays_with_the_whole_gradient(settings: &LayerSettings, samples: usize, contexts_from: u64) {
    for pool in [None, Some(2), Some(3)].map(|n| n.map(|n| Pool::new(n).unwrap())) {
        let [mut apart, mut whole] = [0, 1].map(|_| DecisionLayer::new(settings.clone()).unwrap());
        let mut gradient = Vec::new();
        for round in 0..4 {
            let material = Material::new(20 + round, settings, samples);
            // Every second batch from then on has contexts.
            let full = round >= contexts_from && round % 2 == contexts_from % 2;
            let batch = if full { material.full() } else { material.plain() };
            let told = apart.gradient(&batch, &mut gradient).unwrap();
            let step = apart.apply(&gradient, told.loss).unwrap();
            let told = format!("{settings:?}, contexts from {contexts_from}, round {round}");
            assert_eq!(step, whole.train_on(&batch, pool.as_ref()).unwrap(), "{told}");
            assert!(apart.to_bytes().unwrap() == whole.to_bytes().unwrap(), "{told}");
        }
    }
}

#[test]
fn weights_that_move_as_their_gradient_comes_end_in_the_bits_of_the_whole_gradient() {
    // The first one has more rows than a thread takes at once, and no multiple of them.
    for ([state, hidden_size, action], samples) in
        [([70, 150, 33], 40), ([1, 1, 1], 1), ([3, 1, 2], 1), ([2, 5, 1], 33)]
    {
        for optimizer in Optimizer::ALL {
            let settings = LayerSettings {
                optimizer: *optimizer,
                weight_decay: 0.02,
                clip_norm: None,
                ..LayerSettings { hidden_size, ..LayerSettings::new(state, action) }
            };
            let mut first = DecisionLayer::new(settings.clone()).unwrap();
            let material = Material::new(20, &settings, samples);
            let norm = first.train(&material.plain()).unwrap().gradient_norm;
            // Never clipped and known to be; above the norm, where only the gradient tells; clipped.
            for clip_norm in [None, Some(1e9), Some(1.02 * norm), Some(0.98 * norm)] {
                let settings = LayerSettings { clip_norm, ..settings.clone() };
                for contexts_from in [9, 2, 0] {
                    stays_with_the_whole_gradient(&settings, samples, contexts_from);
                }
            }
        }
    }
}

#[test]
fn the_mean_of_the_shards_by_their_weights_is_the_gradient_of_all_samples() {
    let settings = settings(Optimizer::AdamW);
    let [mut layer, _] = twice(&settings);
    let material = Material::new(3, &settings, 50);
    for batch in [material.plain(), material.full()] {
        let (whole, told) = flat(&mut layer, &batch);
        for cuts in [vec![0, 50], vec![0, 25, 50], vec![0, 1, 8, 31, 50]] {
            let mut mean = vec![0.0; whole.len()];
            let (mut loss, mut weight) = (0.0, 0.0);
            for pair in cuts.windows(2) {
                let (shard, told) = flat(&mut layer, &part(&batch, pair[0]..pair[1]));
                mean.iter_mut().zip(shard).for_each(|(sum, x)| *sum += told.weight * f64::from(x));
                loss += told.weight * told.loss;
                weight += told.weight;
            }
            assert!((weight - told.weight).abs() < 1e-9);
            assert!((loss / weight - told.loss).abs() < 1e-6 * told.loss);
            let norm = whole.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let off = mean.iter().zip(&whole).map(|(m, w)| (m / weight - f64::from(*w)).powi(2));
            let off = off.sum::<f64>().sqrt() / norm;
            assert!(off < 1e-6, "{cuts:?}: {off}");
        }
    }
}

#[test]
fn a_gradient_that_cannot_be_one_is_refused_by_name_and_changes_nothing() {
    let settings = settings(Optimizer::AdamW);
    let [mut layer, before] = twice(&settings);
    let material = Material::new(4, &settings, 8);
    let (good, told) = flat(&mut layer, &material.plain());
    let spoilt = [f32::NAN, f32::INFINITY].map(|bad| {
        let mut gradient = good.clone();
        gradient[7] = bad;
        gradient
    });
    let cases = [
        ("gradient", &good[1..], told.loss),
        ("gradient", &[], told.loss),
        ("gradient[7]", &spoilt[0], told.loss),
        ("gradient[7]", &spoilt[1], told.loss),
        ("loss", &good, f64::NAN),
    ];
    for (field, gradient, loss) in cases {
        match layer.apply(gradient, loss).unwrap_err() {
            Error::Invalid { field: named, .. } | Error::Dimension { field: named, .. } => {
                assert_eq!(named, field);
            }
            error => panic!("{error}"),
        }
    }
    let mut buffer = good.clone();
    let beyond = vec![f32::MAX; material.states.len()];
    let states = Questions { states: &beyond, ..material.plain().questions };
    let diverging = Batch { questions: states, ..material.plain() };
    assert!(matches!(layer.gradient(&diverging, &mut buffer), Err(Error::Training(_))));
    assert!(layer.to_bytes().unwrap() == before.to_bytes().unwrap());
    let mut pair = DecisionLayer::of_members(vec![layer.clone(), layer]).unwrap();
    for error in [
        pair.gradient(&material.plain(), &mut buffer).unwrap_err(),
        pair.apply(&good, told.loss).unwrap_err(),
    ] {
        assert!(error.to_string().contains("an ensemble of 2"), "{error}");
    }
}
