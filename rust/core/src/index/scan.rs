//! The exact scan: one pass over the codes leaves the rows that could be among the nearest, and only these are measured
//! at full precision.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::ids::RowKey;
use crate::kernel::distance::{Fine, Kernel, Line};
use crate::metric::Metric;

use super::bounds::{Bounds, Facts};
use super::codes::Codes;
use super::columns::{Columns, Slot};
use super::exact::Exact;
use super::{Hit, Originals};
use crate::bits::Bits;

/// Rows that are judged together.
const BATCH: usize = 256;

/// Batches between two looks at the stop flag: some four thousand rows.
const PATIENCE: usize = 16;

/// Rows that are read at most between two looks at what is still worth reading.
const MOST_READ: usize = 4096;

/// An f64 in its total order, for heaps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A row that could be among the nearest.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// Its cost is at least this.
    least: f64,
    slot: Slot,
}

/// The memory of a scan.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    fine: Fine,
    candidates: Vec<Candidate>,
    /// The k smallest upper bounds so far, the greatest on top.
    most: BinaryHeap<Ordered>,
    /// The k nearest so far, the farthest on top.
    nearest: BinaryHeap<(Ordered, RowKey)>,
    keys: Vec<RowKey>,
}

/// A question to the codes.
pub(super) struct Scan<'a> {
    pub(super) kernel: Kernel,
    pub(super) columns: &'a Columns,
    pub(super) codes: &'a Codes,
    pub(super) query: &'a [f32],
    pub(super) metric: Metric,
    pub(super) k: usize,
    pub(super) stop: &'a AtomicBool,
}

impl Scan<'_> {
    /// The `k` nearest of `rows`, nearest first.
    pub(super) fn run(
        &self,
        rows: &Bits,
        originals: &mut dyn Originals,
        space: &mut Workspace,
    ) -> Result<Vec<Hit>> {
        let Workspace { fine, candidates, most, nearest, keys } = space;
        candidates.clear();
        most.clear();
        nearest.clear();
        if self.k == 0 {
            return Ok(Vec::new());
        }
        fine.encode(self.query);
        let bounds = Bounds::new(self.metric, fine);
        self.collect(rows, fine, &bounds, candidates, most)?;
        // the total order puts equal optimism in order of the keys, so that a heap of twins is read as it lies
        candidates.sort_unstable_by(|a, b| a.least.total_cmp(&b.least).then(a.slot.cmp(&b.slot)));
        self.measure(&bounds, candidates, originals, keys, nearest)
    }

    /// Leaves in `candidates` every row that could be among the k nearest: whose cost, at its least, does not exceed
    /// what k rows cost at most.
    fn collect(
        &self,
        rows: &Bits,
        fine: &Fine,
        bounds: &Bounds,
        candidates: &mut Vec<Candidate>,
        most: &mut BinaryHeap<Ordered>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        let mut limit = f64::INFINITY;
        let mut admit = |batch: &mut Batch<'_>, count: usize| {
            batch.judge(count, self.kernel, self.codes, fine, bounds);
            for (i, &slot) in batch.slots[..count].iter().enumerate() {
                let least = batch.least[i];
                if least > limit {
                    continue; // NaN goes on: such a row could be anything
                }
                let least = if least.is_nan() { f64::NEG_INFINITY } else { least };
                candidates.push(Candidate { least, slot });
                if batch.most[i] < limit {
                    most.push(Ordered(batch.most[i]));
                    if most.len() > self.k {
                        most.pop();
                    }
                    if most.len() == self.k {
                        limit = most.peek().map_or(limit, |worst| worst.0);
                    }
                }
            }
            batch.drop_front(count);
        };
        let mut since = 0;
        for (at, &word) in rows.words().iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let slot = Slot((at * 64) as u32 + word.trailing_zeros());
                word &= word - 1;
                batch.add(slot, self.codes);
            }
            if batch.len > BATCH - 64 {
                // the last rows wait: they are on their way from memory while these are judged
                let count = batch.len - Kernel::AHEAD;
                admit(&mut batch, count);
                since += 1;
                if since % PATIENCE == 1 {
                    self.go_on()?;
                }
            }
        }
        self.go_on()?;
        let count = batch.len;
        admit(&mut batch, count);
        candidates.retain(|row| row.least <= limit);
        Ok(())
    }

    /// Reads the candidates, the most promising first, until none of the rest can be or tie with one of the k nearest.
    fn measure(
        &self,
        bounds: &Bounds,
        candidates: &mut [Candidate],
        originals: &mut dyn Originals,
        keys: &mut Vec<RowKey>,
        nearest: &mut BinaryHeap<(Ordered, RowKey)>,
    ) -> Result<Vec<Hit>> {
        let exact = Exact::new(self.kernel, self.metric, self.query);
        let (mut rest, mut read) = (candidates, 0);
        loop {
            // few at a time while little is known; in larger strokes if very many have to be read
            let wanted = if read == 0 { self.k } else { read / 2 }.clamp(8, MOST_READ);
            let full = nearest.len() == self.k;
            let limit = nearest.peek().filter(|_| full).map(|(worst, _)| bounds.cost(worst.0));
            let worth = rest
                .iter()
                .take(wanted)
                .take_while(|row| limit.is_none_or(|limit| row.least <= limit))
                .count();
            if worth == 0 {
                break;
            }
            self.go_on()?;
            let (now, later) = rest.split_at_mut(worth);
            now.sort_unstable_by_key(|row| row.slot);
            keys.clear();
            keys.extend(now.iter().map(|row| self.columns.key[row.slot.at()]));
            originals.read(keys, &mut |at, state| {
                let found = (Ordered(exact.distance(state)), keys[at]);
                if nearest.len() < self.k {
                    nearest.push(found);
                } else if let Some(mut worst) = nearest.peek_mut()
                    && found < *worst
                {
                    *worst = found;
                }
            })?;
            read += worth;
            rest = later;
        }
        let mut found: Vec<Hit> =
            nearest.drain().map(|(distance, key)| exact.hit(key, distance.0)).collect();
        found.sort_unstable_by(|a, b| {
            a.distance.total_cmp(&b.distance).then_with(|| a.key.cmp(&b.key))
        });
        Ok(found)
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Closed("the store was closed during a search".to_owned()));
        }
        Ok(())
    }
}

