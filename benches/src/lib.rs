//! Data that the benches share.

pub mod vectors;
