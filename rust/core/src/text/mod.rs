//! Text without a language model: the hashing encoder, which turns words into states.

mod hashing;

pub use hashing::HashingEncoder;
