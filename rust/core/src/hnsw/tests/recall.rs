use super::*;

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::Dot];
const QUANTIZATIONS: [Quantization; 3] =
    [Quantization::None, Quantization::Int8, Quantization::Binary];

#[test]
fn a_walk_finds_what_measuring_every_row_finds() {
    let rows: Vec<_> = (0..2000).map(|row| vector(24, row)).collect();
    let queries: Vec<_> = (5000..5050).map(|row| vector(24, row)).collect();
    for (quantization, ef, least) in [
        (Quantization::None, 60, 0.98),
        (Quantization::Int8, 60, 0.98),
        (Quantization::Binary, 150, 0.9),
    ] {
        for metric in METRICS {
            let graph = built(params(metric, quantization), &rows, 2);
            assert_sound(&graph);
            let recall = recall(&graph, &rows, &queries, ef);
            assert!(recall >= least, "{quantization:?} {metric:?}: {recall}");
        }
    }
}

#[test]
fn every_dimension_is_searched_well() {
    for (dimension, count) in [(2, 2000), (3, 1000), (65, 1000), (513, 1000), (2048, 1000)] {
        let rows: Vec<_> = (0..count).map(|row| vector(dimension, row)).collect();
        let queries: Vec<_> = (5000..5020).map(|row| vector(dimension, row)).collect();
        for quantization in QUANTIZATIONS {
            let graph = built(params(Metric::Euclidean, quantization), &rows, 2);
            assert_sound(&graph);
            let recall = recall(&graph, &rows, &queries, count as usize / 20);
            let least = if quantization == Quantization::Binary { 0.85 } else { 0.98 };
            assert!(recall >= least, "{quantization:?}, {dimension} dimensions: {recall}");
        }
    }
}

#[test]
fn upper_halves_are_walked_where_they_tell_rows_apart_and_whole_codes_where_they_do_not() {
    // all rows around one far away, so that their differences are small beside what a code spans
    let around = |far: f32, number: u64| -> Vec<f32> {
        let away = (0..).map(|i| far * Rng::new(6, 1).normal(i) as f32);
        vector(256, number).into_iter().zip(away).map(|(x, away)| x + away).collect()
    };
    for metric in METRICS {
        for (what, far, suffice) in [("apart", 0.0, true), ("alike", 3.0, false)] {
            let rows: Vec<_> = (0..3000).map(|row| around(far, row)).collect();
            let queries: Vec<_> = (5000..5050).map(|row| around(far, row)).collect();
            let graph = built(params(metric, Quantization::Int8), &rows, 2);
            assert_sound(&graph);
            let counts = graph.glances.counts();
            assert_eq!(
                graph.glances.suffice(&graph.codec, &graph.params),
                suffice,
                "{what} {metric:?}: {counts:?}"
            );
            let recall = recall(&graph, &rows, &queries, 60);
            assert!(recall >= 0.97, "{what} {metric:?}: {recall}");
            let few = Params { ef_construction: 39, ..params(metric, Quantization::Int8) };
            let graph = Graph::new(256, few);
            assert!(!graph.glances.suffice(&graph.codec, &few), "linking leaves too few to tell");
        }
    }
}

#[test]
fn rows_in_order_of_their_clusters_are_found_as_well_as_shuffled_ones() {
    let mut rows: Vec<_> = (0..3000).map(|row| vector(16, row)).collect();
    let queries: Vec<_> = (5000..5050).map(|row| vector(16, row)).collect();
    let cluster = |row: &Vec<f32>| {
        let far = |c: u64| -> f32 {
            let centre = (0..16).map(|i| Rng::new(4, c).normal(i) as f32);
            centre.zip(row).map(|(a, b)| (a - b).powi(2)).sum()
        };
        (0..20).min_by(|a, b| far(*a).total_cmp(&far(*b)))
    };
    for order in ["cluster by cluster", "along a line", "outside in"] {
        match order {
            "cluster by cluster" => rows.sort_by_key(cluster),
            "along a line" => rows.sort_by(|a, b| a[0].total_cmp(&b[0])),
            _ => {
                let square = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
                rows.sort_by(|a, b| square(b).total_cmp(&square(a)));
            }
        }
        let graph = built(params(Metric::Euclidean, Quantization::Int8), &rows, 2);
        assert_sound(&graph);
        let recall = recall(&graph, &rows, &queries, 60);
        assert!(recall >= 0.97, "{order}: {recall}");
    }
}

