//! The reference: the sums as they are written, in the order that the fast kernels keep.

use super::{Bf16, Combination, Product, Start};

pub(super) fn product(product: Product<'_>) {
    let Product { rows, columns, depth, left, right, target, start } = product;
    if start == Start::Zero {
        target.fill(0.0);
    }
    for (i, target) in target.chunks_exact_mut(columns).enumerate().take(rows) {
        for (k, right) in right.chunks_exact(columns).enumerate().take(depth) {
            let factor = left.values[i * left.row + k * left.step];
            target.iter_mut().zip(right).for_each(|(sum, x)| *sum += factor * x);
        }
    }
}

pub(super) fn combination(combination: Combination<'_, f32>) {
    let Combination { terms, rows, target } = combination;
    let width = target.len();
    for &(index, value) in terms {
        let row = &rows[index as usize * width..][..width];
        target.iter_mut().zip(row).for_each(|(sum, x)| *sum += value * x);
    }
}

pub(super) fn rounded(combination: Combination<'_, Bf16>) {
    let Combination { terms, rows, target } = combination;
    let width = target.len();
    for &(index, value) in terms {
        let row = &rows[index as usize * width..][..width];
        target.iter_mut().zip(row).for_each(|(sum, x)| *sum += value * x.wide());
    }
}
