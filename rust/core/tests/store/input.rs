//! What a caller can get wrong is refused by name, and nothing is written.

use precedent_core::store::{Naming, Options, Query, SearchOptions, Storage, Store};
use precedent_core::{Error, Filter, Rows};

use crate::world::*;

fn refused(outcome: Result<(), Error>) -> String {
    match outcome {
        Err(error @ (Error::Invalid { .. } | Error::Dimension { .. })) => {
            let (Error::Invalid { field, .. } | Error::Dimension { field, .. }) = &error else {
                unreachable!()
            };
            assert!(error.to_string().contains("expected"), "{error}");
            field.clone()
        }
        other => panic!("{other:?}"),
    }
}

fn insert_refused(store: &Store, naming: Naming, spoil: impl Fn(&mut Rows)) -> String {
    let mut rows = steps("e", 5, 0);
    spoil(&mut rows);
    let field = refused(store.insert(&rows, naming).map(drop));
    assert_eq!((size(store), store.pattern_count().unwrap()), (0, 0));
    field
}

#[test]
fn a_bad_row_is_named_by_its_position_and_nothing_is_written() {
    let store = memory();
    let field = |spoil: &dyn Fn(&mut Rows)| insert_refused(&store, Naming::Columns, spoil);
    assert_eq!(field(&|rows| rows.states[3 * WIDE + 1] = f32::NAN), "states[3]");
    assert_eq!(field(&|rows| rows.states[3 * WIDE + 1] = f32::INFINITY), "states[3]");
    assert_eq!(field(&|rows| rows.states[2 * WIDE..3 * WIDE].fill(0.0)), "states[2]");
    assert_eq!(field(&|rows| rows.states.truncate(5 * (WIDE - 1))), "states[0]");
    assert_eq!(field(&|rows| rows.actions[0] = f32::NEG_INFINITY), "actions[0]");
    assert_eq!(field(&|rows| rows.actions.truncate(5)), "actions[0]");
    assert_eq!(field(&|rows| rows.rewards[4] = f64::NAN), "rewards[4]");
    assert_eq!(field(&|rows| rows.rewards[4] = f64::INFINITY), "rewards[4]");
    assert_eq!(field(&|rows| rows.returns[1] = f64::INFINITY), "returns_to_go[1]");
    assert_eq!(field(&|rows| rows.patterns.names[1].clear()), "pattern_ids[1]");
    assert_eq!(field(&|rows| rows.episodes.names[0].clear()), "episode_ids[0]");
    assert_eq!(field(&|rows| rows.task_types.names[1].clear()), "task_types[1]");
    assert_eq!(field(&|rows| rows.qualities = Some(vec![Some(1.1); 5])), "qualities[0]");
    assert_eq!(field(&|rows| rows.qualities = Some(vec![Some(f64::NAN); 5])), "qualities[0]");
    assert_eq!(field(&|rows| rows.rewards.truncate(4)), "rewards");
    assert_eq!(field(&|rows| rows.extras = Some(Vec::new())), "extras");
    assert_eq!(field(&|rows| rows.task_types.codes[0] = 9), "task_types");
    assert_eq!(field(&|rows| rows.rewards = vec![f64::MAX; 5]), "reward");
}

#[test]
fn records_and_single_ones_are_named_in_their_own_words() {
    let store = memory();
    let nan = |rows: &mut Rows| rows.states[3 * WIDE] = f32::NAN;
    let nameless = |rows: &mut Rows| rows.patterns.names[2].clear();
    assert_eq!(insert_refused(&store, Naming::Records, nan), "trajectories[3].state_embedding");
    assert_eq!(
        insert_refused(&store, Naming::Records, nameless),
        "trajectories[2].action.pattern_id"
    );
    assert_eq!(insert_refused(&store, Naming::One, nan), "state_embedding");
    assert_eq!(insert_refused(&store, Naming::One, nameless), "action.pattern_id");
}

