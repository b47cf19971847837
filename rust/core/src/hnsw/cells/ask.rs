//! How the nearest are found by cells.

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::OnceLock;

use puruspe::erfc;

use crate::bits::Bits;
use crate::kernel::distance::Kernel;
use crate::kernel::score::fetch;
use crate::kernel::sketch::{GROUP, Group, SketchQuery};
use crate::metric::Metric;

use super::super::codec::Coarse;
use super::super::filter::{few, has};
use super::super::scratch::{GraphScratch, Near, Pool, give};
use super::super::{Graph, NodeId, Prepared};
use super::{Arranged, Cells, project};

/// What is asked of cells.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The query that was prepared.
    pub state: &'a [f32],
    /// How many are to be found,
    pub k: usize,
    /// among so many candidates.
    pub ef: usize,
    /// The rows that may be answers,
    pub admit: &'a Bits,
    /// how many they are,
    pub matches: usize,
    /// and where they are as [`Cells::arrange`] has them, which is not asked for before it is needed.
    pub arranged: &'a dyn Fn() -> &'a Arranged,
    /// Whether to leave the question to a walk if there are matches enough around the query.
    pub or_walk: bool,
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By candidates.
    Found,
    /// Not at all: there are matches enough around the query for a walk.
    Around,
    /// Not at all: too many rows are as near as the nearest for sketches to tell them apart, or f32 does not hold their
    /// distances.
    Unable,
}

/// Cells that are around a query.
const AROUND: usize = 3;

/// Matches that are looked at before it is asked how many more may be worth it, as a multiple of their root.
const FIRST: f64 = 8.0;

/// Rows that are scored by their codes, for each candidate that is wanted.
const SCORED: usize = 8;

/// The share of the nearest that may be in cells which are not looked into, at 50 candidates.
const MISSED: f64 = 0.05;

/// How much wider than measured the spread around a centre is taken to be: far from the middle there are more rows than a
/// normal distribution has.
const TAILS: f64 = 1.1;

/// How many standard deviations of the sketches' error the last row that is scored has to be behind the nearest ones.
const APART: f64 = 1.0;

/// So many members tell how far they are from their middles.
const TOLD: f32 = 2000.0;

/// Steps, and how wide they are in standard deviations, in which cells are told apart by their distance.
const STEPS: usize = 96;
const WIDE: f64 = 0.0625;

/// Rows that are scored by their codes at the end.
pub(super) fn scored(ef: usize) -> usize {
    SCORED * ef
}

/// The memory of a question.
#[derive(Debug, Default)]
pub(in super::super) struct Scratch {
    state: Vec<f32>,
    prepared: Prepared,
    projected: SketchQuery,
    /// What the middles of cells cost.
    middles: Vec<f32>,
    /// Cells with matches, by that.
    cells: Vec<Near>,
    /// What the members of a group cost by their sketches,
    estimates: [f32; GROUP],
    /// and how that differs from the middle.
    spread: Spread,
    /// The best rows by their sketches, never many more than twice so many,
    found: Vec<Near>,
    keep: usize,
    /// and what would not be among them.
    bar: f32,
    nodes: Vec<u32>,
    costs: Vec<f32>,
}

/// How the costs of members differ from those of their cells' middles.
#[derive(Debug, Default)]
struct Spread {
    count: f32,
    sum: f32,
    squares: f32,
}

impl Spread {
    fn add(&mut self, x: f32) {
        self.count += 1.0;
        self.sum += x;
        self.squares += x * x;
    }

    /// The mean and the standard deviation, without what the sketches add to it, for the tails that rows have.
    fn normal(&self, blur: f64) -> (f64, f64) {
        let [sum, squares] = [self.sum, self.squares].map(|x| f64::from(x / self.count.max(1.0)));
        let (mean, variance) = (sum, squares - sum * sum);
        let deviation = (variance - blur).max(variance / 16.0).max(f64::MIN_POSITIVE).sqrt();
        (mean, TAILS * deviation)
    }
}

