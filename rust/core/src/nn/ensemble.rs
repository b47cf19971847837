//! Several networks that answer as one: with the mean of their actions. How far they are apart tells how little they know.
//!
//! Lakshminarayanan et al. 2017: networks that differ only in what they were drawn with agree where the data decided, and
//! differ where it did not.

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
        let before = self.clone();
        let mut others = std::mem::take(&mut self.others);
        let steps: Result<Vec<_>> = std::iter::once(&mut *self)
            .chain(&mut others)
            .map(|member| member.train_at(batch, pool, learning_rate))
            .collect();
        self.others = others;
        match steps {
            Ok(steps) => {
                let n = steps.len() as f64;
                let mean = |of: &dyn Fn(&StepMetrics) -> f64| steps.iter().map(of).sum::<f64>() / n;
                Ok(StepMetrics {
                    loss: mean(&|step| step.loss),
                    gradient_norm: mean(&|step| step.gradient_norm),
                    ..steps[0]
                })
            }
            Err(why) => {
                *self = before;
                Err(why)
            }
        }
    }
}

/// The sums of the members' actions and of their squares, row by row.
pub(super) struct Votes {
    members: usize,
    width: usize,
    sums: Vec<f32>,
    /// Of each row, over the members.
    squares: Vec<f64>,
}

impl Votes {
    /// The first member's actions, `[n, width]`.
    pub(super) fn first(actions: Vec<f32>, width: usize) -> Self {
        let squares = actions.chunks_exact(width).map(sums::squares).collect();
        Self { members: 1, width, sums: actions, squares }
    }

    /// Another member's.
    pub(super) fn add(&mut self, actions: &[f32]) {
        self.members += 1;
        self.sums.iter_mut().zip(actions).for_each(|(sum, x)| *sum += x);
        let squares = actions.chunks_exact(self.width).map(sums::squares);
        self.squares.iter_mut().zip(squares).for_each(|(sum, x)| *sum += x);
    }

    /// The mean actions, and how far the members are from them: the root of the mean squared distance, a number a row.
    pub(super) fn count(self) -> (Vec<f32>, Vec<f64>) {
        let Self { members, width, mut sums, squares } = self;
        let n = members as f64;
        if members > 1 {
            let share = (1.0 / n) as f32;
            for sum in &mut sums {
                *sum *= share;
            }
        }
        let spread = |(mean, square): (&[f32], f64)| {
            // Of one member the two are the same number.
            (square / n - sums::squares(mean)).max(0.0).sqrt()
        };
        let spreads = sums.chunks_exact(width).zip(squares).map(spread).collect();
        (sums, spreads)
    }
}
