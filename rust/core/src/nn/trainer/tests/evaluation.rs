//! What an evaluation sees, and what it says.

use super::*;

fn trained() -> (Memory, DecisionLayer, Report) {
    let memory = Memory::new(60, 20);
    let layer = layer(|_| ());
    let settings = TrainerSettings { epochs: 25, ..settings() };
    let report = run_to_end(start(&memory, &layer, &settings).unwrap());
    let layer = layer.read().unwrap().clone();
    (memory, layer, report)
}

fn ask(memory: &Memory, layer: &DecisionLayer, scope: &Scope) -> Result<Evaluation> {
    evaluate(Arc::new(memory.clone()), layer, &settings(), scope, &mut on)
}

fn only(task_type: &str) -> Filter {
    Filter { task_types: Some(vec![task_type.into()]), ..Filter::default() }
}

#[test]
fn an_evaluation_counts_what_the_layer_gets_right() {
    let (memory, layer, report) = trained();
    let scope = Scope { keep_predictions: true, ..Scope::default() };
    let found = ask(&memory, &layer, &scope).unwrap();
    assert_eq!(found.overall.count, report.data.val_size);
    assert!(found.overall.accuracy > 0.8, "{:?}", found.overall);
    let similarity = report.baseline.unwrap().layer_similarity;
    assert!((found.overall.avg_similarity - similarity).abs() < 1e-6);

    let kept = found.predictions.unwrap();
    let pairs = kept.true_actions.chunks(ACTION).zip(kept.predicted_actions.chunks(ACTION));
    let mut right = 0;
    for ((taken, predicted), similarity) in pairs.zip(&kept.similarities) {
        assert!((cosine(taken, predicted) - similarity).abs() < 1e-12);
        let by_cosine = |a: &&[f32; ACTION], b: &&[f32; ACTION]| {
            cosine(predicted, *a).total_cmp(&cosine(predicted, *b))
        };
        right += usize::from(PATTERNS.iter().max_by(by_cosine).unwrap() == taken);
    }
    assert_eq!(kept.similarities.len(), found.overall.count);
    assert!((found.overall.accuracy - right as f64 / found.overall.count as f64).abs() < 1e-12);

    let names: Vec<_> = found.per_task_type.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["rest", "walk"]);
    let of = |score: &TaskScore| score.accuracy * score.count as f64;
    let sum: f64 = found.per_task_type.iter().map(|(_, score)| of(score)).sum();
    assert!((sum - of(&found.overall)).abs() < 1e-9);
}

#[test]
fn an_evaluation_in_parts_has_the_bits_of_the_whole() {
    let (memory, layer, _) = trained();
    for include_training in [false, true] {
        let scope = Scope { keep_predictions: true, include_training, ..Scope::default() };
        let whole = ask(&memory, &layer, &scope).unwrap();
        let begin = |memory: &Memory| {
            Assessment::start(Arc::new(memory.clone()), layer.clone(), &settings(), &scope).unwrap()
        };
        let assessment = begin(&memory);
        let mut joined = 0;
        for cuts in [1, 2, 3, 7, 1_000] {
            let parts = assessment.parts(cuts);
            assert!(parts.len() == cuts.min(whole.overall.count / 20), "an episode has 20 steps");
            // Each is measured by an assessment of its own, as another process does.
            let found: Vec<_> =
                parts.into_iter().map(|p| begin(&memory).measure(p, &mut on).unwrap()).collect();
            joined += found.len();
            assert_eq!(assessment.conclude(found.clone()).unwrap(), whole);
            let error = assessment.conclude(found[1..].to_vec()).unwrap_err();
            assert!(error.to_string().contains("different steps"), "{error}");
        }
        assert!(joined > 20);
        let other = begin(&Memory::new(61, 20));
        let found = other.measure(0..whole.overall.count, &mut on).unwrap();
        assert!(matches!(assessment.conclude(vec![found]), Err(Error::Training(_))));
        let beyond = assessment.measure(0..whole.overall.count + 1, &mut on);
        assert!(matches!(beyond, Err(Error::Training(_))));
    }
}

#[test]
fn a_calibrated_layer_says_how_far_it_can_be_trusted() {
    let (memory, layer, _) = trained();
    let found = ask(&memory, &layer, &Scope::default()).unwrap();
    assert!(found.calibration_error.unwrap() < 0.15, "{:?}", found.calibration_error);
    assert_eq!(found.reliability.iter().map(|bin| bin.count).sum::<usize>(), found.overall.count);
    let (coverage, risk) = *found.risk_coverage.last().unwrap();
    assert_eq!(coverage, 1.0);
    assert!((risk - (1.0 - found.overall.avg_similarity)).abs() < 1e-9);
    assert!(found.predictions.is_none(), "they were not asked for");
}

#[test]
fn a_layer_that_was_given_its_weights_has_no_calibration_to_judge() {
    let (memory, mut layer, _) = trained();
    let copy = layer.clone();
    layer.set_weights(copy.weights()).unwrap();
    let found = ask(&memory, &layer, &Scope::default()).unwrap();
    assert!(found.calibration_error.is_none());
    assert!(found.reliability.is_empty() && found.risk_coverage.is_empty());
}

#[test]
fn training_episodes_are_seen_only_on_request() {
    let (memory, layer, report) = trained();
    let scope = Scope { include_training: true, ..Scope::default() };
    let count = ask(&memory, &layer, &scope).unwrap().overall.count;
    assert_eq!(count, report.data.total_trajectories);
}

#[test]
fn another_filter_than_the_training_s_still_hides_what_was_learned() {
    let (memory, layer, _) = trained();
    let held_out = validating(&memory.columns.names, 0.2, 0);
    let resting = (0..60).filter(|e| e % 2 == 1 && held_out[*e]).count();
    let scope =
        Scope { filter: only("rest"), trained_on: vec![Filter::default()], ..Scope::default() };
    assert_eq!(ask(&memory, &layer, &scope).unwrap().overall.count, resting * 20);
    // Of a run on "walk" no episode of "rest" was learned from.
    let scope = Scope { trained_on: vec![only("walk")], ..scope };
    assert_eq!(ask(&memory, &layer, &scope).unwrap().overall.count, 30 * 20);
    // Where both were learned from, what either of them saw is hidden.
    let scope = Scope { trained_on: vec![only("walk"), Filter::default()], ..scope };
    assert_eq!(ask(&memory, &layer, &scope).unwrap().overall.count, resting * 20);
}

#[test]
fn nothing_to_ask_and_no_one_to_ask_are_errors() {
    let (memory, layer, _) = trained();
    let scope = Scope { filter: only("swim"), ..Scope::default() };
    let error = ask(&memory, &layer, &scope).unwrap_err();
    assert!(matches!(error, Error::InsufficientData { available: 0, .. }), "{error}");
    let untrained = DecisionLayer::new(layer.settings().clone()).unwrap();
    assert!(matches!(ask(&memory, &untrained, &Scope::default()), Err(Error::NotTrained)));
}
