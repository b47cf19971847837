//! The network does what its equations say, and the same whoever runs it.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

mod twin;

use precedent_core::nn::{
    Batch, COVERAGE, DecisionLayer, Encoding, LayerSettings, Optimizer, Questions,
};
use precedent_core::pool::Pool;
use precedent_core::rng::Rng;
use precedent_core::{Error, nn};
use twin::{Blocks, Descent, Material, samples};

fn small() -> LayerSettings {
    LayerSettings { hidden_size: 9, ..LayerSettings::new(5, 3) }
}

/// A layer whose biases are not zero, so that their part in everything is seen.
fn layer(settings: LayerSettings) -> DecisionLayer {
    let mut layer = DecisionLayer::new(settings).unwrap();
    let [w1, b1, w2, b2] = layer.weights().map(<[f32]>::to_vec);
    let rng = Rng::new(5, 5);
    let bias = |part: &[f32]| -> Vec<f32> {
        (0..part.len() as u64).map(|i| 0.3 * rng.normal(i) as f32).collect()
    };
    layer.set_weights([&w1, &bias(&b1), &w2, &bias(&b2)]).unwrap();
    layer
}

fn assert_near(name: &str, got: &[f32], want: &[f64], bound: f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let wrong = (f64::from(*got) - want).abs();
        assert!(wrong <= bound, "{name}[{i}] is {got} and should be {want}");
    }
}

#[test]
fn the_twin_s_gradient_is_what_finite_differences_say_for_every_layer() {
    let settings = small();
    let layer = layer(settings.clone());
    let material = Material::new(1, &settings, 6);
    let samples = samples(&layer, &material.full());
    let network = Blocks::of(&layer);
    let gradient = network.gradient(&samples);
    for block in 0..4 {
        for i in 0..network.parts()[block].2.len() {
            let moved = |by: f64| {
                let mut moved = network.clone();
                moved.parts_mut()[block][i] += by;
                moved.loss(&samples)
            };
            let difference = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let (name, _, part) = gradient.parts()[block];
            let told = part[i];
            assert!((difference - told).abs() < 1e-8, "{name}[{i}]: {difference} against {told}");
        }
    }
}

#[test]
fn the_layer_s_gradient_loss_and_norm_are_the_twin_s() {
    for encoding in [Encoding::Compact, Encoding::Seed] {
        for full in [false, true] {
            // A step of plain descent at rate 1 shows the gradient.
            let settings = LayerSettings {
                optimizer: Optimizer::Sgd,
                learning_rate: 1.0,
                momentum: 0.0,
                weight_decay: 0.0,
                clip_norm: None,
                encoding,
                ..LayerSettings { hidden_size: 37, ..LayerSettings::new(21, 19) }
            };
            let mut layer = layer(settings.clone());
            let material = Material::new(2, &settings, 13);
            let batch = if full { material.full() } else { material.plain() };
            let (before, samples) = (Blocks::of(&layer), samples(&layer, &batch));
            let gradient = before.gradient(&samples);
            let metrics = layer.train(&batch).unwrap();
            assert!((metrics.loss - before.loss(&samples)).abs() < 1e-5 * metrics.loss);
            assert!((metrics.gradient_norm - gradient.norm()).abs() < 1e-5 * gradient.norm());
            for ((name, _, gradient), (before, after)) in
                gradient.parts().into_iter().zip(before.parts().into_iter().zip(layer.weights()))
            {
                let want: Vec<_> = before.2.iter().zip(gradient).map(|(w, g)| w - g).collect();
                assert_near(name, after, &want, 2e-5);
            }
        }
    }
}

#[test]
fn answers_are_the_twin_s_and_the_same_bits_alone_or_among_many() {
    for (state, action, hidden) in [(5, 3, 9), (33, 17, 40), (1, 1, 1), (64, 130, 70)] {
        let settings = LayerSettings { hidden_size: hidden, ..LayerSettings::new(state, action) };
        let layer = layer(settings.clone());
        let material = Material::new(3, &settings, 70);
        for batch in [material.plain(), material.full()] {
            let many = layer.predict_many(&batch.questions).unwrap();
            let network = Blocks::of(&layer);
            for (i, sample) in samples(&layer, &batch).iter().enumerate() {
                let got = &many[i * action..][..action];
                assert_near("output", got, &network.forward(&sample.x).1, 1e-4);
                let context = batch.questions.contexts.map(|c| &c[i * state..][..state]);
                let timestep = batch.questions.timesteps.map(|t| t[i]);
                let one = layer.predict(
                    &material.states[i * state..][..state],
                    material.returns[i],
                    context,
                    timestep,
                );
                assert_eq!(one.unwrap(), got, "question {i}");
            }
            for n in 1..=5 {
                let Questions { states, returns, contexts, timesteps } = batch.questions;
                let few = Questions {
                    states: &states[..n * state],
                    returns: &returns[..n],
                    contexts: contexts.map(|contexts| &contexts[..n * state]),
                    timesteps: timesteps.map(|timesteps| &timesteps[..n]),
                };
                assert_eq!(layer.predict_many(&few).unwrap(), many[..n * action], "{n} questions");
            }
        }
    }
}

