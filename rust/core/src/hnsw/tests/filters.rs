use super::*;
use crate::bits::Bits;

/// The share of the ten nearest matches among the candidates, and how often the walk gave up.
fn among(
    graph: &Graph,
    rows: &[Vec<f32>],
    ef: usize,
    passes: impl Fn(&[f32], usize) -> bool,
) -> (f64, usize) {
    let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
    let (mut found, mut hits, mut wanted, mut refused) = (Vec::new(), 0, 0, 0);
    for number in 9000..9040 {
        let state = vector(rows[0].len(), number);
        let admit: Bits = (0..rows.len()).map(|at| passes(&state, at)).collect();
        graph.prepare(&state, &mut query);
        let matches = admit.count();
        let admitted = Some(Admitted { rows: &admit, count: matches, otherwise: matches });
        let walked = graph.search(&query, ef, admitted, None, &mut scratch, &mut found);
        if walked == Walked::Left {
            assert!(found.is_empty());
            refused += 1;
            continue;
        }
        assert!(found.iter().all(|(node, _)| admit.get(node.0 as usize)));
        assert!(found.len() <= ef && found.is_sorted_by(|a, b| a.1 <= b.1));
        let truth = brute(graph.params().metric, rows, &state, 10, |at| admit.get(at));
        hits += truth.iter().filter(|node| found.iter().any(|f| f.0.0 == **node)).count();
        wanted += truth.len();
    }
    (hits as f64 / wanted.max(1) as f64, refused)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn a_filtered_walk_finds_the_nearest_matches_at_every_share() {
    let rows: Vec<_> = (0..4000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    for share in [0.5, 0.25, 0.1, 0.05] {
        let random = |_: &[f32], at: usize| Rng::new(8, 8).uniform(at as u64) < share;
        let (recall, refused) = among(&graph, &rows, 50, random);
        assert!(recall >= 0.95 && refused < 4, "random {share}: {recall}, {refused} refused");
    }
}

#[test]
fn a_filter_that_goes_with_the_query_or_against_it_costs_no_matches() {
    let rows: Vec<_> = (0..7000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let toward = |state: &[f32], at: usize| dot(&rows[at], state) > 5.0;
    let (recall, refused) = among(&graph, &rows, 50, toward);
    assert!(recall >= 0.95 && refused == 0, "toward: {recall}, {refused} refused");
    // where a walk would have to look at more than a scan it refuses
    let away = |state: &[f32], at: usize| dot(&rows[at], state) < 0.0;
    let (_, refused) = among(&graph, &rows, 50, away);
    assert!(refused >= 36, "away: {refused} refused");
    // all clusters but the query's own
    let cluster = |state: &[f32]| -> u64 {
        let far = |c: u64| -> f32 {
            let centre = (0..24).map(|i| Rng::new(4, c).normal(i) as f32);
            centre.zip(state).map(|(a, b)| (a - b).powi(2)).sum()
        };
        (0..20).min_by(|a, b| far(*a).total_cmp(&far(*b))).unwrap()
    };
    let clusters: Vec<u64> = rows.iter().map(|row| cluster(row)).collect();
    let others = |state: &[f32], at: usize| clusters[at] != cluster(state);
    let (_, refused) = among(&graph, &rows, 50, others);
    assert!(refused >= 36, "other clusters: {refused} refused");
    let (recall, refused) = among(&graph, &rows, 16, others);
    assert!(recall >= 0.95 && refused == 0, "other clusters: {recall}, {refused} refused");
}

#[test]
fn rows_beyond_the_filter_and_empty_filters_give_nothing() {
    let rows: Vec<_> = (0..500).map(|row| vector(8, row)).collect();
    let graph = built(params(Metric::Dot, Quantization::Int8), &rows, 1);
    let (mut query, mut found) = (Prepared::default(), vec![(NodeId(0), 0.0)]);
    graph.prepare(&rows[0], &mut query);
    let mut scratch = GraphScratch::default();
    let none: Bits = (0..500).map(|_| false).collect();
    let among = |rows, count| Some(Admitted { rows, count, otherwise: count });
    graph.search(&query, 10, among(&none, 0), None, &mut scratch, &mut found);
    assert!(found.is_empty());
    let few: Bits = (0..100).map(|_| true).collect();
    graph.search(&query, 200, among(&few, 100), None, &mut scratch, &mut found);
    assert!(found.iter().all(|(node, _)| node.0 < 100));
    let empty = Graph::new(8, params(Metric::Dot, Quantization::Int8));
    empty.search(&query, 10, None, None, &mut scratch, &mut found);
    assert!(found.is_empty());
}

#[test]
fn a_threshold_ends_walks_early_and_loses_next_to_no_hit_above_it() {
    let rows: Vec<_> = (0..4000).map(|row| vector(24, row)).collect();
    let graph = built(params(Metric::Cosine, Quantization::Int8), &rows, 2);
    let (mut query, mut scratch) = (Prepared::default(), GraphScratch::default());
    let (mut all, mut cut) = (Vec::new(), Vec::new());
    let (mut above, mut lost) = (0, 0);
    for threshold in [0.05, 0.2, 0.4] {
        for number in 9000..9400 {
            graph.prepare(&vector(24, number), &mut query);
            graph.search(&query, 50, None, None, &mut scratch, &mut all);
            graph.search(&query, 50, None, Some(threshold), &mut scratch, &mut cut);
            let hits = all.iter().filter(|(_, distance)| *distance <= threshold);
            above += hits.clone().count();
            lost += hits.filter(|hit| !cut.contains(hit)).count();
        }
    }
    assert!(above > 3000 && lost * 1000 <= above, "{lost} of {above} lost");
}
