//! The public type of this module: settings, adding, updating.

use serde::{Deserialize, Serialize};

use super::sum_tree::SumTree;
use crate::error::{Error, Result};
use crate::rng::Rng;

/// The stream of the draws' random numbers.
const STREAM: u64 = 0x7265_706C_6179_0000;
/// Beta before it is annealed.
const BETA: f64 = 0.4;
/// The priority of the first item, if none is given.
const FIRST: f64 = 1.0;
/// No priority is greater, so that no sum of them overflows.
pub(super) const LARGEST: f64 = 1e290;

/// The settings of a [`PrioritizedReplay`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// Items at most; one more overwrites the oldest.
    pub capacity: usize,
    /// How much priorities matter, in [0, 1]: 0 = all items alike, 1 = in proportion.
    pub alpha: f64,
    /// Added to every priority, so that nothing starves. Above 0.
    pub eps: f64,
    /// Over how many drawn items beta goes from 0.4 to 1. `None` = it stays.
    pub beta_steps: Option<u64>,
    /// Keys the draws.
    pub seed: u64,
}

impl ReplaySettings {
    /// The defaults at this capacity.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, alpha: 0.6, eps: 0.01, beta_steps: None, seed: 0 }
    }

    /// These settings, if every one of them is in its range.
    pub fn checked(self) -> Result<Self> {
        if self.capacity == 0 {
            return Err(Error::invalid("capacity", "at least 1", self.capacity));
        }
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(Error::invalid("alpha", "a number in [0, 1]", self.alpha));
        }
        if !(self.eps > 0.0 && self.eps <= LARGEST) {
            return Err(Error::invalid("eps", "a number above 0, at most 1e290", self.eps));
        }
        if self.beta_steps == Some(0) {
            return Err(Error::invalid("beta_steps", "at least 1, or None", 0));
        }
        Ok(self)
    }
}

/// Priorities of items that the caller keeps, in places 0 to capacity - 1, and draws by them.
#[derive(Clone, Debug)]
pub struct PrioritizedReplay {
    pub(super) settings: ReplaySettings,
    pub(super) rng: Rng,
    /// (priority + eps)^alpha, one an item.
    pub(super) tree: SumTree,
    /// The magnitude of each item's last error.
    pub(super) priorities: Vec<f64>,
    /// Where the next item goes.
    pub(super) next: usize,
    /// The greatest priority that was ever given; 0 before the first.
    pub(super) greatest: f64,
    /// Items drawn so far: the position in the random numbers.
    pub(super) drawn: u64,
}

impl PrioritizedReplay {
    /// An empty one. Memory grows with the items, not with the capacity.
    pub fn new(settings: ReplaySettings) -> Result<Self> {
        let settings = settings.checked()?;
        Ok(Self {
            rng: Rng::new(settings.seed, STREAM),
            settings,
            tree: SumTree::default(),
            priorities: Vec::new(),
            next: 0,
            greatest: 0.0,
            drawn: 0,
        })
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &ReplaySettings {
        &self.settings
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.priorities.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.priorities.is_empty()
    }

    /// The beta of the next draw: 0.4, or on its way from there to 1.
    pub fn beta(&self) -> f64 {
        let done = |steps| (self.drawn as f64 / steps as f64).min(1.0);
        BETA + (1.0 - BETA) * self.settings.beta_steps.map_or(0.0, done)
    }

    /// How many times as often as on average an item is drawn: N P(i).
    pub fn odds(&self, item: usize) -> f64 {
        self.tree.mass(item) / self.tree.total() * self.len() as f64
    }

    /// Adds `n` items and says their places. A full one overwrites its oldest; where `n` is beyond the capacity, places
    /// repeat and the last item of a place counts.
    ///
    /// `priorities` are `n` magnitudes of errors. `None` = the greatest there has been so far, 1 while there was none above
    /// 0, so that new items are seen soon.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where `n` is 0, lengths differ, or a priority is negative or not finite; nothing was added.
    pub fn add(&mut self, n: usize, priorities: Option<&[f64]>) -> Result<Vec<i64>> {
        if n == 0 {
            return Err(Error::invalid("n", "at least 1", n));
        }
        if let Some(given) = priorities {
            same_length("priorities", given, "n", n)?;
            if let Some(bad) = given.iter().position(|p| !(0.0..=LARGEST).contains(p)) {
                let expected = "a number from 0 to 1e290";
                return Err(Error::invalid(format!("priorities[{bad}]"), expected, given[bad]));
            }
        }
        let capacity = self.settings.capacity;
        let too_many = |_| Error::invalid("n", "as many as fit into memory", n);
        let mut places = Vec::new();
        places.try_reserve_exact(n).map_err(too_many)?;
        let len = self.len().saturating_add(n).min(capacity);
        self.priorities.try_reserve(len - self.len()).map_err(too_many)?;
        self.tree.grow(len).map_err(too_many)?;
        self.priorities.resize(len, 0.0);
        for _ in 0..n {
            places.push(self.next as i64);
            self.next = if self.next + 1 == capacity { 0 } else { self.next + 1 };
        }
        if let Some(given) = priorities {
            self.set(&places, given);
        } else {
            let usual = if self.greatest > 0.0 { self.greatest } else { FIRST };
            // Of places that repeat, the last round covers all.
            let news = &places[n - n.min(capacity)..];
            let mass = self.mass_of(usual);
            for place in news {
                self.priorities[*place as usize] = usual;
            }
            self.tree.set_many(news.iter().map(|place| (*place as usize, mass)));
            self.greatest = usual;
        }
        Ok(places)
    }

    /// Sets the priorities of items to the magnitudes of their new errors; the last of a repeated item counts.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] where lengths differ, an item is not there or an error is not finite; nothing was changed.
    pub fn update(&mut self, indices: &[i64], errors: &[f64]) -> Result<()> {
        same_length("td_errors", errors, "indices", indices.len())?;
        let there = 0..self.len() as i64;
        if let Some(bad) = indices.iter().position(|index| !there.contains(index)) {
            return Err(self.no_such_item(bad, indices[bad]));
        }
        if let Some(bad) = errors.iter().position(|e| !(0.0..=LARGEST).contains(&e.abs())) {
            let expected = "a finite number of at most 1e290";
            return Err(Error::invalid(format!("td_errors[{bad}]"), expected, errors[bad]));
        }
        self.set(indices, errors);
        Ok(())
    }

    fn no_such_item(&self, at: usize, index: i64) -> Error {
        let expected = match self.len() {
            0 => "no index into an empty replay".into(),
            len => format!("0 to {}", len - 1),
        };
        Error::invalid(format!("indices[{at}]"), expected, index)
    }

    /// What was checked becomes true.
    fn set(&mut self, places: &[i64], errors: &[f64]) {
        let (alpha, eps) = (self.settings.alpha, self.settings.eps);
        let Self { tree, priorities, greatest, .. } = self;
        tree.set_many(places.iter().zip(errors).map(|(place, error)| {
            let (place, priority) = (*place as usize, error.abs());
            priorities[place] = priority;
            *greatest = greatest.max(priority);
            (place, mass(priority, alpha, eps))
        }));
    }

    pub(super) fn mass_of(&self, priority: f64) -> f64 {
        mass(priority, self.settings.alpha, self.settings.eps)
    }
}

fn mass(priority: f64, alpha: f64, eps: f64) -> f64 {
    (priority + eps).powf(alpha)
}

fn same_length(field: &str, given: &[f64], other: &str, expected: usize) -> Result<()> {
    if given.len() == expected {
        return Ok(());
    }
    Err(Error::invalid(field, format!("as many as {other}, {expected}"), given.len()))
}
