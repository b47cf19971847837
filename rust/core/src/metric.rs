//! The three measures of nearness, and what a distance means as a similarity.

use std::str::FromStr;

use crate::error::{Error, Result};

/// How near two states are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Metric {
    /// distance = 1 - cos; similarity = cos, clipped to [0, 1].
    #[default]
    Cosine,
    /// distance = L2; similarity = 1 / (1 + distance).
    Euclidean,
    /// distance = minus the dot product; similarity = the dot product.
    Dot,
}

impl Metric {
    /// The name used in the API and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
            Self::Dot => "dot",
        }
    }

    /// The similarity at a distance.
    pub fn similarity(self, distance: f64) -> f64 {
        match self {
            Self::Cosine => (1.0 - distance).clamp(0.0, 1.0),
            Self::Euclidean => 1.0 / (1.0 + distance),
            Self::Dot => -distance,
        }
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "cosine" => Ok(Self::Cosine),
            "euclidean" => Ok(Self::Euclidean),
            "dot" => Ok(Self::Dot),
            other => Err(Error::invalid(
                "metric",
                "\"cosine\", \"euclidean\" or \"dot\"",
                format!("{other:?}"),
            )),
        }
    }
}
