//! That a run which was stopped and resumed is the run that was not.

use std::path::Path;

use super::super::prioritized::Prioritized;
use super::*;
use crate::nn::ContextKind;

fn resume(
    memory: &Memory,
    layer: &Arc<RwLock<DecisionLayer>>,
    settings: &TrainerSettings,
) -> Result<TrainingRun> {
    let experience = Arc::new(memory.clone());
    TrainingRun::start(experience, Arc::clone(layer), settings.clone(), &Filter::default(), true)
}

fn all_at_once(path: &Path) -> TrainerSettings {
    TrainerSettings {
        epochs: 5,
        early_stopping_patience: 2,
        save_path: Some(path.to_owned()),
        save_interval: 2,
        replay: Replay::Diverse,
        timesteps: true,
        curriculum: Some(Curriculum { easy_epochs: 2, max_duration_ms: 35_000 }),
        ..settings()
    }
}

fn with_context() -> Arc<RwLock<DecisionLayer>> {
    layer(|s| (s.context, s.learning_rate) = (ContextKind::History, 0.05))
}

fn losses(report: &Report) -> Vec<(u64, f64, Option<f64>, f64)> {
    let of = |m: &EpochMetrics| (m.epoch, m.train_loss, m.val_loss, m.gradient_norm);
    report.epochs.iter().map(of).collect()
}

#[test]
fn a_run_that_is_resumed_after_each_epoch_ends_in_the_same_bits() {
    for replay in Replay::ALL {
        for curriculum in [true, false] {
            resumes_to_the_same_bits(|settings| {
                settings.replay = *replay;
                settings.curriculum = settings.curriculum.filter(|_| curriculum);
            });
        }
    }
}

#[test]
fn a_resumed_run_keeps_its_schedule_and_its_emphasis() {
    resumes_to_the_same_bits(|settings| {
        (settings.schedule, settings.warmup_steps) = (Schedule::Cosine, 9); // more than an epoch
        (settings.emphasis, settings.replay) = (3.0, Replay::Prioritized);
    });
}

fn resumes_to_the_same_bits(change: impl Fn(&mut TrainerSettings)) {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let whole = with_context();
    let mut settings = all_at_once(&home.path().join("whole"));
    change(&mut settings);
    let expected = run_to_end(start(&memory, &whole, &settings).unwrap());
    assert!(expected.epochs.len() > 3, "too short a run to prove anything");

    settings.save_path = Some(home.path().join("pieces"));
    let first = with_context();
    start(&memory, &first, &settings).unwrap().next_epoch(&mut on).unwrap();
    let report = loop {
        let fresh = with_context(); // as in a new process: the checkpoint is all there is
        let mut run = resume(&memory, &fresh, &settings).unwrap();
        if run.next_epoch(&mut on).unwrap().is_none() {
            let report = run.finish(&mut on).unwrap();
            assert_eq!(weights(&fresh), weights(&whole));
            break report;
        }
    };
    assert_eq!(losses(&report), losses(&expected));
    assert_eq!((&report.best, &report.baseline), (&expected.best, &expected.baseline));
}

#[test]
fn a_resumed_run_still_knows_its_best_epoch() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let settings = TrainerSettings {
        epochs: 8,
        early_stopping_patience: 8,
        save_path: Some(home.path().to_owned()),
        ..settings()
    };
    let unsteady = || layer(|s| s.learning_rate = 0.3);
    let whole = unsteady();
    let report = run_to_end(start(&memory, &whole, &settings).unwrap());
    assert!(report.best.best_epoch < 8, "the last epoch is the best: this proves nothing");
    let fresh = unsteady();
    let mut run = resume(&memory, &fresh, &settings).unwrap();
    assert_eq!(run.next_epoch(&mut on).unwrap(), None);
    assert_eq!(run.finish(&mut on).unwrap(), report);
    assert_eq!(weights(&fresh), weights(&whole));
}

