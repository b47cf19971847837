//! Returns to go, written back.

use precedent_core::Error;

use crate::world::*;

#[test]
fn returns_are_written_in_the_order_of_the_steps() {
    let store = memory();
    let mut rows = steps("e", 4, 0);
    rows.rewards = vec![-0.1, 1.0, 0.2, 0.5];
    rows.step_indices = Some([2, 3, 0, 1].map(Some).to_vec());
    insert(&store, &rows);
    let returns = store.compute_returns("e", 0.99, None).unwrap();
    for (got, want) in returns.iter().zip([1.567_289, 1.3811, 0.89, 1.0]) {
        // the seed's example, with 1.567289 = 0.2 + 0.99 * 1.3811
        assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    }
    assert_eq!(store.episode("e").unwrap().rows.returns, returns);
}

#[test]
fn an_episode_that_was_cut_off_goes_on_and_a_number_forces_the_tail() {
    let store = memory();
    let mut rows = steps("e", 3, 0);
    rows.rewards = vec![1.0; 3];
    rows.truncated = Some(vec![false, false, true]);
    insert(&store, &rows);
    assert_eq!(store.compute_returns("e", 0.5, None).unwrap(), [2.0; 3]);
    assert_eq!(store.compute_returns("e", 0.5, Some(0.0)).unwrap(), [1.75, 1.5, 1.0]);
    assert_eq!(store.compute_returns("e", 1.0, None).unwrap(), [3.0, 2.0, 1.0]);
    rows.terminated = Some(vec![false, false, true]);
    rows.episodes = std::iter::repeat_n("ended", 3).collect();
    insert(&store, &rows);
    assert_eq!(store.compute_returns("ended", 0.5, None).unwrap(), [1.75, 1.5, 1.0]);
}

#[test]
fn every_episode_or_only_those_that_lack_a_return() {
    let store = memory();
    for i in 0..400 {
        insert(&store, &steps(&format!("e{i}"), 2, i));
    }
    store.compute_returns("e7", 0.5, None).unwrap();
    assert_eq!(
        store
            .keys_matching(&precedent_core::Filter { min_return: Some(0.0), ..all() })
            .unwrap()
            .len(),
        2
    );
    assert_eq!(store.compute_all_returns(0.9, true, &mut || Ok(())).unwrap(), 399);
    assert_eq!(store.compute_all_returns(0.9, true, &mut || Ok(())).unwrap(), 0);
    assert_eq!(store.episode("e7").unwrap().rows.returns, [0.05, 0.1]);
    assert_eq!(
        store
            .keys_matching(&precedent_core::Filter { min_return: Some(0.0), ..all() })
            .unwrap()
            .len(),
        800
    );
    assert_eq!(store.compute_all_returns(0.9, false, &mut || Ok(())).unwrap(), 400);
    assert!((store.episode("e7").unwrap().rows.returns[0] - 0.09).abs() < 1e-12);
}

#[test]
fn bad_discounts_and_unknown_episodes_are_refused() {
    let store = memory();
    insert(&store, &steps("e", 1, 0));
    for gamma in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(store.compute_returns("e", gamma, None), Err(Error::Invalid { .. })));
        assert!(matches!(
            store.compute_all_returns(gamma, true, &mut || Ok(())),
            Err(Error::Invalid { .. })
        ));
    }
    assert!(matches!(store.compute_returns("e", 0.9, Some(f64::NAN)), Err(Error::Invalid { .. })));
    assert!(matches!(store.compute_returns("f", 0.9, None), Err(Error::NotFound { .. })));
}

#[test]
fn returns_beyond_all_numbers_are_refused_and_nothing_is_written() {
    let store = memory();
    let mut rows = steps("e", 2, 0);
    rows.rewards = vec![f64::MAX / 2.0; 2];
    insert(&store, &rows);
    let refused = store.compute_returns("e", 1.0, Some(f64::MAX));
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    assert!(store.episode("e").unwrap().rows.returns.iter().all(|value| value.is_nan()));
}