#[test]
fn rows_of_the_upper_layers_are_linked_to_the_nearest_in_layer_0_too() {
    let rows: Vec<_> = (0..2000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Euclidean, Quantization::None), &rows, 1);
    let upper: Vec<u32> = (0..2000).filter(|&node| graph.level(node) > 0).collect();
    let linked = |&&node: &&u32| {
        let nearest = brute(Metric::Euclidean, &rows, &rows[node as usize], 2, |_| true)[1];
        graph.links(node, 0).nodes().any(|next| next == nearest)
    };
    let good = upper.iter().filter(linked).count();
    assert!(upper.len() > 100 && good * 100 >= upper.len() * 90, "{good} of {}", upper.len());
}

#[test]
fn twins_and_rows_without_variance_are_all_reached() {
    let same = vec![vector(8, 1); 700];
    let zeros = vec![vec![0.0; 8]; 300];
    let mixed: Vec<_> = (0..1200).map(|row| vector(8, row % 40)).collect();
    for (rows, what) in [(&same, "twins"), (&zeros, "zeros"), (&mixed, "thirty of each")] {
        for quantization in QUANTIZATIONS {
            for metric in METRICS {
                let graph = built(params(metric, quantization), rows, 2);
                assert_sound(&graph);
                let (mut query, mut found) = (Prepared::default(), Vec::new());
                graph.prepare(&rows[0], &mut query);
                let mut scratch = GraphScratch::default();
                graph.search(&query, rows.len(), None, None, &mut scratch, &mut found);
                assert_eq!(found.len(), rows.len(), "{what}, {quantization:?}, {metric:?}");
            }
        }
    }
}

#[test]
fn numbers_that_overflow_a_code_end_no_walk() {
    let rows: Vec<_> = (0..300)
        .map(|row| {
            vector(6, row).iter().map(|x| x * 1e37_f32.powf((row % 3) as f32 - 1.0)).collect()
        })
        .collect::<Vec<Vec<f32>>>();
    for quantization in QUANTIZATIONS {
        for metric in METRICS {
            let graph = built(params(metric, quantization), &rows, 2);
            assert_sound(&graph);
            let (mut query, mut found) = (Prepared::default(), Vec::new());
            graph.prepare(&rows[7], &mut query);
            graph.search(&query, 300, None, None, &mut GraphScratch::default(), &mut found);
            assert_eq!(found.len(), 300, "{quantization:?} {metric:?}");
        }
    }
}

