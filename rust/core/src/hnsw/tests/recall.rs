use super::*;

#[test]
fn a_walk_finds_what_measuring_every_row_finds() {
    let rows: Vec<_> = (0..2000).map(|row| vector(24, row)).collect();
    let queries: Vec<_> = (5000..5050).map(|row| vector(24, row)).collect();
    for (quantization, ef, least) in [
        (Quantization::None, 60, 0.98),
        (Quantization::Int8, 60, 0.98),
        (Quantization::Binary, 150, 0.9),
    ] {
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
            let graph = built(params(metric, quantization), &rows, 2);
            assert_sound(&graph);
            let recall = recall(&graph, &rows, &queries, ef);
            assert!(recall >= least, "{quantization:?} {metric:?}: {recall}");
        }
    }
}
