//! Walks among the rows that a filter admits.
//!
//! Only admitted rows are scored and expanded. Where a row's links lead to too few of them, the links of its other
//! neighbours are followed one step farther (the two hops of ACORN, Patel et al. 2024), so rows that match are linked
//! through rows that do not. A walk first looks around where the query is. If fewer rows match there than elsewhere, the
//! nearest matches lie all around and are no neighbours of each other: then it also begins at rows spread evenly over the
//! matches and looks at ten times as many, or leaves them to a scan or to [`super::Cells`] where that is cheaper.

use crate::bits::Bits;
use crate::kernel::score::fetch;

use super::codec::Coarse;
use super::scratch::{GraphScratch, Near, Visited};
use super::{Graph, Links};

/// Rows that are expanded at once, so that the memory rests less often.
const TOGETHER: usize = 4;

/// Lists that are asked for ahead of their use.
const FETCHED: usize = 8;

/// Fewest rows, spread over the matches, that a walk begins at.
const SEEDS: usize = 32;

/// Rows that a walk expands to look around, matching or not.
const NEIGHBOURHOOD: usize = 20;

/// Of the rows it meets there, the nearest that are looked at.
const NEAREST: usize = 64;

/// Where fewer than this part of the usual share matches, and chance is no excuse, matches are scarce.
const SCARCE: f64 = 0.5;

/// So many standard deviations are no chance: it comes that far one time in forty.
const CHANCE: f64 = 2.0;

/// Where so many matches are usual among the rows met, none is no chance: it happens once in three thousand times.
const NO_CHANCE: f64 = 8.0;

/// Where a smaller share than this matches at all, paths among matches are longer, and a walk looks at more.
pub(super) const SPARSE: f64 = 0.1;

/// Matching rows that a step should lead to at least.
const ENOUGH: usize = 16;

/// How much wider a walk may look at most.
const WIDEST: usize = 10;

/// From this M on a row has links enough for that; with fewer they get long earlier.
const LINKED: f64 = 16.0;

/// How many candidates a walk keeps for `ef` good ones where this share of the rows matches, near the query as elsewhere:
/// what keeps recall@10 above 0.95 at ef = 50 and 100,000 rows, M = 16, and at 24,000 rows, M = 8.
pub(super) fn widened(ef: usize, share: f64, m: usize) -> usize {
    let sparse = SPARSE * (LINKED / m as f64).max(1.0).powf(1.5);
    (ef as f64 * (sparse / share).clamp(1.0, WIDEST as f64)) as usize
}

/// The rows that may be answers.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    /// Which.
    pub rows: &'a Bits,
    /// How many they are.
    pub count: usize,
    /// What it costs to answer without a walk, in rows of a scan: to scan them, their number.
    pub otherwise: usize,
}

/// How a search went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walked {
    /// Candidates were found around the query.
    Around,
    /// They were found all over the graph: so little that matches lies near the query that the walk had to look wide.
    AllOver,
    /// There are no candidates: it costs less to answer without a walk, which is left to whoever asked, or what matches
    /// near the query is cut off from the other matches.
    Left,
}

