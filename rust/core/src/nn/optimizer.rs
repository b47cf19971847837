//! One step down a gradient: AdamW, Adam or SGD with momentum.

#![expect(clippy::inline_always, reason = "loops that are compiled for several vector widths")]

use super::crew::{Crew, Grid};
use super::mlp::{Kind, Shape};
use super::settings::{LayerSettings, Optimizer};
use crate::kernel::wide::{self, Loop};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Parameters that a thread moves at once: enough that handing them out costs nothing beside it.
const PART: usize = 16_384;

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

    /// Moves `params` by one step of size `rate`. `with_context` says whether the gradient by the context's weights may be other than
    /// zero.
    pub(super) fn step(
        &mut self,
        crew: Crew,
        (settings, rate): (&LayerSettings, f64),
        params: &mut [f32],
        (gradient, scale): (&[f32], f64),
        with_context: bool,
    ) {
        self.steps += 1;
        self.contextless &= !with_context;
        let Self { steps, first, second, contextless } = self;
        for (range, kind) in settings.shape().segments() {
            let spared = settings.optimizer == Optimizer::AdamW && kind == Kind::Biases;
            let decay = if spared { 0.0 } else { settings.weight_decay };
            let rule = Rule::new((settings, rate), *steps, scale, decay);
            let gradient = &gradient[range.clone()];
            let params = Grid::new(&mut params[range.clone()], 1);
            let first = Grid::new(&mut first[range.clone()], 1);
            if *contextless && kind == Kind::Context {
                crew.each(params, PART, &|_, params| {
                    wide::run(Decay { rule, params: params.values });
                });
            } else if settings.optimizer == Optimizer::Sgd {
                crew.each((params, first), PART, &|from, (params, first)| {
                    let (params, velocity) = (params.values, first.values);
                    let gradient = &gradient[from..][..params.len()];
                    wide::run(Sgd { rule, params, gradient, velocity });
                });
            } else {
                let second = Grid::new(&mut second[range], 1);
                crew.each((params, first, second), PART, &|from, (params, first, second)| {
                    let (params, first, second) = (params.values, first.values, second.values);
                    let gradient = &gradient[from..][..params.len()];
                    wide::run(Adam { rule, params, gradient, first, second });
                });
            }
        }
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
