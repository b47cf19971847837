//! The engine of Precedent: it stores what agents did, finds similar situations, and trains the small network that
//! answers where nothing similar is known. It knows nothing of Python.

pub mod bits;
pub mod clock;
pub mod error;
pub mod filter;
pub mod hnsw;
pub mod ids;
pub mod index;
pub mod kernel;
pub mod metric;
pub mod nn;
pub mod pool;
pub mod replay;
pub mod returns;
pub mod rng;
pub mod rows;
pub mod store;
pub mod text;

pub use error::{Error, Result};
pub use filter::Filter;
pub use metric::Metric;
pub use rows::{Labels, Rows};
pub use store::Store;
