//! Whether a walk is worth it: what scanning the matches costs against what a walk through them does.

use crate::hnsw::{Graph, Params, Quantization};
use crate::kernel::distance::Line;

/// Whether so many matches are better searched by a walk that keeps `ef` candidates.
pub(super) fn walks(graph: &Graph, matches: usize, ef: usize) -> bool {
    graph.linked() > 0 && matches > graph.search_cost(ef, matches)
}

/// How much longer a scan must take than a walk before a graph is worth its building, which costs some ten scans' worth
/// of time for every row.
const PATIENCE: f64 = 16.0;

/// The number of rows from which a graph is built unless the caller names one: some 20,000 for states of any width.
///
/// Counted in lines of memory, as measured at 768 dimensions. A scan reads codes one after the other, and judging a row
/// takes as long as six lines; a walk at the usual settings meets some 660 rows, each with its links, where they lie.
pub(crate) fn worth(dimension: usize, params: &Params) -> usize {
    let bytes = match params.quantization {
        Quantization::None => 4 * dimension,
        Quantization::Int8 => dimension,
        Quantization::Binary => dimension.div_ceil(8),
    };
    let lines = bytes.div_ceil(Line::LEN) as f64;
    let (scanned, walked) = (6.0 + lines, 660.0 * (14.0 + 1.6 * lines));
    (PATIENCE * walked / scanned) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    #[test]
    fn a_graph_is_worth_some_twenty_thousand_rows() {
        for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
            for dimension in [1, 8, 128, 768, 16_384] {
                let metric = Metric::Cosine;
                let params = Params { m: 16, ef_construction: 200, metric, quantization, seed: 1 };
                let rows = worth(dimension, &params);
                assert!((15_000..30_000).contains(&rows), "{quantization:?} {dimension}: {rows}");
            }
        }
    }
}