#[test]
fn an_interrupted_run_goes_on_from_its_last_finished_epoch() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let settings = all_at_once(home.path());
    let layer = with_context();
    let mut run = start(&memory, &layer, &settings).unwrap();
    run.next_epoch(&mut on).unwrap();
    let after_one = weights(&layer);
    assert!(run.next_epoch(&mut || Err(Error::Interrupted)).is_err());
    let fresh = with_context();
    let mut run = resume(&memory, &fresh, &settings).unwrap();
    assert_eq!((weights(&fresh), run.history().len()), (after_one, 1));
    assert_eq!(run.next_epoch(&mut on).unwrap().unwrap().epoch, 2);
}

#[test]
fn a_finished_run_can_be_given_more_epochs() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let short =
        TrainerSettings { save_path: Some(home.path().to_owned()), epochs: 2, ..settings() };
    let layer = layer(|_| ());
    run_to_end(start(&memory, &layer, &short).unwrap());
    let long = TrainerSettings { epochs: 4, ..short };
    let resumed = run_to_end(resume(&memory, &layer, &long).unwrap());
    let other = tempfile::tempdir().unwrap();
    let long = TrainerSettings { save_path: Some(other.path().to_owned()), ..long };
    let straight = run_to_end(start(&memory, &super::layer(|_| ()), &long).unwrap());
    assert_eq!(losses(&resumed), losses(&straight));
}

#[test]
fn the_folder_holds_what_the_settings_ask_for() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let settings = TrainerSettings { curriculum: None, ..all_at_once(home.path()) };
    let settings = TrainerSettings { early_stopping_patience: 9, ..settings };
    let layer = with_context();
    let report = run_to_end(start(&memory, &layer, &settings).unwrap());
    assert_eq!(report.epochs.len(), 5);
    let mut names: Vec<_> = std::fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["best.weights", "epoch-0002.ckpt", "epoch-0004.ckpt", "last.ckpt"]);
    let best = DecisionLayer::load(&home.path().join("best.weights")).unwrap();
    assert_eq!(weights(&RwLock::new(best)), weights(&layer));
}

#[test]
fn a_run_that_would_not_be_the_same_is_not_resumed() {
    let memory = Memory::new(20, 10);
    let home = tempfile::tempdir().unwrap();
    let settings = all_at_once(home.path());
    let error = resume(&memory, &with_context(), &settings).err().unwrap();
    assert!(matches!(error, Error::Io { .. }), "no checkpoint yet: {error}");
    start(&memory, &with_context(), &settings).unwrap().next_epoch(&mut on).unwrap();

    let refused = |memory: &Memory, layer, settings: &TrainerSettings| {
        let error = resume(memory, &layer, settings).err().unwrap();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        error.to_string()
    };
    let other = TrainerSettings { batch_size: 17, ..settings.clone() };
    assert!(refused(&memory, with_context(), &other).starts_with("batch_size"));
    let nowhere = TrainerSettings { save_path: None, ..settings.clone() };
    assert!(refused(&memory, with_context(), &nowhere).starts_with("resume"));
    assert!(refused(&memory, layer(|_| ()), &settings).starts_with("layer"));
    let mut more = memory.clone();
    more.push(20, 10);
    assert!(refused(&more, with_context(), &settings).starts_with("resume"));
    let mut richer = memory.clone();
    richer.columns.total_rewards[0] += 1.0; // what an emphasis goes by
    assert!(refused(&richer, with_context(), &settings).starts_with("resume"));

    let last = home.path().join("last.ckpt");
    let mut bytes = std::fs::read(&last).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&last, bytes).unwrap();
    let error = resume(&memory, &with_context(), &settings).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn priorities_of_other_data_are_not_believed() {
    let memory = Memory::new(20, 10);
    let settings = TrainerSettings { replay: Replay::Prioritized, ..settings() };
    let mut run = start(&memory, &layer(|_| ()), &settings).unwrap();
    run.next_epoch(&mut on).unwrap();
    let bytes = run.prioritized.as_ref().unwrap().to_bytes();
    let resumed = |memory: &Memory, bytes: &[u8]| {
        let run = start(memory, &layer(|_| ()), &settings).unwrap();
        Prioritized::resumed(&run.study, None, bytes).map(|_| ())
    };
    assert!(resumed(&memory, &bytes).is_ok());
    assert!(matches!(resumed(&memory, &[]), Err(Error::Corrupt { .. })));
    assert!(matches!(resumed(&Memory::new(21, 10), &bytes), Err(Error::Corrupt { .. })));
}
