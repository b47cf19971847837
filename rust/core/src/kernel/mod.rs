//! The arithmetic that everything else waits for. One folder a family of kernels, in it one file an instruction set;
//! `scalar.rs` is the reference that the others are tested against.

pub mod distance;
pub mod gemm;
pub mod halves;
pub mod score;
pub mod sketch;
pub mod wide;

use std::sync::OnceLock;

/// An instruction set that kernels were written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust: the slow twin of all others.
    Scalar,
    /// 128-bit ARM.
    Neon,
    /// 256-bit x86 with fused multiply-add.
    Avx2,
    /// 512-bit x86: F, BW, VL and VNNI.
    Avx512,
}

impl Isa {
    /// The best set of this machine; asked once. The environment variable `PRECEDENT_KERNEL`, set to `scalar` or
    /// `avx2`, lowers it, so that tests reach every kernel.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("PRECEDENT_KERNEL").ok();
            match wanted.as_deref() {
                Some("scalar") => Self::Scalar,
                Some("avx2") if Self::Avx2.runs() => Self::Avx2,
                _ => Self::available().pop().unwrap_or(Self::Scalar),
            }
        })
    }

    /// Whether this machine can run the set. It costs next to nothing: the system is asked once.
    pub fn runs(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.runs()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// Every set that this machine can run, the best last.
    pub fn available() -> Vec<Self> {
        let all = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|isa| isa.runs()).collect()
    }
}
