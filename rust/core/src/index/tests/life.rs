//! Rows that are linked, that wait to be, and that die, in one index.

use crate::pool::Pool;
use crate::rng::Rng;

use super::*;

const WIDE: usize = 16;

/// Points of thirty clusters.
fn state(number: i64) -> Vec<f32> {
    let own = Rng::new(5, number as u64);
    let centre = Rng::new(6, own.below(99, 30));
    (0..WIDE as u64).map(|i| (centre.normal(i) + own.normal(i)) as f32).collect()
}

/// `rows` rows of which the first are linked, one of the index's tails being left to scan.
fn linked(metric: Metric, rows: i64, linked: usize) -> (Index, Shelf) {
    let (index, shelf) = filled_under(params(metric, Quantization::Int8), rows, state);
    let pool = Pool::new(2).unwrap();
    assert_eq!(index.graph.link(linked, &pool, &GO_ON), linked);
    (index, shelf)
}

fn walking<'a>(query: &'a [f32], metric: Metric, k: usize, filter: &'a Resolved) -> Question<'a> {
    Question { ef: Some(80), ..exactly(query, metric, k, filter) }
}

/// The share of the true ten nearest that walks find, over queries that are not in the index.
fn recall(index: &Index, shelf: &mut Shelf, metric: Metric, filter: &Resolved) -> f64 {
    let mut scratch = Scratch::default();
    let (mut found, mut wanted) = (0, 0);
    for number in 0..40 {
        let query = state(-1 - number);
        let truth = brute::search(index, &query, metric, 10, filter, shelf);
        let question = walking(&query, metric, 10, filter);
        let got = index.search(&question, shelf, &mut scratch, &GO_ON).unwrap();
        assert_eq!(got.len(), truth.len(), "among the matches, as many as there are");
        assert!(got.is_sorted_by_key(|hit| hit.distance));
        found += truth.iter().filter(|hit| got.contains(hit)).count();
        wanted += truth.len();
    }
    found as f64 / wanted as f64
}

#[test]
fn walks_find_what_is_linked_and_scans_the_rest() {
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
        let (index, mut shelf) = linked(metric, 6000, 5500);
        let all = Resolved::default();
        assert!(
            index.walk(&index.columns.live, index.len(), 80, None).is_some(),
            "a walk is cheaper"
        );
        let share = recall(&index, &mut shelf, metric, &all);
        assert!(share >= 0.95, "{metric:?}: {share}");
        let mut scratch = Scratch::default();
        for number in (5400..6000).step_by(29) {
            let query = state(number);
            let question = walking(&query, metric, 10, &all);
            let hits = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
            let itself = hits.iter().any(|hit| hit.key == entry(number).key);
            assert!(itself || metric == Metric::Dot, "{metric:?}: row {number} is not found");
        }
    }
}

#[test]
fn where_nothing_may_be_missed_nothing_is_walked() {
    let (index, mut shelf) = linked(Metric::Cosine, 4000, 4000);
    let (all, mut scratch) = (Resolved::default(), Scratch::default());
    for metric in [Metric::Cosine, Metric::Euclidean, Metric::Dot] {
        for number in 0..10 {
            let query = state(-1 - number);
            let truth = brute::search(&index, &query, metric, 10, &all, &mut shelf);
            let mut question = exactly(&query, metric, 10, &all);
            // another metric than the graph's is scanned, whatever is asked for
            question.ef = (metric != Metric::Cosine).then_some(10);
            let got = index.search(&question, &mut shelf, &mut scratch, &GO_ON).unwrap();
            assert_eq!(got, truth, "{metric:?}");
        }
    }
}

#[test]
fn every_selectivity_of_a_filter_is_answered_among_its_matches() {
    let (index, mut shelf) = linked(Metric::Cosine, 8000, 8000);
    for share in [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001] {
        let newest = 1000 - (8000.0 * share) as i64;
        let filter = Resolved { after_timestamp: Some(newest), ..Resolved::default() };
        let found = recall(&index, &mut shelf, Metric::Cosine, &filter);
        assert!(found >= 0.95, "{share}: {found}");
    }
}

