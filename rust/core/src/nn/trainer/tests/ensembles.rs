//! That members side by side are what each is alone.

use std::path::Path;

use super::*;
use crate::nn::ContextKind;

fn ensemble(
    memory: &Memory,
    layer: &Arc<RwLock<DecisionLayer>>,
    settings: &TrainerSettings,
    resume: bool,
) -> Result<EnsembleRun> {
    let (experience, layer) = (Arc::new(memory.clone()), Arc::clone(layer));
    EnsembleRun::start(experience, layer, settings.clone(), 3, &Filter::default(), resume)
}

fn end(mut run: EnsembleRun) -> Report {
    while run.next_epoch(&mut on).unwrap().is_some() {}
    run.finish(&mut on).unwrap()
}

/// Steps so large that members stop at different epochs.
fn restless(replay: Replay) -> TrainerSettings {
    TrainerSettings { epochs: 9, early_stopping_patience: 1, replay, ..settings() }
}

fn seeded(seed: u64) -> Arc<RwLock<DecisionLayer>> {
    layer(|s| (s.seed, s.context, s.learning_rate) = (seed, ContextKind::History, 0.05))
}

fn bytes(layer: &DecisionLayer) -> Vec<u8> {
    layer.to_bytes().unwrap()
}

#[test]
fn each_member_has_the_bits_of_a_run_alone_with_its_seed() {
    let memory = Memory::new(20, 10);
    for replay in [Replay::Uniform, Replay::Prioritized] {
        let together = seeded(7);
        let report = end(ensemble(&memory, &together, &restless(replay), false).unwrap());
        let together = together.read().unwrap();
        assert_eq!(together.members(), 3);
        assert!(together.calibrated());
        let mut epochs = Vec::new();
        for at in 0..3 {
            let alone = seeded(7 + at as u64);
            epochs.push(run_to_end(start(&memory, &alone, &restless(replay)).unwrap()).epochs);
            let mut alone = alone.read().unwrap().clone();
            alone.set_epoch(0);
            let member = together.member(at).unwrap();
            assert_eq!(member.weights(), alone.weights(), "{replay:?}, member {at}");
        }
        for (at, told) in report.epochs.iter().enumerate() {
            let found: Vec<_> = epochs.iter().filter_map(|epochs| epochs.get(at)).collect();
            let mean = found.iter().map(|m| m.train_loss).sum::<f64>() / found.len() as f64;
            assert!((told.train_loss - mean).abs() < 1e-12);
        }
        let lengths: Vec<_> = epochs.iter().map(Vec::len).collect();
        assert_eq!(Some(&report.epochs.len()), lengths.iter().max());
        assert!(lengths.iter().any(|n| *n != lengths[0]), "{lengths:?} epochs: none stopped first");
    }
}

#[test]
fn the_report_s_validation_loss_is_that_of_the_mean_answers() {
    let memory = Memory::new(20, 10);
    let together = seeded(3);
    let report = end(ensemble(&memory, &together, &settings(), false).unwrap());
    let run = start(&memory, &seeded(3), &settings()).unwrap();
    let loss = run
        .study
        .validation_loss(&together.read().unwrap(), 1, &Pool::new(2).unwrap(), &mut on)
        .unwrap();
    assert_eq!(report.best.val_loss, loss);
    assert!(report.baseline.is_some());
}

fn kept(path: &Path) -> TrainerSettings {
    TrainerSettings { save_path: Some(path.to_owned()), ..restless(Replay::Uniform) }
}

#[test]
fn an_ensemble_that_is_resumed_after_each_epoch_ends_in_the_same_bits() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let whole = seeded(7);
    let expected = end(ensemble(&memory, &whole, &kept(&home.path().join("a")), false).unwrap());
    let path = home.path().join("b");
    ensemble(&memory, &seeded(7), &kept(&path), false).unwrap().next_epoch(&mut on).unwrap();
    let report = loop {
        let fresh = seeded(7);
        let mut run = ensemble(&memory, &fresh, &kept(&path), true).unwrap();
        if run.next_epoch(&mut on).unwrap().is_none() {
            let report = run.finish(&mut on).unwrap();
            assert_eq!(bytes(&fresh.read().unwrap()), bytes(&whole.read().unwrap()));
            break report;
        }
    };
    assert_eq!(report.best, expected.best);
    let best = DecisionLayer::load(&path.join("best.weights")).unwrap();
    assert_eq!(bytes(&best), bytes(&whole.read().unwrap()));
}

