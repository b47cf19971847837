//! States and actions of the samples at hand: in memory where they fit, else read for each batch.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use xxhash_rust::xxh3::xxh3_64;

use super::data::Data;
use crate::error::Result;
use crate::ids::RowKey;
use crate::nn::context::{context_after, past};
use crate::nn::{Batch, ContextKind, Experience, LayerSettings, Questions};

/// What may be kept in memory between batches, in bytes.
pub(super) const BUDGET: usize = 256 << 20;
/// Rows read at a time while the memory is filled.
const CHUNK: usize = 1024;
const UNUSED: u32 = u32::MAX;

/// Where the vectors of a run come from.
pub(super) struct Vectors {
    /// The rows that the samples need, rising: a slot is a position here.
    keys: Vec<RowKey>,
    /// The slot of each step.
    slots: Vec<u32>,
    kept: RwLock<Kept>,
}

/// What is in memory.
#[derive(Default)]
struct Kept {
    /// All states, by slot.
    states: Option<Vec<f32>>,
    actions: Option<Distinct>,
}

/// Actions repeat, one for each pattern mostly: each is kept once.
struct Distinct {
    table: Vec<f32>,
    /// The entry of each slot.
    entries: Vec<u32>,
}

/// Columns of a batch; the memory is used again for the next one.
#[derive(Default)]
pub(super) struct Columns {
    states: Vec<f32>,
    actions: Vec<f32>,
    returns: Vec<f64>,
    contexts: Option<Vec<f32>>,
    timesteps: Option<Vec<i64>>,
    /// Empty where all samples count alike.
    weights: Vec<f32>,
    past: Vec<f32>,
    /// Steps before the one at hand.
    before: Vec<u32>,
}

impl Columns {
    pub(super) fn questions(&self) -> Questions<'_> {
        let Self {
            states,
            actions: _,
            returns,
            contexts,
            timesteps,
            weights: _,
            past: _,
            before: _,
        } = self;
        let (contexts, timesteps) = (contexts.as_deref(), timesteps.as_deref());
        Questions { states, returns, contexts, timesteps }
    }

    pub(super) fn batch(&self) -> Batch<'_> {
        let weights = (!self.weights.is_empty()).then_some(&self.weights[..]);
        Batch { questions: self.questions(), actions: &self.actions, weights }
    }

    /// Says how much each sample counts, beside the others.
    pub(super) fn weigh(&mut self, claims: impl Iterator<Item = f64> + Clone) {
        let most = claims.clone().fold(0.0, f64::max); // as large as float32 can hold them all
        self.weights.extend(claims.map(|claim| (claim / most) as f32));
    }

    pub(super) fn states(&self) -> &[f32] {
        &self.states
    }

    pub(super) fn actions(&self) -> &[f32] {
        &self.actions
    }
}

impl Vectors {
    /// Reads nothing yet: every batch comes from the store until [`Self::warm`].
    pub(super) fn new(data: &Data, layer: &LayerSettings) -> Self {
        let mut steps: Vec<u32> = if layer.context == ContextKind::None {
            data.train.iter().chain(&data.validate).copied().collect()
        } else {
            (0..data.episode_of.len() as u32).collect() // contexts see steps that are not selected
        };
        steps.sort_unstable_by_key(|&step| data.episodes.keys[step as usize]);
        let mut slots = vec![UNUSED; data.episode_of.len()];
        for (slot, &step) in steps.iter().enumerate() {
            slots[step as usize] = slot as u32;
        }
        let keys = steps.iter().map(|&step| data.episodes.keys[step as usize]).collect();
        Self { keys, slots, kept: RwLock::default() }
    }

    /// Reads into memory what fits into `budget` bytes. `poll` is asked now and then whether to go on.
    pub(super) fn warm(
        &self,
        budget: usize,
        experience: &dyn Experience,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let width = experience.state_size();
        let all_states = self.keys.len() * width * size_of::<f32>();
        let for_actions = budget.saturating_sub(all_states).max(budget / 4);
        let actions = Distinct::load(for_actions, experience, &self.keys, poll)?;
        let taken = actions.as_ref().map_or(0, |kept| kept.table.len() * size_of::<f32>());
        let mut warm = Kept { states: None, actions };
        if all_states + taken <= budget {
            let mut states = vec![0.0; self.keys.len() * width];
            for (keys, states) in self.keys.chunks(CHUNK).zip(states.chunks_mut(CHUNK * width)) {
                poll()?;
                experience.read_vectors(keys, Some(states), None)?;
            }
            warm.states = Some(states);
        }
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = warm;
        Ok(())
    }

