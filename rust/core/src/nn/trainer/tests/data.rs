//! Which steps a run learns from, and with which returns.

use super::*;
use crate::nn::{ContextKind, ReturnScale};

fn load(memory: &Memory, scale: ReturnScale, split: f64) -> Data {
    let settings = TrainerSettings { validation_split: split, gamma: 0.5, ..settings() };
    Data::load(memory, &Filter::default(), &settings, scale).unwrap()
}

#[test]
fn validation_never_shares_an_episode_with_training() {
    let data = load(&Memory::new(20, 7), ReturnScale::Raw, 0.2);
    let episodes = |steps: &[u32]| {
        let mut of: Vec<u32> = steps.iter().map(|&s| data.episode_of[s as usize]).collect();
        of.dedup();
        of
    };
    let (train, validate) = (episodes(&data.train), episodes(&data.validate));
    assert_eq!((train.len(), validate.len()), (16, 4));
    assert!(validate.iter().all(|episode| !train.contains(episode)));
    assert_eq!((data.train.len(), data.validate.len()), (112, 28));
}

#[test]
fn a_single_episode_and_a_split_of_zero_train_on_everything() {
    assert!(load(&Memory::new(1, 7), ReturnScale::Raw, 0.2).validate.is_empty());
    assert!(load(&Memory::new(9, 7), ReturnScale::Raw, 0.0).validate.is_empty());
}

#[test]
fn a_stored_return_is_taken_and_a_missing_one_computed_from_the_whole_episode() {
    let mut memory = Memory::new(1, 4);
    memory.columns.rewards = vec![1.0, 2.0, 4.0, 8.0];
    memory.columns.returns[1] = -3.0;
    memory.columns.selected = vec![true, true, true, false];
    let data = load(&memory, ReturnScale::Raw, 0.0);
    assert_eq!(data.train, [0, 1, 2]);
    assert_eq!(data.returns, [4.0, -3.0, 8.0, 8.0]);
    assert!(
        (data.average_return - 3.0).abs() < 1e-12,
        "the step that is not selected is not in it"
    );
}

#[test]
fn an_episode_that_was_cut_off_is_credited_with_its_tail() {
    let mut memory = Memory::new(1, 3);
    memory.columns.rewards = vec![1.0, 2.0, 4.0];
    memory.columns.cut_off = vec![true];
    // gamma 0.5: the last two rewards, on average 3, for ever after: 3 / (1 - 0.5) = 6.
    assert_eq!(load(&memory, ReturnScale::Raw, 0.0).returns, [3.75, 5.5, 7.0]);
}

#[test]
fn quantile_returns_are_ranks_among_the_selected_steps() {
    let mut memory = Memory::new(1, 5);
    memory.columns.returns = vec![10.0, -5.0, 10.0, 99.0, 1e6];
    memory.columns.selected[4] = false;
    let data = load(&memory, ReturnScale::Quantile, 0.0);
    assert_eq!(data.returns[..4], [0.5, 0.125, 0.5, 0.875]);
}

#[test]
fn episode_returns_are_ranks_of_the_episodes_totals() {
    let mut memory = Memory::new(4, 2);
    memory.columns.total_rewards = vec![3.0, -1.0, 3.0, 8.0];
    let data = load(&memory, ReturnScale::Episode, 0.0);
    assert_eq!(data.returns, [0.5, 0.5, 0.125, 0.125, 0.5, 0.5, 0.875, 0.875]);
}

#[test]
fn an_untrained_layer_takes_its_range_from_the_training_returns() {
    let mut memory = Memory::new(10, 11);
    memory.columns.returns = (0..110).map(f64::from).collect();
    let settings = TrainerSettings { validation_split: 0.0, ..settings() };
    let run = start(&memory, &layer(|_| ()), &settings).unwrap();
    let (low, high) = run.work.return_range();
    assert!((low - 1.09).abs() < 1e-9 && (high - 107.91).abs() < 1e-9, "{low} to {high}");
    memory.columns.returns = vec![7.0; 110];
    let run = start(&memory, &layer(|_| ()), &settings).unwrap();
    assert_eq!(run.work.return_range(), (6.5, 7.5));
    for extreme in [vec![1e17; 110], [-1.7e308, 1.7e308].repeat(55)] {
        memory.columns.returns = extreme;
        let (low, high) = start(&memory, &layer(|_| ()), &settings).unwrap().work.return_range();
        assert!(low < high && (high - low).is_finite(), "{low} to {high}");
    }
    let given = layer(|s| s.return_range = Some((-1.0, 1.0)));
    assert_eq!(start(&memory, &given, &settings).unwrap().work.return_range(), (-1.0, 1.0));
    let trained = layer(|_| ());
    let copy = trained.read().unwrap().clone();
    trained.write().unwrap().set_weights(copy.weights()).unwrap();
    assert_eq!(start(&memory, &trained, &settings).unwrap().work.return_range(), (0.0, 1.0));
}

