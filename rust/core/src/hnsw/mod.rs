//! The graph: Hierarchical Navigable Small World (Malkov and Yashunin 2016) over codes of the rows.
//!
//! A row is pushed, then found by scan; linked, it is found by walks. One block of memory holds a row's links in layer 0,
//! numbers that bound what its code leaves out, and the code, held once, for walks and for scans. The two numbers that make a
//! cost of a product lie apart, those of eight rows in a line.
//!
//! # Threads
//!
//! Everything takes `&self`. Blocks never move; links are atomics. One thread pushes at a time and one call links at a
//! time (with as many threads as it is given); searches never wait for either. A search during linking may miss a link
//! that is being replaced, never more.
//!
//! # No lost rows
//!
//! Pruning by the heuristic alone may leave a row that no link leads to. Here every row but the first has a parent among
//! the older rows, near it; the links between the two are fixed, both ways, and pruning leaves them. So from every
//! linked row every other can be reached, whatever is inserted in whatever order.

mod bounds;
mod cells;
mod codec;
mod filter;
mod glance;
mod link;
mod memory;
mod params;
mod repair;
mod rotation;
mod scratch;
mod search;
mod select;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::kernel::distance::{Line, Shape};
use crate::kernel::halves;
use crate::kernel::score::{AHEAD, fetch};
use crate::metric::Metric;

pub use bounds::Skim;
pub use cells::{Arranged, Cells, Told, Wanted};
pub use codec::{Codec, Prepared, Role};
pub use filter::{Admitted, Walked};
pub use params::{Params, Quantization};
pub use scratch::GraphScratch;
pub use snapshot::{HEAD, Snapshot};

use codec::{CHUNK, Coarse, Facts};
use glance::Glances;
use link::Space;
use memory::Blocks;
use scratch::Visited;

/// A row's place in the graph: dense, in order of pushing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Ends a list of links that is not full.
const NONE: u32 = u32::MAX;

/// Marks a link between a row and its parent; the rest of the word names the row.
const FIXED: u32 = 1 << 31;

/// The words at the end of a block's words.
const FACTS: usize = 8;

/// Where among the facts each lies.
mod fact {
    pub(super) const SCALE: usize = 0;
    pub(super) const NORM: usize = 1;
    pub(super) const RESIDUAL: usize = 2;
    pub(super) const TIMES: usize = 3;
    pub(super) const PLUS: usize = 4;
    /// The block of the row's list in layer 1; those of the layers above follow.
    pub(super) const UPPER: usize = 5;
    pub(super) const LEVEL: usize = 6;
    /// How many rows have this one as their parent.
    pub(super) const CHILDREN: usize = 7;
}

/// Rows whose weights share a block: a cache line of them.
const WEIGHED: usize = 8;

/// Rows that are asked about together where they are few: one that is compared with those chosen before it, one whose links
/// in an upper layer are looked at.
const FEW: usize = 16;

/// Rows, coded and linked.
pub struct Graph {
    params: Params,
    /// Links in layer 0 that a row has room for: 2M, or none at all.
    room: usize,
    codec: Codec,
    /// Links in layer 0, facts and code of every row.
    rows: Blocks,
    /// What costs are made with, copied from the facts: walks ask about many rows, and here few lines hold them all.
    weights: Blocks,
    /// A list of links for every row and layer above 0 that it is in.
    upper: Blocks,
    linked: AtomicUsize,
    /// Whether the upper halves of codes are enough for walks.
    glances: Glances,
    /// Where walks begin: its layer in the upper half, the node in the lower.
    entry: AtomicU64,
    /// Held while a row and its upper lists are added.
    pushing: Mutex<()>,
    /// Held while rows are linked.
    linking: Mutex<()>,
    /// What linking threads work in.
    spaces: Mutex<Vec<Space>>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("params", &self.params)
            .field("len", &self.len())
            .field("linked", &self.linked())
            .finish_non_exhaustive()
    }
}

impl Graph {
    /// A graph without rows, for states of `dimension` numbers. Parameters are checked by [`Params::check`].
    pub fn new(dimension: usize, params: Params) -> Self {
        Self::with_room(dimension, params, params.m0())
    }

    /// Codes without room for links: rows are never linked, and scans have less memory to go through.
    pub fn unlinked(dimension: usize, params: Params) -> Self {
        Self::with_room(dimension, params, 0)
    }

