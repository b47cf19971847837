//! Loops over plain arrays, compiled once for each vector width. The compiler vectorises them, and since it neither
//! fuses nor reorders floating-point operations, every width gives the same bits.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::Isa;

/// A loop that is worth wide vectors. Implement `run` with `#[inline(always)]`, or it is compiled without them.
pub trait Loop {
    /// What the loop computes.
    type Output;

    /// Runs the loop.
    fn run(self) -> Self::Output;
}

/// Runs `work` as compiled for the best instruction set of this machine.
#[inline]
pub fn run<L: Loop>(work: L) -> L::Output {
    match Isa::best() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => x86::avx512(work),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => x86::avx2(work),
        _ => work.run(), // NEON is part of every aarch64 target
    }
}
