//! What is known of every row, by columns. A row's place is its slot; slots follow the keys.

use std::collections::HashMap;

use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};

use super::Entry;
use super::chains::Chains;
use crate::bits::Bits;

/// A row's place in the columns. Dense, in order of rising keys; another one after a compaction, never shown to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// An agent type or none, in eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agent(i64);

impl Agent {
    /// SQLite numbers rows upwards from 1, so the least number is nobody's.
    const NONE: i64 = i64::MIN;

    /// The number that [`Self::of`] takes.
    pub(super) fn number(self) -> i64 {
        self.0
    }

    pub(super) fn of(number: i64) -> Self {
        Self(number)
    }
}

impl From<Option<LabelId>> for Agent {
    fn from(label: Option<LabelId>) -> Self {
        Self(label.map_or(Self::NONE, |label| label.0))
    }
}

/// Struct of arrays over the rows, dead ones included until a compaction.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) key: Vec<RowKey>,
    /// Position in `episodes`.
    pub(super) episode: Vec<u32>,
    pub(super) pattern: Vec<PatternId>,
    pub(super) task_type: Vec<LabelId>,
    pub(super) agent_type: Vec<Agent>,
    pub(super) reward: Vec<f64>,
    /// NaN: not computed.
    pub(super) ret: Vec<f64>,
    pub(super) timestamp: Vec<i64>,
    pub(super) succeeded: Bits,
    pub(super) state_hash: Vec<u64>,
    pub(super) live: Bits,
    pub(super) dead: usize,
    pub(super) by_hash: Chains,
    pub(super) episodes: Episodes,
}

impl Columns {
    /// Rows, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.key.len()
    }

    /// The slot of a living row.
    pub(super) fn slot(&self, key: RowKey) -> Option<Slot> {
        let at = self.key.binary_search(&key).ok()?;
        self.live.get(at).then_some(Slot(at as u32))
    }

    /// The living steps of the episode at `place`, if all of them are among the `most` newest rows.
    pub(super) fn newest_steps(&self, place: u32, most: usize) -> Option<Vec<Slot>> {
        let rows = self.episodes.rows(place);
        let newest = (self.len().saturating_sub(most)..self.len()).rev();
        let steps = newest.filter(|&at| self.episode[at] == place && self.live.get(at));
        let steps: Vec<Slot> = steps.map(|at| Slot(at as u32)).take(rows).collect();
        (steps.len() == rows).then_some(steps)
    }

    pub(super) fn agent(&self, slot: Slot) -> Option<LabelId> {
        let Agent(label) = self.agent_type[slot.at()];
        (label != Agent::NONE).then_some(LabelId(label))
    }

    /// Adds a row; its slot is the last one.
    pub(super) fn push(&mut self, entry: &Entry) -> Slot {
        assert!(
            self.key.last().is_none_or(|last| *last < entry.key),
            "rows are appended in order of their keys"
        );
        let slot = Slot(u32::try_from(self.len()).expect("an index holds fewer than 2^32 rows"));
        let episode = self.episodes.enter(entry.episode);
        self.push_entered(entry, episode);
        slot
    }

    fn push_entered(&mut self, entry: &Entry, place: u32) {
        let Self {
            key,
            episode,
            pattern,
            task_type,
            agent_type,
            reward,
            ret,
            timestamp,
            succeeded,
            state_hash,
            live,
            dead: _,
            by_hash,
            episodes: _,
        } = self;
        key.push(entry.key);
        episode.push(place);
        pattern.push(entry.pattern);
        task_type.push(entry.task_type);
        agent_type.push(entry.agent_type.into());
        reward.push(entry.reward);
        ret.push(entry.ret.unwrap_or(f64::NAN));
        timestamp.push(entry.timestamp);
        succeeded.push(entry.succeeded);
        state_hash.push(entry.state_hash);
        live.push(true);
        by_hash.push(entry.state_hash, state_hash);
    }

    /// Marks a living row as dead.
    pub(super) fn bury(&mut self, slot: Slot) {
        self.live.unset(slot.at());
        self.dead += 1;
        self.episodes.leave(self.episode[slot.at()]);
    }

    /// The row at `slot` as it was appended.
    pub(super) fn entry(&self, slot: Slot) -> Entry {
        let at = slot.at();
        Entry {
            key: self.key[at],
            episode: self.episodes.id(self.episode[at]),
            pattern: self.pattern[at],
            task_type: self.task_type[at],
            agent_type: self.agent(slot),
            reward: self.reward[at],
            ret: (!self.ret[at].is_nan()).then_some(self.ret[at]),
            timestamp: self.timestamp[at],
            succeeded: self.succeeded.get(at),
            state_hash: self.state_hash[at],
        }
    }

    /// Keeps the rows of `kept`, dead ones among them too, and forgets the others, all dead, with the episodes that ended
    /// with them. Every slot changes.
    pub(super) fn keep(&mut self, kept: &Bits) {
        let mut needed = vec![false; self.episodes.len()];
        kept.iter().for_each(|at| needed[self.episode[at] as usize] = true);
        let (episodes, places) = self.episodes.compacted(&needed);
        let mut columns = Self { episodes, ..Self::default() };
        columns.reserve(kept.count());
        for at in kept.iter() {
            let entry = self.entry(Slot(at as u32));
            columns.push_entered(&entry, places[self.episode[at] as usize]);
            if !self.live.get(at) {
                columns.live.unset(columns.len() - 1);
                columns.dead += 1;
            }
        }
        *self = columns;
    }

    fn reserve(&mut self, rows: usize) {
        self.key.reserve_exact(rows);
        self.episode.reserve_exact(rows);
        self.pattern.reserve_exact(rows);
        self.task_type.reserve_exact(rows);
        self.agent_type.reserve_exact(rows);
        self.reward.reserve_exact(rows);
        self.ret.reserve_exact(rows);
        self.timestamp.reserve_exact(rows);
        self.state_hash.reserve_exact(rows);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let wide = self.key.capacity()
            + self.pattern.capacity()
            + self.task_type.capacity()
            + self.agent_type.capacity()
            + self.reward.capacity()
            + self.ret.capacity()
            + self.timestamp.capacity()
            + self.state_hash.capacity();
        8 * wide
            + 4 * self.episode.capacity()
            + self.succeeded.bytes()
            + self.live.bytes()
            + self.by_hash.bytes()
            + self.episodes.bytes()
    }
}

