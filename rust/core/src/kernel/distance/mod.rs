//! Distances between vectors, twice: over int8 codes, for scans that wait for memory, and at full precision, for the
//! numbers that answers carry.
//!
//! A row is coded as `scale * code`, one signed byte a component, with the length of what the code leaves out. A query is
//! coded with sixteen bits, so that its own rounding is nothing beside a row's. Integer sums are exact, so every
//! instruction set gives the same bits; so do the f64 sums, because all of them add in one fixed order.

mod scalar;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

use super::Isa;

/// Sixty-four components of a code: one cache line. The last line of a row is padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [i8; Self::LEN]);

impl Line {
    /// Components a line.
    pub const LEN: usize = 64;
    /// A line of padding.
    pub const ZERO: Self = Self([0; Self::LEN]);

    /// Lines that a vector takes.
    pub fn needed(dimension: usize) -> usize {
        dimension.div_ceil(Self::LEN)
    }
}

/// What turns a row's code back into geometry.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    /// The row is about `scale * code`.
    pub scale: f32,
    /// The row's length, right to a part in 2^24 (infinite where f32 ends; rounded up where f32 gets coarse).
    pub norm: f32,
    /// The length of `row - scale * code`, rounded up.
    pub residual: f32,
}

/// A query coded with sixteen bits a component: about `step * (256 * high + low)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fine {
    high: Vec<Line>,
    low: Vec<Line>,
    /// `256 * high + low`, for machines that multiply sixteen bits at once.
    wide: Vec<[i16; Line::LEN]>,
    high_sum: i64,
    low_sum: i64,
    /// The worth of one unit.
    pub step: f64,
    /// The query's length.
    pub norm: f64,
    /// The length of what the code leaves out.
    pub residual: f64,
}

impl Fine {
    /// The greatest sixteen-bit component whose upper half still fits seven bits when the lower is rounded to nearest.
    const PEAK: f64 = 127.0 * 256.0 + 127.0;
    /// Adding it rounds a small f64 to an integer.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
}

/// What the eight upper bits of a [`Fine`] query are good for: a quick look.
impl Fine {
    /// The upper halves: a query of eight bits, each unit worth `256 * step`.
    pub fn high(&self) -> &[Line] {
        &self.high
    }

    /// The lower halves.
    pub fn low(&self) -> &[Line] {
        &self.low
    }
}

type Dots = fn(&[&[Line]], &Fine, &mut [f64]);
type Products = fn(&[f32], &[f32]) -> (f64, f64);
type Squared = fn(&[f32], &[f32]) -> f64;
type Encode = fn(&[f32], &mut [Line]) -> Shape;
type Refine = fn(&[f32], &mut Fine);

/// The kernels of one instruction set. Ask for it once and keep it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    dots: Dots,
    products: Products,
    squared_distance: Squared,
    encode: Encode,
    refine: Refine,
}

impl Kernel {
    const SCALAR: Self = Self {
        dots: scalar::dots,
        products: scalar::products,
        squared_distance: scalar::squared_distance,
        encode: scalar::encode,
        refine: scalar::refine,
    };

    /// Rows that are fetched before their turn comes: some 6 KB at 768 dimensions.
    pub const AHEAD: usize = 8;

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

    /// For the first `out.len()` rows the exact sum of `code[i] * (256 * high[i] + low[i])`. All rows have as many
    /// lines as the query and are in [`super::halves`]. Rows may lie anywhere: they are fetched ahead of their turn, and
    /// so are up to [`Self::AHEAD`] rows beyond those that are asked for.
    pub fn dots(self, rows: &[&[Line]], query: &Fine, out: &mut [f64]) {
        assert!(rows.len() >= out.len(), "a row for every number");
        (self.dots)(rows, query, out);
    }

    /// The sums of `a[i] * b[i]` and of `b[i] * b[i]`.
    ///
    /// Products of two f32 are exact in f64; they are summed in sixteen lanes that are folded in one fixed order, so
    /// every instruction set gives the same bits.
    pub fn products(self, a: &[f32], b: &[f32]) -> (f64, f64) {
        assert_eq!(a.len(), b.len(), "vectors of one length");
        (self.products)(a, b)
    }

    /// The sum of `(a[i] - b[i])²`, with the same promise.
    pub fn squared_distance(self, a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len(), "vectors of one length");
        (self.squared_distance)(a, b)
    }

    /// Codes a vector of finite numbers into `codes`, which has [`Line::needed`] lines, not split.
    pub fn encode(self, vector: &[f32], codes: &mut [Line]) -> Shape {
        assert_eq!(codes.len(), Line::needed(vector.len()), "as many lines as the vector needs");
        (self.encode)(vector, codes)
    }

    /// Codes a query of finite numbers in the memory that `into` has.
    pub fn refine(self, query: &[f32], into: &mut Fine) {
        (self.refine)(query, into);
    }
}
