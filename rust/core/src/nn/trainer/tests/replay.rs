//! Samples by their last loss.

use super::super::prioritized::Prioritized;
use super::*;
use crate::nn::{Batch, Questions};

/// A layer whose weights no step moves, so that a sample's loss stays what it is.
fn stuck() -> Arc<RwLock<DecisionLayer>> {
    layer(|s| s.learning_rate = 1e-30)
}

fn prioritized(epochs: u64) -> TrainerSettings {
    TrainerSettings {
        epochs,
        early_stopping_patience: epochs,
        validation_split: 0.0,
        replay: Replay::Prioritized,
        ..settings()
    }
}

/// Steps of which every fifth has an action of ten times the length.
fn uneven() -> Memory {
    let mut memory = Memory::new(20, 10);
    for action in memory.actions.chunks_exact_mut(ACTION).step_by(5) {
        for x in action {
            *x *= 10.0;
        }
    }
    memory
}

/// The loss of each step alone.
fn losses(memory: &Memory, run: &TrainingRun) -> Vec<f64> {
    let of = |step: usize| {
        let questions = Questions {
            states: &memory.states[step * STATE..][..STATE],
            returns: &run.study.data.returns[step..=step],
            contexts: None,
            timesteps: None,
        };
        let actions = &memory.actions[step * ACTION..][..ACTION];
        run.work.loss(&Batch { questions, actions, weights: None }).unwrap()
    };
    (0..memory.columns.keys.len()).map(of).collect()
}

#[test]
fn a_sample_s_priority_is_its_last_loss() {
    let memory = uneven();
    let mut run = start(&memory, &stuck(), &prioritized(30)).unwrap();
    while run.next_epoch(&mut on).unwrap().is_some() {}
    let losses = losses(&memory, &run);
    let squares = memory.actions.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let eps = 0.01 * squares / memory.actions.len() as f64;
    let masses: Vec<f64> = losses.iter().map(|loss| (loss + eps).powf(0.6)).collect();
    let mean = masses.iter().sum::<f64>() / masses.len() as f64;
    let prioritized = run.prioritized.as_mut().unwrap();
    let mut seen = [0; 200];
    for _ in 0..200 {
        prioritized.draw(16).unwrap();
        for (step, odds) in prioritized.steps().iter().zip(prioritized.odds()) {
            let expected = masses[*step as usize] / mean;
            assert!((odds / expected - 1.0).abs() < 1e-5, "{odds}, not {expected}");
            seen[*step as usize] += 1;
        }
    }
    let (hard, easy): (Vec<_>, Vec<_>) = (0..200).partition(|step| step % 5 == 0);
    let mean = |steps: &[usize]| {
        steps.iter().map(|step| f64::from(seen[*step])).sum::<f64>() / steps.len() as f64
    };
    assert!(mean(&hard) > 5.0 * mean(&easy), "{} beside {}", mean(&hard), mean(&easy));
}

#[test]
fn the_train_loss_is_that_of_the_samples_however_often_they_are_drawn() {
    let memory = uneven();
    let mut run = start(&memory, &stuck(), &prioritized(20)).unwrap();
    let losses = losses(&memory, &run);
    let exact = losses.iter().sum::<f64>() / losses.len() as f64;
    run.next_epoch(&mut on).unwrap();
    let mut sum = 0.0;
    while let Some(metrics) = run.next_epoch(&mut on).unwrap() {
        sum += metrics.train_loss / 19.0;
    }
    assert!((sum / exact - 1.0).abs() < 0.05, "{sum}, not {exact}");
}

