//! That draws follow the law, and weights the formula.

use proptest::prelude::*;

use super::*;

const PRIORITIES: [f64; 10] = [0.0, 0.003, 0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 3.5, 8.0];

/// The 0.1 % and 99.9 % quantiles of chi-squared with nine degrees of freedom.
const NINE: std::ops::Range<f64> = 1.152..27.88;

fn chi_squared(counts: &[f64], shares: &[f64]) -> f64 {
    let n: f64 = counts.iter().sum();
    counts.iter().zip(shares).map(|(count, share)| (count - n * share).powi(2) / (n * share)).sum()
}

/// How often each item is drawn in `rounds` batches of `n`.
fn counts(replay: &mut PrioritizedReplay, rounds: usize, n: usize, replace: bool) -> Vec<f64> {
    let (mut counts, mut draws) = (vec![0.0; replay.len()], Draws::default());
    for _ in 0..rounds {
        replay.sample(n, None, replace, &mut draws).unwrap();
        draws.indices.iter().for_each(|item| counts[*item as usize] += 1.0);
    }
    counts
}

#[test]
fn frequencies_follow_priorities_by_chi_squared_at_every_alpha() {
    for alpha in [0.0, 0.6, 1.0] {
        let expected = probabilities(&PRIORITIES, alpha, 0.01);
        for replace in [true, false] {
            // One at a time draws are independent, so the statistic has its textbook law on both sides.
            let mut one = holding(&PRIORITIES, |s| s.alpha = alpha);
            let chi2 = chi_squared(&counts(&mut one, 100_000, 1, replace), &expected);
            assert!(NINE.contains(&chi2), "alpha {alpha}, replace {replace}: {chi2}");
        }
        // Strata take variance away, never add any.
        let mut many = holding(&PRIORITIES, |s| s.alpha = alpha);
        let chi2 = chi_squared(&counts(&mut many, 4_000, 32, true), &expected);
        assert!(chi2 < NINE.end, "alpha {alpha}, 32 at a time: {chi2}");
    }
}

#[test]
fn strata_keep_every_batch_near_its_expectation() {
    let mut made = holding(&PRIORITIES, |s| s.alpha = 1.0);
    let expected = probabilities(&PRIORITIES, 1.0, 0.01);
    let mut draws = Draws::default();
    for _ in 0..500 {
        made.sample(100, None, true, &mut draws).unwrap();
        for (item, share) in expected.iter().enumerate() {
            let count = draws.indices.iter().filter(|drawn| **drawn == item as i64).count();
            assert!((count as f64 - 100.0 * share).abs() < 2.0, "item {item}: {count}");
        }
    }
}

#[test]
fn draws_without_replacement_follow_successive_sampling_pair_by_pair() {
    let priorities = [0.1, 0.4, 0.9, 2.5];
    for alpha in [0.0, 0.6, 1.0] {
        let p = probabilities(&priorities, alpha, 0.01);
        let mut made = holding(&priorities, |s| s.alpha = alpha);
        let (mut pairs, mut draws) = ([[0.0; 4]; 4], Draws::default());
        for _ in 0..60_000 {
            made.sample(2, None, false, &mut draws).unwrap();
            pairs[draws.indices[0] as usize][draws.indices[1] as usize] += 1.0;
        }
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        for (i, row) in pairs.iter().enumerate() {
            for (j, count) in row.iter().enumerate() {
                if i == j {
                    assert_eq!(*count, 0.0, "{i} was drawn twice");
                } else {
                    found.push(*count);
                    expected.push(p[i] * p[j] / (1.0 - p[i]));
                }
            }
        }
        let chi2 = chi_squared(&found, &expected);
        assert!((1.83..31.26).contains(&chi2), "alpha {alpha}: {chi2} with 11 degrees of freedom");
    }
}