/// How many of the hits above these thresholds a search without one finds, and how many of them searches with one lose.
fn lost_by_thresholds(
    (index, shelf): (&Index, &mut Shelf),
    queries: impl Iterator<Item = Vec<f32>>,
    filter: &Resolved,
    thresholds: [f64; 3],
) -> (usize, usize) {
    let mut scratch = Scratch::default();
    let (mut lost, mut above) = (0, 0);
    for query in queries {
        let free = walking(&query, Metric::Cosine, 10, filter);
        let all_hits = index.search(&free, shelf, &mut scratch, &GO_ON).unwrap();
        for threshold in thresholds {
            let cut = Question { threshold: Some(threshold), ..free };
            let hits = index.search(&cut, shelf, &mut scratch, &GO_ON).unwrap();
            let wanted = all_hits.iter().filter(|hit| hit.similarity >= threshold);
            above += wanted.clone().count();
            lost += wanted.filter(|hit| !hits.contains(hit)).count();
        }
    }
    (above, lost)
}

#[test]
fn a_threshold_loses_nothing_above_it() {
    let usual =
        Params { m: 16, ef_construction: 200, ..params(Metric::Cosine, Quantization::Int8) };
    let (index, mut shelf) = filled_under(usual, 6000, state);
    index.graph.link(usize::MAX, &Pool::new(2).unwrap(), &GO_ON);
    let (all, queries) = (Resolved::default(), (0..200).map(|number| state(-1 - number)));
    let (above, lost) = lost_by_thresholds((&index, &mut shelf), queries, &all, [0.5, 0.8, 0.95]);
    assert!(above > 1000 && lost * 1000 <= above, "{lost} of {above} were lost");
}

#[test]
fn a_threshold_loses_nothing_above_it_by_halves_of_codes_and_through_a_filter() {
    // as the rows of the benches: clusters on a manifold of few dimensions, in many
    let wide = |number: i64| -> Vec<f32> {
        let own = Rng::new(15, number as u64);
        let centre = Rng::new(16, own.below(99, 30));
        let latent: Vec<f64> = (0..16).map(|i| centre.normal(i) + own.normal(i)).collect();
        let basis = |i: u64, at: u64| Rng::new(17, at).normal(i);
        let noise = |i| 0.1 * own.normal(100 + i);
        let along = |i| -> f64 { (0..).zip(&latent).map(|(at, x)| x * basis(i, at)).sum() };
        (0..256).map(|i| (along(i) + noise(i)) as f32).collect()
    };
    let usual =
        Params { m: 16, ef_construction: 100, ..params(Metric::Cosine, Quantization::Int8) };
    let (index, mut shelf) = filled_under(usual, 4000, wide);
    index.graph.link(usize::MAX, &Pool::new(2).unwrap(), &GO_ON);
    let some = Resolved { min_reward: Some(0.0), ..Resolved::default() };
    for filter in [Resolved::default(), some] {
        let queries = (0..100).map(|number| wide(-1 - number));
        let (above, lost) =
            lost_by_thresholds((&index, &mut shelf), queries, &filter, [0.5, 0.7, 0.8]);
        assert!(above > 1000 && lost * 1000 <= above, "{lost} of {above} were lost");
    }
}