/// The episodes of the rows. An episode's place in here is what the rows refer to.
#[derive(Debug, Default)]
pub(super) struct Episodes {
    places: HashMap<EpisodeId, u32>,
    table: Vec<Episode>,
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    id: EpisodeId,
    /// NaN: not told yet; compares with nothing.
    total: f64,
    /// Living rows.
    rows: u32,
    /// Whether a row ever referred to it.
    entered: bool,
}

impl Episodes {
    /// From ids and totals by place, and what places the rows refer to; `None` if an id is there twice.
    pub(super) fn of(table: &[(EpisodeId, f64)], rows: &[u32], live: &Bits) -> Option<Self> {
        let mut episodes = Self::default();
        episodes.places.reserve(table.len());
        for (place, &(id, total)) in (0..).zip(table) {
            if episodes.places.insert(id, place).is_some() {
                return None;
            }
            episodes.table.push(Episode { id, total, rows: 0, entered: false });
        }
        for (at, place) in rows.iter().enumerate() {
            let episode = episodes.table.get_mut(*place as usize)?;
            episode.entered = true;
            episode.rows += u32::from(live.get(at));
        }
        Some(episodes)
    }

    /// Ids and totals by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EpisodeId, f64)> {
        self.table.iter().map(|episode| (episode.id, episode.total))
    }

    pub(super) fn id(&self, place: u32) -> EpisodeId {
        self.table[place as usize].id
    }

    /// The total reward; NaN while nobody told it.
    pub(super) fn total(&self, place: u32) -> f64 {
        self.table[place as usize].total
    }

    /// Its living rows.
    fn rows(&self, place: u32) -> usize {
        self.table[place as usize].rows as usize
    }

    /// Sets the total reward and returns the place and the total before (NaN if there was none).
    pub(super) fn set_total(&mut self, id: EpisodeId, total: f64) -> (u32, f64) {
        let place = self.place(id);
        let old = std::mem::replace(&mut self.table[place as usize].total, total);
        (place, old)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The places whose id and total pass.
    pub(super) fn choose(&self, passes: impl Fn(EpisodeId, f64) -> bool) -> Bits {
        self.table.iter().map(|episode| passes(episode.id, episode.total)).collect()
    }

    fn place(&mut self, id: EpisodeId) -> u32 {
        *self.places.entry(id).or_insert_with(|| {
            self.table.push(Episode { id, total: f64::NAN, rows: 0, entered: false });
            self.table.len() as u32 - 1
        })
    }

    fn enter(&mut self, id: EpisodeId) -> u32 {
        let place = self.place(id);
        let episode = &mut self.table[place as usize];
        episode.rows += 1;
        episode.entered = true;
        place
    }

    fn leave(&mut self, place: u32) {
        self.table[place as usize].rows -= 1;
    }

    /// A copy without the episodes that ended and are not needed, and for every old place the new one. An episode whose
    /// total came before its rows stays.
    fn compacted(&self, needed: &[bool]) -> (Self, Vec<u32>) {
        let mut kept = Self::default();
        let places = self.table.iter().zip(needed).map(|(episode, needed)| {
            if *needed || !episode.entered {
                kept.places.insert(episode.id, kept.table.len() as u32);
                kept.table.push(*episode);
            }
            kept.table.len().saturating_sub(1) as u32
        });
        let places = places.collect();
        (kept, places)
    }

    fn bytes(&self) -> usize {
        self.table.capacity() * size_of::<Episode>()
            + self.places.capacity() * (size_of::<(EpisodeId, u32)>() + 1)
    }
}
