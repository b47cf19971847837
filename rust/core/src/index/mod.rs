//! What the store asks about its rows without touching the file: which rows match a filter, which are nearest to a
//! query, where a return ranks. No SQL, no strings: the store resolves names to numbers before it comes here.
//!
//! Everything in here is derived from the file. Rows have dense places in order of their keys, the same in the columns
//! and in the graph, which holds their codes; removed rows keep theirs until a fifth of all are dead, then the storage is
//! compacted: at once where nothing is linked, else by whoever links ([`Index::worth_compacting`]).

mod chains;
mod coarse;
mod columns;
mod cost;
mod exact;
mod filter;
mod order;
mod originals;
mod quantile;
pub(crate) mod save;
mod scan;
mod selected;
pub(crate) mod sidecar;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub use filter::Resolved;
pub use quantile::Scale;

use crate::bits::Bits;
use crate::error::Result;
use crate::hnsw::{Admitted, Cells, Graph, NodeId, Params};
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};
use crate::kernel::distance::Kernel;
use crate::metric::Metric;

use columns::{Columns, Slot};
use filter::Criteria;
use originals::Copied;
use quantile::Quantiles;
use scan::{InCells, Scan, Walk, Workspace};
use selected::{Selected, Selections};

pub(crate) use cost::worth;

/// One row as the index needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// Its key; greater than that of every row before it.
    pub key: RowKey,
    /// The episode it is a step of.
    pub episode: EpisodeId,
    /// The pattern of its action.
    pub pattern: PatternId,
    /// Its task type.
    pub task_type: LabelId,
    /// Its agent type, if it has one.
    pub agent_type: Option<LabelId>,
    /// Its reward.
    pub reward: f64,
    /// Its return, if computed.
    pub ret: Option<f64>,
    /// When it happened, in ms since 1970.
    pub timestamp: i64,
    /// What it said of its success, else whether its reward is above 0.5.
    pub succeeded: bool,
    /// The hash of its stored state's bytes.
    pub state_hash: u64,
}

/// Full-precision states by key: the store reads them from SQLite.
pub trait Originals {
    /// Calls `visit(position, state)` for every key, in any order. A key that is gone is [`crate::Error::NotFound`]:
    /// the search ends with it, and whoever asked catches up and tries again.
    fn read(&mut self, keys: &[RowKey], visit: &mut dyn FnMut(usize, &[f32])) -> Result<()>;
}

/// One row of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The row.
    pub key: RowKey,
    /// How far: 1 - cos, L2 or minus the dot product, from the full-precision state.
    pub distance: f64,
    /// [`Metric::similarity`] of the distance.
    pub similarity: f64,
}

/// The memory that searches work in; give each thread its own and keep it, then searching allocates next to nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    selected: Selected,
    space: Workspace,
}

/// What is asked of an index.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The state, of the index's dimension.
    pub query: &'a [f32],
    /// What nearness means; another metric than the graph's is answered by scan.
    pub metric: Metric,
    /// At most so many answers.
    pub k: usize,
    /// The rows that may be answers.
    pub filter: &'a Resolved,
    /// Candidates of a walk, at least `k`; `None` forbids walking: the answer is proven equal to brute force.
    pub ef: Option<usize>,
    /// The least similarity that counts; answers below it may be left out.
    pub threshold: Option<f64>,
}

/// The rows of one store, in memory.
#[derive(Debug)]
pub struct Index {
    dimension: usize,
    kernel: Kernel,
    columns: Columns,
    graph: Arc<Graph>,
    cells: Option<Arc<Cells>>,
    /// Whether somebody asked a filter that cells would have answered sooner.
    lacks_cells: AtomicBool,
    copied: Option<Copied>,
    quantiles: Mutex<Quantiles>,
    selections: Mutex<Selections>,
    /// What was linked when the index was last saved, and what was removed since.
    saved: Saved,
}

#[derive(Clone, Copy, Debug, Default)]
struct Saved {
    linked: usize,
    removed: usize,
}

impl Index {
    /// An index without rows, for states of `dimension` numbers.
    pub fn new(dimension: usize, params: Params) -> Self {
        Self::of(Graph::new(dimension, params))
    }

    /// One that is only ever scanned: its rows have no room for links.
    pub fn scanned(dimension: usize, params: Params) -> Self {
        Self::of(Graph::unlinked(dimension, params))
    }

