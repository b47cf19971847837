//! Linking (Malkov and Yashunin, algorithm 1), in batches: the rows of a batch search the graph as it was before them, in
//! parallel, and are compared with each other directly; then the links back to them are merged, row by row. What comes
//! out depends on the sizes of the batches only, not on the threads (the idea of `ParlayANN`, Manohar et al. 2024).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::kernel::distance::Line;
use crate::pool::Pool;

use super::codec::{Coarse, Facts};
use super::scratch::{GraphScratch, Near};
use super::select::rank;
use super::{FIXED, Graph, UNPOISONED, fact, glance};

/// Rows of the largest batch. Each is compared with all before it in the batch, so that rows that come together and
/// belong together are linked as well as if they had come one by one.
const BATCH: usize = 512;

/// What one linking thread works in.
#[derive(Debug, Default)]
pub(super) struct Space {
    pub(super) scratch: GraphScratch,
    /// Where codes are put together or spread out: of the row that asks, of the candidate that is compared.
    pub(super) asking: Vec<Line>,
    pub(super) compared: Vec<Line>,
    pub(super) nodes: Vec<u32>,
    pub(super) costs: Vec<f32>,
    pub(super) candidates: Vec<Near>,
    pub(super) chosen: Vec<u32>,
}

/// The lists of a new row, one a layer from 0 up, nearest first.
struct Plan {
    node: u32,
    lists: Vec<Vec<u32>>,
    /// Whether the upper halves of codes misled its walk; None if they were not asked.
    misled: Option<bool>,
}

/// A link back to a new row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Back {
    layer: u32,
    target: u32,
    /// The new row, marked if the link is fixed.
    word: u32,
}

impl Graph {
    /// Links the next rows, at most `budget`, and says how many. Batches have sizes that depend only on how many rows are
    /// linked and how many there are, and a batch cut short by `stop` leaves no trace, so rows that are all there when linking
    /// begins give one graph for a seed, whatever the threads. `stop` is looked at before every row. Without room for links
    /// nothing is linked.
    pub fn link(&self, budget: usize, pool: &Pool, stop: &AtomicBool) -> usize {
        if self.room == 0 {
            return 0;
        }
        let linking = self.linking.lock().expect(UNPOISONED);
        let mut done = 0;
        while !stop.load(Ordering::Relaxed) {
            let start = self.linked();
            let size = start.clamp(1, BATCH).min(self.len() - start).min(budget - done);
            if size == 0 || !self.link_batch(start as u32, (start + size) as u32, pool, stop) {
                break;
            }
            done += size;
        }
        drop(linking);
        done
    }

    fn link_batch(&self, start: u32, end: u32, pool: &Pool, stop: &AtomicBool) -> bool {
        let plans: Option<Vec<Plan>> = pool.run(|| {
            let plan = |node| {
                let ended = stop.load(Ordering::Relaxed);
                (!ended).then(|| self.with_space(|space| self.plan(node, start, space)))
            };
            (start..end).into_par_iter().with_max_len(8).map(plan).collect()
        });
        let Some(mut plans) = plans else { return false };
        self.adopt(&mut plans);
        let told = || plans.iter().filter_map(|plan| plan.misled);
        self.glances.count(told().count() as u32, told().filter(|misled| *misled).count() as u32);
        let mut backs = self.write(&plans);
        pool.run(|| backs.par_sort_unstable());
        let targets: Vec<&[Back]> =
            backs.chunk_by(|a, b| (a.layer, a.target) == (b.layer, b.target)).collect();
        pool.run(|| {
            let merge = |backs: &&[Back]| self.with_space(|space| self.merge(backs, space));
            targets.par_iter().with_max_len(64).for_each(merge);
        });
        let (mut entry, mut top) = self.entry();
        for node in start..end {
            if self.level(node) > top || node == 0 {
                (entry, top) = (node, self.level(node));
            }
        }
        self.set_entry(entry, top);
        self.linked.store(end as usize, Ordering::Release);
        true
    }

    /// Finds a row's neighbours in every layer it is in, among the linked rows and those from `start` up to it.
    fn plan(&self, node: u32, start: u32, space: &mut Space) -> Plan {
        let Space { scratch, asking, compared, nodes, costs, candidates, chosen } = space;
        let (code, facts) = self.coded(node);
        let whole = self.codec.row_asks(code, &facts, asking);
        let query = Coarse { quick: self.glances.suffice(&self.codec, &self.params), ..whole };
        // a pool takes its memory at once, and there are no more candidates than rows before this one
        let (level, ef) = (self.level(node), self.params.ef_construction.min(node as usize + 1));
        let (_, top) = self.entry();
        let (mut lists, mut misled) = (vec![Vec::new(); level as usize + 1], None);
        let mut nearest = (start > 0).then(|| self.descend(&query, level.min(top), scratch));
        for layer in (0..=level).rev() {
            scratch.restart(self.len(), ef);
            if let Some(near) = nearest.filter(|_| layer <= top) {
                scratch.visited.insert(near.node());
                scratch.pool.insert(near);
                self.walk(&query, layer, f32::INFINITY, scratch);
                nearest = scratch.pool.items().first().map(|near| near.afresh());
            }
            nodes.clear();
            nodes.extend((start..node).filter(|&mate| layer == 0 || self.level(mate) >= layer));
            self.cost_all(&query, nodes, costs);
            scratch.pool.insert_all(nodes, costs);
            candidates.clear();
            candidates.extend_from_slice(scratch.pool.items());
            if query.quick {
                nodes.clear();
                nodes.extend(candidates.iter().map(|near| near.node()));
                self.cost_all(&whole, nodes, costs);
                misled = glance::misled(candidates, costs);
                rank(nodes, costs, candidates);
            }
            self.select(candidates, self.params.m, |_| false, compared, chosen);
            lists[layer as usize].clone_from(chosen);
        }
        Plan { node, lists, misled }
    }

