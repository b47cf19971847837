//! In which order an epoch sees its samples.

use super::settings::Replay;
use crate::rng::Rng;

/// The samples of one epoch, as many as there are. A function of its arguments alone, so that a resumed run goes on
/// where it stopped. `patterns` are the patterns by step.
pub(super) fn order(
    samples: &[u32],
    patterns: &[u32],
    replay: Replay,
    diversity_weight: f64,
    rng: Rng,
) -> Vec<u32> {
    let mut shuffled = samples.to_vec();
    rng.child(0).shuffle(&mut shuffled);
    if replay == Replay::Uniform {
        return shuffled;
    }
    let mut grouped = samples.to_vec();
    grouped.sort_by_key(|&step| patterns[step as usize]); // stable: the order within a pattern is the data's
    let groups: Vec<&[u32]> =
        grouped.chunk_by(|&a, &b| patterns[a as usize] == patterns[b as usize]).collect();
    let (which, pattern, member) = (rng.child(1), rng.child(2), rng.child(3));
    let mut rest = shuffled.iter().copied();
    (0..samples.len() as u64)
        .map(|at| {
            if which.uniform(at) < diversity_weight {
                let group = groups[pattern.below(at, groups.len() as u64) as usize];
                group[member.below(at, group.len() as u64) as usize]
            } else {
                rest.next().expect("at most one is taken for each sample")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 900 samples of pattern 0, 90 of pattern 1, 10 of pattern 2.
    fn patterns() -> Vec<u32> {
        [vec![0; 900], vec![1; 90], vec![2; 10]].concat()
    }

    fn shares(weight: f64) -> [f64; 3] {
        let (samples, patterns): (Vec<u32>, _) = ((0..1000).collect(), patterns());
        let mut counts = [0.0; 3];
        for epoch in 0..200 {
            for step in order(&samples, &patterns, Replay::Diverse, weight, Rng::new(1, epoch)) {
                counts[patterns[step as usize] as usize] += 1.0 / 200_000.0;
            }
        }
        counts
    }

    #[test]
    fn uniform_replay_shows_each_sample_once_and_every_epoch_in_another_order() {
        let samples: Vec<u32> = (0..1000).collect();
        let epoch = |n| order(&samples, &patterns(), Replay::Uniform, 0.3, Rng::new(1, n));
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(epoch(1), epoch(1));
        let mut sorted = epoch(0);
        sorted.sort_unstable();
        assert_eq!(sorted, samples);
    }

    #[test]
    fn diverse_replay_gives_patterns_the_documented_shares() {
        for weight in [0.0, 0.3, 1.0] {
            let expected = [0.9, 0.09, 0.01].map(|share| (1.0 - weight) * share + weight / 3.0);
            for (got, want) in shares(weight).into_iter().zip(expected) {
                assert!((got - want).abs() < 0.005, "weight {weight}: {got} is not {want}");
            }
        }
    }
}
