//! The memory that walks work in.

use super::{NodeId, cells};

/// A cost and a node in one number, so that its order is that of costs, ties to the older node: the cost's bits, the
/// node, and whether the node was expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near(u64);

impl Near {
    pub(super) fn new(cost: f32, node: u32) -> Self {
        // what is not a number is beyond everything
        let bits = if cost.is_nan() { f32::INFINITY } else { cost }.to_bits();
        let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Self(u64::from(rising) << 32 | u64::from(node) << 1)
    }

    pub(super) fn cost(self) -> f32 {
        let rising = (self.0 >> 32) as u32;
        f32::from_bits(if rising >> 31 == 1 { rising & !(1 << 31) } else { !rising })
    }

    pub(super) fn node(self) -> u32 {
        self.0 as u32 >> 1
    }

    /// The same, not expanded: where the next walk begins.
    pub(super) fn afresh(self) -> Self {
        Self(self.0 & !1)
    }

    fn is_expanded(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The nearest nodes so far, at most ef, nearest first: a sorted array, which at the sizes of ef moves fewer bytes than
/// two heaps.
#[derive(Debug, Default)]
pub(super) struct Pool {
    items: Vec<Near>,
    ef: usize,
    /// All before are expanded.
    next: usize,
}

impl Pool {
    pub(super) fn restart(&mut self, ef: usize) {
        let Self { items, ef: size, next } = self;
        items.clear();
        items.reserve(ef + 1);
        (*size, *next) = (ef, 0);
    }

    /// Whether `near` is among the nearest now.
    pub(super) fn insert(&mut self, near: Near) -> bool {
        let full = self.items.len() >= self.ef;
        if full && self.items.last().is_none_or(|worst| *worst <= near) {
            return false;
        }
        let at = self.items.partition_point(|item| *item < near);
        if full {
            self.items.pop();
        }
        self.items.insert(at, near);
        self.next = self.next.min(at);
        true
    }

    /// Inserts every one of some nodes.
    pub(super) fn insert_all(&mut self, nodes: &[u32], costs: &[f32]) {
        for (&node, &cost) in nodes.iter().zip(costs) {
            self.insert(Near::new(cost, node));
        }
    }

    /// The nearest node that was not expanded; it counts as expanded from now on.
    pub(super) fn expand(&mut self) -> Option<Near> {
        let rest = &mut self.items[self.next..];
        let ahead = rest.iter().position(|item| !item.is_expanded())?;
        let near = rest[ahead];
        rest[ahead].0 |= 1;
        self.next += ahead + 1;
        Some(near)
    }

    pub(super) fn items(&self) -> &[Near] {
        &self.items
    }

    /// Keeps this many from now on.
    pub(super) fn resize(&mut self, ef: usize) {
        self.items.truncate(ef);
        self.ef = ef;
    }

    /// How many it keeps.
    pub(super) fn size(&self) -> usize {
        self.ef
    }
}

/// The nodes that a walk has met: a bit each, and where to take bits away again. A search meets hundreds of nodes of
/// hundreds of thousands; their bits stay in the nearest cache where stamps would not.
#[derive(Debug, Default)]
pub(super) struct Visited {
    words: Vec<u64>,
    touched: Vec<u32>,
}

impl Visited {
    pub(super) fn restart(&mut self, nodes: usize) {
        let Self { words, touched } = self;
        touched.drain(..).for_each(|at| words[at as usize] = 0);
        // room beyond the nodes of today: a growing graph must not make every walk allocate
        if words.len() * 64 < nodes {
            words.resize((nodes + nodes / 4).div_ceil(64), 0);
        }
    }

    /// Appends those of `nodes` that are met for the first time. Whether one is new is as good as chance, so nothing
    /// branches on it.
    pub(super) fn meet(&mut self, nodes: impl ExactSizeIterator<Item = u32>, into: &mut Vec<u32>) {
        let Self { words, touched } = self;
        let (mut met, mut marks) = (into.len(), touched.len());
        into.resize(met + nodes.len(), 0);
        touched.resize(marks + nodes.len(), 0);
        for node in nodes {
            let (at, bit) = (node / 64, 1 << (node % 64));
            let Some(word) = words.get_mut(at as usize) else {
                continue; // linked after the walk began, or no node at all
            };
            touched[marks] = at;
            marks += usize::from(*word == 0);
            into[met] = node;
            met += usize::from(*word & bit == 0);
            *word |= bit;
        }
        into.truncate(met);
        touched.truncate(marks);
    }

    /// Whether `node` is met for the first time.
    pub(super) fn insert(&mut self, node: u32) -> bool {
        let (at, bit) = (node / 64, 1 << (node % 64));
        let Some(word) = self.words.get_mut(at as usize) else {
            return false; // linked after the walk began
        };
        if *word == 0 {
            self.touched.push(at);
        }
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// The memory of one walk; a thread keeps its own, then walks allocate nothing once it is warm.
#[derive(Debug, Default)]
pub struct GraphScratch {
    pub(super) visited: Visited,
    pub(super) pool: Pool,
    /// The nearest admitted nodes, while a filtered search looks around.
    pub(super) found: Pool,
    /// Nodes to score.
    pub(super) batch: Vec<u32>,
    /// Nodes to walk through, in a filtered search.
    pub(super) hops: Vec<u32>,
    pub(super) costs: Vec<f32>,
    /// What cells are asked in.
    pub(super) cells: cells::Scratch,
}

impl GraphScratch {
    /// Forgets the last walk; `ef` nodes will be kept of `nodes`.
    pub(super) fn restart(&mut self, nodes: usize, ef: usize) {
        let Self { visited, pool, found, batch, hops, costs, cells: _ } = self;
        visited.restart(nodes);
        pool.restart(ef);
        found.restart(0);
        batch.clear();
        hops.clear();
        costs.clear();
    }
}

/// The answer of a walk.
pub(super) fn give(items: &[Near], distance: impl Fn(f32) -> f32, out: &mut Vec<(NodeId, f32)>) {
    out.clear();
    out.extend(items.iter().map(|near| (NodeId(near.node()), distance(near.cost()))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_orders_as_costs_do_and_gives_them_back() {
        let costs = [f32::NEG_INFINITY, -3.5, -0.0, 0.0, 1e-40, 2.0, f32::MAX, f32::INFINITY];
        for (i, &a) in costs.iter().enumerate() {
            assert_eq!(Near::new(a, 7).cost(), a);
            assert_eq!(Near::new(a, 7).node(), 7);
            for &b in &costs[i + 1..] {
                assert!(Near::new(a, 9) < Near::new(b, 3), "{a} {b}");
            }
        }
        assert!(Near::new(1.0, 3) < Near::new(1.0, 4));
        assert_eq!(Near::new(f32::NAN, 1), Near::new(f32::INFINITY, 1));
    }

    #[test]
    fn a_pool_keeps_the_nearest_and_expands_each_once_nearest_first() {
        let mut pool = Pool::default();
        pool.restart(3);
        for (cost, node) in [(3.0, 1), (1.0, 2), (2.0, 3)] {
            assert!(pool.insert(Near::new(cost, node)));
        }
        assert_eq!(pool.expand().map(Near::node), Some(2));
        assert!(pool.insert(Near::new(0.5, 4)) && !pool.insert(Near::new(9.0, 5)));
        let mut expanded = Vec::new();
        while let Some(near) = pool.expand() {
            expanded.push(near.node());
        }
        assert_eq!(expanded, [4, 3]);
        assert_eq!(pool.items().iter().map(|near| near.node()).collect::<Vec<_>>(), [4, 2, 3]);
    }

    #[test]
    fn visited_nodes_are_forgotten_at_a_restart() {
        let mut visited = Visited::default();
        visited.restart(100);
        assert!(visited.insert(70) && !visited.insert(70) && visited.insert(71));
        visited.restart(100);
        assert!(visited.insert(70));
        assert!(!visited.insert(10_000), "a node that came later");
        let mut met = vec![5];
        visited.meet([71, 70, 99, 10_000, 71, 3].into_iter(), &mut met);
        assert_eq!(met, [5, 71, 99, 3]);
        visited.restart(100);
        visited.meet([3, 99, 70, 3].into_iter(), &mut met);
        assert_eq!(met, [5, 71, 99, 3, 3, 99, 70]);
    }
}