/// The law by its definition: the items with the n smallest keys -ln(u) / mass.
#[test]
fn draws_without_replacement_include_each_item_as_often_as_the_smallest_keys_do() {
    let masses: Vec<f64> = PRIORITIES.iter().map(|p| (p + 0.01_f64).powf(0.6)).collect();
    let rng = crate::rng::Rng::new(77, 0);
    let mut by_keys = vec![0.0; masses.len()];
    for round in 0..40_000 {
        let key = |item: usize| -(1.0 - rng.uniform(round * 10 + item as u64)).ln() / masses[item];
        let mut items: Vec<usize> = (0..masses.len()).collect();
        items.sort_by(|a, b| key(*a).total_cmp(&key(*b)));
        items[..4].iter().for_each(|item| by_keys[*item] += 1.0);
    }
    let mut made = holding(&PRIORITIES, |_| ());
    let found = counts(&mut made, 40_000, 4, false);
    for (item, (a, b)) in found.iter().zip(&by_keys).enumerate() {
        // Two binomial counts: their difference has at most the sum of their variances.
        let deviation = (a + b).sqrt();
        assert!((a - b).abs() < 4.0 * deviation, "item {item}: {a} beside {b}");
    }
}

#[test]
fn all_items_can_be_drawn_without_replacement_and_nothing_is_changed_by_it() {
    let mut made = holding(&PRIORITIES, |_| ());
    let before: Vec<u64> = (0..10).map(|i| made.tree.mass(i).to_bits()).collect();
    let total = made.tree.total().to_bits();
    let mut draws = Draws::default();
    made.sample(10, None, false, &mut draws).unwrap();
    let mut drawn = draws.indices.clone();
    drawn.sort_unstable();
    assert_eq!(drawn, (0..10).collect::<Vec<i64>>());
    assert_eq!((0..10).map(|i| made.tree.mass(i).to_bits()).collect::<Vec<_>>(), before);
    assert_eq!(made.tree.total().to_bits(), total);
}

#[test]
fn weights_are_those_of_the_formula_over_the_greatest_of_the_batch() {
    for alpha in [0.0, 0.6, 1.0] {
        let p = probabilities(&PRIORITIES, alpha, 0.01);
        let mut made = holding(&PRIORITIES, |s| s.alpha = alpha);
        let mut draws = Draws::default();
        for (beta, replace) in [(0.0, true), (0.4, true), (0.7, false), (1.0, true), (1.0, false)] {
            made.sample(7, Some(beta), replace, &mut draws).unwrap();
            let of = |item: &i64| (10.0 * p[*item as usize]).powf(-beta);
            let most = draws.indices.iter().map(of).fold(0.0, f64::max);
            for (item, weight) in draws.indices.iter().zip(&draws.weights) {
                let expected = of(item) / most;
                assert!((f64::from(*weight) - expected).abs() < 1e-6, "{weight}, not {expected}");
            }
            for (item, priority) in draws.indices.iter().zip(&draws.priorities) {
                assert_eq!(*priority, PRIORITIES[*item as usize]);
            }
        }
    }
}

#[test]
fn weights_undo_what_priorities_prefer() {
    // With beta 1, the weighted mean over draws estimates the plain mean over items; with beta 0, that by priority.
    let value = |item: i64| (item as f64 * 1.7).sin();
    let plain = (0..10).map(value).sum::<f64>() / 10.0;
    let law = probabilities(&PRIORITIES, 1.0, 0.01);
    let preferred = law.iter().zip(0..).map(|(p, item)| p * value(item)).sum::<f64>();
    assert!((plain - preferred).abs() > 0.05, "nothing to undo");
    for (beta, mean) in [(1.0, plain), (0.0, preferred)] {
        let mut made = holding(&PRIORITIES, |s| s.alpha = 1.0);
        let (mut sum, mut weight, mut draws) = (0.0, 0.0, Draws::default());
        for _ in 0..20_000 {
            made.sample(10, Some(beta), true, &mut draws).unwrap();
            // Weights are told over the greatest of their batch, which the least likely item has.
            let odds = draws.indices.iter().map(|item| made.odds(*item as usize));
            let greatest = odds.fold(f64::INFINITY, f64::min).powf(-beta);
            for (item, told) in draws.indices.iter().zip(&draws.weights) {
                let share = f64::from(*told) * greatest;
                (sum, weight) = (sum + share * value(*item), weight + share);
            }
        }
        assert!((sum / weight - mean).abs() < 0.01, "beta {beta}: {} is not {mean}", sum / weight);
    }
}

#[test]
fn beta_is_annealed_over_the_items_drawn() {
    let mut made = holding(&PRIORITIES, |s| s.beta_steps = Some(100));
    let mut betas = vec![made.beta()];
    for _ in 0..6 {
        made.sample(20, None, true, &mut Draws::default()).unwrap();
        betas.push(made.beta());
    }
    for (got, want) in betas.iter().zip([0.4, 0.52, 0.64, 0.76, 0.88, 1.0, 1.0]) {
        assert!((got - want).abs() < 1e-12, "{betas:?}");
    }
    assert_eq!(betas[5], 1.0);
    let constant = holding(&PRIORITIES, |_| ());
    assert_eq!(constant.beta(), 0.4);
}

