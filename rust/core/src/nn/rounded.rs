//! Copies of the weights in 16 bits, for answers: one question reads its weights once, so half the bytes are half the wait.

use std::sync::OnceLock;

use super::layer::DecisionLayer;
use super::predict::not_zero;
use super::sums;
use crate::error::{Error, Result};
use crate::kernel::gemm::{Aligned, Bf16};
use crate::kernel::wide::{self, Loop};
use crate::rng::Rng;

/// Weights from which on a layer answers with rounded ones: fewer are near enough as they are.
const WORTH_ROUNDING: usize = 1 << 16;
/// How far from the answer of the weights as they are an answer may be, relative to its length.
const BOUND: f64 = 0.01;
/// Questions by which the error of a copy is measured.
const PROBES: usize = 8;
/// Blocks of the input: state, code of the return, context.
const BLOCKS: usize = 3;

/// With what a layer answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inference {
    /// Weights rounded to 16 bits (bf16), where that is faster and the error small.
    #[default]
    Bf16,
    /// The weights as they are.
    F32,
}

impl Inference {
    /// Both.
    pub const ALL: &'static [Self] = &[Self::Bf16, Self::F32];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|kind| kind.name() == name);
        found.copied().ok_or_else(|| Error::invalid("inference", "\"bf16\" or \"f32\"", name))
    }
}

/// W1 and W2, rounded.
#[derive(Debug)]
pub(super) struct Rounded {
    /// One after the other.
    halves: Vec<Bf16>,
    /// Where W2 begins.
    middle: usize,
    /// The same numbers in 32 bits, for products of many questions; made for the first of them.
    wide: OnceLock<Aligned>,
    /// The largest error among the probes that it answers; `None` where it is no use.
    error: Option<f64>,
    doubt: Doubt,
}

/// How far an answer may be off, by what went into its sums: rounding moves every term by a share of itself, and where the
/// terms cancel, that is much beside what is left.
#[derive(Debug)]
struct Doubt {
    /// By hidden unit, the squared length of its row of W2.
    outward: Vec<f32>,
    /// By block of the input and hidden unit: `outward` times the mean square of the unit's weights in the block.
    inward: Vec<f32>,
    /// The squared length of a return's code, which is that of every return.
    code: f64,
    /// The square of an answer's error, as a share of its terms' squares: the probes' largest, with room for others.
    share: f64,
}

impl Doubt {
    fn of(layer: &DecisionLayer, code: &[f32]) -> Self {
        let [w1, _, w2, _] = layer.shape.split(&layer.params);
        let rows = w2.chunks_exact(layer.shape.output);
        let outward: Vec<f32> = rows.map(|row| sums::squares(row) as f32).collect();
        let d = layer.settings.state_size;
        let blocks = w1.chunks_exact(d * outward.len()).map(|block| {
            let mut squares = vec![0.0; outward.len()];
            for row in block.chunks_exact(outward.len()) {
                squares.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight * weight);
            }
            squares
        });
        let inward = blocks.flat_map(|squares| {
            let each = squares.into_iter().zip(&outward);
            each.map(|(sum, outward)| sum / d as f32 * outward).collect::<Vec<_>>()
        });
        let inward = inward.collect();
        Self { outward, inward, code: sums::squares(code), share: 0.0 }
    }

    /// The sum of the squares of the terms that rounding moves. `lengths` are the squared ones of the input's blocks.
    fn terms(&self, lengths: [f64; BLOCKS], hidden: &[f32]) -> f64 {
        let (state, rest) = self.inward.split_at(hidden.len());
        let (code, context) = rest.split_at(hidden.len());
        let lengths = lengths.map(|length| length as f32);
        wide::run(Terms { hidden, outward: &self.outward, inward: [state, code, context], lengths })
    }
}

/// What [`Doubt::terms`] sums.
struct Terms<'a> {
    hidden: &'a [f32],
    outward: &'a [f32],
    inward: [&'a [f32]; BLOCKS],
    lengths: [f32; BLOCKS],
}

