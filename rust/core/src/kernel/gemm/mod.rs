//! Matrix products in f32, at the shapes of a small network: C = A B with B and C in rows, A in rows or in columns.
//!
//! B's rows are as wide as a layer, so a tile reads whole cache lines of them where they lie (if they begin at one:
//! [`Aligned`]); only from some hundred rows of A on, under x86, are a tile's columns of B copied together first. A is
//! broadcast number by number, so its layout is free. Every element of C is summed over k in one fixed order by fused
//! multiply-adds, whatever tile it falls into: cutting C into rows for threads cannot change a bit.

mod aligned;
mod bf16;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

pub use aligned::Aligned;
pub use bf16::Bf16;

use super::Isa;

/// The left factor: element (i, k) is at `i * row + k * step`.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    values: &'a [f32],
    row: usize,
    step: usize,
}

impl<'a> Left<'a> {
    /// A matrix in rows of `width` numbers.
    pub fn rows(values: &'a [f32], width: usize) -> Self {
        Self { values, row: width, step: 1 }
    }

    /// The columns from `first` on of a matrix in rows of `width` numbers.
    pub fn columns(values: &'a [f32], width: usize, first: usize) -> Self {
        Self { values: values.get(first..).unwrap_or_default(), row: width, step: 1 }
    }

    /// The transpose of a matrix in rows of `width` numbers; its rows from `first` on.
    pub fn transposed(values: &'a [f32], width: usize, first: usize) -> Self {
        Self { values: values.get(first..).unwrap_or_default(), row: 1, step: width }
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing: C is overwritten.
    Zero,
    /// What C holds, a bias for instance.
    Kept,
}

/// One product, its extents proven: every element that `rows`, `columns` and `depth` speak of lies inside its slice.
struct Product<'a> {
    rows: usize,
    columns: usize,
    depth: usize,
    left: Left<'a>,
    right: &'a [f32],
    target: &'a mut [f32],
    start: Start,
}

/// A weighted sum of rows, its extents proven: every index names a row of `rows`, which are as wide as `target`.
struct Combination<'a, T> {
    terms: &'a [(u32, f32)],
    rows: &'a [T],
    target: &'a mut [f32],
}

/// The matrix products of one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    isa: Isa,
    product: fn(Product<'_>),
    combination: fn(Combination<'_, f32>),
    rounded: fn(Combination<'_, Bf16>),
}

impl Gemm {
    /// That of the best set of this machine.
    pub fn best() -> Self {
        Self::on(Isa::best()).unwrap_or(Self::SCALAR)
    }

    /// That of `isa`, if this machine has it.
    pub fn on(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::SCALAR),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::avx512(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => neon::neon(),
            #[allow(unreachable_patterns, reason = "which patterns remain depends on the target")]
            _ => None,
        }
    }

    const SCALAR: Self = Self {
        isa: Isa::Scalar,
        product: scalar::product,
        combination: scalar::combination,
        rounded: scalar::rounded,
    };

    /// The set it was written for.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// `target = left right`, or `target += left right`: `target` is `[rows, columns]`, `left` `[rows, depth]`, `right`
    /// `[depth, columns]`. `rows` follows from `target`, `depth` from `right`.
    ///
    /// # Panics
    ///
    /// If the slices do not hold such matrices.
    pub fn multiply(
        self,
        left: Left<'_>,
        right: &[f32],
        columns: usize,
        target: &mut [f32],
        start: Start,
    ) {
        if target.is_empty() {
            return;
        }
        let (rows, depth) = (target.len() / columns, right.len() / columns);
        assert_eq!(target.len(), rows * columns, "the target is not made of whole rows");
        assert_eq!(right.len(), depth * columns, "the right factor is not made of whole rows");
        if depth > 0 {
            let (down, along) =
                ((rows - 1).checked_mul(left.row), (depth - 1).checked_mul(left.step));
            let last = down.zip(along).and_then(|(down, along)| down.checked_add(along));
            assert!(
                last.is_some_and(|last| last < left.values.len()),
                "the left factor is too small"
            );
        }
        (self.product)(Product { rows, columns, depth, left, right, target, start });
    }

    /// `target += sum of value * rows[index]` over the terms `(index, value)`: the product of one sparse vector with a
    /// matrix in rows as wide as `target`.
    ///
    /// # Panics
    ///
    /// If an index lies outside the matrix.
    pub fn combine(self, terms: &[(u32, f32)], rows: &[f32], target: &mut [f32]) {
        if let Some(proven) = Combination::proven(terms, rows, target) {
            (self.combination)(proven);
        }
    }

    /// [`Self::combine`] of rows that were rounded: the same bits as with the rows made wide again.
    ///
    /// # Panics
    ///
    /// If an index lies outside the matrix.
    pub fn combine_rounded(self, terms: &[(u32, f32)], rows: &[Bf16], target: &mut [f32]) {
        if let Some(proven) = Combination::proven(terms, rows, target) {
            (self.rounded)(proven);
        }
    }
}

impl<'a, T> Combination<'a, T> {
    /// `None` where there is nothing to add.
    fn proven(terms: &'a [(u32, f32)], rows: &'a [T], target: &'a mut [f32]) -> Option<Self> {
        let last = terms.iter().map(|term| term.0 as usize).max()?;
        assert!((last + 1) * target.len() <= rows.len(), "there is no row {last}");
        Some(Self { terms, rows, target })
    }
}
