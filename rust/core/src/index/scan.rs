//! How the nearest are found: rows are judged by their codes, all of them or those that a walk through the graph brought,
//! and only what could be among the nearest is measured at full precision.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::hnsw::{
    Admitted, Cells, Graph, GraphScratch, NodeId, Prepared, Skim, Told, Walked, Wanted,
};
use crate::ids::RowKey;
use crate::kernel::distance::Kernel;
use crate::kernel::score::{self, AHEAD};
use crate::metric::Metric;

use super::columns::{Columns, Slot};
use super::exact::Exact;
use super::originals::Copied;
use super::selected::Selected;
use super::{Hit, Originals};

/// Rows that are judged together.
const BATCH: usize = 256;

/// Batches between two looks at the stop flag: some four thousand rows.
const PATIENCE: usize = 16;

/// Rows that are read at most between two looks at what is still worth reading.
const MOST_READ: usize = 4096;

/// Bytes of mapped states that are fetched ahead.
const FETCHED: usize = 48 << 10;

/// An f64 in its total order, for heaps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A row that could be among the nearest.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Its cost is at least this.
    least: f64,
    slot: Slot,
}

/// The memory of a search.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) prepared: Prepared,
    pub(super) graph: GraphScratch,
    pub(super) walked: Vec<(NodeId, f32)>,
    candidates: Vec<Candidate>,
    /// The k smallest upper bounds so far, the greatest on top.
    most: BinaryHeap<Ordered>,
    /// The k nearest so far, the farthest on top.
    nearest: BinaryHeap<(Ordered, RowKey)>,
    /// Rows whose state has to be read from the database.
    far: Vec<RowKey>,
    state: Vec<f32>,
}

impl Workspace {
    /// Whether the code of a row allows that it is `state`: that their distance, judged by the code, may be none.
    pub(super) fn codes(&mut self, graph: &Graph, slot: Slot, state: &[f32]) -> bool {
        graph.prepare_for(state, Metric::Euclidean, &mut self.prepared);
        let (mut least, mut most) = ([0.0], [0.0]);
        graph.judge(&self.prepared, &[NodeId(slot.0)], &mut least, &mut most);
        let square: f64 = state.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let near = 1e-9 * (1.0 + square); // squares are summed in more than one way
        least[0].is_nan() || (least[0] <= near && most[0] >= -near)
    }
}

/// A question to the codes.
pub(super) struct Scan<'a> {
    pub(super) kernel: Kernel,
    pub(super) columns: &'a Columns,
    pub(super) graph: &'a Graph,
    pub(super) copied: Option<&'a Copied>,
    pub(super) query: &'a [f32],
    pub(super) metric: Metric,
    pub(super) k: usize,
    pub(super) threshold: Option<f64>,
    pub(super) stop: &'a AtomicBool,
}

/// How the linked rows are walked instead of scanned.
pub(super) struct Walk<'a> {
    pub(super) ef: usize,
    /// Rows from here on are scanned.
    pub(super) linked: usize,
    /// The rows that may be answers; `None` is all.
    pub(super) admit: Option<Admitted<'a>>,
    /// What answers where a walk would have to go everywhere.
    pub(super) cells: Option<InCells<'a>>,
    /// Whether the cells are to answer without a walk.
    pub(super) at_once: bool,
    /// Raised where cells would have helped that are not there, if they can be made.
    pub(super) lacking: Option<&'a AtomicBool>,
}

/// The matches of a filter in cells.
#[derive(Clone, Copy)]
pub(super) struct InCells<'a> {
    pub(super) cells: &'a Cells,
    pub(super) selected: &'a Selected,
}

/// Rows that could be among the nearest, and what those cost at most.
struct Sieve<'a> {
    k: usize,
    limit: f64,
    candidates: &'a mut Vec<Candidate>,
    most: &'a mut BinaryHeap<Ordered>,
}

/// A look at the upper halves of codes, before the rest of them is read.
struct Skimming<'a> {
    graph: &'a Graph,
    query: &'a Prepared,
    skim: Skim,
    seen: usize,
    left: usize,
}

impl<'a> Skimming<'a> {
    fn of(graph: &'a Graph, query: &'a Prepared) -> Option<Self> {
        let skim = graph.skimmed_by(query)?;
        Some(Self { graph, query, skim, seen: 0, left: 0 })
    }

