//! What a caller may say when opening a store, and what holds once it is open.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::hnsw::{Params, Quantization};
use crate::metric::Metric;

/// How the numbers of states and actions are kept in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Storage {
    /// Four bytes a number, exactly as given.
    #[default]
    F32,
    /// Two bytes a number: rounded to IEEE half precision before anything else happens to them.
    F16,
}

impl Storage {
    /// The name used in the API and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// Bytes a number.
    pub fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl std::str::FromStr for Storage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            other => Err(Error::invalid("storage", "\"f32\" or \"f16\"", format!("{other:?}"))),
        }
    }
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The end of the process, `kill -9` included.
    #[default]
    Normal,
    /// Loss of power too: every commit waits for the disk.
    Full,
}

impl Durability {
    /// The name used in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

impl std::str::FromStr for Durability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "normal" => Ok(Self::Normal),
            "full" => Ok(Self::Full),
            other => {
                Err(Error::invalid("durability", "\"normal\" or \"full\"", format!("{other:?}")))
            }
        }
    }
}

/// Settings of the graph. `None` is the file's own, or the default where the file has none. What is named is kept in the
/// file from then on, but for a store that is opened read-only: there it holds until that is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HnswSettings {
    /// Whether a graph may be used at all; true.
    pub enabled: Option<bool>,
    /// Links a node keeps, 2 to 128; 16.
    pub m: Option<usize>,
    /// Candidates while building; 200.
    pub ef_construction: Option<usize>,
    /// Candidates while searching; 50.
    pub ef_search: Option<usize>,
    /// What nearness means; cosine.
    pub metric: Option<Metric>,
    /// The codes that the graph walks on; int8.
    pub quantization: Option<Quantization>,
    /// Rows from which a graph is built, 0 = always; by measured cost.
    pub build_above: Option<usize>,
}

impl HnswSettings {
    /// Ranges that hold whatever the file says.
    pub(super) fn check(&self) -> Result<()> {
        let in_range =
            |name: &str, value: Option<usize>, low: usize, high: usize, text: &str| match value {
                Some(value) if !(low..=high).contains(&value) => {
                    Err(Error::invalid(name, text, value))
                }
                _ => Ok(()),
            };
        in_range("hnsw.m", self.m, 2, 128, "2 to 128")?;
        in_range("hnsw.ef_construction", self.ef_construction, 1, usize::MAX, "at least 1")?;
        in_range("hnsw.ef_search", self.ef_search, 1, usize::MAX, "at least 1")
    }
}

/// The settings of the graph that hold for an open store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hnsw {
    /// Whether a graph may be used at all.
    pub enabled: bool,
    /// Links a node keeps.
    pub m: usize,
    /// Candidates while building.
    pub ef_construction: usize,
    /// Candidates while searching.
    pub ef_search: usize,
    /// What nearness means.
    pub metric: Metric,
    /// The codes that the graph walks on.
    pub quantization: Quantization,
    /// Rows from which a graph is built; `None` = by measured cost.
    pub build_above: Option<usize>,
}

impl Default for Hnsw {
    fn default() -> Self {
        Self {
            enabled: true,
            m: 16,
            ef_construction: 200,
            ef_search: 50,
            metric: Metric::Cosine,
            quantization: Quantization::Int8,
            build_above: None,
        }
    }
}

impl Hnsw {
    /// Whether a graph made under these settings is one made under the others.
    pub(super) fn same_graph(&self, other: &Self) -> bool {
        self.params() == other.params()
    }

    /// Candidates of a search for `k` rows that names no number itself. A walk that keeps no more than it answers loses those
    /// at the edge whose estimate is a little off, so an eighth more are kept.
    pub(super) fn candidates(&self, k: usize) -> usize {
        self.ef_search.max(k.saturating_add(k / 8))
    }

    /// The settings that a graph is made with.
    pub(super) fn params(&self) -> Params {
        Params {
            m: self.m,
            // fewer candidates than links would leave links unused
            ef_construction: self.ef_construction.max(self.m),
            metric: self.metric,
            quantization: self.quantization,
            seed: SEED,
        }
    }
}

impl std::fmt::Display for Hnsw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { m, ef_construction, metric, quantization, .. } = self;
        let (metric, quantization) = (metric.name(), quantization.name());
        write!(f, "m={m}, ef_construction={ef_construction}, {metric}, {quantization}")
    }
}

/// Of the graph's layers: one for all stores, so that the same rows give the same graph.
const SEED: u64 = 0x0050_5243_4448_4E53;

/// The cache of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Whether answers are kept.
    pub enabled: bool,
    /// At most this many.
    pub max_size: usize,
    /// For this many milliseconds.
    pub ttl_ms: i64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { enabled: true, max_size: 1000, ttl_ms: 3_600_000 }
    }
}

/// How to open a store. `None` is the file's own, for a new file the default.
#[derive(Clone)]
pub struct Options {
    /// Numbers a state has, 1 to 16,384; 768.
    pub dimension: Option<usize>,
    /// Numbers an action has, 1 to 16,384; as many as a state.
    pub action_dimension: Option<usize>,
    /// How numbers are kept; f32.
    pub storage: Option<Storage>,
    /// What a commit survives.
    pub durability: Durability,
    /// The file must exist and is not written to.
    pub read_only: bool,
    /// The graph.
    pub hnsw: HnswSettings,
    /// The cache of answers.
    pub cache: CacheSettings,
    /// The fingerprint of the encoder that makes the states, remembered in the file.
    pub encoder: Option<String>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// How long to wait for another process's lock.
    pub busy_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dimension: None,
            action_dimension: None,
            storage: None,
            durability: Durability::default(),
            read_only: false,
            hnsw: HnswSettings::default(),
            cache: CacheSettings::default(),
            encoder: None,
            clock: Arc::new(SystemClock),
            busy_timeout: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// Ranges that hold whatever the file says.
    pub(super) fn check(&self) -> Result<()> {
        check_dimension("dimension", self.dimension)?;
        check_dimension("action_dimension", self.action_dimension)?;
        if self.cache.ttl_ms < 0 {
            return Err(Error::invalid("cache.ttl", "0 ms or more", self.cache.ttl_ms));
        }
        self.hnsw.check()
    }
}

fn check_dimension(field: &str, value: Option<usize>) -> Result<()> {
    match value {
        Some(value) if !(1..=16_384).contains(&value) => {
            Err(Error::invalid(field, "1 to 16384", value))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{HnswSettings, Options};
    use crate::error::Error;

    fn refused(options: &Options) -> String {
        match options.check() {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let hnsw = |hnsw| refused(&Options { hnsw, ..Options::default() });
        assert_eq!(hnsw(HnswSettings { m: Some(1), ..HnswSettings::default() }), "hnsw.m");
        assert_eq!(hnsw(HnswSettings { m: Some(129), ..HnswSettings::default() }), "hnsw.m");
        let settings = HnswSettings { ef_construction: Some(0), ..HnswSettings::default() };
        assert_eq!(hnsw(settings), "hnsw.ef_construction");
        let wide = Options { dimension: Some(16_385), ..Options::default() };
        assert_eq!(refused(&wide), "dimension");
        let none = Options { action_dimension: Some(0), ..Options::default() };
        assert_eq!(refused(&none), "action_dimension");
        assert!(Options { dimension: Some(16_384), ..Options::default() }.check().is_ok());
    }
}
