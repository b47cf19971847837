//! The tree of sums beside a linear scan.

use proptest::prelude::*;

use super::super::sum_tree::SumTree;
use crate::rng::Rng;

/// The first leaf whose end lies beyond the target.
fn scan(masses: &[f64], target: f64) -> usize {
    let mut end = 0.0;
    masses
        .iter()
        .position(|mass| {
            end += mass;
            target < end
        })
        .expect("a target below the total")
}

fn masses(tree: &SumTree) -> Vec<f64> {
    (0..tree.len()).map(|leaf| tree.mass(leaf)).collect()
}

proptest! {
    // Halves of whole numbers, so that sums are exact in any order and the tree must find what the scan finds.
    #[test]
    fn a_tree_finds_the_leaves_that_a_linear_scan_finds(
        steps in prop::collection::vec((1..200_usize, prop::collection::vec((any::<u16>(), 0..9_u8), 0..60)), 1..8),
        seed in any::<u64>(),
    ) {
        let (mut tree, mut plain) = (SumTree::default(), Vec::new());
        let rng = Rng::new(seed, 0);
        for (more, changes) in steps {
            plain.resize(plain.len() + more, 0.0);
            tree.grow(plain.len()).unwrap();
            let changes: Vec<(usize, f64)> = changes
                .iter()
                .map(|&(leaf, mass)| (usize::from(leaf) % plain.len(), f64::from(mass) / 2.0))
                .collect();
            tree.set_many(changes.iter().copied());
            for (leaf, mass) in changes {
                plain[leaf] = mass;
            }
            prop_assert_eq!(&masses(&tree), &plain);
            let total: f64 = plain.iter().sum();
            prop_assert_eq!(tree.total(), total);
            if total > 0.0 {
                // Borders between leaves, and whatever lies in between.
                let mut targets: Vec<f64> = (0..100).map(|i| rng.uniform(i) * total).collect();
                targets.extend((0..(2.0 * total) as u32).map(|half| f64::from(half) / 2.0));
                let expected: Vec<usize> = targets.iter().map(|t| scan(&plain, *t)).collect();
                let mut found = vec![0; targets.len()];
                tree.find(&mut targets, &mut found);
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn a_leaf_without_mass_is_never_found_however_sums_are_rounded(
        exponents in prop::collection::vec(prop::option::of(-40..40_i32), 1..300),
        shares in prop::collection::vec(0.0..1.0_f64, 50),
    ) {
        prop_assume!(exponents.iter().any(Option::is_some));
        let mut tree = SumTree::default();
        tree.grow(exponents.len()).unwrap();
        let mass = |e: &Option<i32>| e.map_or(0.0, |e| 1.1_f64.powi(10 * e) / 3.0);
        tree.set_many(exponents.iter().map(mass).enumerate());
        let mut targets: Vec<f64> = shares.iter().map(|share| share * tree.total()).collect();
        targets.extend([0.0, tree.total().next_down(), tree.total()]);
        let mut found = vec![0; targets.len()];
        tree.find(&mut targets, &mut found);
        prop_assert!(found.iter().all(|leaf| tree.mass(*leaf) > 0.0));
    }
}

#[test]
fn sums_are_exact_after_ten_million_updates() {
    const LEAVES: usize = 1000;
    let mut tree = SumTree::default();
    tree.grow(LEAVES).unwrap();
    let rng = Rng::new(5, 0);
    // Masses over sixteen decades: adjusting sums by differences would leave an error of the order of the largest.
    for batch in 0..10_000 {
        let at = |i: u64| batch * 1000 + i;
        tree.set_many((0..1000).map(|i| {
            let mass =
                2.0_f64.powi(rng.below(2 * at(i), 54) as i32 - 40) * rng.uniform(2 * at(i) + 1);
            (rng.below(at(i), LEAVES as u64) as usize, mass)
        }));
    }
    let mut anew = SumTree::default();
    anew.grow(LEAVES).unwrap();
    anew.set_many(masses(&tree).into_iter().enumerate());
    assert_eq!(tree.total().to_bits(), anew.total().to_bits());
    // Every sum below the total, too: taking the large masses away leaves the small ones' exact sum.
    for leaf in 0..LEAVES {
        if tree.mass(leaf) > 1e-6 {
            tree.set(leaf, 0.0);
        }
    }
    let exact: f64 = masses(&tree).iter().sum();
    assert!(exact > 0.0 && (tree.total() - exact).abs() <= 1e-13 * exact);
}

#[test]
fn a_tree_that_grows_keeps_its_sums() {
    let mut tree = SumTree::default();
    assert_eq!((tree.total(), tree.is_empty()), (0.0, true));
    for leaves in 1..1100 {
        tree.grow(leaves).unwrap();
        assert_eq!(tree.total(), (leaves - 1) as f64);
        tree.set(leaves - 1, 1.0);
        assert_eq!((tree.total(), tree.len()), (leaves as f64, leaves));
    }
    tree.grow(10).unwrap();
    assert_eq!(tree.len(), 1099, "a tree does not shrink");
}
