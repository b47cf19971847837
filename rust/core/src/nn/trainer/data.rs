//! What a run learns from: which steps, with which returns, and who validates.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::report::DataStats;
use super::settings::{Curriculum, TrainerSettings};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::nn::{Episodes, Experience, ReturnScale};
use crate::returns;

/// The episodes of a run and the selected steps among them. Steps are positions in the columns of `episodes`.
pub(super) struct Data {
    /// Without rewards, stored returns and what was selected: that went into the fields below.
    pub(super) episodes: Episodes,
    /// The episode of each step.
    pub(super) episode_of: Vec<u32>,
    /// The return of each step on the layer's scale, a number where the step is selected.
    pub(super) returns: Vec<f64>,
    /// The quantile of each episode's total reward among the episodes, in (0, 1).
    pub(super) quality: Vec<f64>,
    /// The selected steps of the episodes that train, in order.
    pub(super) train: Vec<u32>,
    /// The selected steps of the episodes that validate, in order.
    pub(super) validate: Vec<u32>,
    /// The mean return to go of the selected steps, whatever the scale.
    pub(super) average_return: f64,
}

impl Data {
    /// Reads the columns, not the vectors.
    pub(super) fn load(
        experience: &dyn Experience,
        filter: &Filter,
        settings: &TrainerSettings,
        scale: ReturnScale,
    ) -> Result<Self> {
        let mut episodes = experience.episodes(filter)?;
        let mut episode_of = vec![0; episodes.keys.len()];
        for (episode, bounds) in episodes.bounds.windows(2).enumerate() {
            episode_of[bounds[0]..bounds[1]].fill(episode as u32);
        }
        let selected: Vec<u32> =
            (0..episode_of.len() as u32).filter(|&step| episodes.selected[step as usize]).collect();
        let to_go = returns_to_go(&mut episodes, settings.gamma);
        // A run goes on for long: what only was to be read once does not stay for it.
        (episodes.rewards, episodes.selected) = (Vec::new(), Vec::new());
        if let Some(&bad) = selected.iter().find(|&&step| !to_go[step as usize].is_finite()) {
            let name = &episodes.names[episode_of[bad as usize] as usize];
            return Err(Error::Training(format!(
                "the return of a step of the episode {name:?} is not a finite number"
            )));
        }
        let sum: f64 = selected.iter().map(|&step| to_go[step as usize]).sum();
        let average_return = sum / selected.len().max(1) as f64;
        let quality = quality(&episodes);
        let returns = on_scale(&quality, &episode_of, &selected, to_go, scale);
        let held_out = validating(&episodes.names, settings.validation_split, settings.seed);
        let (validate, train) =
            selected.into_iter().partition(|&step| held_out[episode_of[step as usize] as usize]);
        Ok(Self { episodes, episode_of, returns, quality, train, validate, average_return })
    }

    /// How much there is of it.
    pub(super) fn stats(&self) -> DataStats {
        DataStats {
            total_trajectories: self.selected(),
            train_size: self.train.len(),
            val_size: self.validate.len(),
            avg_return: self.average_return,
        }
    }

    /// The selected steps, of whichever side.
    pub(super) fn selected(&self) -> usize {
        self.train.len() + self.validate.len()
    }

    /// The position of a step in its episode.
    pub(super) fn position(&self, step: u32) -> usize {
        step as usize - self.episodes.bounds[self.episode_of[step as usize] as usize]
    }

    /// The returns that the layer maps to 0 and 1: the 1 % and 99 % quantiles of the training returns, half a unit
    /// to each side where they coincide (more where half a unit is lost beside them), half of each where they are
    /// farther apart than any number is from 0.
    pub(super) fn return_range(&self) -> (f64, f64) {
        let mut sorted: Vec<f64> = self.train.iter().map(|&s| self.returns[s as usize]).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (quantile(&sorted, 0.01), quantile(&sorted, 0.99));
        let half = (1e-9 * low.abs()).max(0.5);
        match high - low {
            apart if apart.is_infinite() => (low / 2.0, high / 2.0),
            apart if apart > 0.0 => (low, high),
            _ => (low - half, low + half),
        }
    }

    /// The training steps of the episodes that a curriculum calls easy.
    pub(super) fn easy(&self, curriculum: &Curriculum) -> Vec<u32> {
        let easy: Vec<bool> = self
            .episodes
            .bounds
            .windows(2)
            .map(|bounds| {
                let durations = &self.episodes.durations[bounds[0]..bounds[1]];
                let total = durations.iter().fold(0i64, |sum, ms| sum.saturating_add(*ms));
                total < curriculum.max_duration_ms
            })
            .collect();
        let of = |step: &u32| easy[self.episode_of[*step as usize] as usize];
        self.train.iter().copied().filter(of).collect()
    }

    /// Tells two sets of data apart: which rows, with which returns, in which roles.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        for name in &self.episodes.names {
            hash.update(&(name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
        }
        for bound in &self.episodes.bounds {
            hash.update(&(*bound as u64).to_le_bytes());
        }
        for total in &self.episodes.total_rewards {
            hash.update(&total.to_bits().to_le_bytes());
        }
        for (side, steps) in [(0u8, &self.train), (1, &self.validate)] {
            hash.update(&[side]);
            for &step in steps {
                let step = step as usize;
                hash.update(&self.episodes.keys[step].0.to_le_bytes());
                hash.update(&self.returns[step].to_bits().to_le_bytes());
                hash.update(&self.episodes.durations[step].to_le_bytes());
                let pattern = &self.episodes.pattern_names[self.episodes.patterns[step] as usize];
                hash.update(pattern.as_bytes());
            }
        }
        hash.digest()
    }
}

