//! Drawing by mass: stratified with replacement, or without.

use super::buffer::PrioritizedReplay;
use crate::error::{Error, Result};

/// What [`PrioritizedReplay::sample`] drew. The memory is used again by the next draw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draws {
    /// Which items, `[n]`.
    pub indices: Vec<i64>,
    /// Importance weights over the greatest of them, in [0, 1], `[n]`.
    pub weights: Vec<f32>,
    /// The priorities of the items, `[n]`.
    pub priorities: Vec<f64>,
    /// Where each draw fell, in the end the masses.
    targets: Vec<f64>,
    leaves: Vec<usize>,
}

impl PrioritizedReplay {
    /// Draws `n` items, item i with probability P(i) = m(i) / sum of all m, where m = (priority + eps)^alpha.
    ///
    /// With `replace`, one item from each of `n` equal shares of the sum: each is drawn n P(i) times on average, and
    /// less than two times more or fewer in any batch. Without, one after the other by what is left of the sum, which is the law of the
    /// `n` smallest keys -ln(u) / m. The weights are (N P)^-beta over the greatest of the batch; `beta` `None` is
    /// [`Self::beta`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where there is nothing to draw from, `n` is 0 or, without `replace`, beyond the number of items,
    /// or `beta` is outside [0, 1].
    pub fn sample(
        &mut self,
        n: usize,
        beta: Option<f64>,
        replace: bool,
        draws: &mut Draws,
    ) -> Result<()> {
        let beta = beta.unwrap_or_else(|| self.beta());
        if !(0.0..=1.0).contains(&beta) {
            return Err(Error::invalid("beta", "a number in [0, 1]", beta));
        }
        if n == 0 {
            return Err(Error::invalid("n", "at least 1", n));
        }
        if self.is_empty() {
            return Err(Error::invalid("n", "a replay that holds items to draw", "an empty one"));
        }
        if !replace && n > self.len() {
            let most = format!("at most the {} items there are, without replacement", self.len());
            return Err(Error::invalid("n", most, n));
        }
        draws.make_room(n).map_err(|_| Error::invalid("n", "as many as fit into memory", n))?;
        if replace {
            self.draw_stratified(draws);
        } else {
            self.draw_apart(draws);
        }
        self.drawn += n as u64;
        self.describe(beta, draws);
        Ok(())
    }

    fn draw_stratified(&self, draws: &mut Draws) {
        let Draws { targets, leaves, .. } = draws;
        let share = self.tree.total() / targets.len() as f64;
        for (stratum, target) in (0u64..).zip(&mut *targets) {
            *target = (stratum as f64 + self.rng.uniform(self.drawn + stratum)) * share;
        }
        self.tree.find(targets, leaves);
    }

    /// Takes the mass of what was drawn away, and gives it back at the end: sums are recomputed, so the tree is then what
    /// it was to the last bit.
    fn draw_apart(&mut self, draws: &mut Draws) {
        let Draws { targets, leaves, .. } = draws;
        for (place, (mass, leaf)) in (0u64..).zip(targets.iter_mut().zip(&mut *leaves)) {
            let mut target = self.rng.uniform(self.drawn + place) * self.tree.total();
            self.tree.find(std::slice::from_mut(&mut target), std::slice::from_mut(leaf));
            *mass = self.tree.mass(*leaf);
            self.tree.set(*leaf, 0.0);
        }
        self.tree.set_many(leaves.iter().copied().zip(targets.iter().copied()));
    }

    /// Fills what is told about the leaves that were drawn.
    fn describe(&self, beta: f64, draws: &mut Draws) {
        let Draws { indices, weights, priorities, targets: masses, leaves } = draws;
        for (mass, leaf) in masses.iter_mut().zip(&*leaves) {
            *mass = self.tree.mass(*leaf);
        }
        indices.extend(leaves.iter().map(|leaf| *leaf as i64));
        priorities.extend(leaves.iter().map(|leaf| self.priorities[*leaf]));
        // Over the greatest, N and the total cancel: (N P)^-beta / max = (least mass / mass)^beta.
        let least = masses.iter().copied().fold(f64::INFINITY, f64::min);
        weights.extend(masses.iter().map(|mass| (least / mass).powf(beta) as f32));
    }
}

impl Draws {
    /// Empty, with room for `n`.
    fn make_room(&mut self, n: usize) -> Result<(), std::collections::TryReserveError> {
        let Self { indices, weights, priorities, targets, leaves } = self;
        indices.clear();
        indices.try_reserve(n)?;
        weights.clear();
        weights.try_reserve(n)?;
        priorities.clear();
        priorities.try_reserve(n)?;
        targets.clear();
        targets.try_reserve(n)?;
        targets.resize(n, 0.0);
        leaves.clear();
        leaves.try_reserve(n)?;
        leaves.resize(n, 0);
        Ok(())
    }
}
