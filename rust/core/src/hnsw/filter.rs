//! Walks among the rows that a filter admits.
//!
//! Only admitted rows are scored and expanded. Where a row's links lead to too few of them, the links of its other
//! neighbours are followed one step farther (the two hops of ACORN, Patel et al. 2024), so rows that match are linked
//! through rows that do not. A walk first looks around where the query is. If fewer rows match there than elsewhere, the
//! nearest matches lie all around and are no neighbours of each other: then it also begins at rows spread evenly over the
//! matches and looks at eight times as many, or leaves the matches to a scan where that is cheaper.

use crate::bits::Bits;
use crate::kernel::score::fetch;

use super::codec::Coarse;
use super::scratch::{GraphScratch, Near, Visited};
use super::{Graph, Links};

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

/// So many standard deviations are no chance: it comes that far one time in twenty.
const CHANCE: f64 = 1.65;

/// Where a smaller share than this matches at all, paths among matches are longer, and a walk looks at more.
pub(super) const SPARSE: f64 = 0.1;

/// Matching rows that a step should lead to at least.
const ENOUGH: usize = 16;

/// How much wider a walk may look at most.
const WIDEST: usize = 8;

/// How many candidates a walk keeps for `ef` good ones where this share of the rows matches, near the query as elsewhere:
/// what keeps recall@10 above 0.95 at ef = 50 and 100,000 rows.
pub(super) fn widened(ef: usize, share: f64) -> usize {
    (ef as f64 * (SPARSE / share).clamp(1.0, WIDEST as f64)) as usize
}

impl Graph {
    /// Leaves in the pool the nearest admitted rows that a walk from `start` finds, or says false: where the query is, so
    /// little matches that a scan of all matches costs less than the walk it would take.
    pub(super) fn walk_admitted(
        &self,
        query: &Coarse<'_>,
        start: Near,
        admit: &Bits,
        matches: usize,
        cut: f32,
        scratch: &mut GraphScratch,
    ) -> bool {
        let GraphScratch { visited, pool, found, batch, hops, costs } = scratch;
        let (ef, linked) = (pool.size(), self.linked());
        // the query's own neighbourhood, whatever is in it: it may not match, but what does may begin behind it
        found.restart(WIDEST * ef);
        pool.restart(NEAREST);
        visited.insert(start.node());
        pool.insert(start);
        if has(admit, start.node()) {
            found.insert(start);
        }
        let (mut met, mut matching) = (0_usize, 0_usize);
        for _ in 0..NEIGHBOURHOOD {
            let Some(near) = pool.expand() else { break };
            batch.clear();
            self.links(near.node(), 0).take(|node| visited.insert(node), batch);
            costs.resize(batch.len(), 0.0);
            self.costs(query, batch, costs);
            for (&node, &cost) in batch.iter().zip(costs.iter()) {
                let near = Near::new(cost, node);
                pool.insert(near);
                if has(admit, node) {
                    found.insert(near);
                    matching += 1;
                }
            }
            met += batch.len();
        }
        // how often rows match here, against how often they do everywhere
        let all = matches as f64 / linked as f64;
        let nearest = pool.items().iter().filter(|near| has(admit, near.node())).count();
        let scarce = few(matching, met, all) || few(nearest, pool.items().len(), all);
        let (some, many) = (self.params.m.max(ENOUGH), self.params.m0().max(ENOUGH));
        let (wider, enough) = if scarce {
            (WIDEST * ef, many)
        } else {
            (widened(ef, all), if all < SPARSE { many } else { some })
        };
        if scarce && self.filtered_cost(wider, true) >= matches {
            return false;
        }
        found.resize(wider);
        std::mem::swap(pool, found);
        visited.restart(linked);
        for near in pool.items() {
            visited.insert(near.node());
        }
        if scarce {
            batch.clear();
            let every = (matches / SEEDS.max(ef)).max(1);
            let spread = spread(admit, every).take_while(|&node| (node as usize) < linked);
            batch.extend(spread.filter(|&node| visited.insert(node)));
            costs.resize(batch.len(), 0.0);
            self.costs(query, batch, costs);
            for (&node, &cost) in batch.iter().zip(costs.iter()) {
                pool.insert(Near::new(cost, node));
            }
        }
        let mut idle = 0;
        while let Some(near) = pool.expand() {
            if near.cost() > cut {
                idle += 1;
                if idle > super::search::PATIENCE {
                    break;
                }
            }
            batch.clear();
            self.gather(near.node(), admit, enough, visited, batch, hops);
            costs.resize(batch.len(), 0.0);
            self.costs(query, batch, costs);
            let nearest = pool.items()[0];
            for (&node, &cost) in batch.iter().zip(costs.iter()) {
                let near = Near::new(cost, node);
                if pool.insert(near) && (cost <= cut || near < nearest) {
                    idle = 0;
                }
            }
        }
        true
    }

    /// Adds to `batch` the admitted rows that `node` leads to and that were not met before: its neighbours, and if they
    /// are fewer than `enough`, the neighbours of those that are not admitted.
    fn gather(
        &self,
        node: u32,
        admit: &Bits,
        enough: usize,
        visited: &mut Visited,
        batch: &mut Vec<u32>,
        hops: &mut Vec<u32>,
    ) {
        let mut seen = 0;
        hops.clear();
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
            return;
        }
        let list = |hop: u32| -> Links<'_> { self.links(hop, 0) };
        hops.iter().take(FETCHED).for_each(|&hop| fetch(list(hop).0));
        for (at, &hop) in hops.iter().enumerate() {
            if seen >= enough {
                break;
            }
            hops.get(at + FETCHED).inspect(|hop| fetch(list(**hop).0));
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

/// Whether so many of `met` rows are too few to be a share of `all`.
fn few(matching: usize, met: usize, all: f64) -> bool {
    let (found, usual) = (matching as f64, met as f64 * all);
    let chance = CHANCE * (usual * (1.0 - all).max(0.0)).sqrt();
    found < SCARCE * usual && found < usual - chance
}

/// Whether a row is admitted; rows beyond the set are not.
fn has(admit: &Bits, node: u32) -> bool {
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
