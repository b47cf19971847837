//! Cells: the rows in groups of neighbours, for filters under which a walk is lost.
//!
//! A walk is quick because the neighbours of near rows are nearer still. Where a filter leaves nothing of the query's own
//! neighbourhood, the nearest matches lie all around and are no neighbours of each other, and a walk has to go nearly
//! everywhere. Then an inverted file is quicker (Sivic and Zisserman 2003; Jégou, Douze and Schmid 2011): every row is in
//! the cell of its nearest centre, and only the cells are looked into that are likely to hold something near.
//!
//! A row's place in its cell is kept as the signs of a random projection, 256 bits, from which a query's product with what
//! the row adds to the centre is estimated without bias (`RaBitQ`, Gao and Long 2024): thirty-two bytes, beside
//! those of its cell, where a code is hundreds anywhere. The best by that estimate are scored by their codes.
//!
//! Cells are made behind the searches when one would have needed them, and take some fifty bytes a row from then on at
//! 100,000 rows of 768 dimensions. They are not saved.

mod ask;
mod make;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bits::Bits;
use crate::kernel::distance::Kernel;
use crate::kernel::sketch::{self, GROUP, SKETCHED, Sketches};
use crate::metric::Metric;

use super::filter::has;
use super::params::{Params, Quantization};
use super::rotation::Rotation;
use super::{Graph, Prepared};

pub(super) use ask::Scratch;
pub use ask::{Told, Wanted};

/// Centres for a graph of so many rows: twice the root.
fn centres(rows: usize) -> usize {
    (2.0 * (rows as f64).sqrt()) as usize
}

/// One row in so many may be outside of the cells before they are made to hold it.
const OUTSIDE: usize = 32;

/// Where more than one in so many are outside, cells are not asked: those have to be looked at one by one.
const UNSERVED: usize = 8;

/// So many questions may go unanswered before cells are given up; asking in vain costs as much as asking.
const PATIENCE: u32 = 16;

/// Once there are so many times the rows that the centres were made of, new ones are made.
const OUTGROWN: usize = 2;

/// No row.
const NOBODY: u32 = u32::MAX;

/// Rows of a graph by their nearest centre. It holds the oldest rows; those that were linked since are outside.
#[derive(Debug)]
pub struct Cells {
    kernel: sketch::Kernel,
    /// Shared by the cells of one graph while it grows.
    centres: Arc<Centres>,
    /// Rows that the centres were made of.
    made_of: usize,
    /// Rows that are in a cell.
    rows: usize,
    /// Where each cell begins among the members, and where the last one ends: multiples of [`GROUP`].
    starts: Vec<u32>,
    /// Rows of each cell.
    sizes: Vec<u32>,
    /// The rows, cell by cell, rising within each; [`NOBODY`] fills up a cell's last group.
    members: Vec<u32>,
    /// What each member adds to its centre, a group at a time.
    sketches: Vec<Sketches>,
    /// What the product of a sketch and a query's projection is to be multiplied with to be a cost.
    times: Vec<f32>,
    /// What a member's cost has beside its cell's and that of its sketch; empty where that is nothing.
    plus: Vec<f32>,
    /// How much nearer the members of each cell are to its centre than those of all, as a factor.
    narrow: Vec<f32>,
    /// The mean square of `times`.
    blur: f64,
    rotation: Rotation,
    /// Questions, and those that could not be answered.
    asked: AtomicU32,
    unable: AtomicU32,
    /// False where f32 was too small for the states: nothing can be said of any row.
    sound: bool,
}

/// The matches of one filter, as the cells have them.
#[derive(Clone, Debug, Default)]
pub struct Arranged {
    /// A bit for every member, group by group.
    groups: Vec<u32>,
    /// How many of each cell,
    counts: Vec<u32>,
    /// and of all.
    matches: usize,
    /// Rows that the cells have.
    rows: usize,
}

impl Arranged {
    /// Rows it knows of: the older ones.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Those of the group at `first`, which is in the lowest bit.
    fn group(&self, first: usize) -> u32 {
        self.groups[first / GROUP]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * (self.groups.capacity() + self.counts.capacity())
    }
}

impl Cells {
    /// Rows in them: all with smaller ids.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether so many rows came since that they should be among them.
    pub fn are_outgrown(&self, linked: usize) -> bool {
        linked > self.rows() + self.rows() / OUTSIDE
    }

