//! The index as sections of a sidecar, and back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bits::Bits;
use crate::error::Error;
use crate::hnsw::{Graph, Params, Snapshot};
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};

use super::chains::Chains;
use super::columns::{Agent, Columns, Episodes, Slot};
use super::originals::Copied;
use super::sidecar::{Copy, Header, Kind, SectionWriter, Sidecar, Unfit, Writer};
use super::{Index, Saved};

/// What is left to write once the columns are written: nothing of it needs the index to stand still.
pub(crate) struct Outline<'g> {
    graph: Snapshot<'g>,
    /// The rows, dead ones included.
    pub(crate) keys: Vec<RowKey>,
    pub(crate) live: Bits,
    copied: Option<Copied>,
}

impl Index {
    /// How many rows the graph links or lost since it was last saved.
    pub(crate) fn changed(&self) -> usize {
        self.graph.linked().abs_diff(self.saved.linked) + self.saved.removed
    }

    /// Writes the columns. `graph` is this index's.
    pub(crate) fn write_columns<'g>(
        &self,
        graph: &'g Graph,
        writer: &mut Writer,
    ) -> io::Result<Outline<'g>> {
        let Columns {
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
            by_hash: _, // follows from the hashes
            episodes,
        } = &self.columns;
        writer.section(Kind::Key, |to| to.numbers(key.iter().map(|key| key.0.to_le_bytes())))?;
        writer
            .section(Kind::Episode, |to| to.numbers(episode.iter().map(|at| at.to_le_bytes())))?;
        writer
            .section(Kind::Pattern, |to| to.numbers(pattern.iter().map(|id| id.0.to_le_bytes())))?;
        writer.section(Kind::TaskType, |to| {
            to.numbers(task_type.iter().map(|id| id.0.to_le_bytes()))
        })?;
        writer.section(Kind::AgentType, |to| {
            to.numbers(agent_type.iter().map(|agent| agent.number().to_le_bytes()))
        })?;
        writer.section(Kind::Reward, |to| to.numbers(reward.iter().map(|x| x.to_le_bytes())))?;
        writer.section(Kind::Return, |to| to.numbers(ret.iter().map(|x| x.to_le_bytes())))?;
        writer
            .section(Kind::Timestamp, |to| to.numbers(timestamp.iter().map(|x| x.to_le_bytes())))?;
        writer.section(Kind::Succeeded, |to| words(to, succeeded))?;
        writer.section(Kind::StateHash, |to| {
            to.numbers(state_hash.iter().map(|x| x.to_le_bytes()))
        })?;
        writer.section(Kind::Live, |to| words(to, live))?;
        writer.section(Kind::Episodes, |to| {
            to.numbers(episodes.iter().map(|(id, total)| {
                let mut both = [0; 16];
                both[..8].copy_from_slice(&id.0.to_le_bytes());
                both[8..].copy_from_slice(&total.to_le_bytes());
                both
            }))
        })?;
        Ok(Outline {
            graph: graph.snapshot(), // nothing is pushed while the index is borrowed
            keys: key.clone(),
            live: live.clone(),
            copied: self.copied.clone(),
        })
    }

    /// From now on reads states from what was saved, if that is still the index that was.
    pub(crate) fn saved_as(&mut self, graph: &Arc<Graph>, copy: Copy) {
        if !Arc::ptr_eq(&self.graph, graph) {
            return;
        }
        self.saved = Saved { linked: copy.header().linked as usize, removed: 0 };
        self.copied = Some(Copied::new(Arc::new(copy)));
    }

    /// Counts from here on what changed, although somebody else saved it.
    pub(crate) fn saved_elsewhere(&mut self) {
        self.saved = Saved { linked: self.graph.linked(), removed: 0 };
    }

    /// The copy of the states that is in use.
    pub(crate) fn copy(&self) -> Option<&Arc<Copy>> {
        self.copied.as_ref().map(Copied::copy)
    }

    /// The stored bytes of a row's state, where the copy has them.
    pub(crate) fn copied_state(&self, key: RowKey) -> Option<&[u8]> {
        let slot = self.columns.slot(key)?;
        self.copied.as_ref()?.stored(slot)
    }

    /// The index that was saved in `sidecar`, whose header was found fit. Reads, checks and copies on every core; `None`
    /// if `stop` went up meanwhile.
    pub(crate) fn restore(
        sidecar: Sidecar,
        dimension: usize,
        params: Params,
        stop: &AtomicBool,
    ) -> Result<Option<Self>, Unfit> {
        let Header { rows, linked, .. } = sidecar.header;
        if rows > u64::from(u32::MAX >> 1) || linked > rows {
            return Err(Unfit::Torn("the number of rows"));
        }
        let n = rows as usize;
        let (graph, columns) = std::thread::scope(|scope| {
            let columns = scope.spawn(|| read_columns(&sidecar, n));
            let graph = read_graph(&sidecar, n, dimension, params, stop);
            (graph, columns.join().expect("reading does not panic"))
        });
        let (Some(graph), columns) = (graph?, columns?) else { return Ok(None) };
        if graph.len() != n || graph.linked() as u64 != linked {
            return Err(Unfit::Torn("the number of rows"));
        }
        Ok(Some(Self {
            columns,
            graph: Arc::new(graph),
            copied: Some(Copied::new(Arc::new(Copy::of(sidecar)?))),
            saved: Saved { linked: linked as usize, removed: 0 },
            ..Self::new(dimension, params)
        }))
    }
}