    fn of(graph: Graph) -> Self {
        Self {
            dimension: graph.dimension(),
            kernel: Kernel::best(),
            columns: Columns::default(),
            graph: Arc::new(graph),
            cells: None,
            lacks_cells: AtomicBool::new(false),
            copied: None,
            quantiles: Mutex::default(),
            selections: Mutex::default(),
            saved: Saved::default(),
        }
    }

    /// Adds a row with its full-precision state (finite numbers). Keys must rise strictly from call to call.
    pub fn append(&mut self, entry: &Entry, state: &[f32]) {
        assert_eq!(state.len(), self.dimension, "a state of the index's dimension");
        let slot = self.columns.push(entry);
        let node = self.graph.push(state);
        debug_assert_eq!(node.0, slot.0, "columns and graph count alike");
        alone(&mut self.quantiles).enter(&self.columns, slot);
        alone(&mut self.selections).append(&self.columns, slot);
    }

    /// Takes rows out; keys that are not there are ignored. They are in no answer from now on.
    pub fn remove(&mut self, keys: &[RowKey]) {
        for &key in keys {
            if let Some(slot) = self.columns.slot(key) {
                alone(&mut self.quantiles).leave(&self.columns, slot);
                self.columns.bury(slot);
                alone(&mut self.selections).change(&self.columns, slot);
                self.saved.removed += 1;
            }
        }
        if self.graph.linked() == 0 && self.is_worn() {
            let live = self.columns.live.clone();
            let kept = self.graph.emptied();
            for at in live.iter() {
                kept.push_copy(&self.graph, NodeId(at as u32));
            }
            self.take(kept, &live);
        }
    }

    /// The rows that live, if a fifth of a graph with links is dead: whoever links makes [`Graph::consolidated`] of them
    /// and gives it to [`Self::swap`].
    pub fn worth_compacting(&self) -> Option<Bits> {
        (self.graph.linked() > 0 && self.is_worn()).then(|| self.columns.live.clone())
    }

    /// Takes the compacted graph in the place of `old`, of which it has the rows `kept`; rows that came since follow.
    /// Nothing happens if `old` is no longer the graph of this index.
    pub fn swap(&mut self, old: &Arc<Graph>, new: Graph, kept: &Bits) {
        if !Arc::ptr_eq(&self.graph, old) {
            return;
        }
        let mut kept = kept.clone();
        for at in kept.len()..self.columns.len() {
            new.push_copy(old, NodeId(at as u32));
            kept.push(true);
        }
        // links that were saved and went with their rows are no new ones
        let gone = old.linked().saturating_sub(new.linked());
        self.saved.linked = self.saved.linked.saturating_sub(gone);
        self.take(new, &kept);
    }

    fn take(&mut self, graph: Graph, kept: &Bits) {
        self.graph = Arc::new(graph);
        self.cells = None;
        self.columns.keep(kept);
        if let Some(copied) = &mut self.copied {
            copied.keep(kept);
        }
        alone(&mut self.quantiles).forget();
        alone(&mut self.selections).forget();
    }

    fn is_worn(&self) -> bool {
        self.columns.dead > 0 && self.columns.dead * 5 >= self.columns.len()
    }

    /// Whether filters were asked that cells would have answered sooner: whoever links makes [`Cells::of`] the graph and
    /// these, which are there already, and gives them to [`Self::take_cells`].
    pub fn lacks_cells(&self) -> bool {
        self.lacks_cells.load(Ordering::Relaxed)
    }

    /// The cells that there are.
    pub fn cells(&self) -> Option<&Arc<Cells>> {
        self.cells.as_ref()
    }

    /// Takes new cells of `graph`. Nothing happens if that is no longer the graph of this index.
    pub fn take_cells(&mut self, graph: &Arc<Graph>, cells: Cells) {
        self.lacks_cells = AtomicBool::new(false);
        if Arc::ptr_eq(&self.graph, graph) {
            self.cells = Some(Arc::new(cells));
            alone(&mut self.selections).disarrange();
        }
    }

    /// The graph, for whoever links it.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Sets a row's return; a key that is not there is ignored.
    pub fn set_return(&mut self, key: RowKey, ret: Option<f64>) {
        if let Some(slot) = self.columns.slot(key) {
            let quantiles = alone(&mut self.quantiles);
            quantiles.leave(&self.columns, slot);
            self.columns.ret[slot.at()] = ret.unwrap_or(f64::NAN);
            quantiles.enter(&self.columns, slot);
            alone(&mut self.selections).change(&self.columns, slot);
        }
    }

