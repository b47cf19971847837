//! Discounted returns, the same for the store that writes them and the trainer that needs them in passing.

/// What comes after the last step of an episode: 0, unless the episode was cut off. One that was cut off would have
/// gone on, so it is credited with the mean reward of its last 1 / (1 - gamma) steps for ever after, that is, with
/// that mean over 1 - gamma. At gamma 1 that sum has no end, and 0 is taken.
pub fn tail(rewards: &[f64], gamma: f64, cut_off: bool) -> f64 {
    if !cut_off || gamma >= 1.0 || rewards.is_empty() {
        return 0.0;
    }
    let window = ((1.0 / (1.0 - gamma)).round() as usize).clamp(1, rewards.len());
    let last = &rewards[rewards.len() - window..];
    last.iter().sum::<f64>() / window as f64 / (1.0 - gamma)
}

/// `R_t = r_t + gamma R_{t+1}`, from the end, where `R_T` is `tail`. One return a reward.
pub fn discounted(rewards: &[f64], gamma: f64, tail: f64) -> Vec<f64> {
    let mut returns = vec![0.0; rewards.len()];
    let mut next = tail;
    for (value, reward) in returns.iter_mut().zip(rewards).rev() {
        next = reward + gamma * next;
        *value = next;
    }
    returns
}

#[cfg(test)]
mod tests {
    use super::{discounted, tail};

    #[test]
    fn the_example_of_the_seed_comes_out() {
        let returns = discounted(&[0.2, 0.5, -0.1, 1.0], 0.99, 0.0);
        let expected = [1.0, 0.89, 1.3811, 1.567_289];
        for (got, want) in returns.iter().rev().zip(expected) {
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        }
    }

    #[test]
    fn a_cut_off_episode_goes_on_at_its_recent_mean() {
        let rewards = [vec![0.0; 400], vec![1.0; 100]].concat();
        assert!((tail(&rewards, 0.99, true) - 100.0).abs() < 1e-9);
        assert!((discounted(&rewards, 0.99, 100.0)[400] - 100.0).abs() < 1e-9);
        assert_eq!(tail(&rewards, 0.99, false), 0.0);
        assert_eq!(tail(&rewards, 1.0, true), 0.0);
        assert!((tail(&[2.0], 0.5, true) - 4.0).abs() < 1e-12);
    }
}