/// Reads and checks the graph; `None` if `stop` went up.
fn read_graph(
    sidecar: &Sidecar,
    n: usize,
    dimension: usize,
    params: Params,
    stop: &AtomicBool,
) -> Result<Option<Graph>, Unfit> {
    let [head, blocks, upper] =
        [Kind::Graph, Kind::Blocks, Kind::Upper].map(|kind| sidecar.any_length(kind));
    let (head, blocks, upper) = (head?, blocks?, upper?);
    if n > 0 && !blocks.len().is_multiple_of(n) {
        return Err(Unfit::Torn("the length of a section"));
    }
    let (head, upper) = (head.checked()?, upper.checked()?);
    let read = Graph::read_checked(dimension, params, head, blocks.bytes(), upper, |bytes| {
        if stop.load(Ordering::Relaxed) {
            return Err(NotRead::Stopped);
        }
        Ok(blocks.check_from(bytes)?)
    });
    match read {
        Ok(graph) => Ok(Some(graph)),
        Err(NotRead::Stopped) => Ok(None),
        Err(NotRead::Unfit(why)) => Err(why),
    }
}

/// Why a graph was not read.
enum NotRead {
    Unfit(Unfit),
    Stopped,
}

impl From<Unfit> for NotRead {
    fn from(why: Unfit) -> Self {
        Self::Unfit(why)
    }
}

impl From<Error> for NotRead {
    fn from(_: Error) -> Self {
        Self::Unfit(Unfit::Torn("the graph"))
    }
}

impl Outline<'_> {
    /// Writes the graph; the rows it links.
    pub(crate) fn write_graph(&self, writer: &mut Writer) -> io::Result<usize> {
        writer.section(Kind::Graph, |to| to.put(&self.graph.head()))?;
        writer.section(Kind::Blocks, |to| self.graph.write_rows(to))?;
        writer.section(Kind::Upper, |to| self.graph.write_upper(to))?;
        Ok(self.graph.linked())
    }

    /// The stored bytes of a row's state, where the last copy has them.
    pub(crate) fn state(&self, at: usize) -> Option<&[u8]> {
        self.copied.as_ref()?.stored(Slot(at as u32))
    }
}

fn words(to: &mut SectionWriter<'_>, bits: &Bits) -> io::Result<()> {
    to.numbers(bits.words().iter().map(|word| word.to_le_bytes()))
}

/// Reads and checks the columns of `n` rows.
fn read_columns(sidecar: &Sidecar, n: usize) -> Result<Columns, Unfit> {
    let wide = |kind| sidecar.section(kind, 8 * n as u64);
    let integer = i64::from_le_bytes;
    let key = wide(Kind::Key)?.numbers(|x| RowKey(integer(x)))?;
    let first = key.first().is_none_or(|first| first.0 >= 0);
    let last = key.last().is_none_or(|last| last.0 < sidecar.header.next_row);
    if !first || !last || !key.is_sorted_by(|a, b| a < b) {
        return Err(Unfit::Torn("the keys do not rise"));
    }
    let table = sidecar.any_length(Kind::Episodes)?.numbers(|both: [u8; 16]| {
        let (id, total) = both.split_at(8);
        let eight = |bytes: &[u8]| bytes.try_into().unwrap_or_default();
        (EpisodeId(integer(eight(id))), f64::from_le_bytes(eight(total)))
    })?;
    let episode = sidecar.section(Kind::Episode, 4 * n as u64)?.numbers(u32::from_le_bytes)?;
    if episode.iter().any(|&at| at as usize >= table.len()) {
        return Err(Unfit::Torn("a row of no episode"));
    }
    let (succeeded, live) = (bits(sidecar, Kind::Succeeded, n)?, bits(sidecar, Kind::Live, n)?);
    let ret = wide(Kind::Return)?.numbers(f64::from_le_bytes)?;
    let reward = wide(Kind::Reward)?.numbers(f64::from_le_bytes)?;
    if reward.iter().any(|x| !x.is_finite()) || ret.iter().any(|x| x.is_infinite()) {
        return Err(Unfit::Torn("a number that is none"));
    }
    let state_hash = wide(Kind::StateHash)?.numbers(u64::from_le_bytes)?;
    let episodes = Episodes::of(&table, &episode, &live);
    Ok(Columns {
        dead: n - live.count(),
        by_hash: Chains::of(&state_hash),
        episodes: episodes.ok_or(Unfit::Torn("an episode that is there twice"))?,
        pattern: wide(Kind::Pattern)?.numbers(|x| PatternId(integer(x)))?,
        task_type: wide(Kind::TaskType)?.numbers(|x| LabelId(integer(x)))?,
        agent_type: wide(Kind::AgentType)?.numbers(|x| Agent::of(integer(x)))?,
        timestamp: wide(Kind::Timestamp)?.numbers(integer)?,
        key,
        episode,
        reward,
        ret,
        succeeded,
        live,
        state_hash,
    })
}

fn bits(sidecar: &Sidecar, kind: Kind, n: usize) -> Result<Bits, Unfit> {
    let words = sidecar.section(kind, 8 * n.div_ceil(64) as u64)?.numbers(u64::from_le_bytes)?;
    Bits::from_words(words, n).ok_or(Unfit::Torn("a set of rows that are not there"))
}