    /// Sets the total reward of an episode, before or after its rows are appended. Until then it has none: no
    /// `min_episode_reward` matches it and [`Scale::Episode`] leaves it out.
    pub fn set_episode_total(&mut self, episode: EpisodeId, total_reward: f64) {
        let (place, old) = self.columns.episodes.set_total(episode, total_reward);
        alone(&mut self.quantiles).retotal(place, old, total_reward);
        alone(&mut self.selections).retotal(&self.columns, place, old, total_reward);
    }

    /// Rows in the index.
    pub fn len(&self) -> usize {
        self.columns.len() - self.columns.dead
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that walks find.
    pub fn linked(&self) -> usize {
        self.columns.live.count_before(self.graph.linked())
    }

    /// Anonymous bytes held.
    pub fn bytes(&self) -> usize {
        let copied = self.copied.as_ref().map_or(0, Copied::bytes);
        self.columns.bytes()
            + self.graph.bytes()
            + copied
            + self.cells.as_ref().map_or(0, |cells| cells.bytes())
            + self.asked().bytes()
            + self.chosen().bytes()
    }

    /// Facts of one row, for those who vote over neighbours.
    pub fn entry(&self, key: RowKey) -> Option<Entry> {
        self.columns.slot(key).map(|slot| self.columns.entry(slot))
    }

    /// Whether a row's code can be that of `state`.
    pub fn codes(&self, key: RowKey, state: &[f32], scratch: &mut Scratch) -> bool {
        let Some(slot) = self.columns.slot(key) else { return false };
        scratch.space.codes(&self.graph, slot, state)
    }

    /// The matching rows, in order of insertion.
    pub fn keys_matching(&self, filter: &Resolved) -> Vec<RowKey> {
        self.matching(filter).iter().map(|at| self.columns.key[at]).collect()
    }

    /// How many rows match.
    pub fn count_matching(&self, filter: &Resolved) -> usize {
        if filter.is_empty() { self.len() } else { self.matching(filter).count() }
    }

    /// The matching rows whose state has this hash, in order of insertion.
    pub fn by_state_hash(&self, hash: u64, filter: &Resolved) -> Vec<RowKey> {
        let criteria = Criteria::new(filter);
        let mut keys: Vec<RowKey> = self
            .columns
            .by_hash
            .bucket_of(hash)
            .map(Slot)
            .filter(|slot| self.columns.live.get(slot.at()))
            .filter(|slot| self.columns.state_hash[slot.at()] == hash)
            .filter(|&slot| criteria.admits(&self.columns, slot))
            .map(|slot| self.columns.key[slot.at()])
            .collect();
        keys.reverse();
        keys
    }

    /// The episodes with a matching row, in order of their ids.
    pub fn episodes_matching(&self, filter: &Resolved) -> Vec<EpisodeId> {
        let mut seen = vec![false; self.columns.episodes.len()];
        let rows = self.matching(filter);
        rows.iter().for_each(|at| seen[self.columns.episode[at] as usize] = true);
        let mut ids: Vec<EpisodeId> = (0..seen.len() as u32)
            .filter(|&place| seen[place as usize])
            .map(|place| self.columns.episodes.id(place))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The nearest among the matches, nearest first, ties to the smaller key. Where the question forbids walking, or
    /// scanning is cheaper, exactly what measuring every match at full precision would answer; else rows that are not
    /// linked yet are scanned, and those that are searched by a walk or, where a filter excludes what the query is about,
    /// by cells. `stop` is polled every few thousand rows; once true
    /// the search ends with [`crate::Error::Closed`].
    pub fn search(
        &self,
        question: &Question<'_>,
        originals: &mut dyn Originals,
        scratch: &mut Scratch,
        stop: &AtomicBool,
    ) -> Result<Vec<Hit>> {
        let Question { query, metric, k, filter, ef, threshold } = *question;
        assert_eq!(query.len(), self.dimension, "a query of the index's dimension");
        let Scratch { selected, space } = scratch;
        let chosen = self.select(filter, selected);
        let (rows, matches) = self.among(chosen.as_deref());
        let scan = Scan {
            kernel: self.kernel,
            columns: &self.columns,
            graph: &self.graph,
            copied: self.copied.as_ref(),
            query,
            metric,
            k,
            threshold,
            stop,
        };
        let ef = ef.filter(|_| metric == self.graph.params().metric);
        let walk = ef.and_then(|ef| self.walk(rows, matches, ef, chosen.as_deref()));
        scan.run(rows, walk.as_ref(), originals, space)
    }

    /// The nearest among the matches to a code that stands for a query, by estimated distance, ties to the smaller key:
    /// rows are judged by their codes alone. `ef` and `stop` as in [`Self::search`].
    pub fn search_code(
        &self,
        code: &[u8],
        k: usize,
        filter: &Resolved,
        ef: Option<usize>,
        scratch: &mut Scratch,
        stop: &AtomicBool,
    ) -> Result<Vec<(RowKey, f32)>> {
        let Scratch { selected, space } = scratch;
        let chosen = self.select(filter, selected);
        let (rows, matches) = self.among(chosen.as_deref());
        let walk = ef.and_then(|ef| self.walk(rows, matches, ef, None));
        let found = coarse::search(&self.graph, code, k, rows, walk.as_ref(), space, stop)?;
        Ok(found.into_iter().map(|(node, far)| (self.columns.key[node.0 as usize], far)).collect())
    }

    /// The rows that match; `None` is all. They are kept for the next question; `spare` is memory for them.
    fn select(&self, filter: &Resolved, spare: &mut Selected) -> Option<Arc<Selected>> {
        if filter.is_empty() {
            return None;
        }
        let found = self.chosen().find(filter);
        Some(found.unwrap_or_else(|| {
            Criteria::new(filter).select(&self.columns, &mut spare.rows);
            spare.count = spare.rows.count();
            self.chosen().keep(filter, spare)
        }))
    }

    /// What was chosen, else all living rows; and how many they are.
    fn among<'r>(&'r self, chosen: Option<&'r Selected>) -> (&'r Bits, usize) {
        chosen.map_or((&self.columns.live, self.len()), |chosen| (&chosen.rows, chosen.count))
    }

    fn chosen(&self) -> MutexGuard<'_, Selections> {
        self.selections.lock().expect(UNPOISONED)
    }

