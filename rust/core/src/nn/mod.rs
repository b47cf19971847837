//! The decision layer: a network of two matrices that answers where no precedent is near, trained offline on the CPU.
//!
//! [`DecisionLayer`] is the public type. Its input is `state || return code || context` ([`encode`], [`context`]), its
//! arithmetic is in [`mlp`] on the kernels of [`crate::kernel::gemm`], its steps in [`learn`] and [`optimizer`], those on
//! samples that lie apart in [`shards`], its answers in [`predict`] (with weights that were [`rounded`]), those of several networks in [`ensemble`], what its
//! confidence means in [`calibration`], its file in [`weights`]. [`Experience`] is what the [`trainer`] asks of a store.

pub mod calibration;
pub mod context;
mod crew;
pub mod encode;
pub mod ensemble;
pub mod experience;
pub mod layer;
pub mod learn;
pub mod mlp;
pub mod optimizer;
mod outer;
pub mod predict;
pub mod questions;
pub mod rounded;
pub mod safetensors;
pub mod settings;
pub mod shards;
mod sums;
pub mod trainer;
mod waves;
pub mod weights;

pub use calibration::{COVERAGE, Confidence, Prediction, cosine};
pub use experience::{Episodes, Experience};
pub use layer::DecisionLayer;
pub use learn::StepMetrics;
pub use questions::{Batch, Questions};
pub use rounded::Inference;
pub use settings::{ContextKind, Encoding, LayerSettings, Optimizer, ReturnScale};
pub use shards::ShardLoss;