impl Loop for Terms<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        const LANES: usize = 16;
        let [of_state, of_code, of_context] = self.lengths;
        let [state, code, context] = self.inward;
        let mut lanes = [0.0_f32; LANES];
        for first in (0..self.hidden.len()).step_by(LANES) {
            let part = first..self.hidden.len().min(first + LANES);
            let (hidden, outward) = (&self.hidden[part.clone()], &self.outward[part.clone()]);
            let (state, code) = (&state[part.clone()], &code[part.clone()]);
            let context = &context[part];
            for (i, sum) in lanes.iter_mut().enumerate().take(hidden.len()) {
                let within = of_state * state[i] + of_code * code[i] + of_context * context[i];
                let square = hidden[i] * hidden[i] * outward[i] + within;
                // a unit that the ReLU silenced adds nothing
                *sum += if hidden[i] > 0.0 { square } else { 0.0 };
            }
        }
        f64::from(lanes.iter().sum::<f32>())
    }
}

impl Rounded {
    /// Of the weights of a layer, in the memory of a former copy.
    fn of(layer: &DecisionLayer, memory: Vec<Bf16>) -> Self {
        let [w1, _, w2, _] = layer.shape.split(&layer.params);
        let mut halves = memory;
        halves.clear();
        halves.extend(w1.iter().chain(w2).map(|weight| Bf16::nearest(*weight)));
        let (low, high) = layer.return_range();
        let mut code = Vec::new();
        layer.code_of(f64::midpoint(low, high), &mut code);
        let (wide, doubt) = (OnceLock::new(), Doubt::of(layer, &code));
        let mut copy = Self { halves, middle: w1.len(), wide, error: None, doubt };
        layer.probe(&mut copy, &code);
        copy
    }

    /// Whether an answer may be farther from that of the weights as they are than it should: then these answer. `state`
    /// and `context` went into it; of a context that is zero nothing is given.
    pub(super) fn doubts(
        &self,
        state: &[f32],
        context: &[f32],
        hidden: &[f32],
        action: &[f32],
    ) -> bool {
        let lengths = [sums::squares(state), self.doubt.code, sums::squares(context)];
        let off = self.doubt.share * self.doubt.terms(lengths, hidden);
        off.is_nan() || off > BOUND * BOUND * sums::squares(action)
    }

    /// W1 and W2.
    pub(super) fn halves(&self) -> (&[Bf16], &[Bf16]) {
        self.halves.split_at(self.middle)
    }

    /// W1 and W2 in 32 bits.
    pub(super) fn wide(&self) -> (&[f32], &[f32]) {
        let wide = self.wide.get_or_init(|| {
            let mut wide = Aligned::zeros(self.halves.len());
            wide.iter_mut().zip(&self.halves).for_each(|(wide, half)| *wide = half.wide());
            wide
        });
        wide.split_at(self.middle)
    }
}

/// The copy of one layer while its weights stay as they are.
#[derive(Debug, Default)]
pub(super) struct Copies {
    made: OnceLock<Rounded>,
    /// The memory of the last one.
    spare: std::sync::Mutex<Vec<Bf16>>,
}

impl Copies {
    /// The weights changed.
    pub(super) fn forget(&mut self) {
        if let Some(last) = self.made.take() {
            *self.spare.get_mut().expect("no holder panics") = last.halves;
        }
    }
}

impl DecisionLayer {
    /// With what it answers, if that is worth it.
    pub fn inference(&self) -> Inference {
        self.inference
    }

    /// Sets with what it answers. A file does not keep it.
    pub fn set_inference(&mut self, inference: Inference) {
        self.inference = inference;
        self.desk.forget();
        self.others.iter_mut().for_each(|other| other.set_inference(inference));
    }

    /// How far the answers of the rounded weights are from those of the weights as they are, relative to their length:
    /// the largest such error among eight questions (states that a trainer kept, else unit vectors drawn at random), of an
    /// ensemble among its members. It is measured when the copy is made. A question whose answer may be off by more than
    /// 0.01, judged by the size of the terms that it sums, is answered by the weights as they are, and so are all where that
    /// holds for half of the eight. 0 where the weights are used as they are.
    pub fn inference_error(&self) -> f64 {
        let own = self.rounded().and_then(|copy| copy.error).unwrap_or_default();
        self.others.iter().map(Self::inference_error).fold(own, f64::max)
    }

    /// The copy that this network answers with; `None` where it answers with its weights as they are.
    pub(super) fn rounded(&self) -> Option<&Rounded> {
        let weights = (self.shape.input + self.shape.output) * self.shape.hidden;
        if self.inference == Inference::F32 || weights < WORTH_ROUNDING {
            return None;
        }
        let Copies { made, spare } = &self.desk.copies;
        let copy = made.get_or_init(|| {
            Rounded::of(self, std::mem::take(&mut spare.lock().expect("no holder panics")))
        });
        copy.error.is_some().then_some(copy)
    }

