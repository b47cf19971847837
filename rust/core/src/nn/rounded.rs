//! Copies of the weights in 16 bits, for answers: one question reads its weights once, so half the bytes are half the wait.

use std::sync::OnceLock;

use super::layer::DecisionLayer;
use super::predict::not_zero;
use super::sums;
use crate::error::{Error, Result};
use crate::kernel::gemm::Bf16;
use crate::rng::Rng;

/// Weights from which on a layer answers with rounded ones: fewer are near enough as they are.
const WORTH_ROUNDING: usize = 1 << 16;
/// How far from the answer of the weights as they are an answer may be, relative to its length.
const BOUND: f64 = 0.01;
/// Questions by which the error of a copy is measured.
const PROBES: usize = 8;

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
    wide: OnceLock<Vec<f32>>,
    /// The largest error among the probes.
    error: f64,
}

impl Rounded {
    /// Of the weights of a layer, in the memory of a former copy.
    fn of(layer: &DecisionLayer, memory: Vec<Bf16>) -> Self {
        let [w1, _, w2, _] = layer.shape.split(&layer.params);
        let mut halves = memory;
        halves.clear();
        halves.extend(w1.iter().chain(w2).map(|weight| Bf16::nearest(*weight)));
        let mut copy = Self { halves, middle: w1.len(), wide: OnceLock::new(), error: 0.0 };
        copy.error = layer.error_of(&copy);
        copy
    }

    /// W1 and W2.
    pub(super) fn halves(&self) -> (&[Bf16], &[Bf16]) {
        self.halves.split_at(self.middle)
    }

    /// W1 and W2 in 32 bits.
    pub(super) fn wide(&self) -> (&[f32], &[f32]) {
        let wide = self.wide.get_or_init(|| self.halves.iter().map(|x| x.wide()).collect());
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
    /// ensemble among its members. It is measured when the copy is made, and a copy with more than 0.01 is not used. 0
    /// where the weights are used as they are.
    pub fn inference_error(&self) -> f64 {
        let own = self.rounded().map_or(0.0, |copy| copy.error);
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
        (copy.error <= BOUND).then_some(copy)
    }

    fn error_of(&self, copy: &Rounded) -> f64 {
        let d = self.settings.state_size;
        let (low, high) = self.return_range();
        let mut code = vec![0.0; d];
        self.encoder.encode_return(f64::midpoint(low, high), (low, high), &mut code);
        let kept = self.familiar.as_ref().map_or(&[][..], |familiar| familiar.centroids());
        let rng = Rng::new(0, 0x6266_3136);
        let probe = |at: usize| -> Vec<f32> {
            if let Some(state) = kept.chunks_exact(d).nth(at) {
                return state.to_vec();
            }
            let length = (d as f64).sqrt();
            (0..d).map(|i| (rng.normal((at * d + i) as u64) / length) as f32).collect()
        };
        let errors = (0..PROBES).map(|at| {
            let state = probe(at);
            let exact = self.answer_by(None, &state, &code);
            let rounded = self.answer_by(Some(copy), &state, &code);
            let length = sums::squares(&exact).sqrt();
            if length > 0.0 { sums::distance(&exact, &rounded).sqrt() / length } else { 0.0 }
        });
        // A NaN, of weights whose sums overflow, is no small error.
        errors.fold(0.0, |most: f64, error| if error <= most { most } else { error })
    }

    /// The answer for a state and a return code, with these weights.
    fn answer_by(&self, by: Option<&Rounded>, state: &[f32], code: &[f32]) -> Vec<f32> {
        let [_, b1, ..] = self.shape.split(&self.params);
        let (mut hidden, mut terms) = (b1.to_vec(), Vec::new());
        let mut action = vec![0.0; self.shape.output];
        for (block, x) in [(1, code), (0, state)] {
            not_zero(x, &mut terms);
            self.combine_first(by, block, &terms, &mut hidden);
        }
        self.finish(by, &mut hidden, &mut terms, &mut action);
        action
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