    /// Anonymous bytes held.
    pub fn bytes(&self) -> usize {
        let numbers = self.starts.len()
            + 2 * self.sizes.len()
            + self.members.len()
            + self.times.len()
            + self.plus.len();
        self.centres.graph.bytes()
            + 4 * (numbers + self.centres.halves.len())
            + size_of::<Sketches>() * self.sketches.len()
    }

    /// What a search costs that is answered by cells, made or not, in rows of a scan of matches.
    ///
    /// Measured at 100,000 rows of 768 dimensions (AVX2, ef = 50): questions whose matches are all about took as long as
    /// scans of 2,400 rows where 2,000 match, of 2,900 to 3,900 where 5,000 do and of 2,600 to 4,000 where 20,000 do.
    pub fn cost(rows: usize, matches: usize, ef: usize) -> usize {
        let seen = 21.0 * (matches as f64).sqrt();
        (0.8 * centres(rows) as f64 + seen + 1.8 * ask::scored(ef) as f64) as usize + 150
    }

    /// Whether they could tell what is near for most of what was asked.
    pub fn can_tell(&self) -> bool {
        let counts = [&self.asked, &self.unable].map(|count| count.load(Ordering::Relaxed));
        let [asked, unable] = counts;
        self.sound && unable <= asked / 4 + PATIENCE
    }

    /// Whether they are worth asking: they can tell, and nearly all linked rows are in them.
    pub fn serve(&self, linked: usize) -> bool {
        self.can_tell() && linked <= self.rows + self.rows / UNSERVED
    }

    /// The rows of a filter as the cells have them: worth keeping as long as the filter is asked for.
    pub fn arrange(&self, rows: &Bits) -> Arranged {
        let group = |members: &[u32]| {
            let bits = (0..).zip(members).map(|(at, &row)| u32::from(has(rows, row)) << at);
            bits.fold(0, |all, bit| all | bit)
        };
        let groups: Vec<u32> = self.members.chunks(GROUP).map(group).collect();
        let ones = |span: &[u32]| {
            let [start, end] = [span[0], span[1]].map(|at| at as usize / GROUP);
            groups[start..end].iter().map(|group| group.count_ones()).sum()
        };
        let counts: Vec<u32> = self.starts.windows(2).map(ones).collect();
        let matches = counts.iter().map(|&count| count as usize).sum();
        Arranged { groups, counts, matches, rows: self.rows }
    }

    /// The rows of a cell.
    fn members_of(&self, cell: usize) -> &[u32] {
        &self.members[self.starts[cell] as usize..][..self.sizes[cell] as usize]
    }

    /// Notes whether a question could not be answered.
    fn note(&self, unable: bool) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.unable.fetch_add(u32::from(unable), Ordering::Relaxed);
    }
}

/// The middles of cells, coded.
#[derive(Debug)]
struct Centres {
    /// Their products.
    graph: Graph,
    /// Half of their squared lengths.
    halves: Vec<f32>,
}

impl Centres {
    /// None yet, of states with as many numbers as the graph's.
    fn new(dimension: usize) -> Self {
        let (metric, quantization) = (Metric::Dot, Quantization::Int8);
        let params = Params { m: 2, ef_construction: 1, metric, quantization, seed: 0 };
        Self { graph: Graph::unlinked(dimension, params), halves: Vec::new() }
    }

    fn push(&mut self, state: &[f32]) {
        self.graph.push(state);
        self.halves.push((0.5 * Kernel::best().products(state, state).1) as f32);
    }

    fn len(&self) -> usize {
        self.halves.len()
    }

    /// Sets `costs` to minus the product of each with a query.
    fn ask(
        &self,
        query: &[f32],
        prepared: &mut Prepared,
        nodes: &mut Vec<u32>,
        costs: &mut Vec<f32>,
    ) {
        self.graph.prepare(query, prepared);
        nodes.clear();
        nodes.extend(0..self.len() as u32);
        // what the lower halves would add is little beside what sketches leave out
        let query = prepared.coarse(self.graph.codec.splits());
        self.graph.cost_all(&query, nodes, costs);
    }
}

/// What remains of a vector: its projection, cut at as many components as a sketch has.
fn project(rotation: &Rotation, vector: &mut Vec<f32>) {
    vector.resize(rotation.length(), 0.0);
    rotation.turn(vector);
    vector.truncate(SKETCHED);
}
