//! How a run ends: well, early, interrupted, or in numbers that are none.

use super::*;

#[test]
fn the_best_epoch_is_what_the_layer_has_in_the_end() {
    let memory = Memory::new(20, 10);
    let layer = layer(|s| s.learning_rate = 0.3); // so large that the loss goes up and down
    let settings = TrainerSettings { epochs: 8, early_stopping_patience: 8, ..settings() };
    let mut run = start(&memory, &layer, &settings).unwrap();
    let mut seen = Vec::new();
    while let Some(metrics) = run.next_epoch(&mut on).unwrap() {
        seen.push((metrics.val_loss.unwrap(), weights(&layer)));
    }
    let report = run.finish(&mut on).unwrap();
    let best = report.best.best_epoch as usize;
    assert!(best < seen.len(), "the last epoch is the best: this proves nothing");
    assert!(seen.iter().all(|(loss, _)| *loss >= report.best.val_loss.unwrap()));
    assert_eq!(weights(&layer), seen[best - 1].1);
    assert_ne!(weights(&layer), seen.last().unwrap().1);
}

#[test]
fn a_run_stops_when_it_converged_or_its_patience_is_over() {
    let memory = Memory::new(20, 10);
    let converges = TrainerSettings { convergence_threshold: Some(1e9), ..settings() };
    assert_eq!(run_to_end(start(&memory, &layer(|_| ()), &converges).unwrap()).epochs.len(), 1);
    let stuck = layer(|s| s.learning_rate = 1e-30); // weights do not move: no epoch is better than the first
    let settings = TrainerSettings { epochs: 50, early_stopping_patience: 2, ..settings() };
    let report = run_to_end(start(&memory, &stuck, &settings).unwrap());
    assert_eq!((report.epochs.len(), report.best.best_epoch), (3, 1));
}

#[test]
fn without_validation_there_is_neither_val_loss_nor_baseline() {
    let settings = TrainerSettings { validation_split: 0.0, ..settings() };
    let report = run_to_end(start(&Memory::new(20, 10), &layer(|_| ()), &settings).unwrap());
    assert!(report.epochs.iter().all(|epoch| epoch.val_loss.is_none()));
    assert!(report.best.val_loss.is_none() && report.baseline.is_none());
    assert_eq!((report.data.train_size, report.data.val_size), (200, 0));
}

#[test]
fn an_interruption_leaves_the_last_finished_epoch() {
    let memory = Memory::new(20, 10);
    let layer = layer(|_| ());
    let mut run = start(&memory, &layer, &settings()).unwrap();
    let untouched = weights(&layer);
    let mut calls = 0;
    let mut third = || {
        calls += 1;
        if calls >= 5 { Err(Error::Interrupted) } else { Ok(()) }
    };
    assert!(matches!(run.next_epoch(&mut third), Err(Error::Interrupted)));
    assert_eq!(weights(&layer), untouched);
    assert!(!layer.read().unwrap().trained(), "half an epoch is no training");

    let mut run = start(&memory, &layer, &settings()).unwrap();
    run.next_epoch(&mut on).unwrap();
    let (after_one, mut calls) = (weights(&layer), 0);
    let mut later = || {
        calls += 1;
        if calls == 3 { Err(Error::Interrupted) } else { Ok(()) }
    };
    assert!(matches!(run.next_epoch(&mut later), Err(Error::Interrupted)));
    assert_eq!(weights(&layer), after_one);
    assert!(matches!(run.next_epoch(&mut on), Err(Error::Training(_))), "the run is over");
    assert!(run.finish(&mut on).is_err());
}

/// Once everything is in memory, no reading fails: the run used to go on to its end.
#[test]
fn a_run_does_not_outlive_what_it_learns_from() {
    let memory = Memory::new(20, 10);
    let made = layer(|_| ());
    let mut run = start(&memory, &made, &settings()).unwrap();
    run.next_epoch(&mut on).unwrap();
    let (after_one, mut calls) = (weights(&made), 0);
    let mut close_at_third = || {
        calls += 1;
        memory.closed.store(calls >= 3, Ordering::Relaxed);
        Ok(())
    };
    assert!(matches!(run.next_epoch(&mut close_at_third), Err(Error::Closed(_))));
    assert_eq!(calls, 3, "the batch after it was closed was worked on");
    assert_eq!(weights(&made), after_one);

    let open = Memory::new(20, 10);
    let mut run = start(&open, &made, &settings()).unwrap();
    run.next_epoch(&mut on).unwrap();
    open.closed.store(true, Ordering::Relaxed);
    assert!(matches!(run.finish(&mut on), Err(Error::Closed(_))));
}

#[test]
fn every_batch_asks_whether_to_go_on() {
    let memory = Memory::new(20, 10);
    let mut run = start(&memory, &layer(|_| ()), &settings()).unwrap();
    run.next_epoch(&mut on).unwrap();
    let mut calls = 0;
    let mut count = || {
        calls += 1;
        Ok(())
    };
    run.next_epoch(&mut count).unwrap();
    assert!(calls >= run.batches(), "{calls} calls in {} batches", run.batches());
}

#[test]
fn a_number_that_is_none_ends_the_run_and_keeps_the_weights() {
    let memory = Memory::new(20, 10);
    let layer = layer(|_| ());
    run_to_end(start(&memory, &layer, &settings()).unwrap());
    let before = weights(&layer);
    let mut broken = memory.clone();
    broken.actions[7 * ACTION] = f32::NAN;
    let all = TrainerSettings { validation_split: 0.0, ..settings() };
    let mut run = start(&broken, &layer, &all).unwrap();
    let error = run.next_epoch(&mut on).unwrap_err();
    assert!(matches!(error, Error::Training(_)), "{error}");
    assert_eq!(weights(&layer), before);

    let mut huge = memory.clone();
    huge.states.iter_mut().for_each(|x| *x = 3e38);
    let mut run = start(&huge, &layer, &all).unwrap();
    assert!(matches!(run.next_epoch(&mut on), Err(Error::Training(_))));
    assert_eq!(weights(&layer), before);

    let mut endless = memory;
    endless.columns.rewards[3] = f64::NAN;
    assert!(matches!(start(&endless, &layer, &all).err(), Some(Error::Training(_))));
}

#[test]
fn a_run_without_an_epoch_cannot_be_finished() {
    let mut run = start(&Memory::new(20, 10), &layer(|_| ()), &settings()).unwrap();
    assert!(matches!(run.finish(&mut on), Err(Error::Training(_))));
}

#[test]
fn a_run_can_be_handed_from_thread_to_thread() {
    fn moves<T: Send>(_: &T) {}
    let mut run = start(&Memory::new(20, 10), &layer(|_| ()), &settings()).unwrap();
    moves(&run);
    let run = std::thread::spawn(move || {
        run.next_epoch(&mut on).unwrap();
        run
    });
    assert_eq!(run.join().unwrap().history().len(), 1);
}