#[test]
fn a_member_that_is_behind_after_an_interruption_catches_up_first() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let whole = seeded(7);
    end(ensemble(&memory, &whole, &kept(&home.path().join("a")), false).unwrap());
    let path = home.path().join("b");
    ensemble(&memory, &seeded(7), &kept(&path), false).unwrap().next_epoch(&mut on).unwrap();
    // The second member's next epoch is on the disk, those of the others are not.
    let ahead = TrainerSettings { save_path: Some(path.join("member-1")), ..kept(&path) };
    let experience = Arc::new(memory.clone());
    let mut run =
        TrainingRun::start(experience, seeded(8), ahead, &Filter::default(), true).unwrap();
    run.next_epoch(&mut on).unwrap();
    let fresh = seeded(7);
    end(ensemble(&memory, &fresh, &kept(&path), true).unwrap());
    assert_eq!(bytes(&fresh.read().unwrap()), bytes(&whole.read().unwrap()));
}

#[test]
fn a_run_that_went_on_elsewhere_ends_like_one_here() {
    let memory = Memory::new(20, 10);
    let here = seeded(7);
    let expected = end(ensemble(&memory, &here, &restless(Replay::Uniform), false).unwrap());
    let there = seeded(7);
    let mut run = ensemble(&memory, &there, &restless(Replay::Uniform), false).unwrap();
    for (at, member) in members_of(&there.read().unwrap().clone(), 3).unwrap().iter().enumerate() {
        let sent = DecisionLayer::from_bytes(&bytes(member)).unwrap();
        let mut alone =
            start(&memory, &Arc::new(RwLock::new(sent)), &restless(Replay::Uniform)).unwrap();
        while alone.next_epoch(&mut on).unwrap().is_some() {}
        let (_, best) = alone.best().unwrap();
        let best = DecisionLayer::from_bytes(&bytes(best)).unwrap();
        run.adopt(at, alone.history().to_vec(), best).unwrap();
    }
    let report = run.finish(&mut on).unwrap();
    assert_eq!(bytes(&there.read().unwrap()), bytes(&here.read().unwrap()));
    assert_eq!((report.best, report.baseline), (expected.best, expected.baseline));
    assert!(run.adopt(3, Vec::new(), seeded(1).read().unwrap().clone()).is_err());
}

#[test]
fn an_interruption_ends_all_members_and_leaves_the_last_epoch_that_all_finished() {
    let memory = Memory::new(40, 40);
    let layer = seeded(7);
    let long = TrainerSettings { batch_size: 1, epochs: 3, ..settings() };
    let mut run = ensemble(&memory, &layer, &long, false).unwrap();
    run.next_epoch(&mut on).unwrap();
    let before = bytes(&layer.read().unwrap());
    let error = run.next_epoch(&mut || Err(Error::Interrupted)).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(bytes(&layer.read().unwrap()), before);
    assert!(run.next_epoch(&mut on).is_err() && run.finish(&mut on).is_err());
}

#[test]
fn an_ensemble_learns_on_as_one_and_no_layer_that_learned_becomes_another_number() {
    let memory = Memory::new(20, 10);
    let layer = seeded(7);
    end(ensemble(&memory, &layer, &settings(), false).unwrap());
    let before = layer.read().unwrap().member(2).unwrap();
    end(ensemble(&memory, &layer, &settings(), false).unwrap());
    let alone = Arc::new(RwLock::new(before));
    run_to_end(start(&memory, &alone, &settings()).unwrap());
    let after = layer.read().unwrap().member(2).unwrap();
    assert_eq!(after.weights(), alone.read().unwrap().weights());
    for (given, members) in [(layer.read().unwrap().clone(), 1), (after, 2)] {
        let error = members_of(&given, members).unwrap_err();
        assert!(matches!(&error, Error::Invalid { field, .. } if field == "ensemble"), "{error}");
    }
    let fresh = seeded(1).read().unwrap().clone();
    assert!(members_of(&fresh, 0).is_err() && members_of(&fresh, 65).is_err());
}

#[test]
fn a_store_that_is_closed_ends_every_member_s_run() {
    let memory = Memory::new(20, 10);
    let layer = seeded(7);
    let long = TrainerSettings { batch_size: 1, ..settings() };
    let mut run = ensemble(&memory, &layer, &long, false).unwrap();
    run.next_epoch(&mut on).unwrap();
    let before = bytes(&layer.read().unwrap());
    let mut close = || {
        memory.closed.store(true, Ordering::Relaxed);
        Ok(())
    };
    assert!(matches!(run.next_epoch(&mut close), Err(Error::Closed(_))));
    assert_eq!(bytes(&layer.read().unwrap()), before);
    assert!(run.next_epoch(&mut on).is_err() && run.finish(&mut on).is_err());

    let open = Memory::new(20, 10);
    let mut run = ensemble(&open, &seeded(7), &settings(), false).unwrap();
    run.next_epoch(&mut on).unwrap();
    open.closed.store(true, Ordering::Relaxed);
    assert!(matches!(run.finish(&mut on), Err(Error::Closed(_))));
    assert!(matches!(run.next_epoch(&mut on), Err(Error::Closed(_))));
}