impl Graph {
    /// Leaves in the pool the nearest admitted rows that a walk from `start` finds.
    pub(super) fn walk_admitted(
        &self,
        query: &Coarse<'_>,
        start: Near,
        admit: &Admitted<'_>,
        cut: f32,
        scratch: &mut GraphScratch,
    ) -> Walked {
        let &Admitted { rows: admit, count: matches, otherwise } = admit;
        let (ef, linked) = (scratch.pool.size(), self.linked());
        let share = matches as f64 / linked as f64;
        // whether the walk that it takes where matches are scarce costs more than doing without
        let left = self.filtered_cost(WIDEST * ef, true) >= otherwise;
        let scarce = self.look_around(query, start, admit, share, left, scratch);
        if scarce && left {
            return Walked::Left;
        }
        let (some, many) = (self.params.m.max(ENOUGH), self.params.m0().max(ENOUGH));
        let (wider, enough) = if scarce {
            (WIDEST * ef, many)
        } else {
            let enough = if share < SPARSE { many } else { some };
            (widened(ef, share, self.params.m), enough)
        };
        let GraphScratch { visited, pool, found, .. } = &mut *scratch;
        found.resize(wider);
        std::mem::swap(pool, found);
        visited.restart(linked);
        for near in pool.items() {
            visited.insert(near.node());
        }
        if scarce {
            self.begin_everywhere(query, admit, (matches / SEEDS.max(ef)).max(1), scratch);
        }
        let ran_out = self.walk_matches(query, admit, enough, cut, scratch);
        let reached = scratch.pool.items().len();
        match reached >= ef || !ran_out || reached == admit.count_before(linked) {
            true if scarce => Walked::AllOver,
            true => Walked::Around,
            false => Walked::Left,
        }
    }

    /// Leaves in `found` the nearest matches in the query's own neighbourhood, whatever else is in it: it may not match,
    /// but what does may begin behind it. Whether fewer rows match there than the share that does everywhere; where that
    /// ends the walk, it is said as soon as it is known.
    fn look_around(
        &self,
        query: &Coarse<'_>,
        start: Near,
        admit: &Bits,
        share: f64,
        left: bool,
        scratch: &mut GraphScratch,
    ) -> bool {
        let GraphScratch { visited, pool, found, batch, costs, .. } = scratch;
        found.restart(WIDEST * pool.size());
        pool.restart(NEAREST);
        visited.insert(start.node());
        pool.insert(start);
        if has(admit, start.node()) {
            found.insert(start);
        }
        let (mut met, mut matching) = (0_usize, 0_usize);
        let mut expanded = 0;
        while expanded < NEIGHBOURHOOD {
            batch.clear();
            let before = expanded;
            for near in std::iter::from_fn(|| pool.expand()).take(TOGETHER) {
                expanded += 1;
                self.links(near.node(), 0).meet(visited, batch);
            }
            if expanded == before {
                break;
            }
            self.cost_all(query, batch, costs);
            for (&node, &cost) in batch.iter().zip(costs.iter()) {
                let near = Near::new(cost, node);
                if pool.insert(near) {
                    fetch(self.links(node, 0).0);
                }
                if has(admit, node) {
                    found.insert(near);
                    matching += 1;
                }
            }
            met += batch.len();
            if matching == 0 && left && met as f64 * share > NO_CHANCE {
                return true;
            }
        }
        let nearest = pool.items().iter().filter(|near| has(admit, near.node())).count();
        few(matching, met, share) || few(nearest, pool.items().len(), share)
    }

    /// Puts one match in so many into the pool, spread evenly over all.
    fn begin_everywhere(
        &self,
        query: &Coarse<'_>,
        admit: &Bits,
        every: usize,
        scratch: &mut GraphScratch,
    ) {
        let GraphScratch { visited, pool, batch, costs, .. } = scratch;
        let linked = self.linked();
        batch.clear();
        let spread = spread(admit, every).take_while(|&node| (node as usize) < linked);
        batch.extend(spread.filter(|&node| visited.insert(node)));
        self.cost_all(query, batch, costs);
        pool.insert_all(batch, costs);
    }