#[test]
fn priorities_of_any_size_are_drawn_without_a_number_that_is_none() {
    let extreme = [0.0, 1e-300, 1.0, 1e290, 1e290];
    for alpha in [0.0, 0.6, 1.0] {
        let mut made = holding(&extreme, |s| (s.alpha, s.eps) = (alpha, 1e-308));
        let mut draws = Draws::default();
        for replace in [true, false] {
            made.sample(5, Some(1.0), replace, &mut draws).unwrap();
            assert!(draws.weights.iter().all(|w| (0.0..=1.0).contains(w)), "{:?}", draws.weights);
        }
    }
}

#[test]
fn the_same_seed_draws_the_same_and_another_one_others() {
    let draw = |seed| {
        let mut made = holding(&PRIORITIES, |s| s.seed = seed);
        let mut draws = Draws::default();
        made.sample(50, None, true, &mut draws).unwrap();
        let first = draws.clone();
        made.sample(50, None, true, &mut draws).unwrap();
        assert_ne!(first.indices, draws.indices, "a second batch is another one");
        first
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3).indices, draw(4).indices);
}

#[test]
fn a_draw_that_cannot_be_made_is_refused_by_name_and_changes_nothing() {
    let mut draws = Draws::default();
    refused(replay(|_| ()).sample(1, None, true, &mut draws), "n");
    let mut made = holding(&PRIORITIES, |_| ());
    for (n, beta, replace, name) in [
        (0, None, true, "n"),
        (11, None, false, "n"),
        (usize::MAX, None, true, "n"),
        (1, Some(-0.1), true, "beta"),
        (1, Some(1.1), true, "beta"),
        (1, Some(f64::NAN), true, "beta"),
    ] {
        refused(made.sample(n, beta, replace, &mut draws), name);
    }
    assert_eq!(made.drawn, 0);
    made.sample(11, None, true, &mut draws).unwrap();
}

proptest! {
    // Priorities in halves and alpha 1: masses and sums are exact, so the twin must draw the very same items.
    #[test]
    fn a_replay_draws_what_a_linear_scan_draws(
        priorities in prop::collection::vec(0..20_u8, 1..300),
        changes in prop::collection::vec((any::<u16>(), -20..20_i8), 0..100),
        n in 1..64_usize,
        seed in any::<u64>(),
    ) {
        let mut plain: Vec<f64> = priorities.iter().map(|p| f64::from(*p) / 2.0).collect();
        let mut made = holding(&plain, |s| {
            *s = ReplaySettings { capacity: 300, alpha: 1.0, eps: 0.5, seed, ..s.clone() };
        });
        let indices: Vec<i64> =
            changes.iter().map(|(i, _)| i64::from(*i) % plain.len() as i64).collect();
        let errors: Vec<f64> = changes.iter().map(|(_, e)| f64::from(*e) / 2.0).collect();
        made.update(&indices, &errors).unwrap();
        for (index, error) in indices.iter().zip(&errors) {
            plain[*index as usize] = error.abs();
        }
        let scan = |masses: &[f64], mut target: f64| {
            masses.iter().position(|mass| { target -= mass; target < 0.0 }).unwrap()
        };
        let masses: Vec<f64> = plain.iter().map(|p| p + 0.5).collect();
        let total: f64 = masses.iter().sum();
        let (rng, mut draws) = (made.rng, Draws::default());
        made.sample(n, None, true, &mut draws).unwrap();
        for (i, item) in (0u64..).zip(&draws.indices) {
            let target = (i as f64 + rng.uniform(i)) * (total / n as f64);
            prop_assert_eq!(scan(&masses, target) as i64, *item);
        }
        let n = n.min(plain.len());
        let (mut left, from) = (masses, made.drawn);
        made.sample(n, None, false, &mut draws).unwrap();
        for (i, item) in (from..).zip(&draws.indices) {
            let target = rng.uniform(i) * left.iter().sum::<f64>();
            prop_assert_eq!(scan(&left, target) as i64, *item);
            left[*item as usize] = 0.0;
        }
    }
}
