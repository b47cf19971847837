//! Answers by rounded weights: near those of the weights as they are, the same alone and among many, and not for losses.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[expect(dead_code, reason = "this test needs no descent of the twin")]
mod twin;

use precedent_core::nn::{
    Batch, DecisionLayer, Encoding, Inference, LayerSettings, Optimizer, Questions,
};
use precedent_core::pool::Pool;
use twin::{Blocks, Material, samples};

/// Just enough weights to be rounded.
fn settings() -> LayerSettings {
    LayerSettings { hidden_size: 107, ..LayerSettings::new(180, 75) }
}

fn learned(settings: &LayerSettings, steps: u64) -> DecisionLayer {
    let mut layer = DecisionLayer::new(settings.clone()).unwrap();
    for step in 0..steps {
        let material = Material::new(step % 5, settings, 32);
        let batch = if step % 3 == 2 { material.full() } else { material.plain() };
        layer.train(&batch).unwrap();
    }
    layer
}

fn exact(layer: &DecisionLayer) -> DecisionLayer {
    let mut layer = layer.clone();
    layer.set_inference(Inference::F32);
    layer
}

/// How far the rows of one are from those of the other, relative to the latter; the largest.
fn apart(rounded: &[f32], exact: &[f32], width: usize) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let rows = rounded.chunks_exact(width).zip(exact.chunks_exact(width));
    let errors = rows.map(|(r, e)| {
        let off = norm(&mut r.iter().zip(e).map(|(r, e)| f64::from(*r) - f64::from(*e)));
        off / norm(&mut e.iter().map(|e| f64::from(*e)))
    });
    errors.fold(0.0, f64::max)
}

#[test]
fn answers_of_rounded_weights_stay_within_a_hundredth_and_the_error_is_told() {
    for encoding in [Encoding::Compact, Encoding::Seed] {
        for optimizer in Optimizer::ALL {
            for steps in [1, 90] {
                let settings = LayerSettings { encoding, optimizer: *optimizer, ..settings() };
                let layer = learned(&settings, steps);
                let told = layer.inference_error();
                assert!(told > 1e-4 && told < 0.01, "{optimizer:?}, {steps} steps: {told}");
                assert_eq!(exact(&layer).inference_error(), 0.0);
                for seed in [1, 77] {
                    let material = Material::new(seed, &settings, 60);
                    for batch in [material.plain(), material.full()] {
                        let rounded = layer.predict_many(&batch.questions).unwrap();
                        let exact = exact(&layer).predict_many(&batch.questions).unwrap();
                        let off = apart(&rounded, &exact, 75);
                        assert!(off > 0.0 && off < 0.01, "{encoding:?} {optimizer:?}: {off}");
                    }
                }
            }
        }
    }
}

#[test]
fn answers_that_nearly_vanish_are_as_near_as_others() {
    // what is right depends on a sign, so between the two the outputs cancel
    let settings =
        LayerSettings { hidden_size: 128, learning_rate: 3e-3, ..LayerSettings::new(256, 4) };
    let mut layer = DecisionLayer::new(settings.clone()).unwrap();
    // states of about unit length, as encoders give
    let material = |seed: u64, n: usize| {
        let mut material = Material::new(seed, &settings, n);
        material.states.iter_mut().for_each(|x| *x /= 16.0);
        let of = |state: &[f32]| state[..32].iter().sum::<f32>().signum();
        let states = material.states.chunks_exact(256);
        material.actions =
            states.flat_map(|state| [0.5, -0.5, 0.5, 0.5].map(|x| x * of(state))).collect();
        material
    };
    for step in 0..300 {
        layer.train(&material(step, 64).plain()).unwrap();
    }
    assert!(layer.inference_error() > 0.0, "it answers by rounded weights");
    let (mut same, mut worst) = (0, 0.0_f64);
    for seed in 1000..1040 {
        let material = material(seed, 100);
        let asked = material.plain().questions;
        let many = layer.predict_many(&asked).unwrap();
        let exactly = exact(&layer).predict_many(&asked).unwrap();
        worst = worst.max(apart(&many, &exactly, 4));
        let pairs = many.chunks_exact(4).zip(exactly.chunks_exact(4));
        same += pairs.filter(|(rounded, exact)| rounded == exact).count();
        for (i, many) in many.chunks_exact(4).enumerate().step_by(9) {
            let state = &material.states[i * 256..][..256];
            let one = layer.predict(state, material.returns[i], None, None).unwrap();
            assert_eq!(one, many, "question {i}");
        }
    }
    assert!(worst < 0.01, "{worst}");
    assert!((40..2000).contains(&same), "{same} of 4,000 were answered by the weights as they are");
}