/// The stored return of each step, else the one its episode's rewards give. The stored ones are taken over.
fn returns_to_go(episodes: &mut Episodes, gamma: f64) -> Vec<f64> {
    let mut to_go = std::mem::take(&mut episodes.returns);
    for (episode, bounds) in episodes.bounds.windows(2).enumerate() {
        let stored = &mut to_go[bounds[0]..bounds[1]];
        if stored.iter().any(|value| value.is_nan()) {
            let rewards = &episodes.rewards[bounds[0]..bounds[1]];
            let tail = returns::tail(rewards, gamma, episodes.cut_off[episode]);
            for (value, computed) in
                stored.iter_mut().zip(returns::discounted(rewards, gamma, tail))
            {
                if value.is_nan() {
                    *value = computed;
                }
            }
        }
    }
    to_go
}

/// Where each episode's total reward ranks.
fn quality(episodes: &Episodes) -> Vec<f64> {
    let mut sorted = episodes.total_rewards.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    episodes.total_rewards.iter().map(|&total| rank(&sorted, total)).collect()
}

fn on_scale(
    quality: &[f64],
    episode_of: &[u32],
    selected: &[u32],
    mut to_go: Vec<f64>,
    scale: ReturnScale,
) -> Vec<f64> {
    match scale {
        ReturnScale::Raw => {}
        ReturnScale::Quantile => {
            let mut sorted: Vec<f64> = selected.iter().map(|&s| to_go[s as usize]).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            for &step in selected {
                to_go[step as usize] = rank(&sorted, to_go[step as usize]);
            }
        }
        ReturnScale::Episode => {
            for &step in selected {
                to_go[step as usize] = quality[episode_of[step as usize] as usize];
            }
        }
    }
    to_go
}

/// The mid-rank quantile of `value` among `sorted`: the share below it and half of its equals. In [0, 1].
fn rank(sorted: &[f64], value: f64) -> f64 {
    let below = sorted.partition_point(|x| *x < value);
    let up_to = sorted.partition_point(|x| *x <= value);
    (below + up_to) as f64 / (2 * sorted.len()) as f64
}

/// The quantile `q` of what is sorted, between neighbours by linear interpolation. `sorted` is not empty.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// Which episodes validate: the first max(1, round(split n)) in the order of a hash of name and seed, so that an
/// episode's place does not depend on the others. None where `split` is 0 or there is a single episode; at least one
/// is left to train on.
pub fn validating(names: &[String], split: f64, seed: u64) -> Vec<bool> {
    let n = names.len();
    let mut held_out = vec![false; n];
    if split <= 0.0 || n < 2 {
        return held_out;
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_unstable_by_key(|&e| (xxh3_64_with_seed(names[e].as_bytes(), seed), &names[e]));
    let count = ((split * n as f64).round() as usize).clamp(1, n - 1);
    for &episode in &order[..count] {
        held_out[episode] = true;
    }
    held_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("episode {i}")).collect()
    }

    #[test]
    fn the_share_that_validates_is_rounded_and_leaves_one_to_train_on() {
        let count = |n, split| validating(&names(n), split, 7).iter().filter(|x| **x).count();
        assert_eq!([count(10, 0.2), count(12, 0.2), count(13, 0.2)], [2, 2, 3]);
        assert_eq!([count(2, 0.01), count(2, 0.99)], [1, 1]);
        assert_eq!([count(1, 0.5), count(10, 0.0), count(0, 0.5)], [0, 0, 0]);
    }

    #[test]
    fn other_episodes_only_move_the_boundary_of_the_split() {
        let before = validating(&names(100), 0.2, 3);
        let after = validating(&names(130), 0.2, 3);
        let left = (0..100).filter(|&e| before[e] && !after[e]).count();
        let joined = (0..100).filter(|&e| !before[e] && after[e]).count();
        assert!(left == 0 || joined == 0, "{left} left and {joined} joined: the order changed");
        assert!(left + joined <= 8);
        assert_ne!(before, validating(&names(100), 0.2, 4), "the seed chooses others");
        let mut reversed = names(100);
        reversed.reverse();
        let mut same = validating(&reversed, 0.2, 3);
        same.reverse();
        assert_eq!(before, same, "the order in which episodes come does not matter");
    }

    #[test]
    fn a_rank_counts_half_of_its_equals() {
        let sorted = [1.0, 2.0, 2.0, 3.0];
        assert_eq!([1.0, 2.0, 3.0].map(|x| rank(&sorted, x)), [0.125, 0.5, 0.875]);
        assert_eq!(rank(&[5.0], 5.0), 0.5);
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((quantile(&sorted, 0.01) - 1.0).abs() < 1e-12);
        assert!((quantile(&[0.0, 1.0], 0.99) - 0.99).abs() < 1e-12);
        assert_eq!(quantile(&[4.0], 0.99), 4.0);
    }
}