    /// Gives every new row a parent: the nearest of its neighbours that has room, else a row below the nearest one. A row
    /// has at most M children, so that fixed links never fill its list.
    fn adopt(&self, plans: &mut [Plan]) {
        let mut new: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for Plan { node, lists, .. } in plans {
            let list = &mut lists[0];
            let Some(&nearest) = list.first() else { continue }; // the first row of all
            let near = list.iter().copied().find(|&parent| self.has_room(parent));
            let parent = near.unwrap_or_else(|| self.below(nearest, &new));
            self.facts_words(parent)[fact::CHILDREN].fetch_add(1, Ordering::Relaxed);
            new.entry(parent).or_default().push(*node);
            match list.iter_mut().find(|word| **word == parent) {
                Some(word) => *word |= FIXED,
                None => list.push(parent | FIXED),
            }
        }
    }

    pub(super) fn has_room(&self, parent: u32) -> bool {
        let children = self.facts_words(parent)[fact::CHILDREN].load(Ordering::Relaxed);
        (children as usize) < self.params.m
    }

    /// The first row with room among the descendants of one, level by level. `new` are children whose links are not
    /// written yet. There always is one: the youngest descendant has no children.
    fn below(&self, node: u32, new: &BTreeMap<u32, Vec<u32>>) -> u32 {
        let mut queue = VecDeque::from([node]);
        while let Some(node) = queue.pop_front() {
            if self.has_room(node) {
                return node;
            }
            let fixed = self.links(node, 0).words().filter(|word| word & FIXED != 0);
            // a parent is older than its children
            queue.extend(fixed.map(|word| word & !FIXED).filter(|&child| child > node));
            queue.extend(new.get(&node).into_iter().flatten());
        }
        unreachable!("a tree without a leaf")
    }

    /// Writes the lists of new rows, and says what leads back to them.
    fn write(&self, plans: &[Plan]) -> Vec<Back> {
        let mut backs = Vec::new();
        for Plan { node, lists, .. } in plans {
            for (layer, list) in (0..).zip(lists) {
                self.links(*node, layer).set(list.iter().copied());
                backs.extend(list.iter().map(|word| Back {
                    layer,
                    target: word & !FIXED,
                    word: node | word & FIXED,
                }));
            }
        }
        backs
    }

    /// Adds links to one row in one layer, and prunes by the heuristic if they do not all fit.
    fn merge(&self, backs: &[Back], space: &mut Space) {
        let Back { layer, target, .. } = backs[0];
        let links = self.links(target, layer);
        space.nodes.clear();
        space.nodes.extend(links.words());
        space.nodes.extend(backs.iter().map(|back| back.word));
        if space.nodes.len() <= links.0.len() {
            links.set(space.nodes.iter().copied());
            return;
        }
        self.prune(target, links.0.len(), space);
        links.set(space.chosen.iter().copied());
    }

    /// Chooses the neighbours of a row among `space.nodes`, at most `most`, into `space.chosen`.
    pub(super) fn prune(&self, target: u32, most: usize, space: &mut Space) {
        let Space { asking, compared, nodes, costs, candidates, chosen, .. } = space;
        let (code, facts) = self.coded(target);
        let query = self.codec.row_asks(code, &facts, asking);
        chosen.clear(); // of plain ids, for the costs
        chosen.extend(nodes.iter().map(|word| word & !FIXED));
        self.cost_all(&query, chosen, costs);
        rank(nodes, costs, candidates);
        let is_fixed = |node: u32| nodes.contains(&(node | FIXED));
        self.select(candidates, most, is_fixed, compared, chosen);
    }

    pub(super) fn coded(&self, node: u32) -> (&[Line], Facts) {
        (self.rows.code(node as usize), self.facts(node))
    }

    /// Leaves in `state` what the code of a row stands for; `space` is where a code is put together. The length of the
    /// row itself.
    pub(super) fn restore(&self, node: u32, space: &mut Vec<Line>, state: &mut Vec<f32>) -> f32 {
        let (code, facts) = self.coded(node);
        self.codec.restore(code, &facts, space, state);
        facts.shape.norm
    }

    /// Lends the memory to work in.
    pub(super) fn with_space<T>(&self, work: impl FnOnce(&mut Space) -> T) -> T {
        let kept = self.spaces.lock().expect(UNPOISONED).pop();
        let mut space = kept.unwrap_or_default();
        let result = work(&mut space);
        self.spaces.lock().expect(UNPOISONED).push(space);
        result
    }
}