#[test]
fn answers_of_the_weights_as_they_are_are_the_twin_s_on_request() {
    let layer = exact(&learned(&settings(), 20));
    let material = Material::new(9, &settings(), 12);
    let network = Blocks::of(&layer);
    for batch in [material.plain(), material.full()] {
        let many = layer.predict_many(&batch.questions).unwrap();
        for (sample, got) in samples(&layer, &batch).iter().zip(many.chunks_exact(75)) {
            for (got, exact) in got.iter().zip(&network.forward(&sample.x).1) {
                assert!((f64::from(*got) - exact).abs() < 1e-4, "{got} for {exact}");
            }
        }
    }
}

#[test]
fn rounded_answers_have_the_same_bits_alone_among_many_and_on_any_number_of_threads() {
    let pool = Pool::new(3).unwrap();
    let members = (0..3).map(|seed| learned(&LayerSettings { seed, ..settings() }, 3)).collect();
    for layer in [learned(&settings(), 3), DecisionLayer::of_members(members).unwrap()] {
        let material = Material::new(4, &settings(), 130);
        for batch in [material.plain(), material.full()] {
            let asked = batch.questions;
            let many = layer.predict_many(&asked).unwrap();
            assert!(many != exact(&layer).predict_many(&asked).unwrap());
            assert_eq!(layer.predict_many_on(&asked, Some(&pool)).unwrap(), many);
            for (i, many) in many.chunks_exact(75).enumerate() {
                let context = asked.contexts.map(|c| &c[i * 180..][..180]);
                let timestep = asked.timesteps.map(|t| t[i]);
                let state = &material.states[i * 180..][..180];
                let one = layer.predict(state, material.returns[i], context, timestep).unwrap();
                assert_eq!(one, many, "question {i}");
            }
            let each = [0.3; 130];
            let one = Questions { returns: &each[..1], ..asked };
            let all = Questions { returns: &each, ..asked };
            assert_eq!(layer.predict_many(&one).unwrap(), layer.predict_many(&all).unwrap());
        }
    }
}

#[test]
fn a_copy_is_forgotten_when_the_weights_change_and_losses_know_nothing_of_it() {
    let (mut layer, material) = (learned(&settings(), 2), Material::new(8, &settings(), 20));
    let batch = material.plain();
    let one = Questions { returns: &[0.5], ..batch.questions };
    for _ in 0..3 {
        let before = layer.predict_many(&one).unwrap();
        let fresh = DecisionLayer::from_bytes(&layer.to_bytes().unwrap()).unwrap();
        assert_eq!(before, fresh.predict_many(&one).unwrap());
        assert_eq!(layer.loss(&batch).unwrap(), exact(&layer).loss(&batch).unwrap());
        let asked = Batch { questions: one, ..batch };
        assert_eq!(layer.loss(&asked).unwrap(), exact(&layer).loss(&asked).unwrap());
        let (mut asked_first, mut never_asked) = (layer.clone(), fresh);
        asked_first.predict_many(&one).unwrap();
        asked_first.train(&batch).unwrap();
        never_asked.train(&batch).unwrap();
        assert!(asked_first.to_bytes().unwrap() == never_asked.to_bytes().unwrap());
        layer.train(&batch).unwrap();
        assert_ne!(layer.predict_many(&one).unwrap(), before);
    }
}

#[test]
fn weights_that_rounding_would_bend_and_few_weights_are_used_as_they_are() {
    let mut layer = learned(&settings(), 1);
    // Hidden units that all but cancel each other in the outputs.
    let [mut w1, b1, mut w2, b2] = layer.weights().map(<[f32]>::to_vec);
    w1.fill(1.0);
    let b1 = vec![100.0; b1.len()];
    for (row, w2) in w2.chunks_exact_mut(75).enumerate() {
        w2.fill(if row % 2 == 0 { 1.0 } else { -1.0 + 1.0 / 512.0 });
    }
    layer.set_weights([&w1, &b1, &w2, &b2]).unwrap();
    assert_eq!(layer.inference(), Inference::Bf16);
    let material = Material::new(2, &settings(), 5);
    let asked = material.plain().questions;
    assert_eq!(layer.inference_error(), 0.0);
    assert_eq!(layer.predict_many(&asked).unwrap(), exact(&layer).predict_many(&asked).unwrap());
    let few = LayerSettings { hidden_size: 20, ..settings() };
    let (layer, material) = (learned(&few, 3), Material::new(2, &few, 5));
    let asked = material.plain().questions;
    assert_eq!(layer.inference_error(), 0.0);
    assert_eq!(layer.predict_many(&asked).unwrap(), exact(&layer).predict_many(&asked).unwrap());
}
