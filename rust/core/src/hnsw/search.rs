//! Walks through the graph.

use crate::kernel::score::fetch;

use super::codec::Coarse;
use super::filter::{Admitted, SPARSE, Walked, widened};
#[cfg(doc)]
use super::glance::Glances;
use super::scratch::{GraphScratch, Near, give};
use super::{Graph, NodeId, Prepared};

impl Graph {
    /// What a search costs, in rows of a scan: a search is worth it where more rows match. Without a filter a graph that
    /// is large enough to be built is always worth its walk.
    pub fn search_cost(&self, ef: usize, matches: usize) -> usize {
        let linked = self.linked().max(2);
        if matches >= linked {
            return 3 * self.scored(ef);
        }
        let share = matches.max(1) as f64 / linked as f64;
        self.filtered_cost(widened(ef, share, self.params.m), share < SPARSE)
    }

    /// What a walk through a part of the rows costs that keeps `pool` candidates, in rows of a scan of matches. `far` says
    /// that it reads many lists of rows that do not match.
    ///
    /// Measured with cold caches (AVX-512, 20,000 to 100,000 rows of 16 to 1536 dimensions, ef 50 and 100, int8; the time
    /// of a walk through half of the rows, of walks through 5, 2 and 1 %, of scans of 5 %, medians of 40 queries): a row
    /// that is scored takes a walk some 160 ns and 11 ns for every line of its code, half as much again where few match; a
    /// row that lies anywhere takes a scan 30 ns and 4.7 ns a line. Halves, which walks and scans read since, took a third
    /// from both at 768 dimensions; what counts is the proportion.
    pub(super) fn filtered_cost(&self, pool: usize, far: bool) -> usize {
        let lines = self.codec.lines() as f64;
        let (walked, scanned) = (160.0 + 11.0 * lines, 30.0 + 4.7 * lines);
        let each = walked / scanned * if far { 1.5 } else { 1.0 };
        (self.scored(pool) as f64 * each) as usize
    }

    /// Rows that a walk scores: it expands some `pool` rows, each new to it by half of its links, and those of its way.
    fn scored(&self, pool: usize) -> usize {
        self.params.m * pool / 2 + self.params.m * self.linked().max(2).ilog2() as usize
    }

    /// The best candidates by estimated distance, nearest first, at most `ef`, into `out` (Malkov and Yashunin, algorithm
    /// 5); by the upper halves of codes where [`Glances`] suffice. Only rows of `admit` are candidates; None admits every
    /// linked row. Candidates farther than `cut` may be left out.
    pub fn search(
        &self,
        query: &Prepared,
        ef: usize,
        admit: Option<Admitted<'_>>,
        cut: Option<f32>,
        scratch: &mut GraphScratch,
        out: &mut Vec<(NodeId, f32)>,
    ) -> Walked {
        out.clear();
        if self.linked() == 0 || ef == 0 || admit.is_some_and(|admit| admit.count == 0) {
            return Walked::Around;
        }
        let ef = ef.min(self.len()); // a pool takes its memory at once
        scratch.restart(self.len(), ef);
        let query = query.coarse(self.glances.suffice(&self.codec, &self.params));
        let start = self.descend(&query, 0, scratch);
        let cut = cut.map_or(f32::INFINITY, |cut| self.cost(cut));
        let mut walked = Walked::Around;
        if let Some(admit) = admit {
            walked = self.walk_admitted(&query, start, &admit, cut, scratch);
            if walked == Walked::Left {
                return walked;
            }
            scratch.pool.resize(ef);
        } else {
            scratch.visited.insert(start.node());
            scratch.pool.insert(start);
            self.walk(&query, 0, cut, scratch);
        }
        give(scratch.pool.items(), |cost| self.distance(cost), out);
        walked
    }

    /// Walks down to a layer, in each to the node from which no link leads nearer (algorithm 5, the first phase).
    pub(super) fn descend(
        &self,
        query: &Coarse<'_>,
        layer: u32,
        scratch: &mut GraphScratch,
    ) -> Near {
        let (node, top) = self.entry();
        let mut cost = [0.0];
        self.costs(query, &[node], &mut cost);
        let mut nearest = Near::new(cost[0], node);
        for layer in (layer + 1..=top).rev() {
            loop {
                let GraphScratch { batch, costs, .. } = scratch;
                batch.clear();
                batch.extend(self.links(nearest.node(), layer).nodes());
                self.cost_all(query, batch, costs);
                let all =
                    batch.iter().zip(costs.iter()).map(|(&node, &cost)| Near::new(cost, node));
                match all.min() {
                    Some(near) if near.cost() < nearest.cost() => nearest = near,
                    _ => break,
                }
            }
        }
        nearest
    }

    /// Expands the nearest nodes of the pool, some at a time, until all in it are expanded (algorithm 2), or the next one is
    /// beyond `cut` and the walk has stopped getting nearer.
    pub(super) fn walk(
        &self,
        query: &Coarse<'_>,
        layer: u32,
        cut: f32,
        scratch: &mut GraphScratch,
    ) {
        let GraphScratch { visited, pool, batch, costs, .. } = scratch;
        // expansions beyond the cut that brought nothing within it
        let mut idle = 0;
        loop {
            batch.clear();
            let mut some = false;
            for _ in 0..together(pool.size()) {
                let Some(near) = pool.expand() else { break };
                if near.cost() > cut {
                    idle += 1;
                    if idle > PATIENCE {
                        return;
                    }
                }
                some = true;
                self.links(near.node(), layer).meet(visited, batch);
            }
            if !some {
                return;
            }
            self.cost_all(query, batch, costs);
            let nearest = pool.items()[0];
            for (&node, &cost) in batch.iter().zip(costs.iter()) {
                let near = Near::new(cost, node);
                if pool.insert(near) {
                    fetch(self.links(node, layer).0);
                    if cost <= cut || near < nearest {
                        idle = 0;
                    }
                }
            }
        }
    }
}

/// Nodes beyond the cut that are expanded in a row before a search ends early.
pub(super) const PATIENCE: usize = 32;

/// Nodes that a walk expands at once: their links are scored in one go, so that the memory rests less often. The last of
/// them might not have been expanded if the first had been scored before, so it pays more the more are expanded anyway.
fn together(ef: usize) -> usize {
    (1 + ef / 12).min(4)
}