    /// The same without rows.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self::with_room(self.dimension(), self.params, self.room)
    }

    fn with_room(dimension: usize, params: Params, room: usize) -> Self {
        let codec = Codec::new(dimension, &params);
        Self {
            params,
            room,
            rows: Blocks::new(room + FACTS, codec.lines()),
            weights: Blocks::new(2 * WEIGHED, 0),
            upper: Blocks::new(params.m, 0),
            codec,
            linked: AtomicUsize::new(0),
            glances: Glances::default(),
            entry: AtomicU64::new(0),
            pushing: Mutex::default(),
            linking: Mutex::default(),
            spaces: Mutex::default(),
        }
    }

    /// What the graph was made with.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// How it codes rows.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The dimension of its states.
    pub fn dimension(&self) -> usize {
        self.codec.dimension()
    }

    /// Rows pushed.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row was pushed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows linked: those with smaller ids than this are found by walks.
    pub fn linked(&self) -> usize {
        self.linked.load(Ordering::Acquire)
    }

    /// Anonymous bytes held.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.weights.bytes() + self.upper.bytes()
    }

    /// Codes the next row (finite numbers, of the graph's dimension). It is not linked yet.
    pub fn push(&self, state: &[f32]) -> NodeId {
        assert_eq!(state.len(), self.dimension(), "a state of the graph's dimension");
        let pushing = self.pushing.lock().expect(UNPOISONED);
        let node = self.place(self.next_level(), |code| self.codec.code(state, code));
        drop(pushing);
        node
    }

    /// Pushes a copy of a row of another graph of the same dimension and parameters.
    pub fn push_copy(&self, from: &Self, node: NodeId) -> NodeId {
        let (code, facts) = from.coded(node.0);
        let pushing = self.pushing.lock().expect(UNPOISONED);
        let node = self.place(self.next_level(), |lines| {
            lines.copy_from_slice(code);
            facts
        });
        drop(pushing);
        node
    }

    /// The uppermost layer of the next row.
    fn next_level(&self) -> u32 {
        if self.room == 0 { 0 } else { self.params.level(self.len() as u32) }
    }

    /// Adds a row with empty lists in all its layers.
    fn place(&self, level: u32, code: impl FnOnce(&mut [Line]) -> Facts) -> NodeId {
        let upper = self.upper.len() as u32;
        for _ in 0..level {
            self.upper.push(|links, _| clear(links));
        }
        let next = self.len();
        if next.is_multiple_of(WEIGHED) && next / WEIGHED == self.weights.len() {
            self.weights.push(|_, _| ());
        }
        let node = self.rows.push(|words, lines| {
            let (links, facts) = words.split_at(words.len() - FACTS);
            clear(links);
            let Facts { shape: Shape { scale, norm, residual }, times, plus } = code(lines);
            let set = |at: usize, x: u32| facts[at].store(x, Ordering::Relaxed);
            set(fact::SCALE, scale.to_bits());
            set(fact::NORM, norm.to_bits());
            set(fact::RESIDUAL, residual.to_bits());
            set(fact::TIMES, times.to_bits());
            set(fact::PLUS, plus.to_bits());
            self.weigh(next, times.to_bits(), plus.to_bits());
            set(fact::UPPER, upper);
            set(fact::LEVEL, level);
        });
        NodeId(node as u32)
    }

    /// Sets the weights of a row that is about to be counted.
    fn weigh(&self, at: usize, times: u32, plus: u32) {
        let weights = self.weights(at as u32);
        weights[0].store(times, Ordering::Relaxed);
        weights[1].store(plus, Ordering::Relaxed);
    }

    /// The weights of a row: what the product of its code is multiplied with, and what is added.
    fn weights(&self, node: u32) -> &[AtomicU32] {
        let node = node as usize;
        &self.weights.words(node / WEIGHED)[2 * (node % WEIGHED)..][..2]
    }

    /// Codes a query in the memory that `into` has.
    pub fn prepare(&self, query: &[f32], into: &mut Prepared) {
        self.codec.prepare(query, into);
    }

    /// [`Self::prepare`] for [`Self::judge`] under another metric than the graph's. Walks and estimates stay the graph's.
    pub fn prepare_for(&self, query: &[f32], metric: Metric, into: &mut Prepared) {
        self.codec.prepare(query, into);
        into.metric = metric;
    }

    /// Sets `least` and `most` to certified bounds of the cost of each row: the distance, for Euclid its square. Tight
    /// but for binary codes. Where f32 overflowed they are NaN or infinite, and whoever reads them takes NaN for "could
    /// be anything". The query must have come as a state, not as a code. Nodes beyond those that `least` has room for are
    /// about to be judged: they are fetched.
    pub fn judge(&self, query: &Prepared, nodes: &[NodeId], least: &mut [f64], most: &mut [f64]) {
        self.bound(query, false, nodes, least, most);
    }

    /// [`Self::judge`] with bounds that are tighter and hold for nearly all rows: for those that a walk brought.
    pub fn judge_likely(
        &self,
        query: &Prepared,
        nodes: &[NodeId],
        least: &mut [f64],
        most: &mut [f64],
    ) {
        self.bound(query, true, nodes, least, most);
    }

    fn bound(
        &self,
        query: &Prepared,
        likely: bool,
        nodes: &[NodeId],
        least: &mut [f64],
        most: &mut [f64],
    ) {
        // rows beyond the chunk that is judged follow: they are on their way from memory meanwhile
        let (mut rows, mut facts) = ([&[][..]; CHUNK + AHEAD], [&[][..]; CHUNK + AHEAD]);
        let (mut coming, mut held) = (nodes.iter(), 0);
        assert!(
            nodes.len() >= least.len() && least.len() == most.len(),
            "bounds for nodes there are"
        );
        for (least, most) in least.chunks_mut(CHUNK).zip(most.chunks_mut(CHUNK)) {
            for (at, node) in (held..CHUNK + AHEAD).zip(coming.by_ref()) {
                let (words, code) = self.rows.both(node.0 as usize);
                (facts[at], rows[at]) = (&words[words.len() - FACTS..], code);
                fetch(facts[at]);
                held = at + 1;
            }
            let asked = &facts[..least.len()];
            bounds::judge(&self.codec, query, likely, &rows[..held], asked, least, most);
            rows.copy_within(least.len()..held, 0);
            facts.copy_within(least.len()..held, 0);
            held -= least.len();
        }
    }

    /// What [`Self::skim`] asks with; None where codes are not in halves or the query came as a code.
    pub fn skimmed_by(&self, query: &Prepared) -> Option<Skim> {
        Skim::new(&self.codec, query)
    }

    /// Sets `least` to certified lower bounds of the cost of each row, as [`Self::judge`] does, from half of its code:
    /// looser, and in half of the time where memory decides.
    pub fn skim(&self, query: &Prepared, skim: &Skim, nodes: &[NodeId], least: &mut [f64]) {
        let lines = halves::upper(self.codec.lines());
        for (nodes, least) in nodes.chunks(CHUNK).zip(least.chunks_mut(CHUNK)) {
            let (mut rows, mut facts) = ([&[][..]; CHUNK], [&[][..]; CHUNK]);
            for ((node, row), facts) in nodes.iter().zip(&mut rows).zip(&mut facts) {
                let (words, code) = self.rows.both(node.0 as usize);
                (*facts, *row) = (&words[words.len() - FACTS..], &code[..lines]);
                fetch(facts);
                fetch(row);
            }
            let count = nodes.len();
            bounds::skim(&self.codec, query, skim, &rows[..count], &facts[..count], least);
        }
    }

    /// Sets `out` to the estimated distance of each row.
    pub fn estimate(&self, query: &Prepared, nodes: &[NodeId], out: &mut [f32]) {
        let query = query.coarse(false);
        let mut ids = [0; CHUNK];
        for (nodes, out) in nodes.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
            let ids = &mut ids[..nodes.len()];
            ids.iter_mut().zip(nodes).for_each(|(id, node)| *id = node.0);
            self.costs(&query, ids, out);
            for cost in out {
                *cost = self.distance(*cost);
            }
        }
    }

    /// [`Self::costs`] into memory that is kept, whatever was in it.
    fn cost_all(&self, query: &Coarse<'_>, nodes: &[u32], costs: &mut Vec<f32>) {
        costs.resize(nodes.len(), 0.0);
        self.costs(query, nodes, costs);
    }

    /// The cost of each row, from memory that may be far: rows are fetched while others are scored.
    fn costs(&self, query: &Coarse<'_>, nodes: &[u32], out: &mut [f32]) {
        for (nodes, out) in nodes.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
            // the places of rows are cleared for every call: of few rows that was most of the work
            if nodes.len() <= FEW {
                self.costs_of::<FEW>(query, nodes, out);
            } else {
                self.costs_of::<CHUNK>(query, nodes, out);
            }
        }
    }

    /// [`Self::costs`] of at most `N` rows.
    fn costs_of<const N: usize>(&self, query: &Coarse<'_>, nodes: &[u32], out: &mut [f32]) {
        let lines = self.codec.read_by(query);
        let (mut rows, mut weights) = ([&[][..]; N], [&[][..]; N]);
        for (at, &node) in nodes.iter().enumerate() {
            (rows[at], weights[at]) = (&self.rows.code(node as usize)[..lines], self.weights(node));
            // halves are short enough to be asked for all at once
            if query.quick || at < AHEAD {
                fetch(rows[at]);
            }
        }
        // read last, so asked for last: the first rows are not to wait behind them
        weights[..nodes.len()].iter().copied().for_each(fetch);
        self.codec.products(&rows[..nodes.len()], query, out);
        for (cost, weights) in out.iter_mut().zip(weights) {
            let [times, plus] = [&weights[0], &weights[1]].map(float);
            *cost = *cost * query.times * times + (plus + query.plus);
        }
    }

    /// The distance at a cost.
    fn distance(&self, cost: f32) -> f32 {
        match self.codec.metric() {
            Metric::Cosine | Metric::Dot => cost,
            Metric::Euclidean => cost.max(0.0).sqrt(),
        }
    }

    /// The cost at a distance.
    fn cost(&self, distance: f32) -> f32 {
        match self.codec.metric() {
            Metric::Cosine | Metric::Dot => distance,
            Metric::Euclidean => distance * distance,
        }
    }

    fn facts_words(&self, node: u32) -> &[AtomicU32] {
        let words = self.rows.words(node as usize);
        &words[words.len() - FACTS..]
    }

    fn facts(&self, node: u32) -> Facts {
        let facts = self.facts_words(node);
        let [times, plus] = [fact::TIMES, fact::PLUS].map(|at| float(&facts[at]));
        Facts { shape: shape_of(facts), times, plus }
    }

    fn level(&self, node: u32) -> u32 {
        self.facts_words(node)[fact::LEVEL].load(Ordering::Relaxed)
    }

    /// The links of a node in a layer that it is in.
    fn links(&self, node: u32, layer: u32) -> Links<'_> {
        if layer == 0 {
            return Links(&self.rows.words(node as usize)[..self.room]);
        }
        debug_assert!(layer <= self.level(node), "a layer that the node is in");
        let first = self.facts_words(node)[fact::UPPER].load(Ordering::Relaxed);
        Links(&self.upper.words((first + layer - 1) as usize)[..self.params.m])
    }

    /// Where walks begin: a node and the layer above which there is none.
    fn entry(&self) -> (u32, u32) {
        let packed = self.entry.load(Ordering::Acquire);
        (packed as u32, (packed >> 32) as u32)
    }

    fn set_entry(&self, node: u32, layer: u32) {
        self.entry.store(u64::from(layer) << 32 | u64::from(node), Ordering::Release);
    }
}