#[test]
fn the_first_epoch_prefers_what_it_has_not_seen() {
    let memory = Memory::new(20, 10);
    let layer = layer(|s| s.learning_rate = 1e-2);
    let settings = TrainerSettings { batch_size: 4, ..prioritized(3) };
    let mut run = start(&memory, &layer, &settings).unwrap();
    run.next_epoch(&mut on).unwrap();
    run.next_epoch(&mut on).unwrap();
    let bytes = run.prioritized.as_ref().unwrap().to_bytes();
    let unit = memory.actions.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
        / memory.actions.len() as f64;
    let mut kept = crate::replay::PrioritizedReplay::from_bytes(&bytes).unwrap();
    let mut all = crate::replay::Draws::default();
    kept.sample(200, None, false, &mut all).unwrap();
    let unseen = all.priorities.iter().filter(|p| **p == unit).count();
    assert!(unseen < 40, "{unseen} of 200 were never seen in 400 draws");
}

#[test]
fn easy_epochs_draw_easy_samples_only_and_then_all_may_come() {
    let memory = Memory::new(12, 10);
    let curriculum = Some(Curriculum { easy_epochs: 2, max_duration_ms: 40_000 });
    let settings = TrainerSettings { curriculum, ..prioritized(6) };
    let mut run = start(&memory, &layer(|_| ()), &settings).unwrap();
    let easy = run.easy.clone().unwrap();
    let drawn = |run: &mut TrainingRun| {
        let prioritized = run.prioritized.as_mut().unwrap();
        prioritized.draw(400).unwrap();
        prioritized.steps().to_vec()
    };
    run.next_epoch(&mut on).unwrap();
    assert!(drawn(&mut run).iter().all(|step| easy.contains(step)));
    run.next_epoch(&mut on).unwrap();
    run.next_epoch(&mut on).unwrap();
    let mut all = drawn(&mut run);
    assert!(all.iter().any(|step| !easy.contains(step)));
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 100, "{} of 120", all.len());
}

#[test]
fn actions_that_are_all_zero_have_priorities_too() {
    let mut memory = Memory::new(12, 10);
    memory.actions.fill(0.0);
    let mut run = start(&memory, &layer(|_| ()), &prioritized(2)).unwrap();
    run.next_epoch(&mut on).unwrap();
    let prioritized: &mut Prioritized = run.prioritized.as_mut().unwrap();
    prioritized.draw(16).unwrap();
    assert!(prioritized.odds().iter().all(|odds| odds.is_finite() && *odds > 0.0));
}

#[test]
fn rare_hard_samples_are_learned_from_fewer_samples() {
    // Most steps have one and the same action; one in twenty follows a rule of its own, with longer actions. Where the
    // common steps are hard too, as in `Memory` as it comes, there is less to gain.
    let mut memory = Memory::new(100, 10);
    for (step, action) in memory.actions.chunks_exact_mut(ACTION).enumerate() {
        let state = &mut memory.states[step * STATE..][..STATE];
        if step % 20 > 0 {
            action.copy_from_slice(&PATTERNS[0]);
            continue;
        }
        state[5] += 6.0;
        let turned = [state[1], -state[0], state[3].tanh(), 1.0];
        action.iter_mut().zip(turned).for_each(|(x, turned)| *x = 4.0 * turned.tanh());
    }
    let samples = |replay, seed| {
        let layer = layer(|s| s.seed = seed);
        let settings = TrainerSettings { replay, seed, ..prioritized(60) };
        let mut run = start(&memory, &layer, &settings).unwrap();
        let reached = |run: &TrainingRun| {
            let losses = losses(&memory, run);
            losses.iter().sum::<f64>() / losses.len() as f64 <= 0.06
        };
        while run.next_epoch(&mut on).unwrap().is_some() {
            if reached(&run) {
                break;
            }
        }
        run.history().len()
    };
    let total = |replay| (0..4).map(|seed| samples(replay, seed)).sum::<usize>() as f64;
    let (uniform, prioritized) = (total(Replay::Uniform), total(Replay::Prioritized));
    assert!(uniform < 240.0, "uniform replay has to get there too");
    assert!(prioritized <= 0.8 * uniform, "{prioritized} epochs beside {uniform}");
}
