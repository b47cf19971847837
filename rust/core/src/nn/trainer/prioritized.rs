//! Samples by their last loss.
//!
//! Priorities are losses, in the unit of the data: eps and the priority of a sample that was never seen are shares of what an
//! answer of zeros would lose, so that actions of any length and width are treated alike.

use super::study::{Study, evenly};
use crate::error::{Error, Result};
use crate::replay::{Draws, PrioritizedReplay, ReplaySettings};

/// How much losses matter.
const ALPHA: f64 = 0.6;
/// What is added to every loss, as a share of the unit.
const EPS: f64 = 0.01;
/// Over how many epochs' worth of samples the weights come to undo the priorities wholly. Not over the epochs that a run is
/// to have: it may be given more later.
const ANNEALED: u64 = 10;
/// Samples whose actions make the unit, at most.
const PROBES: usize = 512;

/// The training samples with their priorities.
pub(super) struct Prioritized {
    /// The step of each item. Those of a curriculum's easy episodes come first.
    members: Vec<u32>,
    replay: PrioritizedReplay,
    draws: Draws,
    /// The steps that were drawn last, and how many times as often as others they are drawn.
    steps: Vec<u32>,
    odds: Vec<f64>,
}

impl Prioritized {
    /// No sample yet, and room for all that train.
    pub(super) fn new(study: &Study, easy: Option<&[u32]>, seed: u64) -> Result<Self> {
        let members = members(study, easy);
        let unit = unit(study)?;
        let settings = ReplaySettings {
            alpha: ALPHA,
            eps: EPS * unit,
            beta_steps: Some(ANNEALED * members.len() as u64),
            seed,
            ..ReplaySettings::new(members.len())
        };
        let mut made = Self::of(members, PrioritizedReplay::new(settings)?);
        let first = easy.map_or(made.members.len(), <[u32]>::len);
        made.replay.add(first, Some(&vec![unit; first]))?;
        Ok(made)
    }

    /// As [`Self::to_bytes`] left it.
    pub(super) fn resumed(study: &Study, easy: Option<&[u32]>, bytes: &[u8]) -> Result<Self> {
        let members = members(study, easy);
        let replay = PrioritizedReplay::from_bytes(bytes)?;
        let known = [members.len(), easy.map_or(members.len(), <[u32]>::len)];
        if replay.settings().capacity != members.len() || !known.contains(&replay.len()) {
            return Err(Error::Corrupt {
                what: "the checkpoint is damaged: its priorities are not those of its data".into(),
            });
        }
        Ok(Self::of(members, replay))
    }

    fn of(members: Vec<u32>, replay: PrioritizedReplay) -> Self {
        Self { members, replay, draws: Draws::default(), steps: Vec::new(), odds: Vec::new() }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.replay.to_bytes()
    }

    /// The curriculum is over: all samples may be drawn, the new ones soon.
    pub(super) fn admit_all(&mut self) -> Result<()> {
        let more = self.members.len() - self.replay.len();
        if more > 0 {
            self.replay.add(more, None)?;
        }
        Ok(())
    }

    /// Draws the next `n` samples.
    pub(super) fn draw(&mut self, n: usize) -> Result<()> {
        let Self { members, replay, draws, steps, odds } = self;
        replay.sample(n, None, true, draws)?;
        steps.clear();
        steps.extend(draws.indices.iter().map(|item| members[*item as usize]));
        odds.clear();
        odds.extend(draws.indices.iter().map(|item| replay.odds(*item as usize)));
        Ok(())
    }

    /// The samples that were drawn last.
    pub(super) fn steps(&self) -> &[u32] {
        &self.steps
    }

    /// Their importance weights.
    pub(super) fn weights(&self) -> &[f32] {
        &self.draws.weights
    }

    /// How many times as often as others they are drawn.
    pub(super) fn odds(&self) -> &[f64] {
        &self.odds
    }

    /// Takes note of what they lost.
    pub(super) fn note(&mut self, losses: &[f64]) -> Result<()> {
        self.replay.update(&self.draws.indices, losses)
    }
}

/// All that train, the easy ones first, each side in order.
fn members(study: &Study, easy: Option<&[u32]>) -> Vec<u32> {
    let Some(easy) = easy else { return study.data.train.clone() };
    let rest = study.data.train.iter().filter(|step| easy.binary_search(step).is_err());
    easy.iter().chain(rest).copied().collect()
}

/// The mean square of the numbers of the actions: what an answer of zeros loses. 1 where that is nothing or no number.
fn unit(study: &Study) -> Result<f64> {
    let probes = evenly(&study.data.train, PROBES);
    let mut actions = vec![0.0; probes.len() * study.experience.action_size()];
    study.vectors.read(&*study.experience, &probes, None, Some(&mut actions))?;
    let squares = actions.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let mean = squares / actions.len() as f64;
    Ok(if mean.is_finite() && mean > 0.0 { mean } else { 1.0 })
}
