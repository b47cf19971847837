//! One step down a gradient: AdamW, Adam or SGD with momentum.

#![expect(clippy::inline_always, reason = "loops that are compiled for several vector widths")]

use super::crew::{Crew, Cut};
use super::mlp::{Kind, Shape};
use super::settings::{LayerSettings, Optimizer};
use crate::kernel::wide::{self, Loop};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Parameters that a thread moves at once: enough that handing them out costs nothing beside it.
const AT_ONCE: usize = 16_384;

/// What an optimizer remembers between steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Steps taken.
    pub steps: u64,
    /// Mean gradient under Adam, velocity under SGD; one number a parameter.
    pub first: Vec<f32>,
    /// Mean squared gradient under Adam; empty under SGD.
    pub second: Vec<f32>,
    /// No context has moved its rows of W1 yet: their moments are zero, and AdamW has only their decay to do.
    contextless: bool,
}

/// How this step moves a parameter.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// The gradient is multiplied by this: below 1 where it is clipped.
    scale: f32,
    /// This times the parameter is added to the gradient.
    added_decay: f32,
    /// This times the parameter is taken from the parameter.
    own_decay: f32,
    momentum: f32,
    /// The rate; under Adam divided by the first moment's bias.
    rate: f32,
    /// One over the root of the second moment's bias.
    correction: f32,
}

impl Memory {
    /// That of an optimizer that has not stepped yet.
    pub fn new(optimizer: Optimizer, shape: Shape) -> Self {
        let size = shape.parameters();
        let second = if optimizer == Optimizer::Sgd { 0 } else { size };
        let (first, second) = (vec![0.0; size], vec![0.0; second]);
        Self { steps: 0, first, second, contextless: optimizer == Optimizer::AdamW }
    }

    /// That of an optimizer that took `steps` steps and has these moments.
    pub(super) fn resumed(
        optimizer: Optimizer,
        shape: Shape,
        steps: u64,
        (first, second): (Vec<f32>, Vec<f32>),
    ) -> Self {
        let [_, (context, _), ..] = shape.segments();
        let contextless = optimizer == Optimizer::AdamW
            && first[context.clone()].iter().chain(&second[context]).all(|m| *m == 0.0);
        Self { steps, first, second, contextless }
    }

    /// Begins a step of size `rate` down a gradient that counts `scale` times: the runs of [`Shape::segments`], each of which
    /// has yet to be moved. `with_context` says whether the gradient by the context's weights may be other than zero.
    #[must_use]
    pub(super) fn begin<'a>(
        &'a mut self,
        (settings, rate): (&LayerSettings, f64),
        params: &'a mut [f32],
        scale: f64,
        with_context: bool,
    ) -> [Part<'a>; 5] {
        self.steps += 1;
        self.contextless &= !with_context;
        let (steps, contextless) = (self.steps, self.contextless);
        let mut rest = Numbers { params, first: &mut self.first, second: &mut self.second };
        settings.shape().segments().map(|(range, kind)| {
            let spared = settings.optimizer == Optimizer::AdamW && kind == Kind::Biases;
            let decay = if spared { 0.0 } else { settings.weight_decay };
            let way = match settings.optimizer {
                _ if contextless && kind == Kind::Context => Way::Decay,
                Optimizer::Sgd => Way::Sgd,
                Optimizer::AdamW | Optimizer::Adam => Way::Adam,
            };
            let (numbers, others) = std::mem::take(&mut rest).split_at(range.len());
            rest = others;
            let rule = Rule::new((settings, rate), steps, scale, decay);
            Part { rule, way, width: 1, numbers }
        })
    }

    /// Moves `params` by one step; the arguments are those of [`Self::begin`].
    pub(super) fn step(
        &mut self,
        crew: Crew,
        pace: (&LayerSettings, f64),
        params: &mut [f32],
        (mut gradient, scale): (&[f32], f64),
        with_context: bool,
    ) {
        for part in self.begin(pace, params, scale, with_context) {
            let (own, others) = gradient.split_at(part.len());
            gradient = others;
            part.descend(crew, own);
        }
    }
}

/// Parameters that one rule moves; to be cut by rows.
pub(super) struct Part<'a> {
    rule: Rule,
    way: Way,
    width: usize,
    numbers: Numbers<'a>,
}

