//! The reference: portable Rust.

use super::{GROUP, Group, LIFTED, SketchQuery};

pub(super) fn estimate(
    group: &Group<'_>,
    query: &SketchQuery,
    bar: f32,
    costs: &mut [f32; GROUP],
) -> u32 {
    let mut sums = [-LIFTED; GROUP];
    for (at, bytes) in group.rows.0.iter().enumerate() {
        for (sum, byte) in sums.iter_mut().zip(bytes) {
            *sum += query.look_up(at, 0, byte & 15) + query.look_up(at, 1, byte >> 4);
        }
    }
    for ((cost, times), sum) in costs.iter_mut().zip(group.times).zip(sums) {
        *cost = group.middle + times * (query.step * sum as f32);
    }
    if let Some(plus) = group.plus {
        costs.iter_mut().zip(plus).for_each(|(cost, plus)| *cost += plus);
    }
    costs.iter().enumerate().fold(0, |all, (at, cost)| all | u32::from(*cost < bar) << at)
}
