//! Prioritized replay (Schaul, Quan, Antonoglou and Silver 2016): items are drawn the more often the more surprising they
//! were when they were last seen, and weighted so that what is learned from them stays right.
//!
//! [`PrioritizedReplay`] keeps priorities, the items are the caller's. The tree that it draws from is in [`sum_tree`], how
//! it draws in [`sampler`], its file in `file`.

mod buffer;
mod file;
pub mod sampler;
pub mod sum_tree;

#[cfg(test)]
mod tests;

pub use buffer::{PrioritizedReplay, ReplaySettings};
pub use sampler::Draws;
