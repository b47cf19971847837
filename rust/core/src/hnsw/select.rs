//! Which of many candidates a row keeps as neighbours (Malkov and Yashunin, algorithm 4): those that are nearer to the
//! row than to any neighbour chosen before, so that links lead into every direction.

use super::link::Space;
use super::scratch::Near;
use super::{FIXED, Graph, Params};

/// Candidates chosen before that a candidate is compared with at once.
const TOGETHER: usize = 4;

impl Graph {
    /// Chooses at most `most` of `candidates`, sorted by their cost, into `chosen`. Those that `is_fixed` names are
    /// chosen in any case and marked.
    pub(super) fn select(
        &self,
        candidates: &[Near],
        most: usize,
        is_fixed: impl Fn(u32) -> bool,
        space: &mut Vec<crate::kernel::distance::Line>,
        chosen: &mut Vec<u32>,
    ) {
        chosen.clear();
        let fixed = candidates.iter().filter(|near| is_fixed(near.node())).count();
        let mut free = most.saturating_sub(fixed);
        let mut nodes = [0; 2 * *Params::M.end()];
        for near in candidates {
            if is_fixed(near.node()) {
                nodes[chosen.len()] = near.node();
                chosen.push(near.node() | FIXED);
            } else if free > 0 && self.is_apart(*near, &nodes[..chosen.len()], space) {
                nodes[chosen.len()] = near.node();
                chosen.push(near.node());
                free -= 1;
            }
        }
    }

    /// Whether none of `chosen` is nearer to the candidate than the row that chooses.
    fn is_apart(
        &self,
        candidate: Near,
        chosen: &[u32],
        space: &mut Vec<crate::kernel::distance::Line>,
    ) -> bool {
        let (code, facts) = self.coded(candidate.node());
        let asking = self.codec.row_asks(code, &facts, space);
        let mut costs = [0.0; TOGETHER];
        chosen.chunks(TOGETHER).all(|nodes| {
            let costs = &mut costs[..nodes.len()];
            self.costs(&asking, nodes, costs);
            costs.iter().all(|cost| *cost >= candidate.cost())
        })
    }
}

impl Space {
    /// Sorts the candidates that `nodes` and their costs make.
    pub(super) fn rank(&mut self) {
        let Self { nodes, costs, candidates, .. } = self;
        candidates.clear();
        let pairs = nodes.iter().zip(costs.iter());
        candidates.extend(pairs.map(|(&node, &cost)| Near::new(cost, node & !FIXED)));
        candidates.sort_unstable();
    }
}
