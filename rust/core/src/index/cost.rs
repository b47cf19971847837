//! Whether a walk is worth it: what scanning the matches costs against what a walk through them does.
//!
//! Both are counted in lines of memory that have to be fetched. A scan reads the codes of its rows one after the other; a
//! walk meets its rows where they lie, so each costs the time of a fetch that nothing hides.

use crate::hnsw::{Graph, Params, Quantization};
use crate::kernel::distance::Line;

/// What judging one row in a scan costs beside its lines, in lines.
const JUDGING: f64 = 6.0;

/// What meeting one row in a walk costs beside its lines, in lines: its links, its place among the nearest, and waiting.
const MEETING: f64 = 14.0;

/// Lines of a row's code.
fn lines(dimension: usize, quantization: Quantization) -> f64 {
    let bytes = match quantization {
        Quantization::None => 4 * dimension,
        Quantization::Int8 => dimension,
        Quantization::Binary => dimension.div_ceil(8),
    };
    bytes.div_ceil(Line::LEN) as f64
}

/// What scanning `rows` rows costs.
fn scan(dimension: usize, quantization: Quantization, rows: usize) -> f64 {
    rows as f64 * (JUDGING + lines(dimension, quantization))
}

/// What a walk that keeps `ef` candidates among `linked` rows costs, of which a share of `matching` may be answers.
fn walk(dimension: usize, params: &Params, ef: usize, linked: usize, matching: f64) -> f64 {
    // Every candidate has its links looked at, of which some two thirds were met before; where few match, as many more
    // are looked at until ef that match are found.
    let degree = params.m as f64;
    let met = (100.0 + ef as f64 * degree * 0.7 / matching.powf(0.75)).min(linked as f64);
    met * (MEETING + 1.6 * lines(dimension, params.quantization))
}

/// Whether `matches` of `every` rows are better searched by a walk, of which the first `linked` are linked.
pub(super) fn walks(graph: &Graph, linked: usize, matches: usize, every: usize, ef: usize) -> bool {
    if linked == 0 || matches == 0 {
        return false;
    }
    let (dimension, params) = (graph.dimension(), graph.params());
    let matching = matches as f64 / every as f64;
    let tail = (every - linked.min(every)) as f64 * matching;
    let scanning = scan(dimension, params.quantization, matches);
    let walking = walk(dimension, params, ef, linked, matching)
        + scan(dimension, params.quantization, tail as usize);
    walking < scanning
}

/// The number of rows from which a graph is worth building: where a scan takes some four times as long as a walk.
pub(crate) fn worth(dimension: usize, params: &Params) -> usize {
    let walking = walk(dimension, params, 50, usize::MAX, 1.0);
    (4.0 * walking / scan(dimension, params.quantization, 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Metric;

    fn params(quantization: Quantization) -> Params {
        Params { m: 16, ef_construction: 200, metric: Metric::Cosine, quantization, seed: 1 }
    }

    #[test]
    fn a_graph_is_worth_some_thousands_of_rows() {
        for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
            for dimension in [1, 8, 128, 768, 16_384] {
                let rows = worth(dimension, &params(quantization));
                assert!((3_000..60_000).contains(&rows), "{quantization:?} {dimension}: {rows}");
            }
        }
    }

    #[test]
    fn the_fewer_rows_match_the_more_a_walk_costs() {
        let walk = |share| walk(768, &params(Quantization::Int8), 50, 1_000_000, share);
        assert!(walk(0.5) > walk(1.0) && walk(0.01) > walk(0.5));
        assert!(walk(1e-9) <= walk(1e-12), "never more than meeting every row");
    }
}
