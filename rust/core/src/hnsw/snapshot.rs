//! The graph as bytes, and back. What is read back is checked whole before it is believed: walks must neither leave the
//! memory nor miss a row, whatever is in the file.
//!
//! Three sections, all little-endian. *Head*: rows, linked rows, upper lists, the entry's node and layer,
//! rows that were asked, when they were linked, whether the upper halves of codes suffice, those of them that were misled, seven u32.
//! *Rows*, for each: its links in layer 0 (2M u32, the upper bit marks a link to a parent or child, 2^32 - 1 ends a list),
//! padding to whole cache lines but for the last eight words, those eight (scale, length, residual, factor, summand: f32;
//! first upper list, layer, children: u32), the code. *Upper*: the lists of layer 1 and above, row by row, each M u32,
//! padded to whole cache lines.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::kernel::distance::Line;

use super::memory::Blocks;
use super::{FACTS, FIXED, Graph, Links, NONE, Params, UNPOISONED, WEIGHED, fact};

/// Bytes of the head.
pub const HEAD: usize = 28;

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
        let [asked, misled] = self.graph.glances.counts();
        let (rows, upper) = (self.rows as u32, self.upper as u32);
        let words = [rows, self.linked() as u32, upper, entry, top, asked, misled];
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
    Err(damage(why))
}

fn damage(why: &str) -> Error {
    Error::Corrupt { what: format!("the graph in the index file is damaged: {why}") }
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
        Self::read_checked(dimension, params, head, rows, upper, |_| Ok(()))
    }

    /// [`Self::read`] of rows whose bytes nobody looked at yet. `check` is asked about stretches of them, which together
    /// are all, on every core, just before they are copied: they come from memory once. Its failure ends the reading.
    pub fn read_checked<E: From<Error> + Send>(
        dimension: usize,
        params: Params,
        head: &[u8],
        rows: &[u8],
        upper: &[u8],
        check: impl Fn(Range<usize>) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        params.check()?;
        let graph = Self::new(dimension, params);
        let Ok(head) = <&[u8; HEAD]>::try_from(head) else {
            return Err(damage("its head's length").into());
        };
        let word = |at: usize| u32::from_le_bytes(head.as_chunks::<4>().0[at]);
        let (len, linked, lists) = (word(0) as usize, word(1) as usize, word(2) as usize);
        let (entry, top) = (word(3), word(4));
        let fits = |bytes: &[u8], count: usize, blocks: &Blocks| {
            count.checked_mul(blocks.block_bytes()) == Some(bytes.len()) && count < FIXED as usize
        };
        if !fits(rows, len, &graph.rows) || !fits(upper, lists, &graph.upper) || linked > len {
            return Err(damage("its lengths").into());
        }
        let levels = graph.read_rows(rows, linked as u32, check)?;
        graph.read_upper(upper, linked as u32, &levels)?;
        if linked > 0 && (entry as usize >= linked || u32::from(levels[entry as usize]) != top) {
            return Err(damage("its entry").into());
        }
        graph.set_entry(entry, top);
        if word(6) > word(5) {
            return Err(damage("its counts").into());
        }
        graph.glances.count(word(5), word(6));
        graph.linked.store(linked, Ordering::Release);
        Ok(graph)
    }

    /// Reads the rows and checks their lists in layer 0; the uppermost layer of each.
    fn read_rows<E: From<Error> + Send>(
        &self,
        bytes: &[u8],
        linked: u32,
        check: impl Fn(Range<usize>) -> Result<(), E> + Sync,
    ) -> Result<Vec<u8>, E> {
        let (size, words) = (self.rows.block_bytes(), 4 * self.rows.words_each());
        let count = bytes.len() / size;
        let levels: Vec<AtomicU8> = (0..count).map(|_| AtomicU8::new(0)).collect();
        let tree = Tree::of(count);
        let begin = |rows: Range<usize>| check(rows.start * size..rows.end * size);
        let weights = count.div_ceil(WEIGHED);
        self.weights.extend(weights, |_| Ok::<_, E>(()), |_, _, _| Ok(()))?;
        self.rows.extend(count, begin, |at, to, lines| {
            let (words, code) = bytes[at * size..][..size].split_at(words);
            copy(words, to);
            for (line, bytes) in lines.iter_mut().zip(code.as_chunks::<{ Line::LEN }>().0) {
                *line = Line(bytes.map(u8::cast_signed));
            }
            let (links, facts) = to.split_at(to.len() - FACTS);
            let level = facts[fact::LEVEL].load(Ordering::Relaxed);
            if level > Params::TOP {
                return Err(damage("its layers").into());
            }
            levels[at].store(level as u8, Ordering::Relaxed);
            let [times, plus] =
                [fact::TIMES, fact::PLUS].map(|at| facts[at].load(Ordering::Relaxed));
            self.weigh(at, times, plus);
            let links = Links(&links[..self.room]);
            tidy(links);
            let children = tree.check(links, at as u32, linked, self.params.m)?;
            facts[fact::CHILDREN].store(children, Ordering::Relaxed);
            Ok(())
        })?;
        tree.finish()?;
        Ok(levels.into_iter().map(AtomicU8::into_inner).collect())
    }

    /// Reads the lists of the layers above 0 and checks them.
    fn read_upper(&self, bytes: &[u8], linked: u32, levels: &[u8]) -> Result<()> {
        let lists = bytes.len() / self.upper.block_bytes();
        if levels.iter().map(|level| usize::from(*level)).sum::<usize>() != lists {
            return corrupt("its layers");
        }
        let mut blocks = bytes.chunks_exact(self.upper.block_bytes());
        for (node, &level) in (0..).zip(levels).filter(|(_, level)| **level > 0) {
            let first = self.upper.len() as u32;
            self.facts_words(node)[fact::UPPER].store(first, Ordering::Relaxed);
            for (layer, block) in (1..=level).zip(&mut blocks) {
                self.upper.push(|to, _| copy(block, to));
                let links = self.links(node, u32::from(layer));
                tidy(links);
                let there =
                    |next: u32| next < linked && levels[next as usize] >= layer && next != node;
                if !links.words().all(|next| there(next) && node < linked) {
                    return corrupt("its links");
                }
            }
        }
        Ok(())
    }
}