    /// Expands the nearest matches of the pool, some at a time, as [`Graph::walk`] does. Whether it ended because none was
    /// left, and not beyond the cut.
    fn walk_matches(
        &self,
        query: &Coarse<'_>,
        admit: &Bits,
        enough: usize,
        cut: f32,
        scratch: &mut GraphScratch,
    ) -> bool {
        let GraphScratch { visited, pool, batch, hops, costs, .. } = scratch;
        let mut idle = 0;
        loop {
            batch.clear();
            hops.clear();
            let mut spans = [Span::default(); TOGETHER];
            let mut expanded = 0;
            for (span, near) in spans.iter_mut().zip(std::iter::from_fn(|| pool.expand())) {
                if near.cost() > cut {
                    idle += 1;
                    if idle > super::search::PATIENCE {
                        return false;
                    }
                }
                *span = self.step(near.node(), admit, enough, visited, batch, hops);
                expanded += 1;
            }
            if expanded == 0 {
                return true;
            }
            for span in &spans[..expanded] {
                self.hop(span, admit, enough, visited, batch, hops);
            }
            self.cost_all(query, batch, costs);
            let nearest = pool.items()[0];
            for (&node, &cost) in batch.iter().zip(costs.iter()) {
                let near = Near::new(cost, node);
                if pool.insert(near) {
                    fetch(self.links(node, 0).0);
                    if cost <= cut || near < nearest {
                        idle = 0;
                    }
                }
            }
        }
    }

    /// Adds to `batch` the admitted neighbours of `node` that were not met before, and if they are fewer than `enough`, to
    /// `hops` those that are not admitted, whose lists are asked for.
    fn step(
        &self,
        node: u32,
        admit: &Bits,
        enough: usize,
        visited: &mut Visited,
        batch: &mut Vec<u32>,
        hops: &mut Vec<u32>,
    ) -> Span {
        let (mut seen, first) = (0, hops.len());
        for next in self.links(node, 0).nodes() {
            if has(admit, next) {
                seen += 1;
                if visited.insert(next) {
                    batch.push(next);
                }
            } else {
                hops.push(next);
            }
        }
        if seen >= enough {
            hops.truncate(first);
        }
        hops[first..].iter().take(FETCHED).for_each(|&hop| fetch(self.links(hop, 0).0));
        Span { first, end: hops.len(), seen }
    }

    /// Adds to `batch` the admitted neighbours, not met before, of those that a step left out, until it led to `enough`.
    fn hop(
        &self,
        span: &Span,
        admit: &Bits,
        enough: usize,
        visited: &mut Visited,
        batch: &mut Vec<u32>,
        hops: &[u32],
    ) {
        let &Span { first, end, mut seen } = span;
        let list = |hop: u32| -> Links<'_> { self.links(hop, 0) };
        for (at, &hop) in hops[..end].iter().enumerate().skip(first) {
            if seen >= enough {
                break;
            }
            hops[..end].get(at + FETCHED).inspect(|hop| fetch(list(**hop).0));
            if !visited.insert(hop) {
                continue; // its neighbours were taken already
            }
            for next in list(hop).nodes().filter(|&next| has(admit, next)) {
                seen += 1;
                if visited.insert(next) {
                    batch.push(next);
                }
            }
        }
    }
}

/// What one step of a walk left out: a part of the hops, and how many matches it led to.
#[derive(Clone, Copy, Default)]
struct Span {
    first: usize,
    end: usize,
    seen: usize,
}

/// Whether so many of `met` rows are too few to be a share of `all`.
pub(super) fn few(matching: usize, met: usize, all: f64) -> bool {
    let (found, usual) = (matching as f64, met as f64 * all);
    let chance = CHANCE * (usual * (1.0 - all).max(0.0)).sqrt();
    found < SCARCE * usual && found < usual - chance
}

/// Whether a row is admitted; rows beyond the set are not.
pub(super) fn has(admit: &Bits, node: u32) -> bool {
    admit.words().get(node as usize / 64).is_some_and(|word| word >> (node % 64) & 1 == 1)
}

/// One row in so many of a set, about evenly.
fn spread(admit: &Bits, every: usize) -> impl Iterator<Item = u32> + '_ {
    let mut since = every - 1;
    admit.words().iter().enumerate().filter_map(move |(at, &word)| {
        since += word.count_ones() as usize;
        if word == 0 || since < every {
            return None;
        }
        since %= every;
        Some((at * 64) as u32 + word.trailing_zeros())
    })
}
