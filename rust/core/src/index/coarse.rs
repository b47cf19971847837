//! Search by codes alone: what walks and scans estimate is the answer.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::bits::Bits;
use crate::error::{Error, Result};
use crate::hnsw::{Graph, NodeId, Walked};

use super::scan::{Walk, Workspace, from};

/// Rows that are estimated together.
const BATCH: usize = 1024;

/// The `k` of `rows` nearest to a query that came as a code, nearest first, ties to the older row.
pub(super) fn search(
    graph: &Graph,
    code: &[u8],
    k: usize,
    rows: &Bits,
    walk: Option<&Walk<'_>>,
    space: &mut Workspace,
    stop: &AtomicBool,
) -> Result<Vec<(NodeId, f32)>> {
    let Workspace { prepared, graph: scratch, walked, .. } = space;
    graph.codec().prepare_code(code, prepared)?;
    let mut found = Vec::new();
    let mut first = 0;
    if let Some(&Walk { ef, linked, admit, .. }) = walk {
        // a walk that finds next to no matches around the query leaves them all to the scan
        if graph.search(prepared, ef, admit, None, scratch, walked) != Walked::Left {
            first = linked;
            // what walks read of a code is not all that there is to it
            let nodes: Vec<NodeId> = walked
                .iter()
                .map(|(node, _)| *node)
                .filter(|node| (node.0 as usize) < linked)
                .collect();
            let mut far = vec![0.0; nodes.len()];
            graph.estimate(prepared, &nodes, &mut far);
            found.extend(nodes.into_iter().zip(far));
        }
    }
    let mut nodes = from(rows, first);
    let (mut batch, mut far) = (Vec::with_capacity(BATCH), vec![0.0; BATCH]);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Closed("the store was closed during a search".to_owned()));
        }
        batch.clear();
        batch.extend(nodes.by_ref().take(BATCH));
        graph.estimate(prepared, &batch, &mut far[..batch.len()]);
        found.extend(batch.iter().copied().zip(far.iter().copied()));
        let order = |a: &(NodeId, f32), b: &(NodeId, f32)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        if found.len() > k {
            found.select_nth_unstable_by(k - 1, order);
            found.truncate(k);
        }
        if batch.len() < BATCH {
            found.sort_unstable_by(order);
            return Ok(found);
        }
    }
}
