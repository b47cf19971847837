//! Patterns by name, by embedding, and by what worked in similar states.

use precedent_core::store::{HnswSettings, Options, Store};
use precedent_core::{Error, Metric};

use crate::world::*;

fn close(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
}

#[test]
fn what_was_given_wins_over_the_centroid_and_leaves_it_when_it_is_dropped() {
    let store = memory();
    let mut rows = steps("e", 4, 0);
    rows.patterns = std::iter::repeat_n("p", 4).collect();
    rows.actions = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]].concat();
    insert(&store, &rows);
    assert!(close(&store.get_pattern("p").unwrap().embedding.unwrap(), &[0.75, 0.5, 0.0]));
    store.upsert_pattern("p", Some(&[0.0, 0.0, 1.0]), Some("name"), None).unwrap();
    store.upsert_pattern("p", None, None, Some("{}")).unwrap();
    let pattern = store.get_pattern("p").unwrap();
    assert_eq!(pattern.embedding.as_deref(), Some(&[0.0, 0.0, 1.0][..]));
    assert_eq!((pattern.name.as_deref(), pattern.payload.as_deref()), (Some("name"), Some("{}")));
    assert_eq!(pattern.uses, 4);
    store.delete_pattern("p").unwrap();
    let pattern = store.get_pattern("p").unwrap();
    assert!(close(&pattern.embedding.unwrap(), &[0.75, 0.5, 0.0]));
    assert_eq!((pattern.name, pattern.payload, pattern.uses), (None, None, 4));
}

#[test]
fn a_pattern_that_was_described_and_never_used_stays_until_it_is_deleted() {
    let store = memory();
    store.upsert_pattern("p", None, Some("name"), None).unwrap();
    let pattern = store.get_pattern("p").unwrap();
    assert_eq!((pattern.uses, pattern.mean_reward, pattern.embedding), (0, None, None));
    assert_eq!(store.pattern_count().unwrap(), 1);
    store.delete_pattern("p").unwrap();
    assert_eq!(store.pattern_count().unwrap(), 0);
    assert!(matches!(store.delete_pattern("p"), Err(Error::NotFound { .. })));
    assert!(matches!(store.get_pattern("p"), Err(Error::NotFound { .. })));
}

#[test]
fn a_described_pattern_outlives_its_uses() {
    let store = memory();
    let ids = insert(&store, &steps("e", 3, 0));
    store.upsert_pattern("p1", None, Some("name"), None).unwrap();
    store.delete(&ids).unwrap();
    assert_eq!(store.pattern_ids().unwrap(), ["p1"]);
    let pattern = store.get_pattern("p1").unwrap();
    assert_eq!((pattern.uses, pattern.successes, pattern.mean_reward), (0, 0, None));
    assert!(store.verify(true, &mut || Ok(())).unwrap().ok());
}

#[test]
fn the_nearest_pattern_follows_every_write() {
    let store = memory();
    let other = memory();
    let ids = insert(&store, &steps("e", 3, 0));
    let best = |embedding: &[f32]| {
        let found = store.search_patterns(embedding, 1).unwrap();
        found.first().map(|(pattern, similarity)| (pattern.pattern_id.clone(), *similarity))
    };
    let (name, similarity) = best(&action(1)).unwrap();
    assert_eq!(name, "p1");
    assert!((similarity - 1.0).abs() < 1e-6);
    store.upsert_pattern("p2", Some(&action(77)), None, None).unwrap();
    assert_eq!(best(&action(77)).unwrap().0, "p2");
    store.delete_pattern("p2").unwrap();
    assert_eq!(best(&action(2)).unwrap().0, "p2");
    let mut rows = steps("e", 1, 5);
    rows.patterns = std::iter::repeat_n("p0", 1).collect();
    rows.actions = action(9).iter().map(|x| x * 100.0).collect();
    let moved = insert(&store, &rows);
    assert_eq!(best(&action(9)).unwrap().0, "p0");
    store.delete(&moved).unwrap();
    assert_eq!(best(&action(0)).unwrap().0, "p0");
    store.delete(&ids[1..2]).unwrap();
    assert!(
        store.search_patterns(&action(1), 9).unwrap().iter().all(|(p, _)| p.pattern_id != "p1")
    );
    assert_eq!(other.search_patterns(&action(1), 3).unwrap(), []);
}