    /// Leaves at the beginning of `nodes` those whose cost could be `limit` or less, in their order, and says how many.
    fn run(&mut self, limit: f64, nodes: &mut [NodeId]) -> usize {
        let mut least = [0.0; BATCH];
        self.graph.skim(self.query, &self.skim, nodes, &mut least[..nodes.len()]);
        let mut left = 0;
        for at in 0..nodes.len() {
            nodes[left] = nodes[at];
            // NaN could be anything
            let beyond = least[at] > limit;
            left += usize::from(!beyond);
        }
        self.seen += nodes.len();
        self.left += left;
        left
    }

    /// Whether so many rows are left out that it pays to go on: it takes half the time of reading them whole.
    fn pays(&self) -> bool {
        self.seen < 4 * BATCH || 2 * self.left < self.seen
    }
}

impl Sieve<'_> {
    /// Keeps a row, whose cost has these bounds, if it could be among the k nearest: if its cost, at its least, does not
    /// exceed what k rows cost at most. NaN could be anything.
    fn offer(&mut self, slot: Slot, least: f64, most: f64) {
        if least > self.limit {
            return;
        }
        let least = if least.is_nan() { f64::NEG_INFINITY } else { least };
        self.candidates.push(Candidate { least, slot });
        if most < self.limit {
            self.most.push(Ordered(most));
            if self.most.len() > self.k {
                self.most.pop();
            }
            if self.most.len() == self.k {
                self.limit = self.most.peek().map_or(self.limit, |worst| worst.0);
            }
        }
    }
}

