//! Replays beside their definition.

mod draws;
mod files;
mod keeping;
mod tree;

use super::*;
use crate::error::Error;

fn replay(change: impl FnOnce(&mut ReplaySettings)) -> PrioritizedReplay {
    let mut settings = ReplaySettings::new(64);
    change(&mut settings);
    PrioritizedReplay::new(settings).unwrap()
}

fn holding(priorities: &[f64], change: impl FnOnce(&mut ReplaySettings)) -> PrioritizedReplay {
    let mut made = replay(change);
    made.add(priorities.len(), Some(priorities)).unwrap();
    made
}

/// P(i), straight from the definition.
fn probabilities(priorities: &[f64], alpha: f64, eps: f64) -> Vec<f64> {
    let masses: Vec<f64> = priorities.iter().map(|p| (p + eps).powf(alpha)).collect();
    let total: f64 = masses.iter().sum();
    masses.iter().map(|mass| mass / total).collect()
}

fn refused(outcome: Result<impl Sized, Error>, name: &str) {
    match outcome.err() {
        Some(Error::Invalid { field, .. }) => assert_eq!(field, name),
        other => panic!("{name} was not refused: {other:?}"),
    }
}