#[test]
fn zero_actions_are_fine_and_zero_states_too_where_direction_means_nothing() {
    let store = memory();
    let mut rows = steps("e", 2, 0);
    rows.actions.fill(0.0);
    insert(&store, &rows);
    let hnsw = precedent_core::store::HnswSettings {
        metric: Some(precedent_core::Metric::Euclidean),
        ..Default::default()
    };
    let options = precedent_core::store::Options { hnsw, ..options() };
    let flat = Store::open(":memory:".as_ref(), options).unwrap();
    rows.states.fill(0.0);
    let ids = insert(&flat, &rows);
    assert_eq!(flat.search(&nearest(vec![0.0; WIDE], 1)).unwrap().rows.ids, ids[..1]);
    let mut query = nearest(state(0), 5);
    query.options.metric = Some(precedent_core::Metric::Cosine);
    let hits = &flat.search(&query).unwrap().hits;
    assert!(hits.iter().all(|hit| (hit.similarity, hit.distance) == (0.0, 1.0)));
    query.vector.fill(0.0);
    assert_eq!(refused(flat.search(&query).map(drop)), "state");
}

#[test]
fn bad_questions_are_refused_on_an_empty_store_too() {
    let store = memory();
    let ask = |spoil: &dyn Fn(&mut Query)| {
        let mut query = nearest(state(0), 5);
        spoil(&mut query);
        let field = refused(store.search(&query).map(drop));
        let many: Vec<f32> = [state(1), query.vector].concat();
        if many.len() == 2 * WIDE {
            let other = refused(store.search_many(&many, &query.options, &mut || Ok(())).map(drop));
            assert_eq!(other, field.replace("state", "states[1]"));
        }
        field
    };
    assert_eq!(ask(&|query| query.vector[0] = f32::NAN), "state");
    assert_eq!(ask(&|query| query.vector.fill(0.0)), "state");
    assert_eq!(ask(&|query| query.vector.push(1.0)), "state");
    assert_eq!(ask(&|query| query.vector.clear()), "state");
    assert_eq!(ask(&|query| query.options.k = 0), "k");
    assert_eq!(ask(&|query| query.options.ef_search = Some(4)), "ef_search");
    assert_eq!(ask(&|query| query.options.threshold = Some(f64::NAN)), "threshold");
    assert_eq!(ask(&|query| query.options.filter.min_return = Some(f64::NAN)), "filter.min_return");
    assert_eq!(ask(&|query| query.options.filter.min_reward = Some(f64::NAN)), "filter.min_reward");
    let ragged = store.search_ids(&[1.0; WIDE + 1], &SearchOptions::default(), &mut || Ok(()));
    assert_eq!(refused(ragged.map(drop)), "states");
    assert_eq!(refused(store.by_state(&[1.0], &all()).map(drop)), "state");
    let nan = Filter { min_episode_reward: Some(f64::NAN), ..all() };
    assert_eq!(refused(store.keys_matching(&nan).map(drop)), "filter.min_episode_reward");
    let scale = precedent_core::index::Scale::Return;
    assert_eq!(refused(store.quantiles(scale, &[1.5], &all()).map(drop)), "quantile");
}

#[test]
fn no_rows_are_no_work() {
    let store = memory();
    let none = Rows::default();
    assert_eq!(store.insert(&none, Naming::Columns).unwrap(), []);
    assert_eq!(store.get(&[]).unwrap().len, 0);
}

#[test]
fn a_search_may_ask_beyond_half_precision_but_no_stored_state_can_equal_that() {
    let options = Options { storage: Some(Storage::F16), ..options() };
    let store = Store::open(":memory:".as_ref(), options).unwrap();
    let ids = insert(&store, &steps("e", 3, 0));
    let mut far = vec![0.0; WIDE];
    far[0] = 1e9;
    assert_eq!(store.search(&nearest(far.clone(), 5)).unwrap().rows.ids.len(), ids.len());
    let refused = store.by_state(&far, &all());
    assert!(
        matches!(refused, Err(Error::Invalid { ref field, .. }) if field == "state"),
        "{refused:?}"
    );
}
