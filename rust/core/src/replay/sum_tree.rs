//! A tree of sums eight wide: finds the leaf in which a share of the total lies in a few steps.
//!
//! A node is eight sums, one a child, and so one cache line. A million leaves take seven levels, of which the upper five fit
//! into a processor's own cache. Whole batches go down level by level, so that the machine waits for many lines at once.

use std::collections::TryReserveError;
use std::hint::black_box;

use crate::kernel::wide::{self, Loop};

/// Children of a node.
const WIDE: usize = 8;

/// A level of more nodes than these is read ahead: it does not fit into the caches next to the processor.
const CACHED: usize = 1 << 10;

/// The sums of eight children; of leaves, their masses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(align(64))]
struct Node([f64; WIDE]);

impl Node {
    /// Added from the left like the prefixes in [`Self::pick`], so that the last prefix is what the parent holds.
    fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The child in which `target` lies, and how far into it. Never one without mass, where any has some.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled into loops of several vector widths")]
    fn pick(&self, target: f64) -> (usize, f64) {
        // Adding from the left never falls, so a child without mass is skipped by each of its bounds at once.
        let mut bounds = [0.0; WIDE + 1];
        for child in 0..WIDE {
            bounds[child + 1] = bounds[child] + self.0[child];
        }
        let child: usize = bounds[1..].iter().map(|bound| usize::from(*bound <= target)).sum();
        if child < WIDE {
            return (child, target - bounds[child]);
        }
        // A difference of rounded sums can lie an ulp beyond the end.
        let last = self.0.iter().rposition(|mass| *mass > 0.0).unwrap_or(0);
        (last, self.0[last])
    }
}

/// Masses, none negative, and the sums over them. A sum is a function of the masses below it alone: it is recomputed, not
/// adjusted, so rounding does not pile up however often masses change.
#[derive(Clone, Debug, Default)]
pub struct SumTree {
    /// The leaves first, a single node last.
    levels: Vec<Vec<Node>>,
    leaves: usize,
    /// The nodes whose parents are to be recomputed; empty between calls.
    touched: Vec<usize>,
}

impl SumTree {
    /// How many leaves there are.
    pub fn len(&self) -> usize {
        self.leaves
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// The sum over all.
    pub fn total(&self) -> f64 {
        self.levels.last().map_or(0.0, |root| root[0].sum())
    }

    /// The mass of a leaf.
    pub fn mass(&self, leaf: usize) -> f64 {
        debug_assert!(leaf < self.leaves);
        self.levels[0][leaf / WIDE].0[leaf % WIDE]
    }

    /// Adds leaves without mass until there are `leaves`.
    pub fn grow(&mut self, leaves: usize) -> Result<(), TryReserveError> {
        if leaves <= self.leaves {
            return Ok(());
        }
        let mut nodes = leaves;
        let mut level = 0;
        loop {
            nodes = nodes.div_ceil(WIDE);
            if level == self.levels.len() {
                // What was the root becomes the first child.
                let old = level.checked_sub(1).map_or(0.0, |below| self.levels[below][0].sum());
                let mut root = Node::default();
                root.0[0] = old;
                self.levels.push(vec![root]);
            }
            let held = &mut self.levels[level];
            held.try_reserve(nodes - held.len())?;
            held.resize(nodes, Node::default());
            if nodes == 1 {
                break;
            }
            level += 1;
        }
        self.leaves = leaves;
        Ok(())
    }

    /// Sets the mass of one leaf.
    pub fn set(&mut self, leaf: usize, mass: f64) {
        self.set_many([(leaf, mass)]);
    }

    /// Sets masses; the last of a repeated leaf counts. Each sum above is recomputed once where neighbours come together.
    pub fn set_many(&mut self, masses: impl IntoIterator<Item = (usize, f64)>) {
        for (leaf, mass) in masses {
            debug_assert!(leaf < self.leaves && mass >= 0.0);
            let node = leaf / WIDE;
            self.levels[0][node].0[leaf % WIDE] = mass;
            if self.touched.last() != Some(&node) {
                self.touched.push(node);
            }
        }
        wide::run(Refresh(self));
    }

    /// For each target, in [0, total), the leaf in which it lies: leaf i reaches from the sum of the masses before it up to
    /// that sum and its own mass. Targets are used up. `leaves` is as long as `targets`.
    pub fn find(&self, targets: &mut [f64], leaves: &mut [usize]) {
        debug_assert_eq!(targets.len(), leaves.len());
        wide::run(Find { tree: self, targets, leaves });
    }
}

struct Refresh<'a>(&'a mut SumTree);

impl Loop for Refresh<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for several vector widths")]
    fn run(self) {
        let SumTree { levels, touched, .. } = self.0;
        for above in 1..levels.len() {
            let (below, above) = levels.split_at_mut(above);
            let (children, parents) = (&below[below.len() - 1], &mut above[0]);
            for node in &mut *touched {
                parents[*node / WIDE].0[*node % WIDE] = children[*node].sum();
                *node /= WIDE;
            }
            touched.dedup();
        }
        touched.clear();
    }
}

struct Find<'a> {
    tree: &'a SumTree,
    targets: &'a mut [f64],
    leaves: &'a mut [usize],
}

impl Loop for Find<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled for several vector widths")]
    fn run(self) {
        self.leaves.fill(0);
        for level in self.tree.levels.iter().rev() {
            if level.len() > CACHED {
                // These reads do not wait for each other, the choices below do.
                let first = |at: &usize| level[*at].0[0].to_bits();
                black_box(self.leaves.iter().map(first).fold(0, |all, bits| all | bits));
            }
            for (target, at) in self.targets.iter_mut().zip(&mut *self.leaves) {
                let (child, rest) = level[*at].pick(*target);
                (*at, *target) = (*at * WIDE + child, rest);
            }
        }
    }
}