#[test]
fn one_return_for_many_questions_gives_the_bits_of_a_return_for_each() {
    for encoding in [Encoding::Compact, Encoding::Seed] {
        let settings = LayerSettings { encoding, ..small() };
        let mut layer = layer(settings.clone());
        let material = Material::new(6, &settings, 70);
        layer.train(&material.plain()).unwrap();
        for whole in [material.plain(), material.full()] {
            for round in 0..2 {
                let each = [0.3; 70];
                let alike = Questions { returns: &each, ..whole.questions };
                let one = Questions { returns: &each[..1], ..whole.questions };
                let answers = layer.predict_many(&one).unwrap();
                assert_eq!(answers, layer.predict_many(&alike).unwrap(), "round {round}");
                layer.train(&material.plain()).unwrap(); // what was kept is no longer true
            }
        }
    }
}

#[test]
fn a_kept_return_code_is_forgotten_when_the_weights_change() {
    let settings = small();
    let mut layer = layer(settings.clone());
    let material = Material::new(4, &settings, 8);
    let state = &material.states[..5];
    let first = layer.predict(state, 0.5, None, None).unwrap();
    assert_eq!(layer.predict(state, 0.5, None, None).unwrap(), first);
    layer.train(&material.plain()).unwrap();
    let question = Questions { states: state, returns: &[0.5], contexts: None, timesteps: None };
    let after = layer.predict(state, 0.5, None, None).unwrap();
    assert_ne!(after, first);
    assert_eq!(after, layer.predict_many(&question).unwrap());
    layer.set_return_range((0.0, 2.0)).unwrap();
    let question = Questions { returns: &[1.0], ..question };
    assert_eq!(layer.predict(state, 1.0, None, None).unwrap(), after);
    assert_eq!(layer.predict_many(&question).unwrap(), after);
}