/// Parameters, and what the optimizer remembers of each.
#[derive(Default)]
struct Numbers<'a> {
    params: &'a mut [f32],
    first: &'a mut [f32],
    /// Empty under SGD.
    second: &'a mut [f32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Adam or AdamW.
    Adam,
    Sgd,
    /// What AdamW does to parameters without a gradient or moments.
    Decay,
}

impl Part<'_> {
    /// The same in rows of `width` parameters.
    pub(super) fn in_rows(self, width: usize) -> Self {
        debug_assert!(self.len().is_multiple_of(width));
        Self { width, ..self }
    }

    /// How many parameters.
    pub(super) fn len(&self) -> usize {
        self.numbers.params.len()
    }

    /// Whether they have neither moments nor a gradient.
    pub(super) fn only_decays(&self) -> bool {
        self.way == Way::Decay
    }

    /// Moves them down their gradient, shared among threads. Those that only decay do not look at it.
    pub(super) fn descend(self, crew: Crew, gradient: &[f32]) {
        crew.each(self, AT_ONCE, &|first, part| {
            let own = &gradient[first..][..part.len()];
            part.move_down(own);
        });
    }

    /// [`Self::descend`] on this thread.
    pub(super) fn move_down(self, gradient: &[f32]) {
        debug_assert!(gradient.len() == self.len());
        let Self { rule, way, numbers: Numbers { params, first, second }, .. } = self;
        match way {
            Way::Adam => wide::run(Adam { rule, params, gradient, first, second }),
            Way::Sgd => wide::run(Sgd { rule, params, gradient, velocity: first }),
            Way::Decay => wide::run(Decay { rule, params }),
        }
    }
}

impl Cut for Part<'_> {
    fn rows(&self) -> usize {
        self.len() / self.width
    }

    fn cut(self, rows: usize) -> (Self, Self) {
        let (above, below) = self.numbers.split_at(rows * self.width);
        (Self { numbers: above, ..self }, Self { numbers: below, ..self })
    }
}

impl Numbers<'_> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let (params, params_below) = self.params.split_at_mut(middle);
        let (first, first_below) = self.first.split_at_mut(middle);
        let (second, second_below) = self.second.split_at_mut(middle.min(self.second.len()));
        (
            Self { params, first, second },
            Self { params: params_below, first: first_below, second: second_below },
        )
    }
}

impl Rule {
    fn new((settings, rate): (&LayerSettings, f64), steps: u64, scale: f64, decay: f64) -> Self {
        let sgd = settings.optimizer == Optimizer::Sgd;
        let decoupled = settings.optimizer == Optimizer::AdamW;
        let power = i32::try_from(steps).unwrap_or(i32::MAX);
        Self {
            scale: scale as f32,
            added_decay: if decoupled { 0.0 } else { decay as f32 },
            own_decay: if decoupled { (rate * decay) as f32 } else { 0.0 },
            momentum: settings.momentum as f32,
            rate: if sgd { rate as f32 } else { (rate / (1.0 - BETA1.powi(power))) as f32 },
            correction: (1.0 / (1.0 - BETA2.powi(power)).sqrt()) as f32,
        }
    }
}

struct Adam<'a> {
    rule: Rule,
    params: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Loop for Adam<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rule, params, gradient, first, second } = self;
        for (((w, g), m), v) in params.iter_mut().zip(gradient).zip(first).zip(second) {
            let g = rule.scale * g + rule.added_decay * *w;
            *m += (1.0 - BETA1) as f32 * (g - *m);
            *v += (1.0 - BETA2) as f32 * (g * g - *v);
            let moved = rule.rate * *m / (v.sqrt() * rule.correction + EPSILON as f32);
            // One subtraction: a decay of 1e-7 of the parameter would vanish in a product's rounding.
            *w -= rule.own_decay * *w + moved;
        }
    }
}

/// What [`Adam`] does to parameters without a gradient or moments.
struct Decay<'a> {
    rule: Rule,
    params: &'a mut [f32],
}

impl Loop for Decay<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for w in self.params {
            *w -= self.rule.own_decay * *w;
        }
    }
}

struct Sgd<'a> {
    rule: Rule,
    params: &'a mut [f32],
    gradient: &'a [f32],
    velocity: &'a mut [f32],
}

impl Loop for Sgd<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rule, params, gradient, velocity } = self;
        for ((w, g), v) in params.iter_mut().zip(gradient).zip(velocity) {
            *v = rule.momentum * *v + (rule.scale * g + rule.added_decay * *w);
            *w -= rule.rate * *v;
        }
    }
}