impl Scan<'_> {
    /// The `k` nearest of `rows`, nearest first.
    pub(super) fn run(
        &self,
        rows: &Bits,
        walk: Option<&Walk<'_>>,
        originals: &mut dyn Originals,
        space: &mut Workspace,
    ) -> Result<Vec<Hit>> {
        let Workspace { prepared, graph, walked, candidates, most, nearest, far, state } = space;
        candidates.clear();
        most.clear();
        nearest.clear();
        if self.k == 0 {
            return Ok(Vec::new());
        }
        self.graph.prepare_for(self.query, self.metric, prepared);
        let limit = self.worst().map_or(f64::INFINITY, |distance| self.cost(distance));
        let mut sieve = Sieve { k: self.k, limit, candidates, most };
        let (mut first, ahead) = (0, self.ahead());
        if let Some(walk) = walk {
            // where next to no matches are around the query, all may be left to the scan
            if self.find(walk, prepared, graph, walked) {
                let linked = walk.linked;
                first = linked;
                // rows that were linked after the walk began may be among them, and will be scanned
                let before =
                    walked.iter().map(|(node, _)| *node).filter(|node| (node.0 as usize) < linked);
                // the nearest by estimate will be measured, almost always
                before.clone().take(self.k.min(ahead)).for_each(|node| self.fetch(Slot(node.0)));
                self.judge(before, prepared, true, &mut sieve)?;
            }
        }
        self.judge(from(rows, first), prepared, false, &mut sieve)?;
        let limit = sieve.limit;
        candidates.retain(|row| row.least <= limit);
        // the total order puts equal optimism in order of the keys, so that a heap of twins is read as it lies
        candidates.sort_unstable_by(|a, b| a.least.total_cmp(&b.least).then(a.slot.cmp(&b.slot)));
        state.resize(self.query.len(), 0.0);
        self.measure(candidates, originals, far, state, nearest)
    }

    /// Leaves in `found` the best of the linked matches, or says that they are left to a scan.
    fn find(
        &self,
        walk: &Walk<'_>,
        prepared: &Prepared,
        scratch: &mut GraphScratch,
        found: &mut Vec<(NodeId, f32)>,
    ) -> bool {
        let &Walk { ef, admit, cells, at_once, lacking, .. } = walk;
        let cut = self.worst().map(|distance| (distance + self.leeway(distance)) as f32);
        let by_cells = |or_walk: bool, scratch: &mut GraphScratch, found: &mut Vec<_>| {
            let asked = cells.zip(admit);
            asked.map_or(Told::Around, |(InCells { cells, selected }, Admitted { rows, .. })| {
                let arranged = &|| selected.arranged(cells);
                let (state, k, matches) = (self.query, self.k, selected.count);
                let wanted = Wanted { state, k, ef, admit: rows, matches, arranged, or_walk };
                cells.search(self.graph, prepared, &wanted, scratch, found)
            })
        };
        let told = by_cells(!at_once, scratch, found);
        let (mut scarce, mut done) = (told != Told::Around, told == Told::Found);
        if !done && !at_once {
            // what cells could not answer is left to a scan at best
            let mut admit = admit;
            if let Some(admit) = admit.as_mut().filter(|_| told == Told::Unable) {
                admit.otherwise = admit.count;
            }
            let walked = self.graph.search(prepared, ef, admit, cut, scratch, found);
            scarce |= walked != Walked::Around;
            done = walked != Walked::Left
                || told == Told::Around && by_cells(false, scratch, found) == Told::Found;
        }
        let outgrown = |cells: InCells<'_>| cells.cells.are_outgrown(self.graph.linked());
        if scarce && cells.is_none_or(outgrown) {
            lacking.inspect(|lacking| lacking.store(true, Ordering::Relaxed));
        }
        done
    }

    /// Mapped states that are fetched ahead of their turn: as much as the nearest cache holds.
    fn ahead(&self) -> usize {
        (FETCHED / (4 * self.query.len())).clamp(1, 16)
    }

    /// Asks for a row's mapped state and its key ahead of their use.
    fn fetch(&self, slot: Slot) {
        if let Some(copied) = self.copied {
            copied.fetch(slot);
        }
        if let Some(key) = self.columns.key.get(slot.at()) {
            score::fetch(std::slice::from_ref(key));
        }
    }

    /// The distance beyond which nothing counts; a hair more, so that rounding decides nothing.
    fn worst(&self) -> Option<f64> {
        let threshold = self.threshold?;
        let distance = match self.metric {
            // similarities end there, distances do not
            Metric::Cosine | Metric::Euclidean if threshold <= 0.0 => return None,
            Metric::Cosine => 1.0 - threshold,
            Metric::Euclidean => 1.0 / threshold - 1.0,
            Metric::Dot => -threshold,
        };
        Some(distance + 1e-9 * (1.0 + distance.abs()))
    }

    /// How much farther a walk looks than the threshold says: it goes by estimates, which miss by a part of the lengths of
    /// the two states, and what they miss by must not cost an answer.
    fn leeway(&self, distance: f64) -> f64 {
        let (square, _) = self.kernel.products(self.query, self.query);
        let length = match self.metric {
            Metric::Cosine => 1.0,
            Metric::Euclidean => square.sqrt(),
            Metric::Dot => square,
        };
        0.03 * (distance.abs() + length)
    }

    /// The cost of an exact distance: what bounds are bounds of.
    fn cost(&self, distance: f64) -> f64 {
        match self.metric {
            Metric::Cosine | Metric::Dot => distance,
            Metric::Euclidean => distance.abs() * distance,
        }
    }

    /// Offers every one of `nodes`, by bounds that are certain or [`Graph::judge_likely`]'s.
    fn judge(
        &self,
        nodes: impl Iterator<Item = NodeId>,
        prepared: &Prepared,
        likely: bool,
        sieve: &mut Sieve<'_>,
    ) -> Result<()> {
        let mut skimming = if likely { None } else { Skimming::of(self.graph, prepared) };
        // some of the next batch are known already, so that the memory does not rest between two batches
        let mut batch = [NodeId(0); BATCH + AHEAD];
        let (mut least, mut most) = ([0.0; BATCH], [0.0; BATCH]);
        let (mut nodes, mut held, mut since) = (nodes.fuse(), 0, 0);
        loop {
            for (place, node) in batch[held..].iter_mut().zip(&mut nodes) {
                *place = node;
                held += 1;
            }
            if since % PATIENCE == 0 {
                self.go_on()?;
            }
            since += 1;
            let count = held.min(BATCH);
            let skims = skimming.as_mut().filter(|_| sieve.limit < f64::INFINITY);
            let (left, known) = skims.map_or((count, held), |skimming| {
                let left = skimming.run(sieve.limit, &mut batch[..count]);
                (left, left)
            });
            let (least, most) = (&mut least[..left], &mut most[..left]);
            if likely {
                self.graph.judge_likely(prepared, &batch[..known], least, most);
            } else {
                self.graph.judge(prepared, &batch[..known], least, most);
            }
            for at in 0..left {
                sieve.offer(Slot(batch[at].0), least[at], most[at]);
            }
            skimming = skimming.filter(Skimming::pays);
            batch.copy_within(count..held, 0);
            held -= count;
            if held == 0 {
                return Ok(());
            }
        }
    }

    /// Reads the candidates, the most promising first, until none of the rest can be or tie with one of the k nearest.
    fn measure(
        &self,
        candidates: &mut [Candidate],
        originals: &mut dyn Originals,
        far: &mut Vec<RowKey>,
        state: &mut [f32],
        nearest: &mut BinaryHeap<(Ordered, RowKey)>,
    ) -> Result<Vec<Hit>> {
        let exact = Exact::new(self.kernel, self.metric, self.query);
        let (mut rest, mut read, ahead) = (candidates, 0, self.ahead());
        let meet = |key: RowKey, distance: f64, nearest: &mut BinaryHeap<_>| {
            let found = (Ordered(distance), key);
            if nearest.len() < self.k {
                nearest.push(found);
            } else if let Some(mut worst) = nearest.peek_mut()
                && found < *worst
            {
                *worst = found;
            }
        };
        loop {
            // few at a time while little is known; in larger strokes if very many have to be read
            let wanted = if read == 0 { self.k } else { read / 2 }.clamp(8, MOST_READ);
            let full = nearest.len() == self.k;
            let limit = nearest.peek().filter(|_| full).map(|(worst, _)| self.cost(worst.0));
            let worth = rest
                .iter()
                .take(wanted)
                .take_while(|row| limit.is_none_or(|limit| row.least <= limit))
                .count();
            if worth == 0 {
                break;
            }
            self.go_on()?;
            let (now, later) = rest.split_at_mut(worth);
            now.sort_unstable_by_key(|row| row.slot);
            far.clear();
            now.iter().take(ahead).for_each(|row| self.fetch(row.slot));
            for (at, row) in now.iter().enumerate() {
                now.get(at + ahead).into_iter().for_each(|row| self.fetch(row.slot));
                let key = self.columns.key[row.slot.at()];
                if self.copied.is_some_and(|copied| copied.state(row.slot, state)) {
                    meet(key, exact.distance(state), nearest);
                } else {
                    far.push(key);
                }
            }
            if !far.is_empty() {
                originals.read(far, &mut |at, state| {
                    meet(far[at], exact.distance(state), nearest);
                })?;
            }
            read += worth;
            rest = later;
        }
        let mut found: Vec<Hit> =
            nearest.drain().map(|(distance, key)| exact.hit(key, distance.0)).collect();
        found.sort_unstable_by(|a, b| {
            a.distance.total_cmp(&b.distance).then_with(|| a.key.cmp(&b.key))
        });
        Ok(found)
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Closed("the store was closed during a search".to_owned()));
        }
        Ok(())
    }
}