#[test]
fn the_dead_are_in_no_answer_before_and_after_they_are_cleared_away() {
    let (mut index, mut shelf) = linked(Metric::Cosine, 5000, 4800);
    let (all, mut scratch) = (Resolved::default(), Scratch::default());
    let bury = |index: &mut Index, shelf: &mut Shelf, numbers: &mut dyn Iterator<Item = i64>| {
        let keys: Vec<RowKey> = numbers.map(|number| entry(number).key).collect();
        index.remove(&keys);
        shelf.states.retain(|key, _| !keys.contains(key));
    };
    bury(&mut index, &mut shelf, &mut (0..5000).step_by(7));
    assert!(index.worth_compacting().is_none(), "a seventh is not enough");
    bury(&mut index, &mut shelf, &mut (1..5000).step_by(7));
    assert!(recall(&index, &mut shelf, Metric::Cosine, &all) >= 0.95);
    let live = index.worth_compacting().expect("two sevenths are");
    let graph = Arc::clone(index.graph());
    // while the graph is rebuilt, rows come and go
    let kept = graph.consolidated(&live, &Pool::new(2).unwrap(), &GO_ON).unwrap();
    bury(&mut index, &mut shelf, &mut (2..5000).step_by(49));
    for number in 5000..5040 {
        index.append(&entry(number), &state(number));
        shelf.states.insert(entry(number).key, state(number));
    }
    index.swap(&graph, kept, &live);
    assert_eq!((index.len(), index.columns.len()), (shelf.states.len(), live.count() + 40));
    assert_eq!(index.graph.len(), index.columns.len());
    assert!(recall(&index, &mut shelf, Metric::Cosine, &all) >= 0.95);
    let share = Resolved { success: Some(true), ..all.clone() };
    assert!(recall(&index, &mut shelf, Metric::Cosine, &share) >= 0.95);
    for (key, state) in &shelf.states {
        assert_eq!(index.entry(*key), Some(entry(key.0 / 3)));
        assert!(index.codes(*key, state, &mut scratch), "row {} has another's code", key.0);
    }
    let quantile = |index: &Index| index.quantile(Scale::Return, &all, 0.5);
    assert!(quantile(&index).is_some());
    index.swap(&graph, Graph::new(WIDE, *graph.params()), &live);
    assert_eq!(index.len(), shelf.states.len(), "a graph that is no longer this index's was taken");
}

#[test]
fn what_is_not_linked_is_cleared_away_at_once() {
    let (mut index, mut shelf) = filled(100, state);
    let keys: Vec<RowKey> = (0..20).map(|number| entry(number * 5).key).collect();
    index.remove(&keys[..19]);
    assert_eq!(index.columns.len(), 100);
    index.remove(&keys[19..]);
    assert_eq!((index.columns.len(), index.graph.len(), index.len()), (80, 80, 80));
    shelf.states.retain(|key, _| !keys.contains(key));
    let mut scratch = Scratch::default();
    assert!(shelf.states.iter().all(|(key, state)| index.codes(*key, state, &mut scratch)));
}

#[test]
fn codes_alone_find_about_the_same() {
    for (quantization, least) in
        [(Quantization::None, 0.95), (Quantization::Int8, 0.85), (Quantization::Binary, 0.2)]
    {
        let made = params(Metric::Cosine, quantization);
        let (index, mut shelf) = filled_under(made, 5000, state);
        index.graph.link(4900, &Pool::new(2).unwrap(), &GO_ON);
        let (all, mut scratch) = (Resolved::default(), Scratch::default());
        let (mut code, mut found) = (Vec::new(), 0);
        for number in 0..30 {
            let query = state(-1 - number);
            let truth = brute::search(&index, &query, Metric::Cosine, 10, &all, &mut shelf);
            code.clear();
            index.graph.codec().encode(&query, crate::hnsw::Role::Query, &mut code);
            for ef in [Some(80), None] {
                let got = index.search_code(&code, 10, &all, ef, &mut scratch, &GO_ON).unwrap();
                assert_eq!(got.len(), 10);
                assert!(got.is_sorted_by_key(|(_, distance)| *distance));
                found +=
                    truth.iter().filter(|hit| got.iter().any(|(key, _)| *key == hit.key)).count();
            }
        }
        let share = f64::from(found as u32) / 600.0;
        assert!(share >= least, "{quantization:?}: {share}");
    }
}
