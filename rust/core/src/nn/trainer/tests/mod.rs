//! Runs over episodes that are kept in memory.

mod data;
mod endings;
mod ensembles;
mod evaluation;
mod learning;
mod replay;
mod resuming;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use super::data::{Data, validating};
use super::vectors::Columns;
use super::*;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::ids::RowKey;
use crate::nn::{DecisionLayer, Episodes, Experience, LayerSettings, cosine};
use crate::pool::Pool;
use crate::rng::Rng;

const STATE: usize = 6;
const ACTION: usize = 4;
/// The actions of the patterns "left", "right" and "wait".
const PATTERNS: [[f32; ACTION]; 3] =
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5]];

/// Episodes in memory. The pattern of a step is the largest of the first three numbers of its state.
#[derive(Clone, Default)]
struct Memory {
    columns: Episodes,
    states: Vec<f32>,
    actions: Vec<f32>,
    encoder: Option<String>,
    /// Shared with the clone that a run has.
    closed: Arc<AtomicBool>,
}

impl Memory {
    /// `episodes` of `steps` each, named "0", "1", ..., each with a reward of its own and one of two task types.
    fn new(episodes: usize, steps: usize) -> Self {
        let mut memory = Self::default();
        memory.columns.pattern_names = ["left", "right", "wait"].map(String::from).to_vec();
        memory.columns.task_type_names = ["walk", "rest"].map(String::from).to_vec();
        memory.columns.bounds = vec![0];
        for episode in 0..episodes {
            memory.push(episode, steps);
        }
        memory
    }

    fn push(&mut self, episode: usize, steps: usize) {
        let rng = Rng::new(99, episode as u64);
        let columns = &mut self.columns;
        for step in 0..steps {
            let state: Vec<f32> =
                (0..STATE).map(|i| rng.normal((step * STATE + i) as u64) as f32).collect();
            let pattern = (0..3).max_by(|&a, &b| state[a].total_cmp(&state[b])).unwrap();
            // Keys run against the order of the episodes, so that order is not taken for granted.
            columns.keys.push(RowKey(10_000 - 100 * episode as i64 + step as i64));
            columns.rewards.push((episode % 5) as f64 / 4.0);
            columns.returns.push(f64::NAN);
            columns.patterns.push(pattern as u32);
            columns.task_types.push((episode % 2) as u32);
            columns.durations.push(1000 * (1 + episode as i64 % 4));
            columns.selected.push(true);
            self.states.extend(state);
            self.actions.extend(PATTERNS[pattern]);
        }
        columns.names.push(episode.to_string());
        columns.bounds.push(columns.keys.len());
        columns.total_rewards.push((episode % 5) as f64 / 4.0 * steps as f64);
        columns.cut_off.push(false);
    }
}

impl Experience for Memory {
    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed("the memory is closed".into()));
        }
        Ok(())
    }

    fn state_size(&self) -> usize {
        STATE
    }

    fn action_size(&self) -> usize {
        ACTION
    }

    fn episodes(&self, filter: &Filter) -> Result<Episodes> {
        let all = &self.columns;
        let mut found = Episodes {
            bounds: vec![0],
            pattern_names: all.pattern_names.clone(),
            task_type_names: all.task_type_names.clone(),
            ..Episodes::default()
        };
        for (episode, bounds) in all.bounds.windows(2).enumerate() {
            let matches = |step: usize| {
                let task_type = &all.task_type_names[all.task_types[step] as usize];
                let of_type =
                    filter.task_types.as_ref().is_none_or(|some| some.contains(task_type));
                let named = filter.episodes.as_ref();
                let of_name = named.is_none_or(|some| some.contains(&all.names[episode]));
                all.selected[step] && of_type && of_name
            };
            if !(bounds[0]..bounds[1]).any(matches) {
                continue;
            }
            found.names.push(all.names[episode].clone());
            found.total_rewards.push(all.total_rewards[episode]);
            found.cut_off.push(all.cut_off[episode]);
            for step in bounds[0]..bounds[1] {
                found.keys.push(all.keys[step]);
                found.rewards.push(all.rewards[step]);
                found.returns.push(all.returns[step]);
                found.patterns.push(all.patterns[step]);
                found.task_types.push(all.task_types[step]);
                found.durations.push(all.durations[step]);
                found.selected.push(matches(step));
            }
            found.bounds.push(found.keys.len());
        }
        Ok(found)
    }

    fn read_vectors(
        &self,
        keys: &[RowKey],
        mut states: Option<&mut [f32]>,
        mut actions: Option<&mut [f32]>,
    ) -> Result<()> {
        assert!(keys.is_sorted(), "a store reads rising keys fastest");
        for (at, key) in keys.iter().enumerate() {
            let row = self.columns.keys.iter().position(|known| known == key).expect("a known key");
            if let Some(states) = states.as_deref_mut() {
                states[at * STATE..][..STATE].copy_from_slice(&self.states[row * STATE..][..STATE]);
            }
            if let Some(actions) = actions.as_deref_mut() {
                actions[at * ACTION..][..ACTION]
                    .copy_from_slice(&self.actions[row * ACTION..][..ACTION]);
            }
        }
        Ok(())
    }

    fn pattern_embeddings(&self) -> Result<(Vec<String>, Vec<f32>)> {
        // Another order than that of the episodes' own names.
        let names = ["wait", "left", "right"].map(String::from).to_vec();
        Ok((names, [PATTERNS[2], PATTERNS[0], PATTERNS[1]].concat()))
    }

    fn encoder(&self) -> Option<String> {
        self.encoder.clone()
    }
}

fn layer(change: impl FnOnce(&mut LayerSettings)) -> Arc<RwLock<DecisionLayer>> {
    let mut settings =
        LayerSettings { hidden_size: 32, learning_rate: 5e-3, ..LayerSettings::new(STATE, ACTION) };
    change(&mut settings);
    Arc::new(RwLock::new(DecisionLayer::new(settings).unwrap()))
}

fn settings() -> TrainerSettings {
    TrainerSettings {
        batch_size: 16,
        epochs: 4,
        min_trajectories: 10,
        ..TrainerSettings::default()
    }
}

fn start(
    memory: &Memory,
    layer: &Arc<RwLock<DecisionLayer>>,
    settings: &TrainerSettings,
) -> Result<TrainingRun> {
    let experience = Arc::new(memory.clone());
    TrainingRun::start(experience, Arc::clone(layer), settings.clone(), &Filter::default(), false)
}

/// A `poll` that never minds.
#[expect(clippy::unnecessary_wraps, reason = "the signature is that of a poll")]
fn on() -> Result<()> {
    Ok(())
}

/// All epochs and the finish.
fn run_to_end(mut run: TrainingRun) -> Report {
    while run.next_epoch(&mut on).unwrap().is_some() {}
    run.finish(&mut on).unwrap()
}

fn weights(layer: &RwLock<DecisionLayer>) -> Vec<Vec<u32>> {
    let layer = layer.read().unwrap();
    layer.weights().iter().map(|part| part.iter().map(|x| x.to_bits()).collect()).collect()
}