    /// Measures a copy by some questions, with this code of a return.
    fn probe(&self, copy: &mut Rounded, code: &[f32]) {
        let d = self.settings.state_size;
        let kept = self.familiar.as_ref().map_or(&[][..], |familiar| familiar.centroids());
        let rng = Rng::new(0, 0x6266_3136);
        let probe = |at: usize| -> Vec<f32> {
            if let Some(state) = kept.chunks_exact(d).nth(at) {
                return state.to_vec();
            }
            let length = (d as f64).sqrt();
            (0..d).map(|i| (rng.normal((at * d + i) as u64) / length) as f32).collect()
        };
        let answer = |by, state: &[f32]| {
            let (mut hidden, mut terms) = (Vec::new(), Vec::new());
            let mut action = vec![0.0; self.shape.output];
            self.answer_by(by, [state, code, &[]], (&mut hidden, &mut terms), &mut action);
            (hidden, action)
        };
        let answers: Vec<_> = (0..PROBES)
            .map(|at| {
                let state = probe(at);
                let (hidden, rounded) = answer(Some(copy), &state);
                let off = sums::distance(&answer(None, &state).1, &rounded);
                (state, hidden, rounded, off)
            })
            .collect();
        let shares = answers.iter().map(|(state, hidden, _, off)| {
            let lengths = [sums::squares(state), copy.doubt.code, 0.0];
            let terms = copy.doubt.terms(lengths, hidden);
            if terms > 0.0 { off / terms } else { 0.0 }
        });
        // a NaN, of weights whose sums overflow, is no small share
        let share = shares.fold(0.0, |most: f64, share| if share <= most { most } else { share });
        // the fewer outputs, the more their errors differ from question to question
        copy.doubt.share = share * (1.25 + 2.75 / (self.shape.output as f64).sqrt()).powi(2);
        let sure = answers
            .iter()
            .filter(|(state, hidden, rounded, _)| !copy.doubts(state, &[], hidden, rounded));
        let errors: Vec<f64> = sure
            .map(|(_, _, rounded, off)| {
                let length = sums::squares(rounded).sqrt();
                if length > 0.0 { off.sqrt() / length } else { 0.0 }
            })
            .collect();
        if 2 * errors.len() > PROBES {
            copy.error = Some(errors.into_iter().fold(0.0, f64::max));
        }
    }

    /// The answer for the blocks of an input (state, code of the return, and context, which may be empty), by a copy or by
    /// the weights as they are; `hidden` has the hidden units then.
    pub(super) fn answer_by(
        &self,
        by: Option<&Rounded>,
        input: [&[f32]; BLOCKS],
        (hidden, terms): (&mut Vec<f32>, &mut Vec<(u32, f32)>),
        action: &mut [f32],
    ) {
        let [_, b1, ..] = self.shape.split(&self.params);
        hidden.clear();
        hidden.extend_from_slice(b1);
        for block in [1, 0, 2] {
            not_zero(input[block], terms);
            self.combine_first(by, block, terms, hidden);
        }
        self.finish(by, hidden, terms, action);
    }

    /// Adds to the hidden units what one block of the input has in their sums.
    pub(super) fn combine_first(
        &self,
        by: Option<&Rounded>,
        block: usize,
        terms: &[(u32, f32)],
        hidden: &mut [f32],
    ) {
        let size = self.settings.state_size * self.shape.hidden;
        let rows = block * size..(block + 1) * size;
        match by {
            Some(copy) => self.gemm.combine_rounded(terms, &copy.halves().0[rows], hidden),
            None => self.gemm.combine(terms, &self.params[rows], hidden),
        }
    }

    /// From the sums of the hidden units to the action.
    pub(super) fn finish(
        &self,
        by: Option<&Rounded>,
        hidden: &mut [f32],
        terms: &mut Vec<(u32, f32)>,
        action: &mut [f32],
    ) {
        for h in hidden.iter_mut() {
            *h = h.max(0.0);
        }
        not_zero(hidden, terms);
        let [.., w2, b2] = self.shape.split(&self.params);
        action.copy_from_slice(b2);
        match by {
            Some(copy) => self.gemm.combine_rounded(terms, copy.halves().1, action),
            None => self.gemm.combine(terms, w2, action),
        }
    }
}