#[test]
fn a_hundred_steps_of_each_optimizer_stay_with_the_f64_reference() {
    let optimizers = Optimizer::ALL.iter().flat_map(|optimizer| [(*optimizer, 1), (*optimizer, 2)]);
    let runs = optimizers
        .flat_map(|run| [Encoding::Compact, Encoding::Seed].map(|encoding| (run, encoding)));
    let small = runs.map(|run| (run, [12, 6, 5]));
    // wider than the registers of a tile, and deeper than a block of the products
    let wide = Optimizer::ALL.iter().map(|one| (((*one, 2), Encoding::Compact), [200, 66, 70]));
    for (((optimizer, full_every), encoding), [hidden_size, state, action]) in small.chain(wide) {
        let settings = LayerSettings {
            optimizer,
            encoding,
            weight_decay: 0.02,
            clip_norm: Some(0.4),
            learning_rate: if optimizer == Optimizer::Sgd { 0.02 } else { 1e-3 },
            ..LayerSettings { hidden_size, ..LayerSettings::new(state, action) }
        };
        let mut layer = layer(settings.clone());
        let (mut network, mut descent) = (Blocks::of(&layer), Descent::new(&layer));
        for round in 0..100 {
            let material = Material::new(100 + round % 7, &settings, 16);
            // In every other run no context ever comes.
            let plain = full_every == 1 || round % full_every == 0;
            let batch = if plain { material.plain() } else { material.full() };
            let gradient = network.gradient(&samples(&layer, &batch));
            layer.train(&batch).unwrap();
            descent.step(&mut network, &gradient);
        }
        for ((name, _, want), got) in network.parts().into_iter().zip(layer.weights()) {
            assert_near(&format!("{} {name}", optimizer.name()), got, want, 1e-5);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let train = |threads: usize, clip_norm| {
        let settings = LayerSettings { hidden_size: 70, clip_norm, ..LayerSettings::new(50, 33) };
        let pool = Pool::new(threads).unwrap();
        let mut layer = DecisionLayer::new(settings.clone()).unwrap();
        let mut metrics = Vec::new();
        for (round, n) in [1, 7, 32, 33, 130, 300].into_iter().enumerate() {
            let material = Material::new(round as u64, &settings, n);
            let batch = if round % 2 == 0 { material.full() } else { material.plain() };
            metrics.push(layer.train_on(&batch, Some(&pool)).unwrap());
            metrics.push(layer.train(&batch).unwrap());
        }
        let material = Material::new(99, &settings, 300);
        let answers = layer.predict_many_on(&material.full().questions, Some(&pool)).unwrap();
        (layer.to_bytes().unwrap(), metrics, answers)
    };
    for clip_norm in [Some(1.0), None] {
        let alone = train(1, clip_norm);
        for threads in [2, 3] {
            assert!(train(threads, clip_norm) == alone, "{threads} threads, {clip_norm:?}");
        }
    }
}

#[test]
fn a_refused_batch_changes_nothing() {
    let settings = small();
    let mut layer = layer(settings.clone());
    let material = Material::new(6, &settings, 4);
    layer.train(&material.full()).unwrap();
    let before = layer.to_bytes().unwrap();
    let good = material.full();
    let (states, actions, contexts) = (&material.states, &material.actions, &material.contexts);
    let spoil = |values: &[f32], bad: f32| {
        let mut spoiled = values.to_vec();
        spoiled[3] = bad;
        spoiled
    };
    let bad_states = [f32::NAN, f32::INFINITY].map(|bad| spoil(states, bad));
    let bad_actions = spoil(actions, f32::NEG_INFINITY);
    let bad_contexts = spoil(contexts, f32::NAN);
    let bad_weights = [f32::NAN, f32::INFINITY, -0.5].map(|bad| spoil(&material.weights, bad));
    let asked = good.questions;
    let with = |questions| Batch { questions, ..good };
    let mut batches = vec![
        ("states", with(Questions { states: &states[1..], ..asked })),
        ("states", with(Questions { states: &bad_states[0], ..asked })),
        ("states", with(Questions { states: &bad_states[1], ..asked })),
        ("returns", with(Questions { returns: &[0.0, 1.0], ..asked })),
        ("returns", with(Questions { returns: &[0.0, f64::NAN, 0.0, 0.0], ..asked })),
        ("contexts", with(Questions { contexts: Some(&contexts[5..]), ..asked })),
        ("contexts", with(Questions { contexts: Some(&bad_contexts), ..asked })),
        ("timesteps", with(Questions { timesteps: Some(&[1, 2, 3]), ..asked })),
        ("timesteps", with(Questions { timesteps: Some(&[1, 2, -3, 4]), ..asked })),
        ("actions", Batch { actions: &actions[3..], ..good }),
        ("actions", Batch { actions: &bad_actions, ..good }),
        ("weights", Batch { weights: Some(&[1.0; 3]), ..good }),
        ("weights", Batch { weights: Some(&[0.0; 4]), ..good }),
    ];
    batches.extend(bad_weights.iter().map(|w| ("weights", Batch { weights: Some(w), ..good })));
    for (field, batch) in batches {
        match layer.train(&batch).unwrap_err() {
            Error::Invalid { field: named, .. } | Error::Dimension { field: named, .. } => {
                assert!(named.starts_with(field), "{named} was blamed for {field}");
            }
            error => panic!("{error}"),
        }
        assert!(layer.to_bytes().unwrap() == before, "bad {field} changed the layer");
    }
    let none = Questions { states: &[], returns: &[], contexts: None, timesteps: None };
    assert!(layer.train(&Batch { questions: none, actions: &[], weights: None }).is_err());
    assert!(layer.predict_many(&none).unwrap().is_empty());
}

#[test]
fn a_question_that_does_not_fit_is_refused_by_the_argument_s_name() {
    let layer = layer(small());
    let state = [0.0; 5];
    let context = [f32::NAN; 5];
    let refusals = [
        ("state", layer.predict(&state[1..], 0.5, None, None)),
        ("state[0]", layer.predict(&context, 0.5, None, None)),
        ("state", layer.predict(&[0.0; 10], 0.5, None, None)),
        ("desired_return", layer.predict(&state, f64::INFINITY, None, None)),
        ("context", layer.predict(&state, 0.5, Some(&state[1..]), None)),
        ("context[0]", layer.predict(&state, 0.5, Some(&context), None)),
        ("timestep", layer.predict(&state, 0.5, None, Some(-1))),
    ];
    for (name, refusal) in refusals {
        match refusal.unwrap_err() {
            Error::Invalid { field, .. } | Error::Dimension { field, .. } => {
                assert_eq!(field, name);
            }
            error => panic!("{error}"),
        }
    }
}

#[test]
fn a_loss_that_is_no_number_is_an_error_and_keeps_the_weights() {
    for clip_norm in [Some(1.0), None] {
        let settings = LayerSettings { clip_norm, ..small() };
        let mut layer = layer(settings.clone());
        let mut material = Material::new(7, &settings, 4);
        layer.train(&material.plain()).unwrap();
        let before = layer.to_bytes().unwrap();
        material.states.fill(f32::MAX);
        let error = layer.train(&material.plain()).unwrap_err();
        assert!(matches!(error, Error::Training(_)), "{error}");
        assert!(layer.to_bytes().unwrap() == before);
    }
}

#[test]
fn a_layer_that_never_learned_refuses_and_says_so() {
    let layer = DecisionLayer::new(small()).unwrap();
    assert!(!layer.trained());
    let error = layer.predict(&[0.0; 5], 0.5, None, None).unwrap_err();
    assert!(matches!(error, Error::NotTrained), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_weights_of_the_right_size_and_another_one_others() {
    let settings = LayerSettings::new(768, 768);
    let layer = DecisionLayer::new(settings.clone()).unwrap();
    let [w1, b1, w2, b2] = layer.weights();
    assert_eq!(w1.len() + b1.len() + w2.len() + b2.len(), 787_456);
    assert_eq!(DecisionLayer::new(settings.clone()).unwrap().weights(), layer.weights());
    let other = DecisionLayer::new(LayerSettings { seed: 1, ..settings }).unwrap();
    assert_ne!(other.weights()[0], w1);
    for (weights, fan_in) in [(w1, 2304.0), (w2, 256.0)] {
        let variance =
            weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / weights.len() as f64;
        assert!((variance * fan_in / 2.0 - 1.0).abs() < 0.02, "variance {variance}");
    }
    assert!(b1.iter().chain(b2).all(|b| *b == 0.0));
}

/// Unit vectors: what is right in a state, and what was done there, the more noisily the larger the state's last entry.
struct World {
    size: usize,
    map: Vec<f32>,
}

impl World {
    fn new(size: usize) -> Self {
        let rng = Rng::new(8, 0);
        let map = (0..(size * size) as u64).map(|i| rng.normal(i) as f32).collect();
        Self { size, map }
    }

    fn right(&self, state: &[f32]) -> Vec<f32> {
        let row = |row: &[f32]| row.iter().zip(state).map(|(w, x)| w * x).sum::<f32>().tanh();
        unit(self.map.chunks_exact(self.size).map(row).collect())
    }

    /// `n` states and noisy actions.
    fn draw(&self, seed: u64, n: usize, noise: f32) -> (Vec<f32>, Vec<f32>) {
        let rng = Rng::new(seed, 1);
        let (mut states, mut actions) = (Vec::new(), Vec::new());
        for i in 0..n as u64 {
            let draw = rng.child(i);
            let mut state: Vec<f32> =
                (0..self.size as u64).map(|k| draw.normal(k) as f32).collect();
            let level = draw.uniform(1000) as f32;
            state[self.size - 1] = 2.0 * level;
            let right = self.right(&state);
            let spread = noise * level;
            let done = right.iter().zip(500..).map(|(x, k)| x + spread * draw.normal(k) as f32);
            actions.extend(unit(done.collect()));
            states.extend(state);
        }
        (states, actions)
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    for x in &mut vector {
        *x /= norm;
    }
    vector
}

fn trained_in(world: &World, noise: f32) -> DecisionLayer {
    let settings = LayerSettings { hidden_size: 64, ..LayerSettings::new(world.size, world.size) };
    let mut layer = DecisionLayer::new(settings).unwrap();
    let (states, actions) = world.draw(1, 8192, noise);
    let width = 32 * world.size;
    for _ in 0..12 {
        for (states, actions) in states.chunks_exact(width).zip(actions.chunks_exact(width)) {
            let questions =
                Questions { states, returns: &[0.5; 32], contexts: None, timesteps: None };
            layer.train(&Batch { questions, actions, weights: None }).unwrap();
        }
    }
    layer
}

#[test]
fn a_known_function_is_learned_from_a_fixed_seed() {
    let world = World::new(8);
    let layer = trained_in(&world, 0.0);
    let (states, actions) = world.draw(2, 500, 0.0);
    let questions = Questions { states: &states, returns: &[0.5], contexts: None, timesteps: None };
    let predicted = layer.predict_many(&questions).unwrap();
    let cosines =
        predicted.chunks_exact(8).zip(actions.chunks_exact(8)).map(|(a, b)| nn::cosine(a, b));
    let mean = cosines.sum::<f64>() / 500.0;
    assert!(mean > 0.95, "mean cosine similarity {mean}");
}

#[test]
fn calibrated_confidence_is_right_on_fresh_data_whose_noise_depends_on_the_state() {
    let world = World::new(8);
    let mut layer = trained_in(&world, 1.2);
    let returns = [0.5];
    let ask = |states| Questions { states, returns: &returns, contexts: None, timesteps: None };
    let (states, actions) = world.draw(3, 2000, 1.2);
    assert!(
        layer
            .predict_with_confidence(&states[..8], 0.5, None, None, COVERAGE)
            .unwrap()
            .confidence
            .is_none()
    );
    layer.calibrate(&Batch { questions: ask(&states), actions: &actions, weights: None }).unwrap();
    let (states, actions) = world.draw(4, 4000, 1.2);
    let mut bins = [(0.0_f64, 0.0); 10];
    let (mut inside, mut lowest, mut highest) = (0.0, 1.0_f64, 0.0_f64);
    for (state, action) in states.chunks_exact(8).zip(actions.chunks_exact(8)) {
        let answer = layer.predict_with_confidence(state, 0.5, None, None, COVERAGE).unwrap();
        let told = answer.confidence.unwrap();
        let seen = nn::cosine(&answer.action, action);
        inside += f64::from(told.low <= seen.clamp(0.0, 1.0) && seen <= told.high);
        let bin = &mut bins[((told.value * 10.0) as usize).min(9)];
        *bin = (bin.0 + told.value, bin.1 + seen);
        (lowest, highest) = (lowest.min(told.value), highest.max(told.value));
    }
    let error = bins.iter().map(|(told, seen)| (told - seen).abs()).sum::<f64>() / 4000.0;
    assert!(error < 0.05, "expected calibration error {error}");
    let share = inside / 4000.0;
    assert!((0.75..0.88).contains(&share), "{share} of the similarities lie in the interval");
    assert!(highest - lowest > 0.3, "confidence only spans {lowest} to {highest}");
}

#[test]
fn learning_and_new_weights_clear_the_calibration_and_new_weights_the_optimizer() {
    let settings = small();
    let mut layer = layer(settings.clone());
    let material = Material::new(9, &settings, 40);
    layer.calibrate(&material.plain()).unwrap();
    assert!(layer.calibrated());
    layer.train(&material.plain()).unwrap();
    assert!(!layer.calibrated());
    layer.calibrate(&material.plain()).unwrap();
    let weights = layer.weights().map(<[f32]>::to_vec);
    layer.set_weights(weights.each_ref().map(Vec::as_slice)).unwrap();
    assert!(!layer.calibrated());
    let mut fresh = DecisionLayer::new(settings).unwrap();
    fresh.set_weights(weights.each_ref().map(Vec::as_slice)).unwrap();
    assert!(fresh.trained());
    let (a, b) = (layer.train(&material.full()).unwrap(), fresh.train(&material.full()).unwrap());
    assert_eq!(a, b);
    assert_eq!(layer.weights(), fresh.weights());
}

#[test]
fn the_seed_s_confidence_is_its_formula() {
    let settings = small();
    let layer = layer(settings.clone());
    let material = Material::new(10, &settings, 1);
    let sample = &samples(&layer, &material.full())[0];
    let (hidden, output) = Blocks::of(&layer).forward(&sample.x);
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let want = f64::midpoint(
        1.0 - (norm(&hidden) - 50.0).abs() / 100.0,
        1.0 - (norm(&output) - 10.0).abs() / 20.0,
    );
    let context = Some(&material.contexts[..]);
    let got =
        layer.seed_confidence(&material.states, material.returns[0], context, Some(0)).unwrap();
    assert!((got - want).abs() < 1e-5, "{got} is not {want}");
}
