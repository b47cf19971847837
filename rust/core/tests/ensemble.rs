//! Several networks in one layer: their mean answers, their file, and that one of them fails for all.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[expect(dead_code, reason = "this test needs the twin's samples only")]
mod twin;

use precedent_core::Error;
use precedent_core::nn::{COVERAGE, DecisionLayer, LayerSettings};
use precedent_core::pool::Pool;
use twin::Material;

fn settings(seed: u64) -> LayerSettings {
    LayerSettings { hidden_size: 5, seed, ..LayerSettings::new(4, 3) }
}

fn member(seed: u64) -> DecisionLayer {
    let mut layer = DecisionLayer::new(settings(seed)).unwrap();
    layer.train(&Material::new(1, &settings(0), 30).full()).unwrap();
    layer
}

fn ensemble() -> DecisionLayer {
    DecisionLayer::of_members((0..3).map(member).collect()).unwrap()
}

#[test]
fn an_ensemble_answers_with_the_mean_alone_and_among_many_on_any_number_of_threads() {
    let (layer, material) = (ensemble(), Material::new(2, &settings(0), 40));
    let questions = material.full().questions;
    let apart: Vec<_> = (0..3).map(|i| member(i).predict_many(&questions).unwrap()).collect();
    let many = layer.predict_many(&questions).unwrap();
    for (i, got) in many.iter().enumerate() {
        let mean = apart.iter().map(|answers| f64::from(answers[i])).sum::<f64>() / 3.0;
        assert!((f64::from(*got) - mean).abs() < 1e-6, "{got} is not the mean {mean}");
    }
    let pool = Pool::new(3).unwrap();
    assert_eq!(layer.predict_many_on(&questions, Some(&pool)).unwrap(), many);
    for (i, many) in many.chunks_exact(3).enumerate() {
        let context = questions.contexts.map(|contexts| &contexts[4 * i..][..4]);
        let timestep = questions.timesteps.map(|timesteps| timesteps[i]);
        let state = &material.states[4 * i..][..4];
        assert_eq!(layer.predict(state, material.returns[i], context, timestep).unwrap(), many);
    }
}

#[test]
fn members_come_out_as_they_went_in_and_weights_are_the_first_one_s() {
    let layer = ensemble();
    assert_eq!(layer.members(), 3);
    for i in 0..3 {
        let out = layer.member(i).unwrap();
        assert_eq!(out.to_bytes().unwrap(), member(i as u64).to_bytes().unwrap());
    }
    assert!(layer.member(3).is_none());
    assert_eq!(layer.weights(), member(0).weights());
    let mut layer = layer;
    let first = layer.weights().map(<[f32]>::to_vec);
    layer.set_weights(first.each_ref().map(Vec::as_slice)).unwrap();
    assert_eq!(layer.members(), 1, "weights that are set are those of one network");
}

#[test]
fn a_step_of_an_ensemble_is_a_step_of_each_member_or_of_none() {
    // With a gradient that may be clipped, and with one that is gone down as it comes.
    for clip_norm in [settings(0).clip_norm, None] {
        let mut material = Material::new(3, &settings(0), 20);
        let member =
            |seed| DecisionLayer::new(LayerSettings { clip_norm, ..settings(seed) }).unwrap();
        let mut layer = DecisionLayer::of_members((0..3).map(member).collect()).unwrap();
        let told = layer.train(&material.full()).unwrap();
        let mut losses = 0.0;
        for i in 0..3 {
            let mut alone = member(i);
            losses += alone.train(&material.full()).unwrap().loss;
            let together = layer.member(i as usize).unwrap();
            assert_eq!(together.to_bytes().unwrap(), alone.to_bytes().unwrap());
        }
        assert!((told.loss - losses / 3.0).abs() < 1e-12);
        let before = layer.to_bytes().unwrap();
        material.states.fill(f32::MAX);
        assert!(matches!(layer.train(&material.plain()), Err(Error::Training(_))));
        assert!(layer.to_bytes().unwrap() == before);
    }
}

#[test]
fn an_ensemble_s_file_brings_all_members_and_the_calibration_back() {
    let material = Material::new(4, &settings(0), 60);
    let mut layer = ensemble();
    layer.calibrate(&material.plain()).unwrap();
    layer.set_encoder(Some("minilm".into()));
    let mut loaded = DecisionLayer::from_bytes(&layer.to_bytes().unwrap()).unwrap();
    assert!(loaded.to_bytes().unwrap() == layer.to_bytes().unwrap());
    let ask = |layer: &DecisionLayer| {
        layer.predict_with_confidence(&material.states[..4], 0.5, None, None, COVERAGE).unwrap()
    };
    assert!(ask(&layer).confidence.is_some());
    assert_eq!(ask(&layer), ask(&loaded));
    layer.train(&material.full()).unwrap();
    loaded.train(&material.full()).unwrap();
    assert!(loaded.to_bytes().unwrap() == layer.to_bytes().unwrap());
    let refused = layer.to_safetensors().unwrap_err();
    assert!(matches!(&refused, Error::Invalid { field, .. } if field == "layer"), "{refused}");
    assert!(layer.member(1).unwrap().to_safetensors().is_ok());
}

#[test]
fn every_truncation_and_every_flipped_bit_of_an_ensemble_is_refused() {
    let bytes = ensemble().to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(DecisionLayer::from_bytes(&bytes[..length]).is_err(), "cut to {length}");
    }
    let mut flipped = bytes.clone();
    for byte in 0..bytes.len() {
        flipped[byte] ^= 1 << (byte % 8);
        assert!(DecisionLayer::from_bytes(&flipped).is_err(), "a bit of byte {byte} flipped");
        flipped[byte] = bytes[byte];
    }
}

#[test]
fn what_does_not_belong_together_is_no_ensemble() {
    let untrained = DecisionLayer::new(settings(1)).unwrap();
    let wider = LayerSettings { hidden_size: 6, ..settings(1) };
    let strangers = [
        vec![],
        vec![member(0), untrained],
        vec![member(0), DecisionLayer::new(wider).unwrap()],
        vec![member(0), ensemble()],
        vec![ensemble()],
        vec![member(0); 65],
    ];
    for members in strangers {
        let error = DecisionLayer::of_members(members).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}