impl Cells {
    /// Leaves in `out` the best of the rows that may be answers, nearest first, at most `ef`, by estimated distance.
    ///
    /// The nearest cells are looked into first. From the nearest rows there, and from how far members lie from the middles
    /// of their cells, follows how many of the nearest each further cell is to be expected to hold; as many are looked
    /// into as it takes until the others hold next to none.
    pub fn search(
        &self,
        graph: &Graph,
        query: &Prepared,
        wanted: &Wanted<'_>,
        scratch: &mut GraphScratch,
        out: &mut Vec<(NodeId, f32)>,
    ) -> Told {
        let &Wanted { state, k, ef, admit, matches, arranged, or_walk } = wanted;
        scratch.restart(graph.len(), ef);
        let GraphScratch { pool, cells: space, .. } = scratch;
        let query = query.coarse(graph.glances.suffice(&graph.codec, &graph.params));
        let metric = graph.params.metric;
        space.take(state, metric);
        self.rank_centres(metric, space);
        if or_walk && !self.is_scarce(admit, matches, &space.middles) {
            return Told::Around;
        }
        let arranged = arranged();
        space.list_cells(arranged);
        let blur = self.blur * space.project(self);
        if !blur.is_finite() {
            return Told::Unable;
        }
        (space.keep, space.spread) = (scored(ef), Spread::default());
        let first = ((FIRST * (arranged.matches as f64).sqrt()) as usize).max(2 * ef);
        let mut cells = std::mem::take(&mut space.cells);
        let missed = MISSED * k as f64 * 50.0 / ef as f64;
        let mut done = self.look_into(&mut cells, first, arranged, space);
        while done < cells.len() {
            space.score(graph, &query, k.saturating_mul(3).min(space.keep));
            let (rest, bound) = (&mut cells[done..], space.kth(k));
            let normal = space.spread.normal(blur);
            let more = self.worth(rest, bound, missed, normal, &arranged.counts);
            if more == 0 {
                break;
            }
            // the nearer rows are found on the way, the fewer cells are worth it
            let part = if more > 2 * done { done } else { more };
            if part < more {
                rest[..more].select_nth_unstable(part);
            }
            self.look_into(&mut rest[..part], usize::MAX, arranged, space);
            done += part;
        }
        space.cells = cells;
        space.score(graph, &query, space.keep);
        pool.insert_all(&space.nodes, &space.costs);
        let (last, kth) = (space.last(), space.kth(k));
        // costs that are no numbers, or beyond them
        let lost = pool.items().len() < ef.min(arranged.matches) || kth == f64::NEG_INFINITY;
        let unable = lost || last < kth + APART * blur.sqrt();
        self.note(unable);
        if unable {
            return Told::Unable;
        }
        self.add_outside(graph, &query, admit, pool, space);
        give(pool.items(), |cost| graph.distance(cost), out);
        Told::Found
    }

    /// Whether fewer rows match in the nearest cells than elsewhere.
    fn is_scarce(&self, admit: &Bits, matches: usize, middles: &[f32]) -> bool {
        let mut nearest = [Near::new(f32::INFINITY, 0); AROUND];
        for (cell, &cost) in (0..).zip(middles) {
            let mut near = Near::new(cost, cell);
            for place in &mut nearest {
                if near < *place {
                    std::mem::swap(place, &mut near);
                }
            }
        }
        let (mut met, mut matching) = (0, 0);
        for near in nearest.iter().filter(|near| near.cost() < f32::INFINITY) {
            let members = self.members_of(near.node() as usize);
            met += members.len();
            matching += members.iter().filter(|row| has(admit, **row)).count();
        }
        few(matching, met, matches as f64 / admit.len() as f64)
    }

    /// Scores the rows that were linked after the cells were made.
    fn add_outside(
        &self,
        graph: &Graph,
        query: &Coarse<'_>,
        admit: &Bits,
        pool: &mut Pool,
        space: &mut Scratch,
    ) {
        let Scratch { nodes, costs, .. } = space;
        nodes.clear();
        let outside = self.rows()..graph.linked().min(admit.len());
        nodes.extend(outside.filter(|&row| admit.get(row)).map(|row| row as u32));
        graph.cost_all(query, nodes, costs);
        pool.insert_all(nodes, costs);
    }

    /// Leaves in `space.middles` what the centres cost.
    fn rank_centres(&self, metric: Metric, space: &mut Scratch) {
        let Scratch { state, prepared, middles, nodes, .. } = space;
        self.centres.ask(state, prepared, nodes, middles);
        match metric {
            Metric::Dot => {}
            Metric::Cosine => middles.iter_mut().for_each(|cost| *cost += 1.0),
            Metric::Euclidean => {
                let square = Kernel::best().products(state, state).1 as f32;
                let both = middles.iter_mut().zip(&self.centres.halves);
                both.for_each(|(cost, half)| *cost = square + 2.0 * (*cost + half));
            }
        }
    }

    /// Looks into the nearest cells until there were so many matches. How many cells that were: they are the first now.
    fn look_into(
        &self,
        cells: &mut [Near],
        matches: usize,
        arranged: &Arranged,
        space: &mut Scratch,
    ) -> usize {
        let (mut done, mut seen, mut next) = (0, 0, 32);
        while done < cells.len() && seen < matches {
            let rest = &mut cells[done..];
            let part = if matches == usize::MAX { rest.len() } else { next.min(rest.len()) };
            if part < rest.len() {
                rest.select_nth_unstable(part);
            }
            for (at, near) in rest[..part].iter().enumerate() {
                // cells lie anywhere: the next one's begin is on its way meanwhile, the memory does the rest
                if let Some(next) = rest[..part].get(at + 1) {
                    let start = self.starts[next.node() as usize] as usize / GROUP;
                    self.sketches.get(start).inspect(|group| fetch(std::slice::from_ref(*group)));
                }
                seen += self.look(near.node(), near.cost(), arranged, space);
            }
            done += part;
            next = done;
        }
        done
    }

