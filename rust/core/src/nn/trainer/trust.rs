//! Whether confidences are worth something: the reliability diagram and the risk-coverage curve.

/// Bins of the reliability diagram.
const BINS: usize = 10;
/// Points of the risk-coverage curve.
const POINTS: usize = 20;

/// One tenth of the predictions, by confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReliabilityBin {
    /// What they promised: the mean confidence.
    pub confidence: f64,
    /// What they kept: the mean similarity, 0 where it is negative.
    pub similarity: f64,
    /// Predictions.
    pub count: usize,
}

/// How well confidences foretell similarities.
#[derive(Default)]
pub(super) struct Trust {
    /// The mean distance of promise and result over the bins, weighted by their counts.
    pub(super) error: Option<f64>,
    /// Least confident first.
    pub(super) bins: Vec<ReliabilityBin>,
    /// Coverage, and the mean of 1 - similarity there.
    pub(super) risk_coverage: Vec<(f64, f64)>,
}

impl Trust {
    /// From one confidence and one similarity a prediction; nothing where there are no confidences.
    pub(super) fn of(confidences: &[f64], similarities: &[f64]) -> Self {
        if confidences.is_empty() {
            return Self::default();
        }
        let n = confidences.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| confidences[a].total_cmp(&confidences[b]));
        let bounds = |parts: usize| {
            let parts = parts.min(n);
            (0..=parts).map(move |i| i * n / parts)
        };
        let mean = |members: &[usize], of: &dyn Fn(usize) -> f64| {
            members.iter().map(|&i| of(i)).sum::<f64>() / members.len() as f64
        };
        let bins: Vec<_> = bounds(BINS)
            .zip(bounds(BINS).skip(1))
            .map(|(from, to)| ReliabilityBin {
                confidence: mean(&order[from..to], &|i| confidences[i]),
                similarity: mean(&order[from..to], &|i| similarities[i]).max(0.0),
                count: to - from,
            })
            .collect();
        let off = |bin: &ReliabilityBin| bin.count as f64 * (bin.confidence - bin.similarity).abs();
        let error = bins.iter().map(off).sum::<f64>() / n as f64;
        let risk_coverage = bounds(POINTS)
            .skip(1)
            .map(|kept| {
                let most_confident = &order[n - kept..];
                (kept as f64 / n as f64, mean(most_confident, &|i| 1.0 - similarities[i]))
            })
            .collect();
        Self { error: Some(error), bins, risk_coverage }
    }
}

#[cfg(test)]
mod tests {
    use super::Trust;

    #[test]
    fn a_confidence_that_keeps_its_word_has_no_calibration_error() {
        let similarities: Vec<f64> = (0..100).map(|i| f64::from(i) / 100.0).collect();
        let honest = Trust::of(&similarities, &similarities);
        assert!(honest.error.unwrap() < 1e-12);
        assert_eq!(honest.bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [10; 10]);
        let boasting = Trust::of(&[1.0; 100], &similarities);
        assert!((boasting.error.unwrap() - 0.505).abs() < 1e-12);
    }

    #[test]
    fn risk_rises_with_coverage_where_confidence_orders_rightly() {
        let similarities: Vec<f64> = (0..40).map(|i| f64::from(i % 8) / 8.0).collect();
        let curve = Trust::of(&similarities, &similarities).risk_coverage;
        assert_eq!((curve.len(), curve[0].0, curve[19].0), (20, 0.05, 1.0));
        assert!(curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!((curve[19].1 - (1.0 - 0.4375)).abs() < 1e-12);
    }

    #[test]
    fn few_steps_make_few_bins_and_no_confidence_makes_none() {
        assert_eq!(Trust::of(&[0.5, 0.6, 0.7], &[0.5; 3]).bins.len(), 3);
        assert!(Trust::of(&[], &[0.5; 3]).bins.is_empty());
    }
}
