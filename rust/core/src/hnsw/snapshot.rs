//! The graph as bytes, and back. What is read back is checked whole before it is believed: walks must neither leave the
//! memory nor miss a row, whatever is in the file.
//!
//! Three sections, all little-endian. *Head*: rows, linked rows, upper lists, the entry's node and layer, five u32.
//! *Rows*, for each: its links in layer 0 (2M u32, the upper bit marks a link to a parent or child, 2^32 - 1 ends a list),
//! padding to whole cache lines but for the last eight words, those eight (scale, length, residual, factor, summand: f32;
//! first upper list, layer, children: u32), the code. *Upper*: the lists of layer 1 and above, row by row, each M u32,
//! padded to whole cache lines.

use std::io::{self, Write};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::kernel::distance::Line;
use crate::pool::on_every_core;

use super::memory::Blocks;
use super::{FACTS, FIXED, Graph, Links, Params, UNPOISONED, fact};

/// Bytes of the head.
pub const HEAD: usize = 20;

/// Rows that one thread checks at a time.
const STROKE: usize = 4096;

/// The graph at one moment; nothing is linked while it is held.
#[derive(Debug)]
pub struct Snapshot<'g> {
    graph: &'g Graph,
    rows: usize,
    upper: usize,
    _linking: MutexGuard<'g, ()>,
}

impl Graph {
    /// Takes a snapshot of the rows there are. Waits for a batch that is being linked.
    pub fn snapshot(&self) -> Snapshot<'_> {
        let linking = self.linking.lock().expect(UNPOISONED);
        let pushing = self.pushing.lock().expect(UNPOISONED);
        let (rows, upper) = (self.rows.len(), self.upper.len());
        drop(pushing);
        Snapshot { graph: self, rows, upper, _linking: linking }
    }
}

impl Snapshot<'_> {
    /// Rows in it; the first [`Self::linked`] of them are linked.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Linked rows.
    pub fn linked(&self) -> usize {
        self.graph.linked()
    }

    /// The first section.
    pub fn head(&self) -> [u8; HEAD] {
        let (entry, top) = self.graph.entry();
        let words = [self.rows as u32, self.linked() as u32, self.upper as u32, entry, top];
        let mut head = [0; HEAD];
        for (bytes, word) in head.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        head
    }

    /// Bytes of the second and the third section.
    pub fn lengths(&self) -> (usize, usize) {
        let Graph { rows, upper, .. } = self.graph;
        (self.rows * rows.block_bytes(), self.upper * upper.block_bytes())
    }

    /// Writes the second section.
    pub fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        write(&self.graph.rows, self.rows, out)
    }

    /// Writes the third section.
    pub fn write_upper(&self, out: &mut dyn Write) -> io::Result<()> {
        write(&self.graph.upper, self.upper, out)
    }
}