    /// Estimates the matches of one cell. How many they are.
    fn look(&self, cell: u32, middle: f32, arranged: &Arranged, space: &mut Scratch) -> usize {
        let Scratch { projected, estimates: costs, keep, spread, found, bar, .. } = space;
        let [start, end] = [0, 1].map(|side| self.starts[cell as usize + side] as usize);
        for first in (start..end).step_by(GROUP) {
            let matching = arranged.group(first);
            if matching == 0 {
                continue;
            }
            let at = first / GROUP;
            let (rows, times) = (&self.sketches[at], &self.times.as_chunks().0[at]);
            let group = Group { rows, times, plus: self.plus.as_chunks().0.get(at), middle };
            let near = self.kernel.estimate(&group, projected, *bar, costs);
            if spread.count < TOLD {
                each(matching, |at| spread.add(costs[at] - middle));
            }
            each(near & matching, |at| found.push(Near::new(costs[at], self.members[first + at])));
            if found.len() > 2 * *keep {
                let (_, worst, _) = found.select_nth_unstable(*keep);
                *bar = worst.cost();
                found.truncate(*keep);
            }
        }
        arranged.counts[cell as usize] as usize
    }
}

/// Names the bits of a word that are set.
fn each(mut word: u32, mut name: impl FnMut(usize)) {
    while word != 0 {
        name(word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

impl Scratch {
    /// Takes a query, divided by its length where lengths do not count.
    fn take(&mut self, query: &[f32], metric: Metric) {
        self.state.clear();
        self.state.extend_from_slice(query);
        let norm = Kernel::best().products(query, query).1.sqrt();
        if metric == Metric::Cosine && norm > 0.0 {
            for x in &mut self.state {
                *x = (f64::from(*x) / norm) as f32;
            }
        }
    }

    /// Lists the cells that have matches, with what their centres cost, in no order.
    fn list_cells(&mut self, arranged: &Arranged) {
        let all = (0..).zip(self.middles.iter().zip(&arranged.counts));
        let some = all.filter(|(_, (_, count))| **count > 0);
        self.cells.clear();
        self.cells.extend(some.map(|(cell, (cost, _))| Near::new(*cost, cell)));
    }

    /// What the best row costs by its sketch that was not scored by its code.
    fn last(&self) -> f64 {
        let last = self.found.get(self.keep).map_or(self.bar, |near| near.cost());
        f64::from(last)
    }

    /// Projects the query. The square of the length of what is projected.
    fn project(&mut self, cells: &Cells) -> f64 {
        let Self { state, projected, found, bar, .. } = self;
        found.clear();
        *bar = f32::INFINITY;
        project(&cells.rotation, state);
        projected.set(state);
        state.iter().map(|x| f64::from(*x).powi(2)).sum()
    }

    /// The cost of the k-th nearest row that was scored; if they are fewer, nothing is too far.
    fn kth(&mut self, k: usize) -> f64 {
        if self.costs.len() < k {
            return f64::INFINITY;
        }
        f64::from(*self.costs.select_nth_unstable_by(k - 1, f32::total_cmp).1)
    }

    /// Leaves in `nodes` the best by their sketches, and in `costs` what they cost by their codes.
    fn score(&mut self, graph: &Graph, query: &Coarse<'_>, count: usize) {
        let Self { found, nodes, costs, .. } = self;
        if found.len() > count {
            found.select_nth_unstable(count);
        }
        nodes.clear();
        nodes.extend(found.iter().take(count).map(|near| near.node()));
        graph.cost_all(query, nodes, costs);
    }
}

/// The share of a normal distribution that is beyond each step.
fn beyond() -> &'static [f64; STEPS] {
    static BEYOND: OnceLock<[f64; STEPS]> = OnceLock::new();
    BEYOND
        .get_or_init(|| std::array::from_fn(|step| 0.5 * erfc(step as f64 * WIDE * FRAC_1_SQRT_2)))
}

impl Cells {
    /// Of the cells left, how many are worth looking into, so that the others are to be expected to hold no more than
    /// `missed` rows that cost less than `bound`; those come first now. The costs of members are normal around that of
    /// their middle.
    pub(super) fn worth(
        &self,
        cells: &mut [Near],
        bound: f64,
        missed: f64,
        (mean, deviation): (f64, f64),
        counts: &[u32],
    ) -> usize {
        let (scale, from) = ((1.0 / (deviation * WIDE)) as f32, (bound - mean) as f32);
        let step = |near: &Near| {
            let narrow = scale * self.narrow[near.node() as usize];
            (((near.cost() - from) * narrow) as usize).min(STEPS - 1)
        };
        let mut members = [0_u32; STEPS];
        for near in cells.iter() {
            members[step(near)] += counts[near.node() as usize];
        }
        let (mut expected, mut last) = (0.0, STEPS);
        while last > 0 {
            expected += f64::from(members[last - 1]) * beyond()[last - 1];
            if expected > missed {
                break;
            }
            last -= 1;
        }
        // those nearer than the first cells that may be left
        let mut worth = 0;
        for at in 0..cells.len() {
            if step(&cells[at]) < last {
                cells.swap(at, worth);
                worth += 1;
            }
        }
        worth
    }
}