/// A list of links: it ends with its memory or at the first [`NONE`].
#[derive(Clone, Copy)]
struct Links<'a>(&'a [AtomicU32]);

impl<'a> Links<'a> {
    /// The words: nodes, marked where a link is fixed.
    fn words(self) -> impl Iterator<Item = u32> + Clone + 'a {
        let words = self.0.iter().map(|word| word.load(Ordering::Acquire));
        words.take_while(|&word| word != NONE)
    }

    /// Appends the nodes that were not met before.
    fn meet(self, visited: &mut Visited, into: &mut Vec<u32>) {
        // a list that is shortened meanwhile may give a node that no graph has: whoever keeps the visited knows none such
        let words = self.0.iter().map(|word| word.load(Ordering::Acquire));
        let count = words.clone().position(|word| word == NONE).unwrap_or(self.0.len());
        visited.meet(words.take(count).map(|word| word & !FIXED), into);
    }

    fn nodes(self) -> impl Iterator<Item = u32> + 'a {
        self.words().map(|word| word & !FIXED)
    }

    /// Replaces the list.
    fn set(self, words: impl IntoIterator<Item = u32>) {
        let mut words = words.into_iter();
        for place in self.0 {
            place.store(words.next().unwrap_or(NONE), Ordering::Release);
        }
        debug_assert!(words.next().is_none(), "as many links as the list has room for");
    }
}

fn clear(links: &[AtomicU32]) {
    for link in links {
        link.store(NONE, Ordering::Relaxed);
    }
}

fn shape_of(facts: &[AtomicU32]) -> Shape {
    let [scale, norm, residual] =
        [fact::SCALE, fact::NORM, fact::RESIDUAL].map(|at| float(&facts[at]));
    Shape { scale, norm, residual }
}

fn float(word: &AtomicU32) -> f32 {
    f32::from_bits(word.load(Ordering::Relaxed))
}

const UNPOISONED: &str = "nothing panics while it links";