    /// Fills the columns for `samples`. `dropped` says which of them, by position, go without their context.
    pub(super) fn fill(
        &self,
        experience: &dyn Experience,
        data: &Data,
        layer: &LayerSettings,
        (samples, timesteps): (&[u32], bool),
        dropped: &dyn Fn(usize) -> bool,
        columns: &mut Columns,
    ) -> Result<()> {
        let Columns {
            states,
            actions,
            returns,
            contexts,
            timesteps: positions,
            weights,
            past: seen,
            before,
        } = columns;
        weights.clear();
        let width = layer.state_size;
        states.resize(samples.len() * width, 0.0);
        actions.resize(samples.len() * layer.action_size, 0.0);
        self.read(experience, samples, Some(states), Some(actions))?;
        returns.clear();
        returns.extend(samples.iter().map(|&step| data.returns[step as usize]));
        if timesteps {
            let positions = positions.get_or_insert_default();
            positions.clear();
            positions.extend(samples.iter().map(|&step| data.position(step) as i64));
        } else {
            *positions = None;
        }
        if layer.context == ContextKind::None {
            *contexts = None;
            return Ok(());
        }
        let contexts = contexts.get_or_insert_default();
        contexts.resize(samples.len() * width, 0.0);
        for (at, (&step, context)) in
            samples.iter().zip(contexts.chunks_exact_mut(width)).enumerate()
        {
            if dropped(at) {
                context.fill(0.0);
                continue;
            }
            let past = past(layer, data.position(step));
            let back = |before: &mut Vec<u32>, steps: usize| {
                before.clear();
                before.extend(step - steps as u32..step);
            };
            let states = past.states * width;
            seen.resize(states + past.actions * layer.action_size, 0.0);
            let (past_states, past_actions) = seen.split_at_mut(states);
            back(before, past.states);
            self.read(experience, before, Some(past_states), None)?;
            back(before, past.actions);
            self.read(experience, before, None, Some(past_actions))?;
            context_after(layer, past_states, past_actions, context);
        }
        Ok(())
    }

    /// The vectors of `steps`, in their order, from memory or from the store.
    pub(super) fn read(
        &self,
        experience: &dyn Experience,
        steps: &[u32],
        mut states: Option<&mut [f32]>,
        mut actions: Option<&mut [f32]>,
    ) -> Result<()> {
        let slot = |step: &u32| self.slots[*step as usize] as usize;
        let warm = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let (Some(kept), Some(out)) = (&warm.states, states.as_deref_mut()) {
            let width = experience.state_size();
            for (step, row) in steps.iter().zip(out.chunks_exact_mut(width)) {
                row.copy_from_slice(&kept[slot(step) * width..][..width]);
            }
            states = None;
        }
        if let (Some(kept), Some(out)) = (&warm.actions, actions.as_deref_mut()) {
            let width = experience.action_size();
            for (step, row) in steps.iter().zip(out.chunks_exact_mut(width)) {
                let entry = kept.entries[slot(step)] as usize;
                row.copy_from_slice(&kept.table[entry * width..][..width]);
            }
            actions = None;
        }
        drop(warm);
        if steps.is_empty() || (states.is_none() && actions.is_none()) {
            return Ok(());
        }
        self.read_sorted(experience, steps, states, actions)
    }

    /// Reads rows in the order in which they lie in the file, and each only once.
    fn read_sorted(
        &self,
        experience: &dyn Experience,
        steps: &[u32],
        states: Option<&mut [f32]>,
        actions: Option<&mut [f32]>,
    ) -> Result<()> {
        let mut wanted: Vec<u32> = steps.iter().map(|&step| self.slots[step as usize]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let keys: Vec<_> = wanted.iter().map(|&slot| self.keys[slot as usize]).collect();
        let buffer = |wish: bool, width: usize| wish.then(|| vec![0.0; keys.len() * width]);
        let mut state_rows = buffer(states.is_some(), experience.state_size());
        let mut action_rows = buffer(actions.is_some(), experience.action_size());
        experience.read_vectors(&keys, state_rows.as_deref_mut(), action_rows.as_deref_mut())?;
        for (out, rows) in [(states, state_rows), (actions, action_rows)] {
            if let (Some(out), Some(rows)) = (out, rows) {
                let width = rows.len() / keys.len();
                for (step, row) in steps.iter().zip(out.chunks_exact_mut(width)) {
                    let at = wanted.binary_search(&self.slots[*step as usize]);
                    let at = at.expect("every step was asked for");
                    row.copy_from_slice(&rows[at * width..][..width]);
                }
            }
        }
        Ok(())
    }
}

impl Distinct {
    /// The distinct actions of `keys`, or `None` where they take more than `budget` bytes.
    fn load(
        budget: usize,
        experience: &dyn Experience,
        keys: &[RowKey],
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Self>> {
        let width = experience.action_size();
        let mut kept = Self { table: Vec::new(), entries: Vec::with_capacity(keys.len()) };
        let mut known: HashMap<u64, Vec<u32>> = HashMap::new();
        let mut rows = vec![0.0; CHUNK.min(keys.len()) * width];
        let mut bytes = Vec::with_capacity(width * size_of::<f32>());
        for keys in keys.chunks(CHUNK) {
            poll()?;
            let rows = &mut rows[..keys.len() * width];
            experience.read_vectors(keys, None, Some(rows))?;
            for row in rows.chunks_exact(width) {
                bytes.clear();
                bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
                let same_hash = known.entry(xxh3_64(&bytes)).or_default();
                let is_same = |entry: &&u32| {
                    let old = &kept.table[**entry as usize * width..][..width];
                    old.iter().zip(row).all(|(a, b)| a.to_bits() == b.to_bits())
                };
                let entry = same_hash.iter().find(is_same).copied().unwrap_or_else(|| {
                    let entry = (kept.table.len() / width) as u32;
                    same_hash.push(entry);
                    kept.table.extend_from_slice(row);
                    entry
                });
                kept.entries.push(entry);
            }
            if kept.table.len() * size_of::<f32>() > budget {
                return Ok(None);
            }
        }
        Ok(Some(kept))
    }
}