    /// How `rows`, so many matches, are walked or found by cells, if either is cheaper than to scan them.
    fn walk<'r>(
        &'r self,
        rows: &'r Bits,
        matches: usize,
        ef: usize,
        chosen: Option<&'r Selected>,
    ) -> Option<Walk<'r>> {
        let (every, linked) = (rows.len(), self.graph.linked());
        let ef = ef.min(linked.max(1)); // there are no more candidates, and memory is taken for them at once
        let by_cells = Cells::cost(linked, matches, ef);
        let cells = self.cells.as_deref().filter(|cells| cells.serve(linked));
        let cells = cells.zip(chosen).map(|(cells, selected)| InCells { cells, selected });
        let walks = cost::walks(&self.graph, matches, ef);
        let again = chosen.is_some_and(Selected::is_asked_again);
        let at_once = !walks && again && by_cells < matches;
        // where cells could not tell what is near, new ones could not either
        let tell = self.cells.as_ref().is_none_or(|cells| cells.can_tell());
        let worth = chosen.is_some() && linked > 0 && by_cells < matches && tell;
        let lacking = worth.then_some(&self.lacks_cells);
        if !walks && (!at_once || cells.is_none()) {
            lacking.filter(|_| at_once).inspect(|lacking| lacking.store(true, Ordering::Relaxed));
            return None;
        }
        let otherwise = if cells.is_some() { by_cells.min(matches) } else { matches };
        let admit = (matches < every).then_some(Admitted { rows, count: matches, otherwise });
        Some(Walk { ef, linked, admit, cells, at_once, lacking })
    }

    /// The number below which a share `q` (0 to 1) of the matches lies, interpolated linearly at `q * (n - 1)` as
    /// numpy does by default; None if nothing matches.
    pub fn quantile(&self, scale: Scale, filter: &Resolved, q: f64) -> Option<f64> {
        self.asked().ask(&self.columns, scale, filter, q)
    }

    fn asked(&self) -> MutexGuard<'_, Quantiles> {
        self.quantiles.lock().expect(UNPOISONED)
    }

    fn matching(&self, filter: &Resolved) -> Bits {
        let mut rows = Bits::default();
        Criteria::new(filter).select(&self.columns, &mut rows);
        rows
    }
}

const UNPOISONED: &str = "nothing panics while it ranks or selects";

/// Without a lock: whoever writes is alone.
fn alone<T>(kept: &mut Mutex<T>) -> &mut T {
    kept.get_mut().expect(UNPOISONED)
}

#[cfg(test)]
mod tests;
