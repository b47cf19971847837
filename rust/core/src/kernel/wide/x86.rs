//! The same loops with wider registers.

#![expect(unsafe_code, reason = "calls of functions that need a CPU feature")]

use super::{Isa, Loop};

pub(super) fn avx512<L: Loop>(work: L) -> L::Output {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn wide<L: Loop>(work: L) -> L::Output {
        work.run()
    }
    debug_assert_eq!(Isa::best(), Isa::Avx512);
    // SAFETY: `Isa::best` names a set only where this CPU has it, and the caller has matched on it.
    unsafe { wide(work) }
}

pub(super) fn avx2<L: Loop>(work: L) -> L::Output {
    #[target_feature(enable = "avx2,fma")]
    fn wide<L: Loop>(work: L) -> L::Output {
        work.run()
    }
    debug_assert_eq!(Isa::best(), Isa::Avx2);
    // SAFETY: as above.
    unsafe { wide(work) }
}
