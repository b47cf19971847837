use std::sync::atomic::AtomicBool;

use super::*;
use crate::pool::Pool;
use crate::rng::Rng;

fn vector(dimension: usize, number: u64) -> Vec<f32> {
    let rng = Rng::new(3, number);
    let centre = Rng::new(4, rng.below(999, 20));
    (0..dimension as u64).map(|i| (centre.normal(i) + rng.normal(i)) as f32).collect()
}

#[test]
fn a_small_graph_finds_what_a_scan_finds() {
    for quantization in [Quantization::None, Quantization::Int8, Quantization::Binary] {
        for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
            let params = Params { m: 8, ef_construction: 60, metric, quantization, seed: 1 };
            let graph = Graph::new(24, params);
            for row in 0..2000 {
                graph.push(&vector(24, row));
            }
            let pool = Pool::new(2).unwrap();
            assert_eq!(graph.link(usize::MAX, &pool, &AtomicBool::new(false)), 2000);
            let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
            let (mut found, mut hits) = (Vec::new(), 0);
            for number in 5000..5100 {
                graph.prepare(&vector(24, number), &mut query);
                graph.search(&query, 100, None, 2000, None, &mut scratch, &mut found);
                let nodes: Vec<NodeId> = (0..2000).map(NodeId).collect();
                let mut estimates = vec![0.0; nodes.len()];
                graph.estimate(&query, &nodes, &mut estimates);
                let mut order = nodes.clone();
                order.sort_by(|a, b| estimates[a.0 as usize].total_cmp(&estimates[b.0 as usize]));
                hits += order[..10].iter().filter(|n| found.iter().any(|f| f.0 == **n)).count();
            }
            assert!(hits > 950, "{quantization:?} {metric:?}: {hits} of 1000");
        }
    }
}