#[test]
fn bounds_hold_and_estimates_lie_near_them() {
    let rows: Vec<_> = (0..300).map(|row| vector(100, row)).collect();
    for quantization in QUANTIZATIONS {
        for metric in METRICS {
            let graph = built(params(metric, quantization), &rows, 1);
            let state = vector(100, 4000);
            let mut query = Prepared::default();
            graph.prepare(&state, &mut query);
            let nodes: Vec<_> = (0..300).map(NodeId).collect();
            let (mut least, mut most) = (vec![0.0; 300], vec![0.0; 300]);
            graph.judge(&query, &nodes, &mut least, &mut most);
            let mut estimates = vec![0.0; 300];
            graph.estimate(&query, &nodes, &mut estimates);
            for (at, row) in rows.iter().enumerate() {
                let sum = |term: fn(f64, f64) -> f64| -> f64 {
                    row.iter().zip(&state).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
                };
                let (dot, square) = (sum(|a, b| a * b), sum(|a, b| (a - b).powi(2)));
                let lengths = (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt();
                let (cost, distance) = match metric {
                    Metric::Cosine => (1.0 - dot / lengths, 1.0 - dot / lengths),
                    Metric::Dot => (-dot, -dot),
                    Metric::Euclidean => (square, square.sqrt()),
                };
                assert!(least[at] <= cost && cost <= most[at], "{quantization:?} {metric:?} {at}");
                let scale =
                    if metric == Metric::Cosine { 1.0 } else { lengths.sqrt().max(lengths) };
                let near = if quantization == Quantization::Binary { 0.4 } else { 0.02 };
                let miss = (f64::from(estimates[at]) - distance).abs();
                assert!(miss <= near * scale, "{quantization:?} {metric:?}: {miss}");
            }
        }
    }
}

#[test]
fn what_the_upper_half_of_a_code_proves_holds() {
    for dimension in [200, 256, 300, 768] {
        let mut rows: Vec<_> = (0..200).map(|row| vector(dimension, row)).collect();
        let state = vector(dimension, 4000);
        // what rounding down or up everywhere, along the query, leaves out; the query itself; nothing
        let sign = |x: &f32, far: f32| if *x > 0.0 { far } else { -far };
        for far in [1.0, 7.0 / 127.0, 9.0 / 127.0, 120.0 / 127.0] {
            rows.push(state.iter().map(|x| sign(x, far)).collect());
            rows.push(state.iter().map(|x| sign(x, -far)).collect());
            let last = rows.len() - 1;
            rows[last][0] = 1.0;
            rows[last - 1][0] = 1.0;
        }
        rows.extend([state.clone(), vec![0.0; dimension]]);
        for metric in METRICS {
            let graph = Graph::unlinked(dimension, params(metric, Quantization::Int8));
            let nodes: Vec<_> = rows.iter().map(|row| graph.push(row)).collect();
            let (mut query, mut least) = (Prepared::default(), vec![0.0; rows.len()]);
            graph.prepare(&state, &mut query);
            let skim = graph.skimmed_by(&query).unwrap();
            graph.skim(&query, &skim, &nodes, &mut least);
            let mut room = 0.0;
            for (at, (least, row)) in least.iter().zip(&rows).enumerate() {
                let sum = |term: fn(f64, f64) -> f64| -> f64 {
                    row.iter().zip(&state).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
                };
                let (dot, square) = (sum(|a, b| a * b), sum(|a, b| (a - b).powi(2)));
                let lengths = (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt();
                let (cost, part) = match metric {
                    Metric::Cosine if lengths == 0.0 => (1.0, 1.0),
                    Metric::Cosine => (1.0 - dot / lengths, 1.0),
                    Metric::Dot => (-dot, lengths),
                    Metric::Euclidean => (square, 2.0 * lengths),
                };
                assert!(
                    *least <= cost,
                    "{metric:?}, {dimension} dimensions, row {at}: {least} {cost}"
                );
                room += if part > 0.0 { (cost - least) / part } else { 0.0 };
            }
            let room = room / rows.len() as f64;
            assert!(room < 0.3, "{metric:?}: {room} of the lengths, which proves next to nothing");
        }
    }
    let graph = Graph::unlinked(192, params(Metric::Cosine, Quantization::Int8));
    let mut query = Prepared::default();
    graph.prepare(&vector(192, 1), &mut query);
    assert!(graph.skimmed_by(&query).is_none(), "short codes are whole");
}

#[test]
fn a_second_opinion_agrees() {
    use instant_distance::{Builder, Search};
    #[derive(Clone)]
    struct Point(Vec<f32>);
    impl instant_distance::Point for Point {
        fn distance(&self, other: &Self) -> f32 {
            self.0.iter().zip(&other.0).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
        }
    }
    let rows: Vec<_> = (0..1500).map(|row| vector(12, row)).collect();
    let points = rows.iter().cloned().map(Point).collect();
    let other = Builder::default().seed(1).build(points, (0..1500_u32).collect::<Vec<_>>());
    let graph = built(params(Metric::Euclidean, Quantization::None), &rows, 2);
    let (mut query, mut scratch, mut found) = Default::default();
    let (mut search, mut agreed) = (Search::default(), 0);
    for number in 5000..5050 {
        let state = vector(12, number);
        Graph::prepare(&graph, &state, &mut query);
        graph.search(&query, 100, None, None, &mut scratch, &mut found);
        let theirs: Vec<u32> =
            other.search(&Point(state), &mut search).take(10).map(|item| *item.value).collect();
        agreed += found[..10].iter().filter(|(node, _)| theirs.contains(&node.0)).count();
    }
    assert!(agreed >= 490, "{agreed} of 500");
}

#[test]
fn likely_bounds_are_several_times_tighter_and_hold_for_nearly_every_row() {
    let rows: Vec<Vec<f32>> = (0..2_000).map(|number| vector(768, number)).collect();
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
        let graph = Graph::new(768, params(metric, Quantization::Int8));
        let nodes: Vec<NodeId> = rows.iter().map(|row| graph.push(row)).collect();
        let mut query = Prepared::default();
        graph.prepare(&vector(768, 9_999), &mut query);
        let bounds = |likely: bool| {
            let (mut least, mut most) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
            if likely {
                graph.judge_likely(&query, &nodes, &mut least, &mut most);
            } else {
                graph.judge(&query, &nodes, &mut least, &mut most);
            }
            least.into_iter().zip(most).collect::<Vec<_>>()
        };
        // without a code there is no rounding: the bounds meet in the distance
        let plain = Graph::new(768, params(metric, Quantization::None));
        for row in &rows {
            plain.push(row);
        }
        let (mut least, mut most) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
        let mut exact = Prepared::default();
        plain.prepare(&vector(768, 9_999), &mut exact);
        plain.judge(&exact, &nodes, &mut least, &mut most);
        let (certain, likely) = (bounds(false), bounds(true));
        let held = likely.iter().zip(&least).filter(|((low, high), x)| (low..=high).contains(x));
        assert!(held.count() >= rows.len() - 2, "{metric:?}");
        for ((low, high), (below, above)) in likely.iter().zip(&certain) {
            assert!(3.0 * (high - low) < above - below, "{metric:?}");
        }
    }
}
