//! What a graph is made with.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::rng::Rng;

/// How a walk sees the rows. Answers are measured again at full precision by whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Quantization {
    /// f32, as they came.
    None,
    /// One signed byte a component and one scale a row: a quarter of the memory.
    #[default]
    Int8,
    /// One bit a component after a random rotation, asked by queries of eight bits: a thirty-second of the memory.
    Binary,
}

impl Quantization {
    /// The name used in the API and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Int8 => "int8",
            Self::Binary => "binary",
        }
    }
}

impl FromStr for Quantization {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "int8" => Ok(Self::Int8),
            "binary" => Ok(Self::Binary),
            other => {
                let got = format!("{other:?}");
                Err(Error::invalid("quantization", "\"none\", \"int8\" or \"binary\"", got))
            }
        }
    }
}

/// The parameters of a graph, in the letters of Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
/// search using Hierarchical Navigable Small World graphs" (2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// M: links that a new row makes in every layer, and the most that a row keeps in the upper ones. Layer 0 keeps 2M.
    pub m: usize,
    /// efConstruction: candidates that a new row chooses its links from.
    pub ef_construction: usize,
    /// The distance that the graph is built for.
    pub metric: Metric,
    /// How rows are coded.
    pub quantization: Quantization,
    /// Decides the layers of the rows and the rotation of binary codes.
    pub seed: u64,
}

impl Params {
    /// The values that M may have.
    pub const M: std::ops::RangeInclusive<usize> = 2..=128;

    /// No row is in more upper layers than this; at M = 2 one row in four thousand millions would be.
    pub(super) const TOP: u32 = 32;

    /// Refuses an M outside [`Self::M`] and a search for candidates that finds fewer than M.
    pub fn check(&self) -> Result<()> {
        if !Self::M.contains(&self.m) {
            return Err(Error::invalid("m", "2 to 128", self.m));
        }
        if self.ef_construction < self.m {
            return Err(Error::invalid("ef_construction", "at least m", self.ef_construction));
        }
        Ok(())
    }

    /// The uppermost layer of a row: exponentially distributed with mL = 1 / ln M.
    pub(super) fn level(&self, node: u32) -> u32 {
        let uniform = 1.0 - Rng::new(self.seed, 0x1e7e1).uniform(u64::from(node));
        ((-uniform.ln() / (self.m as f64).ln()) as u32).min(Self::TOP)
    }

    /// Links that a row keeps in layer 0.
    pub(super) fn m0(&self) -> usize {
        2 * self.m
    }
}
