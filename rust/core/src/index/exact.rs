//! Distances at full precision: the numbers that answers carry, and that every shortcut must agree with.

use crate::ids::RowKey;
use crate::kernel::distance::Kernel;
use crate::metric::Metric;

use super::Hit;

/// One query, ready to be measured against originals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact<'q> {
    kernel: Kernel,
    metric: Metric,
    query: &'q [f32],
    /// The query's squared length.
    square: f64,
}

impl<'q> Exact<'q> {
    pub(super) fn new(kernel: Kernel, metric: Metric, query: &'q [f32]) -> Self {
        let (square, _) = kernel.products(query, query);
        Self { kernel, metric, query, square }
    }

    /// The distance to `state`, summed in f64 in one fixed order on every machine: equal states get equal numbers.
    pub(super) fn distance(&self, state: &[f32]) -> f64 {
        match self.metric {
            Metric::Cosine => {
                let (dot, square) = self.kernel.products(self.query, state);
                // The product of two squared f32 lengths stays far inside f64's range. Rounding must not carry a
                // cosine past one, or a twin of the query would be nearer than the query itself.
                let lengths = (self.square * square).sqrt();
                if lengths == 0.0 { 1.0 } else { 1.0 - (dot / lengths).clamp(-1.0, 1.0) }
            }
            Metric::Euclidean => self.kernel.squared_distance(self.query, state).sqrt(),
            Metric::Dot => 0.0 - self.kernel.products(self.query, state).0, // never minus zero
        }
    }

    /// A row of the answer.
    pub(super) fn hit(&self, key: RowKey, distance: f64) -> Hit {
        Hit { key, distance, similarity: self.metric.similarity(distance) }
    }
}
