//! That a run learns, and that nothing but seed and data decides what.

use super::*;
use crate::nn::ContextKind;

#[test]
fn a_run_learns_what_its_data_knows_and_beats_its_nearest_neighbour() {
    let memory = Memory::new(60, 20);
    let layer = layer(|_| ());
    let settings = TrainerSettings { epochs: 25, ..settings() };
    let report = run_to_end(start(&memory, &layer, &settings).unwrap());
    let (first, last) = (&report.epochs[0], report.epochs.last().unwrap());
    assert_eq!((first.epoch, last.epoch), (1, report.epochs.len() as u64));
    assert!(last.val_loss.unwrap() < 0.4 * first.val_loss.unwrap(), "{first:?} to {last:?}");
    assert!(report.best.val_loss.unwrap() <= last.val_loss.unwrap());
    assert_eq!((report.data.total_trajectories, report.data.train_size), (1200, 960));
    let baseline = report.baseline.unwrap();
    assert_eq!((baseline.validation_size, baseline.training_size), (240, 960));
    assert!((0.6..0.999).contains(&baseline.neighbor_similarity), "{baseline:?}");
    assert!(baseline.layer_similarity > baseline.neighbor_similarity, "{baseline:?}");
    assert!(layer.read().unwrap().trained());
}

#[test]
fn the_baseline_is_measured_on_a_part_of_large_data_and_says_how_much() {
    let memory = Memory::new(260, 100);
    let mut run = start(&memory, &layer(|_| ()), &settings()).unwrap();
    run.next_epoch(&mut on).unwrap();
    let report = run.finish(&mut on).unwrap();
    assert_eq!((report.data.val_size, report.data.train_size), (5_200, 20_800));
    let baseline = report.baseline.unwrap();
    assert_eq!((baseline.validation_size, baseline.training_size), (2_000, 20_000));
    assert!(baseline.neighbor_similarity > 0.6, "{baseline:?}");
}

#[test]
fn the_baseline_is_what_a_search_through_all_pairs_finds() {
    let memory = Memory::new(12, 10);
    let mut run = start(&memory, &layer(|_| ()), &settings()).unwrap();
    run.next_epoch(&mut on).unwrap();
    let report = run.finish(&mut on).unwrap();
    let state = |step: u32| &memory.states[step as usize * STATE..][..STATE];
    let action = |step: u32| &memory.actions[step as usize * ACTION..][..ACTION];
    let data = &run.study.data;
    let nearest = |step: u32| {
        let by_cosine = |a: &&u32, b: &&u32| {
            let of = |other: u32| cosine(state(step), state(other));
            of(**a).total_cmp(&of(**b))
        };
        *data.train.iter().max_by(by_cosine).unwrap()
    };
    let exact: f64 =
        data.validate.iter().map(|&step| cosine(action(step), action(nearest(step)))).sum::<f64>()
            / data.validate.len() as f64;
    assert!((report.baseline.unwrap().neighbor_similarity - exact).abs() < 1e-9);
}

#[test]
fn any_number_of_threads_makes_the_same_bits() {
    let memory = Memory::new(12, 10);
    let train = |replay, threads| {
        let layer = layer(|s| s.context = ContextKind::History);
        let settings = TrainerSettings { replay, emphasis: 2.0, ..settings() };
        let mut run = start(&memory, &layer, &settings).unwrap();
        let pool = Pool::new(threads).unwrap();
        while run.next_epoch_on(&pool, &mut on).unwrap().is_some() {}
        let report = run.finish_on(&pool, &mut on).unwrap();
        (weights(&layer), report.best.val_loss)
    };
    for replay in Replay::ALL {
        let one = train(*replay, 1);
        assert!(one == train(*replay, 2) && one == train(*replay, 3), "{replay:?}");
    }
}

#[test]
fn vectors_in_memory_and_vectors_from_the_store_make_the_same_bits() {
    let memory = Memory::new(12, 10);
    let train = |warm| {
        let layer = layer(|s| s.context = ContextKind::History);
        let mut run = start(&memory, &layer, &settings()).unwrap();
        run.warm = warm; // a run that thinks it is warm reads every batch from the store
        run_to_end(run);
        weights(&layer)
    };
    assert_eq!(train(false), train(true));
}

#[test]
fn seeds_and_replays_lead_to_other_weights() {
    let memory = Memory::new(12, 10);
    let train = |settings: &TrainerSettings| {
        let layer = layer(|_| ());
        run_to_end(start(&memory, &layer, settings).unwrap());
        weights(&layer)
    };
    let base = train(&settings());
    assert_eq!(base, train(&settings()));
    assert_ne!(base, train(&TrainerSettings { seed: 1, ..settings() }));
    assert_ne!(base, train(&TrainerSettings { replay: Replay::Diverse, ..settings() }));
    assert_ne!(base, train(&TrainerSettings { replay: Replay::Prioritized, ..settings() }));
    assert_ne!(base, train(&TrainerSettings { timesteps: true, ..settings() }));
    assert_ne!(base, train(&TrainerSettings { emphasis: 1.0, ..settings() }));
    assert_ne!(base, train(&TrainerSettings { warmup_steps: 3, ..settings() }));
    assert_ne!(base, train(&TrainerSettings { schedule: Schedule::Cosine, ..settings() }));
}

#[test]
fn a_curriculum_shows_only_easy_episodes_at_first() {
    let mut memory = Memory::new(12, 10);
    // Episodes 3, 7 and 11 take 40 seconds. Whoever looks at them fails.
    for step in 0..120 {
        if step / 10 % 4 == 3 {
            memory.actions[step * ACTION] = f32::NAN;
        }
    }
    let curriculum = Some(Curriculum { easy_epochs: 2, max_duration_ms: 40_000 });
    let settings = TrainerSettings { curriculum, validation_split: 0.0, ..settings() };
    let layer = layer(|_| ());
    let mut run = start(&memory, &layer, &settings).unwrap();
    assert_eq!(run.easy.as_ref().unwrap().len(), 90);
    assert_eq!(run.batches(), 120usize.div_ceil(16));
    run.next_epoch(&mut on).unwrap();
    run.next_epoch(&mut on).unwrap();
    assert!(matches!(run.next_epoch(&mut on), Err(Error::Training(_))));
    let curriculum = Some(Curriculum { easy_epochs: 2, max_duration_ms: 10_000 });
    let error = start(&memory, &layer, &TrainerSettings { curriculum, ..settings }).err().unwrap();
    assert!(error.to_string().starts_with("curriculum.max_duration"), "{error}");
}

#[test]
fn a_layer_that_learned_with_contexts_also_answers_without() {
    let rng = Rng::new(1, 1);
    let dropped = (0..10_000).filter(|&at| epoch::goes_without_context(rng, at)).count();
    assert!((1_900..2_100).contains(&dropped), "{dropped} of 10,000 is not a fifth");

    let memory = Memory::new(60, 20);
    let layer = layer(|s| s.context = ContextKind::History);
    let settings = TrainerSettings { epochs: 15, ..settings() };
    run_to_end(start(&memory, &layer, &settings).unwrap());
    let layer = layer.read().unwrap();
    let n = 200;
    let questions = crate::nn::Questions {
        states: &memory.states[..n * STATE],
        returns: &[2.0],
        contexts: None,
        timesteps: None,
    };
    let answers = layer.predict_many(&questions).unwrap();
    let pairs = answers.chunks(ACTION).zip(memory.actions.chunks(ACTION));
    let similarity = pairs.map(|(answer, taken)| cosine(answer, taken)).sum::<f64>() / n as f64;
    assert!(similarity > 0.8, "{similarity}");
}