#[test]
fn centroids_in_memory_are_those_in_the_file_after_many_writes() {
    let store = memory();
    let mut ids = Vec::new();
    for round in 0..20 {
        let mut rows = steps(&format!("e{round}"), 7, round);
        rows.actions = (0..7).flat_map(|i| action(round * 3 + i % 4)).collect();
        ids.extend(insert(&store, &rows));
        if round % 3 == 0 {
            store.delete(&ids.split_off(ids.len() - 4)).unwrap();
        }
        for (pattern, _) in store.search_patterns(&action(1), 10).unwrap() {
            let fresh = store.get_pattern(&pattern.pattern_id).unwrap();
            assert!(close(&pattern.embedding.unwrap(), &fresh.embedding.unwrap()));
        }
    }
}

#[test]
fn ranks_by_the_lower_bound_of_what_worked_nearby() {
    let store = memory();
    let mut rows = steps("e", 6, 0);
    rows.states = state(0).repeat(6);
    rows.patterns =
        ["lucky", "proven", "proven", "proven", "proven", "failed"].into_iter().collect();
    rows.successes = Some([true, true, true, true, false, false].map(Some).to_vec());
    insert(&store, &rows);
    let found = store.match_patterns(&state(0), 5, 32, 0.0, &all()).unwrap();
    let names: Vec<_> = found.iter().map(|m| m.pattern.pattern_id.as_str()).collect();
    assert_eq!(names, ["proven", "lucky", "failed"]);
    // Beta(2, 1) has the distribution function x^2, Beta(1, 2) has 1 - (1 - x)^2.
    let (lucky, failed) = (&found[1], &found[2]);
    assert!(
        (lucky.low - 0.05_f64.sqrt()).abs() < 1e-6 && (lucky.high - 0.95_f64.sqrt()).abs() < 1e-6
    );
    assert!((failed.low - (1.0 - 0.95_f64.sqrt())).abs() < 1e-6);
    assert!(found.iter().all(|m| m.score == m.low && (m.similarity - 1.0).abs() < 1e-6));
    assert_eq!(store.match_patterns(&state(0), 1, 32, 0.0, &all()).unwrap().len(), 1);
}

#[test]
fn a_use_has_one_vote_at_most_where_similarities_have_no_bound() {
    let hnsw = HnswSettings { metric: Some(Metric::Dot), ..HnswSettings::default() };
    let store = Store::open(":memory:".as_ref(), Options { hnsw, ..options() }).unwrap();
    let mut rows = steps("e", 31, 0);
    rows.states = state(0).iter().map(|x| 30.0 * x).collect::<Vec<_>>().repeat(31);
    rows.patterns = (0..31).map(|at| if at == 0 { "lucky" } else { "good" }).collect();
    rows.successes = Some((0..31).map(|at| Some(at != 1)).collect());
    insert(&store, &rows);
    let found = store.match_patterns(&rows.states[..state(0).len()], 2, 40, 0.0, &all()).unwrap();
    let names: Vec<_> = found.iter().map(|m| m.pattern.pattern_id.as_str()).collect();
    assert_eq!(names, ["good", "lucky"]);
}

#[test]
fn states_below_the_least_similarity_have_no_vote() {
    let store = memory();
    insert(&store, &steps("e", 30, 0));
    let near = store.match_patterns(&state(4), 9, 30, 0.999, &all()).unwrap();
    assert_eq!(near.len(), 1);
    assert_eq!(near[0].pattern.pattern_id, "p1");
    assert_eq!(store.match_patterns(&state(4), 9, 30, 1.5, &all()).unwrap(), []);
}

#[test]
fn bad_questions_are_refused() {
    let store = memory();
    let invalid = |outcome: Result<(), Error>| match outcome {
        Err(Error::Invalid { field, .. } | Error::Dimension { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let search = |embedding: &[f32], k| invalid(store.search_patterns(embedding, k).map(drop));
    assert_eq!(search(&action(0), 0), "k");
    assert_eq!(search(&[1.0], 1), "embedding");
    assert_eq!(search(&[0.0; ACTION], 1), "embedding");
    assert_eq!(search(&[f32::NAN; ACTION], 1), "embedding");
    let matched =
        |k, n, least| invalid(store.match_patterns(&state(0), k, n, least, &all()).map(drop));
    assert_eq!(matched(0, 1, 0.0), "k");
    assert_eq!(matched(1, 0, 0.0), "neighbors");
    assert_eq!(matched(1, 1, f64::NAN), "min_similarity");
    assert_eq!(invalid(store.upsert_pattern("", None, None, None)), "pattern_id");
    assert_eq!(invalid(store.upsert_pattern("p", Some(&[1.0; 9]), None, None)), "embedding");
    assert_eq!(store.pattern_count().unwrap(), 0);
}
