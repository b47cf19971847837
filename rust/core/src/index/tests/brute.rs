//! Search by measuring every match: the slow twin of the scan.

use crate::index::exact::Exact;

use super::*;

pub(super) fn search(
    index: &Index,
    query: &[f32],
    metric: Metric,
    k: usize,
    filter: &Resolved,
    originals: &mut dyn Originals,
) -> Vec<Hit> {
    let exact = Exact::new(Kernel::of(Isa::Scalar).unwrap(), metric, query);
    let keys = index.keys_matching(filter);
    let mut found = Vec::with_capacity(keys.len());
    let mut visit =
        |at: usize, state: &[f32]| found.push(exact.hit(keys[at], exact.distance(state)));
    originals.read(&keys, &mut visit).unwrap();
    found.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.key.cmp(&b.key)));
    found.truncate(k);
    found
}