#[test]
fn fewer_matches_than_asked_for_are_refused_with_both_numbers() {
    let memory = Memory::new(3, 5);
    let settings = TrainerSettings { min_trajectories: 16, ..settings() };
    let error = start(&memory, &layer(|_| ()), &settings).err().unwrap();
    assert!(matches!(error, Error::InsufficientData { required: 16, available: 15 }), "{error}");
    let none = Filter { episodes: Some(vec!["nobody".into()]), ..Filter::default() };
    let settings = TrainerSettings { min_trajectories: 0, ..settings };
    let error =
        TrainingRun::start(Arc::new(memory), layer(|_| ()), settings, &none, false).err().unwrap();
    assert!(matches!(error, Error::InsufficientData { required: 1, available: 0 }), "{error}");
}

#[test]
fn a_layer_of_other_sizes_or_another_encoder_is_refused() {
    let mut memory = Memory::new(4, 5);
    let narrow = Arc::new(RwLock::new(DecisionLayer::new(LayerSettings::new(5, ACTION)).unwrap()));
    let error = start(&memory, &narrow, &settings()).err().unwrap();
    assert!(matches!(error, Error::Dimension { expected: 6, got: 5, .. }), "{error}");
    memory.encoder = Some("ours".into());
    let other = layer(|_| ());
    other.write().unwrap().set_encoder(Some("theirs".into()));
    let error = start(&memory, &other, &settings()).err().unwrap();
    assert!(matches!(error, Error::EncoderMismatch { .. }), "{error}");
    let fresh = layer(|_| ());
    start(&memory, &fresh, &settings()).unwrap().next_epoch(&mut on).unwrap();
    assert_eq!(fresh.read().unwrap().encoder(), Some("ours"));
}

#[test]
fn batches_hold_the_contexts_of_whole_episodes_wherever_their_vectors_come_from() {
    let mut memory = Memory::new(3, 9);
    memory.columns.selected[3] = false; // its state still belongs to the context of those after it
    for context in [ContextKind::History, ContextKind::None] {
        let layer = layer(|s| (s.context, s.history_length) = (context, 4));
        let layer = layer.read().unwrap();
        let run = start(&memory, &Arc::new(RwLock::new(layer.clone())), &settings()).unwrap();
        let samples: Vec<u32> = run.study.data.train.iter().rev().copied().collect();
        for budget in [0, 600, 1 << 20] {
            run.study.vectors.warm(budget, &memory, &mut on).unwrap();
            let mut columns = Columns::default();
            run.study.fill(layer.settings(), &samples, &mut columns).unwrap();
            let questions = columns.questions();
            assert_eq!(questions.contexts.is_some(), context == ContextKind::History);
            for (at, &step) in samples.iter().enumerate() {
                let step = step as usize;
                let row = |all: &[f32], width| all[at * width..][..width].to_vec();
                assert_eq!(row(questions.states, STATE), memory.states[step * STATE..][..STATE]);
                let action = &memory.actions[step * ACTION..][..ACTION];
                assert_eq!(row(columns.actions(), ACTION), action);
                if let Some(contexts) = questions.contexts {
                    let first = step / 9 * 9;
                    let whole = layer
                        .context_of(
                            &memory.states[first * STATE..(first + 9) * STATE],
                            &memory.actions[first * ACTION..(first + 9) * ACTION],
                        )
                        .unwrap();
                    assert_eq!(row(contexts, STATE), whole[(step - first) * STATE..][..STATE]);
                }
            }
        }
    }
}

#[test]
fn a_sample_may_go_without_its_context_and_steps_are_numbered_only_on_request() {
    let memory = Memory::new(3, 9);
    let with = layer(|s| s.context = ContextKind::History);
    let settings = TrainerSettings { timesteps: true, validation_split: 0.0, ..settings() };
    let run = start(&memory, &with, &settings).unwrap();
    let mut columns = Columns::default();
    let layer_settings = run.work.settings();
    run.study.fill_without(layer_settings, &[4, 13, 26], &|at| at == 1, &mut columns).unwrap();
    let contexts = columns.questions().contexts.unwrap();
    assert_eq!(contexts[STATE..2 * STATE], [0.0; STATE]);
    assert!(contexts[..STATE].iter().chain(&contexts[2 * STATE..]).all(|x| *x != 0.0));
    assert_eq!(columns.questions().timesteps, Some(&[4, 4, 8][..]));
    let settings = TrainerSettings { timesteps: false, ..settings };
    let run = start(&memory, &with, &settings).unwrap();
    run.study.fill(layer_settings, &[4], &mut columns).unwrap();
    assert_eq!(columns.questions().timesteps, None);
}