/// Rows that are judged together, wherever they lie.
struct Batch<'a> {
    len: usize,
    slots: [Slot; BATCH],
    rows: [&'a [Line]; BATCH],
    dot: [f64; BATCH],
    scale: [f32; BATCH],
    norm: [f32; BATCH],
    residual: [f32; BATCH],
    least: [f64; BATCH],
    most: [f64; BATCH],
}

impl<'a> Batch<'a> {
    fn new() -> Self {
        Self {
            len: 0,
            slots: [Slot(0); BATCH],
            rows: [&[]; BATCH],
            dot: [0.0; BATCH],
            scale: [0.0; BATCH],
            norm: [0.0; BATCH],
            residual: [0.0; BATCH],
            least: [0.0; BATCH],
            most: [0.0; BATCH],
        }
    }

    fn add(&mut self, slot: Slot, codes: &'a Codes) {
        self.slots[self.len] = slot;
        self.rows[self.len] = codes.row(slot);
        self.len += 1;
    }

    /// Forgets the first `count` rows.
    fn drop_front(&mut self, count: usize) {
        self.slots.copy_within(count..self.len, 0);
        self.rows.copy_within(count..self.len, 0);
        self.len -= count;
    }

    /// Bounds the cost of the first `n` rows.
    fn judge(&mut self, n: usize, kernel: Kernel, codes: &Codes, fine: &Fine, bounds: &Bounds) {
        kernel.dots(&self.rows[..self.len], fine, &mut self.dot[..n]);
        for (i, slot) in self.slots[..n].iter().enumerate() {
            self.scale[i] = codes.scale[slot.at()];
            self.norm[i] = codes.norm[slot.at()];
            self.residual[i] = codes.residual[slot.at()];
        }
        let rows = Facts {
            dot: &self.dot[..n],
            scale: &self.scale,
            norm: &self.norm,
            residual: &self.residual,
        };
        bounds.judge(&rows, &mut self.least, &mut self.most);
    }
}
