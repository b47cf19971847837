//! Which of many candidates a row keeps as neighbours (Malkov and Yashunin, algorithm 4): those that are nearer to the
//! row than to any neighbour chosen before, so that links lead into every direction. Nearer by little does not count: the
//! links that this keeps make walks shorter (the relaxed pruning of `DiskANN`, Subramanya et al. 2019).

use crate::metric::Metric;

use super::scratch::Near;
use super::{FIXED, Graph, Params, Quantization};

/// Candidates chosen before that a candidate is compared with at once.
const TOGETHER: usize = 4;

/// A candidate is left out where its cost from a chosen neighbour, times this, is less than from the row that chooses.
/// Costs are squared distances, or proportional to those of unit vectors. At 100,000 rows like sentence embeddings, of 384
/// dimensions, a recall of 0.985 takes 30 candidates with 1, 26 with 1.05, 22 with 1.1. But where all distances are much
/// alike (Gaussian clusters in 256 dimensions) 1.1 prunes next to nothing and costs recall (0.86 falls to 0.82); 1.05
/// costs little (0.84).
const SLACK: f32 = 1.05;

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

    /// Whether none of `chosen` is nearer, by more than a little, to the candidate than the row that chooses.
    fn is_apart(
        &self,
        candidate: Near,
        chosen: &[u32],
        space: &mut Vec<crate::kernel::distance::Line>,
    ) -> bool {
        let (code, facts) = self.coded(candidate.node());
        let asking = self.codec.row_asks(code, &facts, space);
        // dot products are no distances, and binary codes are farther from themselves than nothing: there is no zero that
        // a cost could be a part of
        let distances =
            self.codec.metric() != Metric::Dot && self.codec.quantization() != Quantization::Binary;
        let slack = if distances { SLACK - 1.0 } else { 0.0 };
        let mut costs = [0.0; TOGETHER];
        chosen.chunks(TOGETHER).all(|nodes| {
            let costs = &mut costs[..nodes.len()];
            self.costs(&asking, nodes, costs);
            costs.iter().all(|cost| cost + slack * cost.max(0.0) >= candidate.cost())
        })
    }
}

/// The candidates that nodes and their costs make, nearest first.
pub(super) fn rank(nodes: &[u32], costs: &[f32], candidates: &mut Vec<Near>) {
    candidates.clear();
    let pairs = nodes.iter().zip(costs);
    candidates.extend(pairs.map(|(&node, &cost)| Near::new(cost, node & !FIXED)));
    candidates.sort_unstable();
}