fn write(blocks: &Blocks, len: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(blocks.block_bytes());
    for at in 0..len {
        bytes.clear();
        let words = blocks.words(at).iter().map(|word| word.load(Ordering::Relaxed));
        bytes.extend(words.flat_map(u32::to_le_bytes));
        bytes.extend(blocks.code(at).iter().flat_map(|line| line.0.map(i8::cast_unsigned)));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Refuses a section, with a reason.
fn corrupt<T>(why: &str) -> Result<T> {
    Err(Error::Corrupt { what: format!("the graph in the index file is damaged: {why}") })
}

impl Graph {
    /// The graph of the sections of a [`Snapshot`] of a graph of the same dimension and parameters. Anything that such a
    /// snapshot cannot hold is [`Error::Corrupt`].
    pub fn read(
        dimension: usize,
        params: Params,
        head: &[u8],
        rows: &[u8],
        upper: &[u8],
    ) -> Result<Self> {
        params.check()?;
        let graph = Self::new(dimension, params);
        let Ok(head) = <&[u8; HEAD]>::try_from(head) else { return corrupt("its head's length") };
        let word = |at: usize| u32::from_le_bytes(head.as_chunks::<4>().0[at]);
        let (len, linked, lists) = (word(0) as usize, word(1) as usize, word(2) as usize);
        let (entry, top) = (word(3), word(4));
        let fits = |bytes: &[u8], count: usize, blocks: &Blocks| {
            count.checked_mul(blocks.block_bytes()) == Some(bytes.len()) && count < FIXED as usize
        };
        if !fits(rows, len, &graph.rows) || !fits(upper, lists, &graph.upper) || linked > len {
            return corrupt("its lengths");
        }
        graph.read_rows(rows);
        graph.read_upper(upper)?;
        graph.check_links(linked as u32)?;
        if linked > 0 && (entry as usize >= linked || graph.level(entry) != top) {
            return corrupt("its entry");
        }
        graph.set_entry(entry, top);
        graph.linked.store(linked, Ordering::Release);
        Ok(graph)
    }

    fn read_rows(&self, bytes: &[u8]) {
        let (size, words) = (self.rows.block_bytes(), 4 * self.rows.words_each());
        let mut levels = Vec::with_capacity(bytes.len() / size);
        let mut lists = 0_u32;
        for block in bytes.chunks_exact(size) {
            let (at, mut level) = (words - 4 * (FACTS - fact::LEVEL), [0; 4]);
            level.copy_from_slice(&block[at..at + 4]);
            let level = u32::from_le_bytes(level).min(Params::TOP + 1);
            levels.push((level, lists));
            lists = lists.wrapping_add(level);
        }
        self.rows.extend(levels.len(), |at, to, lines| {
            let (words, code) = bytes[at * size..][..size].split_at(words);
            copy(words, to);
            for (line, bytes) in lines.iter_mut().zip(code.as_chunks::<{ Line::LEN }>().0) {
                *line = Line(bytes.map(u8::cast_signed));
            }
            let (facts, (level, first)) = (&to[to.len() - FACTS..], levels[at]);
            facts[fact::LEVEL].store(level, Ordering::Relaxed);
            facts[fact::UPPER].store(first, Ordering::Relaxed);
            facts[fact::CHILDREN].store(0, Ordering::Relaxed);
        });
    }

    fn read_upper(&self, bytes: &[u8]) -> Result<()> {
        let lists = bytes.len() / self.upper.block_bytes();
        let levels = (0..self.len() as u32).map(|node| self.level(node) as usize);
        if levels.clone().any(|level| level > Params::TOP as usize)
            || levels.sum::<usize>() != lists
        {
            return corrupt("its layers");
        }
        for block in bytes.chunks_exact(self.upper.block_bytes()) {
            self.upper.push(|to, _| copy(block, to));
        }
        Ok(())
    }

    /// Checks every list, and counts the children of every row.
    fn check_links(&self, linked: u32) -> Result<()> {
        let children = AtomicUsize::new(0);
        on_every_core(self.len().div_ceil(STROKE), |stroke| {
            for node in (stroke * STROKE..self.len()).take(STROKE) {
                children.fetch_add(self.check_row(node as u32, linked)?, Ordering::Relaxed);
            }
            Ok(())
        })?;
        // as many links down as up, each to a row whose only parent this is: one tree of all
        let all = linked.saturating_sub(1) as usize;
        if children.into_inner() == all { Ok(()) } else { corrupt("its tree") }
    }

    /// Checks the lists of a row; how many children it has.
    fn check_row(&self, node: u32, linked: u32) -> Result<usize> {
        for layer in 0..=self.level(node) {
            let links = self.links(node, layer);
            tidy(links);
            let sound = |word: u32| {
                let next = word & !FIXED;
                let there = next < linked && next != node && node < linked;
                // every row is in layer 0: nobody need look at all neighbours of all rows for that
                there && (layer == 0 || (self.level(next) >= layer && word == next))
            };
            if !links.words().all(sound) {
                return corrupt("its links");
            }
        }
        let fixed = self.links(node, 0).words().filter(|word| word & FIXED != 0);
        let (mut parents, mut children) = (0, 0);
        for next in fixed.clone().map(|word| word & !FIXED) {
            let once = fixed.clone().filter(|word| word & !FIXED == next).count() == 1;
            if next < node {
                parents += 1;
            } else if once && self.parent(next) == Some(node) && self.has_room(node) {
                self.facts_words(node)[fact::CHILDREN].fetch_add(1, Ordering::Relaxed);
                children += 1;
            } else {
                return corrupt("its tree");
            }
        }
        if parents != u32::from(node > 0 && node < linked) {
            return corrupt("its tree");
        }
        Ok(children)
    }

    /// The older row that a fixed link leads to.
    fn parent(&self, node: u32) -> Option<u32> {
        let fixed = self.links(node, 0).words().filter(|word| word & FIXED != 0);
        fixed.map(|word| word & !FIXED).find(|&next| next < node)
    }
}

fn copy(bytes: &[u8], to: &[AtomicU32]) {
    for (word, bytes) in to.iter().zip(bytes.as_chunks::<4>().0) {
        word.store(u32::from_le_bytes(*bytes), Ordering::Relaxed);
    }
}

/// Clears what lies behind the end of a list.
fn tidy(links: Links<'_>) {
    let count = links.words().count();
    super::clear(&links.0[count..]);
}