/// The rows of a set from `first` on.
pub(super) fn from(rows: &Bits, first: usize) -> impl Iterator<Item = NodeId> {
    let words = rows.words().iter().enumerate().skip(first / 64);
    words.flat_map(move |(at, &word)| {
        let before = if at == first / 64 { first % 64 } else { 0 };
        let mut left = word & (u64::MAX << before);
        std::iter::from_fn(move || {
            let node = (left != 0).then(|| NodeId((at * 64) as u32 + left.trailing_zeros()));
            left &= left.wrapping_sub(1);
            node
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hnsw::{Params, Quantization};
    use crate::rng::Rng;

    #[test]
    fn what_is_proven_far_is_skimmed_off_as_long_as_that_pays() {
        let noise = |number: u64| -> Vec<f32> {
            (0..256).map(|i| Rng::new(1, number).normal(i) as f32).collect()
        };
        let (metric, quantization) = (Metric::Cosine, Quantization::Int8);
        let params = Params { m: 8, ef_construction: 60, metric, quantization, seed: 1 };
        let (graph, query) = (Graph::unlinked(256, params), noise(1 << 20));
        // every eighth row is near the query, the others are noise
        let nodes: Vec<NodeId> = (0..BATCH as u64)
            .map(|number| {
                let own = noise(number);
                if number % 8 == 0 {
                    let near: Vec<f32> = query.iter().zip(&own).map(|(q, x)| q + 0.3 * x).collect();
                    graph.push(&near)
                } else {
                    graph.push(&own)
                }
            })
            .collect();
        let mut prepared = Prepared::default();
        graph.prepare(&query, &mut prepared);
        let mut skimming = Skimming::of(&graph, &prepared).unwrap();
        let near: Vec<NodeId> = nodes.iter().copied().step_by(8).collect();
        for _ in 0..8 {
            let mut batch = nodes.clone();
            let left = skimming.run(0.3, &mut batch);
            assert_eq!(batch[..left], near);
            assert!(skimming.pays());
        }
        for _ in 0..8 {
            let mut batch = nodes.clone();
            assert_eq!(
                skimming.run(f64::NAN, &mut batch),
                BATCH,
                "nothing is beyond what is not known"
            );
            assert_eq!(batch, nodes);
        }
        assert!(!skimming.pays(), "more than half of the rows were left");
    }
}