/// Who every row says its parent is, and whose child it is said to be.
struct Tree {
    parents: Vec<AtomicU32>,
    claims: Vec<AtomicU32>,
}

impl Tree {
    fn of(rows: usize) -> Self {
        let nobody = || (0..rows).map(|_| AtomicU32::new(NONE)).collect();
        Self { parents: nobody(), claims: nobody() }
    }

    /// Checks a row's links in layer 0; how many children it has.
    fn check(&self, links: Links<'_>, node: u32, linked: u32, most: usize) -> Result<u32> {
        let (mut parents, mut children) = (0, 0);
        for word in links.words() {
            let next = word & !FIXED;
            if next >= linked || next == node || node >= linked {
                return corrupt("its links");
            }
            if word & FIXED == 0 {
                continue;
            }
            if next < node {
                parents += 1;
                self.parents[node as usize].store(next, Ordering::Relaxed);
            } else {
                children += 1;
                if self.claims[next as usize].swap(node, Ordering::Relaxed) != NONE {
                    return corrupt("its tree");
                }
            }
        }
        let wanted = u32::from(node > 0 && node < linked);
        if parents == wanted && children as usize <= most {
            Ok(children)
        } else {
            corrupt("its tree")
        }
    }

    /// Checks, once all rows are, that parents and children know each other: then it is one tree of all linked rows.
    fn finish(self) -> Result<()> {
        let mut both = self.parents.into_iter().zip(self.claims);
        let agree = both.all(|(parent, claim)| parent.into_inner() == claim.into_inner());
        if agree { Ok(()) } else { corrupt("its tree") }
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
