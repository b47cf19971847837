//! The engine of Precedent: it stores what agents did, finds similar situations, and trains the small network that
//! answers where nothing similar is known. It knows nothing of Python.
//!
//! ```
//! use precedent_core::store::{Naming, Options, Query, SearchOptions};
//! use precedent_core::{Labels, Rows, Store};
//!
//! let options = Options { dimension: Some(2), ..Options::default() };
//! let store = Store::open(":memory:".as_ref(), options)?;
//! let steps = Rows {
//!     len: 2,
//!     states: vec![1.0, 0.0, 0.0, 1.0],
//!     actions: vec![0.5, 0.5, -0.5, 0.5],
//!     rewards: vec![1.0, -1.0],
//!     returns: vec![f64::NAN; 2],
//!     patterns: Labels::repeated("ask", 2),
//!     episodes: Labels::repeated("monday", 2),
//!     task_types: Labels::repeated("support", 2),
//!     ..Rows::default()
//! };
//! let ids = store.insert(&steps, Naming::Columns)?;
//! let query = Query { vector: vec![0.9, 0.1], options: SearchOptions { k: 1, ..SearchOptions::default() } };
//! let found = store.search(&query)?;
//! assert_eq!(found.rows.ids, ids[..1]);
//! assert_eq!(found.rows.rewards, [1.0]);
//! # Ok::<(), precedent_core::Error>(())
//! ```

pub mod atomic;
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
