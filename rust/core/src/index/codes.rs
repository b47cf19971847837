//! The rows' states as int8 codes, in memory that never moves.

use crate::kernel::distance::{Kernel, Line, Shape};

use super::columns::Slot;
use crate::bits::Bits;

/// Bytes that a segment aims at: large enough for huge pages, small beside what a store of any use takes.
const SEGMENT_BYTES: usize = 4 << 20;

/// Codes by slot. Segments and not one vector: growth would copy everything and hold it twice for a moment.
#[derive(Debug)]
pub(super) struct Codes {
    /// Lines a row.
    lines: usize,
    /// Rows a segment are `1 << shift`.
    shift: u32,
    segments: Vec<Vec<Line>>,
    /// The parts of each row's [`Shape`].
    pub(super) scale: Vec<f32>,
    pub(super) norm: Vec<f32>,
    pub(super) residual: Vec<f32>,
}

impl Codes {
    pub(super) fn new(dimension: usize) -> Self {
        let lines = Line::needed(dimension);
        let rows = (SEGMENT_BYTES / (lines * size_of::<Line>())).clamp(64, 1 << 16);
        Self {
            lines,
            shift: rows.ilog2(),
            segments: Vec::new(),
            scale: Vec::new(),
            norm: Vec::new(),
            residual: Vec::new(),
        }
    }

    /// The code of a row.
    pub(super) fn row(&self, slot: Slot) -> &[Line] {
        let start = (slot.at() & ((1 << self.shift) - 1)) * self.lines;
        &self.segments[slot.at() >> self.shift][start..start + self.lines]
    }

    /// Codes the state of the next row.
    pub(super) fn push(&mut self, kernel: Kernel, state: &[f32]) {
        let place = self.scale.len() & ((1 << self.shift) - 1);
        if place == 0 {
            self.segments.push(Vec::with_capacity(self.lines << self.shift));
        }
        let segment = self.segments.last_mut().expect("pushed with the first row");
        segment.resize((place + 1) * self.lines, Line::ZERO);
        let Shape { scale, norm, residual } =
            kernel.encode(state, &mut segment[place * self.lines..]);
        self.scale.push(scale);
        self.norm.push(norm);
        self.residual.push(residual);
    }

    /// Keeps the living rows, in order.
    pub(super) fn compact(&mut self, live: &Bits) {
        let mut code = Vec::with_capacity(self.lines);
        let mut kept = 0;
        for from in live.iter() {
            if from != kept {
                code.clear();
                code.extend_from_slice(self.row(Slot(from as u32)));
                let start = (kept & ((1 << self.shift) - 1)) * self.lines;
                let segment = &mut self.segments[kept >> self.shift];
                segment[start..start + self.lines].copy_from_slice(&code);
                for column in [&mut self.scale, &mut self.norm, &mut self.residual] {
                    column[kept] = column[from];
                }
            }
            kept += 1;
        }
        for column in [&mut self.scale, &mut self.norm, &mut self.residual] {
            column.truncate(kept);
            column.shrink_to_fit();
        }
        self.segments.truncate(kept.div_ceil(1 << self.shift));
        if let Some(last) = self.segments.last_mut() {
            last.truncate((((kept - 1) & ((1 << self.shift) - 1)) + 1) * self.lines);
        }
    }

    /// Bytes held: of the last segment what is in use, the system gave no memory for the rest.
    pub(super) fn bytes(&self) -> usize {
        let lines: usize = self.segments.iter().map(Vec::len).sum();
        let numbers = self.scale.capacity() + self.norm.capacity() + self.residual.capacity();
        lines * size_of::<Line>() + numbers * size_of::<f32>()
    }
}
