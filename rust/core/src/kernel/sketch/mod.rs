//! Sketches: a few signs a row, and queries of a small number for each.
//!
//! Thirty-two rows lie together, so that one instruction looks up four signs of all of them (André, Kermarrec and Le
//! Scouarnec 2015): a table of sixteen says what four numbers of the query sum up to, whatever the signs.

mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::Isa;
use super::distance::Line;

/// Signs in a sketch.
pub const SKETCHED: usize = 256;

/// Rows that lie together.
pub const GROUP: usize = 32;

/// Bytes of a sketch.
const BYTES: usize = SKETCHED / 8;

/// The greatest number of a query. Four times twice that fit a byte four times over.
const PEAK: i8 = 7;

/// What every look-up is lifted by, so that it is no less than zero.
const LIFT: i32 = 4 * PEAK as i32;

/// The same for all look-ups of a row.
const LIFTED: i32 = 2 * BYTES as i32 * LIFT;

/// The signs of some rows: a first byte of each, then a second byte of each, and so on. A row's sign `i` is bit `i % 8` of
/// its byte `i / 8`.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Sketches([[u8; GROUP]; BYTES]);

impl Default for Sketches {
    fn default() -> Self {
        Self([[0; GROUP]; BYTES])
    }
}

impl Sketches {
    /// Sets the signs of a row: set is positive.
    pub fn set(&mut self, row: usize, signs: impl Iterator<Item = bool>) {
        for (at, sign) in signs.take(SKETCHED).enumerate() {
            let byte = &mut self.0[at / 8][row];
            *byte = *byte & !(1 << (at % 8)) | u8::from(sign) << (at % 8);
        }
    }
}

/// A query: a number for every sign, and what they sum up to.
#[derive(Clone, Debug)]
pub struct SketchQuery {
    /// What a unit of the numbers is worth.
    pub step: f32,
    /// For two bytes of a sketch each: what their lower four bits add, then their upper ones; every table twice.
    tables: [[Line; 2]; BYTES / 2],
}

impl Default for SketchQuery {
    fn default() -> Self {
        Self { step: 1.0, tables: [[Line::ZERO; 2]; BYTES / 2] }
    }
}

impl SketchQuery {
    /// Becomes the query of a vector with a number for every sign.
    pub fn set(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), SKETCHED, "a number for every sign");
        let peak = vector.iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
        self.step = if peak > 0.0 { peak / f32::from(PEAK) } else { 1.0 };
        for (nibble, four) in vector.as_chunks::<4>().0.iter().enumerate() {
            let numbers = four
                .map(|x| (x / self.step).round().clamp(-f32::from(PEAK), f32::from(PEAK)) as i32);
            let mut sums = [LIFT - numbers.iter().sum::<i32>(); 16];
            for (bit, x) in numbers.iter().enumerate() {
                for less in 0..1 << bit {
                    sums[less | 1 << bit] = sums[less] + 2 * x;
                }
            }
            let (byte, half) = (nibble / 2, nibble % 2);
            let table = &mut self.tables[byte / 2][half].0[byte % 2 * GROUP..][..GROUP];
            for (to, sum) in table.iter_mut().zip(sums.iter().cycle()) {
                *to = *sum as i8;
            }
        }
    }

    /// What four bits of byte `byte` add, and [`LIFT`].
    fn look_up(&self, byte: usize, half: usize, bits: u8) -> i32 {
        i32::from(self.tables[byte / 2][half].0[byte % 2 * GROUP + usize::from(bits)])
    }
}

/// What makes costs of the sums of a group.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The signs.
    pub rows: &'a Sketches,
    /// What a row's sum is multiplied with,
    pub times: &'a [f32; GROUP],
    /// and what is added for it, if anything is,
    pub plus: Option<&'a [f32; GROUP]>,
    /// and for all.
    pub middle: f32,
}

type Estimate = fn(&Group<'_>, &SketchQuery, f32, &mut [f32; GROUP]) -> u32;

/// The kernel of one instruction set. Ask for it once and keep it.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    estimate: Estimate,
}

impl Kernel {
    const SCALAR: Self = Self { estimate: scalar::estimate };

    /// The kernel of [`Isa::best`].
    pub fn best() -> Self {
        Self::of(Isa::best()).unwrap_or(Self::SCALAR)
    }

    /// The kernel of one set, if this machine can run it and it has one of its own or is the portable one.
    pub fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::SCALAR),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::avx512(),
            _ => None,
        }
    }

    /// Sets the cost of every row of a group: the sum of the query's numbers, each with the row's sign, times what a unit is
    /// worth and what the row multiplies it with, and what is added. Which of them are below `bar`: the first row's bit is
    /// the lowest. Every set gives the same bits.
    pub fn estimate(
        self,
        group: &Group<'_>,
        query: &SketchQuery,
        bar: f32,
        costs: &mut [f32; GROUP],
    ) -> u32 {
        (self.estimate)(group, query, bar, costs)
    }
}
