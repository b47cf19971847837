//! Scores of scattered rows for a walk through the graph: one coarse query, many rows, each read once from wherever it
//! lies.
//!
//! Beside the sixteen-bit queries of [`super::distance`], whose sums bound a distance, these are the quick ones: eight
//! bits against eight, eight against one, and f32. Integer sums are exact and so the same on every instruction set; sums
//! of f32 differ in their last bits.
//!
//! Rows of bytes are in [`super::halves`], and their upper halves alone make a quicker score.
//!
//! A kernel fetches the rows that come [`AHEAD`] of the one it reads; the first ones are the caller's to fetch, and so are
//! all upper halves.

mod scalar;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::distance::Line;
use super::{Isa, halves};

pub(crate) use scalar::floats;

/// Numbers in a line that holds f32.
pub const FLOATS: usize = Line::LEN / 4;

/// Components in a line that holds single bits.
pub const BITS: usize = Line::LEN * 8;

type Sums = fn(&[&[Line]], &[Line], &mut [i32]);
type Join = fn(&[Line], &mut Vec<Line>);
type Floats = fn(&[&[Line]], &[Line], &mut [f32]);

/// The kernels of one instruction set. Ask for it once and keep it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    join: Join,
    bytes: Sums,
    uppers: Sums,
    signs: Sums,
    products: Floats,
    squares: Floats,
}

impl Kernel {
    const SCALAR: Self = Self {
        join: halves::join,
        bytes: scalar::bytes,
        uppers: scalar::uppers,
        signs: scalar::signs,
        products: scalar::products,
        squares: scalar::squares,
    };

    /// The kernels of [`Isa::best`].
    pub fn best() -> Self {
        Self::of(Isa::best()).unwrap_or(Self::SCALAR)
    }

    /// The kernels of one set, if this machine can run it.
    pub fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::SCALAR),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Some(neon::KERNEL),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::avx512(),
            _ => None,
        }
    }

    /// [`halves::join`].
    pub fn join(self, code: &[Line], into: &mut Vec<Line>) {
        (self.join)(code, into);
    }

    /// For every row, in halves, the sum of `row[i] * query[i]`, signed bytes above -128. Rows are as long as the query.
    pub fn bytes(self, rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
        check(rows, query.len(), out.len());
        (self.bytes)(rows, query, out);
    }

    /// The same, doubled, by the upper halves of rows: an estimate. A row is the lines before its lower halves.
    pub fn uppers(self, rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
        check(rows, halves::upper(query.len()), out.len());
        (self.uppers)(rows, query, out);
    }

    /// For every row the sum of `query[i]` where the row's bit `i` is set, less that where it is not. Bit `i` is bit
    /// `i % 8` of byte `i / 8`; rows have a bit for every byte of the query.
    pub fn signs(self, rows: &[&[Line]], query: &[Line], out: &mut [i32]) {
        check(rows, query.len().div_ceil(8), out.len());
        (self.signs)(rows, query, out);
    }

    /// For every row the sum of `row[i] * query[i]`, all little-endian f32.
    pub fn products(self, rows: &[&[Line]], query: &[Line], out: &mut [f32]) {
        check(rows, query.len(), out.len());
        (self.products)(rows, query, out);
    }

    /// For every row the sum of `(row[i] - query[i])²`, all little-endian f32.
    pub fn squares(self, rows: &[&[Line]], query: &[Line], out: &mut [f32]) {
        check(rows, query.len(), out.len());
        (self.squares)(rows, query, out);
    }
}

/// Asks for the memory behind `data` ahead of its use, where the machine has a way to.
pub fn fetch<T>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    x86::fetch(data.as_ptr().cast(), size_of_val(data));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// Twice what an upper half, times sixteen, is above the components that it stands for, on average.
const LIFT: i32 = 2 * 128 - 15;

/// Rows that are fetched before their turn comes.
pub const AHEAD: usize = 8;

fn check(rows: &[&[Line]], lines: usize, out: usize) {
    assert_eq!(rows.len(), out, "a number for every row");
    assert!(rows.iter().all(|row| row.len() == lines), "rows of the query's length");
}
