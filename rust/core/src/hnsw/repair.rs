//! Without the dead: a graph of the living rows, whose links around the dead are chosen anew from what the dead led to.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::bits::Bits;
use crate::pool::Pool;

use super::link::Space;
use super::{FIXED, Graph, Links, NONE, UNPOISONED, fact};

/// Candidates that replace a row's dead neighbours, at most, as a multiple of the links it keeps.
const WIDTH: usize = 4;

impl Graph {
    /// A graph of the living rows, renumbered in their order. Links to the dead are replaced by the heuristic's choice
    /// among what the dead led to; levels, codes and all other links stay. None if `stop` came first. The result depends
    /// on the graph and on `live` only.
    pub fn consolidated(&self, live: &Bits, pool: &Pool, stop: &AtomicBool) -> Option<Self> {
        let linking = self.linking.lock().expect(UNPOISONED);
        let len = self.len();
        let linked = self.linked();
        let alive: Vec<u32> = live.iter().take_while(|&at| at < len).map(|at| at as u32).collect();
        let mut places = vec![NONE; len];
        let new = Self::new(self.dimension(), self.params);
        let [asked, misled] = self.glances.counts();
        new.glances.count(asked, misled);
        for (place, &node) in (0..).zip(&alive) {
            places[node as usize] = place;
            let (code, facts) = self.coded(node);
            new.place(self.level(node), |lines| {
                lines.copy_from_slice(code);
                facts
            });
        }
        let linked = alive.partition_point(|&node| (node as usize) < linked);
        let done = pool.run(|| {
            let repair = |&node: &u32| {
                let ended = stop.load(Ordering::Relaxed);
                (!ended).then(|| self.with_space(|space| self.repair(node, &new, &places, space)))
            };
            alive[..linked].par_iter().with_max_len(64).map(repair).collect::<Option<()>>()
        });
        drop(linking);
        done?;
        new.plant(linked as u32);
        let top = (0..linked as u32).max_by_key(|&node| (new.level(node), !node));
        new.set_entry(top.unwrap_or(0), top.map_or(0, |node| new.level(node)));
        new.linked.store(linked, Ordering::Release);
        Some(new)
    }

    /// Writes a row's lists into the new graph, nearest first.
    fn repair(&self, node: u32, new: &Self, places: &[u32], space: &mut Space) {
        for layer in 0..=self.level(node) {
            let links = new.links(places[node as usize], layer);
            self.heirs(node, layer, WIDTH * links.0.len(), places, space);
            let nodes = &mut space.nodes;
            for node in nodes {
                *node = places[*node as usize];
            }
            // the codes of the new graph: they lie closer together
            new.prune(places[node as usize], links.0.len(), space);
            links.set(space.chosen.iter().copied());
        }
    }

    /// Leaves in `space.nodes` the living rows that a row leads to, directly or through the dead.
    fn heirs(&self, node: u32, layer: u32, most: usize, places: &[u32], space: &mut Space) {
        let Space { scratch, nodes, .. } = space;
        scratch.restart(places.len(), 0);
        scratch.visited.insert(node);
        nodes.clear();
        let (visited, dead) = (&mut scratch.visited, &mut scratch.hops);
        let mut look = |from: u32, dead: &mut Vec<u32>| {
            for next in self.links(from, layer).nodes().filter(|&next| visited.insert(next)) {
                let list = if places[next as usize] == NONE { &mut *dead } else { &mut *nodes };
                list.push(next);
            }
            nodes.len()
        };
        let mut found = look(node, dead);
        let mut at = 0;
        while at < dead.len() && found < most {
            found = look(dead[at], dead);
            at += 1;
        }
    }

    /// Gives every row a parent again. Lists are sorted, nearest first.
    fn plant(&self, linked: u32) {
        // the oldest row with room: rows without an older neighbour go there
        let mut spare = 0;
        for node in 1..linked {
            let older =
                self.links(node, 0).nodes().find(|&near| near < node && self.has_room(near));
            while !self.has_room(spare) {
                spare += 1;
            }
            let parent = older.unwrap_or(spare);
            self.facts_words(parent)[fact::CHILDREN].fetch_add(1, Ordering::Relaxed);
            fix(self.links(node, 0), parent);
            fix(self.links(parent, 0), node);
        }
    }
}

/// Marks a link as fixed; one that is not there takes the place of the farthest that may go.
fn fix(links: Links<'_>, node: u32) {
    let here = || links.0.iter().map(|word| word.load(Ordering::Relaxed));
    let place = here()
        .position(|word| word & !FIXED == node)
        .or_else(|| here().position(|word| word == NONE))
        .or_else(|| here().rposition(|word| word & FIXED == 0))
        .expect("fixed links never fill a list");
    links.0[place].store(node | FIXED, Ordering::Release);
}
