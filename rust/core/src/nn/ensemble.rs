//! Several networks that answer as one: with the mean of their actions. How far they are apart tells how little they know.
//!
//! Lakshminarayanan et al. 2017: networks that differ only in what they were drawn with agree where the data decided, and
//! differ where it did not.

use super::crew::Crew;
use super::layer::DecisionLayer;
use super::learn::StepMetrics;
use super::questions::Batch;
use super::settings::LayerSettings;
use super::sums;
use crate::error::{Error, Result};
use crate::pool::Pool;

/// Networks of one layer, at the most.
pub const MOST_MEMBERS: usize = 64;

impl DecisionLayer {
    /// The layer that answers with the mean of the answers of `members`, in their order. It is not calibrated.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where there are none or more than 64, where one has members of its own, or where two differ in
    /// more than their seeds and what they learned.
    pub fn of_members(members: Vec<Self>) -> Result<Self> {
        let count = members.len();
        let mut members = members.into_iter();
        let (Some(mut first), 1..=MOST_MEMBERS) = (members.next(), count) else {
            return Err(Error::invalid("members", "1 to 64 layers", count));
        };
        let others: Vec<_> = members.collect();
        let kind = |layer: &Self| {
            let settings = LayerSettings { seed: 0, ..layer.settings.clone() };
            let learned = (layer.trained, layer.timesteps);
            (settings, learned, layer.fingerprint.clone(), layer.others.is_empty())
        };
        let odd = if first.others.is_empty() {
            let wanted = kind(&first);
            others.iter().position(|other| kind(other) != wanted).map(|at| at + 1)
        } else {
            Some(0)
        };
        if let Some(at) = odd {
            let expected = "layers of one network each that differ in their seeds only";
            return Err(Error::invalid(format!("members[{at}]"), expected, "another kind"));
        }
        first.others = others;
        first.set_inference(first.inference);
        first.changed();
        Ok(first)
    }

    /// How many networks answer.
    pub fn members(&self) -> usize {
        1 + self.others.len()
    }

    /// One of them, as a layer of its own. It is not calibrated where there are others: alone it is worth less.
    pub fn member(&self, at: usize) -> Option<Self> {
        if self.others.is_empty() {
            return (at == 0).then(|| self.clone());
        }
        let mut member = match at.checked_sub(1) {
            None => self.first_alone(),
            Some(at) => self.others.get(at)?.clone(),
        };
        member.set_inference(self.inference);
        member.changed();
        Some(member)
    }

    /// The first network without the others; they are not copied on the way.
    fn first_alone(&self) -> Self {
        let learned = (self.trained, self.timesteps);
        let (params, memory) = (self.params.clone(), self.memory.clone());
        let fingerprint = self.fingerprint.clone();
        Self::from_parts(self.settings.clone(), params, memory, (None, None), learned, fingerprint)
    }

    /// A step of each network on the same batch: all of them, or none. The metrics are the means over the networks.
    pub(super) fn train_members(
        &mut self,
        batch: &Batch<'_>,
        pool: Option<&Pool>,
        learning_rate: f64,
    ) -> Result<StepMetrics> {
        let n = batch.checked(&self.settings)?;
        Crew::gather(pool, |crew| {
            let outlook = self.pass_samples(crew, batch, n);
            let mut outlooks = [outlook; MOST_MEMBERS];
            for (other, outlook) in self.others.iter_mut().zip(&mut outlooks[1..]) {
                *outlook = other.pass_samples(crew, batch, n);
            }
            if outlooks[..self.members()].iter().all(|one| self.is_surely_unclipped(*one)) {
                return Ok(self.mean_step(|member, at| {
                    member.pass_at_once(crew, learning_rate, outlooks[at])
                }));
            }
            // All gradients before the first step: where one leads nowhere, no member has moved.
            let slope = self.pass_weights(crew, outlook)?;
            let mut slopes = [slope; MOST_MEMBERS];
            for ((other, outlook), slope) in
                self.others.iter_mut().zip(&outlooks[1..]).zip(&mut slopes[1..])
            {
                *slope = other.pass_weights(crew, *outlook)?;
            }
            Ok(self.mean_step(|member, at| member.step(crew, learning_rate, slopes[at])))
        })
    }

    /// Steps with each network, told its number, and says the means of what they report.
    fn mean_step(&mut self, step: impl Fn(&mut Self, usize) -> StepMetrics) -> StepMetrics {
        let mut mean = step(self, 0);
        for (other, at) in self.others.iter_mut().zip(1..) {
            let one = step(other, at);
            mean.loss += one.loss;
            mean.gradient_norm += one.gradient_norm;
        }
        let members = self.members() as f64;
        mean.loss /= members;
        mean.gradient_norm /= members;
        mean
    }
}

/// The sums of the members' actions and of their squares, row by row; then what they come to.
#[derive(Debug, Default)]
pub(super) struct Votes {
    members: usize,
    width: usize,
    /// The sums, then the means, `[n, width]`.
    pub(super) actions: Vec<f32>,
    /// Of each row over the members, then how far these are from their mean: the root of the mean squared distance.
    pub(super) spreads: Vec<f64>,
}

impl Votes {
    /// Begins with the first member's actions, `[n, width]`.
    pub(super) fn restart(&mut self, first: &[f32], width: usize) {
        let Self { members, width: kept_width, actions, spreads } = self;
        (*members, *kept_width) = (1, width);
        actions.clear();
        actions.extend_from_slice(first);
        spreads.clear();
        spreads.extend(first.chunks_exact(width).map(sums::squares));
    }

    /// Another member's.
    pub(super) fn add(&mut self, actions: &[f32]) {
        self.members += 1;
        self.actions.iter_mut().zip(actions).for_each(|(sum, x)| *sum += x);
        let squares = actions.chunks_exact(self.width).map(sums::squares);
        self.spreads.iter_mut().zip(squares).for_each(|(sum, x)| *sum += x);
    }

    /// Turns sums into means and squares into spreads.
    pub(super) fn count(&mut self) {
        let Self { members, width, actions, spreads } = self;
        let n = *members as f64;
        if *members > 1 {
            let share = (1.0 / n) as f32;
            for action in actions.iter_mut() {
                *action *= share;
            }
        }
        for (mean, spread) in actions.chunks_exact(*width).zip(spreads) {
            // Of one member the two are the same number.
            *spread = (*spread / n - sums::squares(mean)).max(0.0).sqrt();
        }
    }
}
