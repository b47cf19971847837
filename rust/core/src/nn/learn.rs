//! One training step: forwards, backwards, and down the gradient.
//!
//! Three passes over memory, each cut by rows among the threads: samples (inputs, both layers, the loss and its way back
//! to the hidden units), rows of the weights (their gradient and its norm), and parameters (the optimizer). Sums over
//! samples and norms run in one fixed order, so the number of threads does not change a bit.
//!
//! The third pass waits for the second because the norm decides whether the gradient is clipped. But the norm is at most
//! the sum of the norms of each sample's own gradient, and those are known after the first pass (Goodfellow 2015,
//! "Efficient per-example gradient computations"). Where that is little enough, the other two are one: some rows of the
//! weights move as soon as their gradient is there, which never leaves the cache. The bits are the same.

use super::crew::{Crew, Cut, Grid};
use super::layer::DecisionLayer;
use super::mlp;
use super::optimizer::Part;
use super::questions::{Batch, Questions};
use super::sums;
use crate::error::{Error, Result};
use crate::kernel::gemm::{Aligned, Gemm};
use crate::pool::Pool;

/// What one training step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepMetrics {
    /// The loss before the step: squared error, mean over dimensions, weighted mean over samples.
    pub loss: f64,
    /// The norm of the loss's gradient before clipping.
    pub gradient_norm: f64,
    /// The step size.
    pub learning_rate: f64,
    /// The trainer's epoch; 0 outside one.
    pub epoch: u64,
}

/// Rows of a weight matrix whose gradient a thread computes at once.
const WEIGHT_ROWS: usize = 32;
/// Rows of a weight matrix that a thread moves one after the other.
const PART_ROWS: usize = 4 * WEIGHT_ROWS;
/// Samples that a thread takes at once, at the most.
const SAMPLES: usize = 64;
/// Rows of C that the kernels of most machines hold in registers.
const TILE: usize = 8;

/// Memory of a training step, kept from step to step. A clone starts with none.
#[derive(Debug, Default)]
pub(super) struct Workshop {
    x: Aligned,
    hidden: Aligned,
    /// The outputs, then the loss's derivative by them.
    output: Aligned,
    d_hidden: Aligned,
    turned: Aligned,
    pub(super) gradient: Vec<f32>,
    /// Squared error of each sample.
    errors: Vec<f64>,
    /// The norm of each sample's own gradient, with its share in the batch.
    slopes: Vec<f64>,
    /// Squared norm of each row of the weights' gradients.
    norms: Vec<f64>,
}

/// What the pass over the samples found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples {
    loss: f64,
    /// The norm of the gradient is at most this.
    steepest: f64,
    /// How wide the inputs are without a context that is zero everywhere.
    active: usize,
}

/// What a gradient is, beside its numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slope {
    pub(super) loss: f64,
    /// Before clipping.
    pub(super) norm: f64,
    /// Whether the context's weights have a part in it.
    pub(super) with_context: bool,
}

impl Slope {
    /// Refuses one that leads nowhere.
    pub(super) fn checked(self) -> Result<Self> {
        let Self { loss, norm, .. } = self;
        if loss.is_finite() && norm.is_finite() {
            return Ok(self);
        }
        Err(Error::Training(format!(
            "training diverged: the loss is {loss} and its gradient's norm {norm}; the weights were kept"
        )))
    }
}

impl Clone for Workshop {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl DecisionLayer {
    /// One optimizer step on one batch; of each member of an ensemble, with the means of what they report.
    ///
    /// A batch that does not fit or holds what is not finite is refused, and a loss or gradient that is not finite is an
    /// [`Error::Training`]; both leave the layer as it was.
    pub fn train(&mut self, batch: &Batch<'_>) -> Result<StepMetrics> {
        self.train_on(batch, None)
    }

    /// [`Self::train`] on the threads of a pool. The weights are the same bit for bit on any number of them.
    pub fn train_on(&mut self, batch: &Batch<'_>, pool: Option<&Pool>) -> Result<StepMetrics> {
        self.train_at(batch, pool, self.settings.learning_rate)
    }

    /// [`Self::train_on`] with another step size than the settings'.
    pub(super) fn train_at(
        &mut self,
        batch: &Batch<'_>,
        pool: Option<&Pool>,
        learning_rate: f64,
    ) -> Result<StepMetrics> {
        if !self.others.is_empty() {
            return self.train_members(batch, pool, learning_rate);
        }
        let n = batch.checked(&self.settings)?;
        Crew::gather(pool, |crew| {
            let samples = self.pass_samples(crew, batch, n);
            if self.is_free(samples) {
                return Ok(self.pass_at_once(crew, learning_rate, samples));
            }
            let slope = self.pass_weights(crew, samples)?;
            Ok(self.step(crew, learning_rate, slope))
        })
    }

    /// The loss of each sample of the last step, before it: squared error, mean over dimensions.
    pub(super) fn last_losses(&self) -> impl Iterator<Item = f64> {
        let width = self.shape.output as f64;
        self.workshop.errors.iter().map(move |error| error / width)
    }

    /// Fills the workshop with the gradient of a batch that was checked, `n` samples. No weight changes.
    pub(super) fn differentiate(
        &mut self,
        crew: Crew,
        batch: &Batch<'_>,
        n: usize,
    ) -> Result<Slope> {
        let samples = self.pass_samples(crew, batch, n);
        self.pass_weights(crew, samples)
    }

    /// Goes one step down the gradient in the workshop.
    pub(super) fn step(&mut self, crew: Crew, learning_rate: f64, slope: Slope) -> StepMetrics {
        let gradient = std::mem::take(&mut self.workshop.gradient);
        let metrics = self.descend(crew, learning_rate, slope, &gradient);
        self.workshop.gradient = gradient;
        metrics
    }

    /// Goes one step down a gradient.
    pub(super) fn descend(
        &mut self,
        crew: Crew,
        learning_rate: f64,
        slope: Slope,
        gradient: &[f32],
    ) -> StepMetrics {
        let Slope { loss, norm, with_context } = slope;
        let most = self.settings.clip_norm.unwrap_or(f64::INFINITY);
        let scale = if norm > most { most / norm } else { 1.0 };
        let (params, gradient) = (&mut self.params, (gradient, scale));
        self.memory.step(crew, (&self.settings, learning_rate), params, gradient, with_context);
        self.moved(learning_rate, loss, norm)
    }

    fn moved(&mut self, learning_rate: f64, loss: f64, norm: f64) -> StepMetrics {
        self.trained = true;
        self.changed();
        StepMetrics { loss, gradient_norm: norm, learning_rate, epoch: self.epoch }
    }

    /// How wide the inputs are without a context that is zero everywhere.
    pub(super) fn active(&self, questions: &Questions<'_>) -> usize {
        let zero = questions.contexts.is_none() && questions.timesteps.is_none();
        self.settings.state_size * if zero { 2 } else { 3 }
    }

    /// Fills everything in the workshop that has a row a sample.
    fn pass_samples(&mut self, crew: Crew, batch: &Batch<'_>, n: usize) -> Samples {
        let active = self.active(&batch.questions);
        let mut workshop = std::mem::take(&mut self.workshop);
        workshop.make_room(self, n, active);
        let Workshop { x, hidden, output, d_hidden, turned, errors, slopes, .. } = &mut workshop;
        let shape = self.shape;
        let [w1, b1, w2, b2] = shape.split(&self.params);
        let share = batch.shares(n);
        let whole = (
            (Grid::new(x, active), Grid::new(output, shape.output)),
            (Grid::new(errors, 1), Grid::new(slopes, 1)),
            (
                Grid::new(hidden, shape.hidden),
                Grid::new(d_hidden, shape.hidden),
                Grid::new(turned, shape.hidden + shape.output),
            ),
        );
        crew.each(whole, crew.share(n, TILE, SAMPLES), &|first, (outer, found, inner)| {
            let (x, output) = (outer.0.values, outer.1.values);
            let (errors, slopes) = (found.0.values, found.1.values);
            let (hidden, d_hidden, turned) = (inner.0.values, inner.1.values, inner.2.values);
            self.fill_inputs(&batch.questions, first, x, (active, true));
            mlp::hidden_rows(self.gemm, shape, w1, (x, active), (b1, false), hidden);
            mlp::output_rows(self.gemm, shape, (w2, b2), hidden, output);
            for (i, (error, output)) in
                errors.iter_mut().zip(output.chunks_exact_mut(shape.output)).enumerate()
            {
                let action = &batch.actions[(first + i) * shape.output..][..shape.output];
                let share = share(first + i) / shape.output as f64;
                *error = sums::differentiate(output, action, share as f32);
            }
            mlp::d_hidden_rows(self.gemm, shape, w2, (hidden, output), d_hidden, turned);
            for (i, slope) in slopes.iter_mut().enumerate() {
                let square = |rows: &[f32], width| sums::squares(&rows[i * width..][..width]);
                // Each layer's weights: its input times its delta. Its biases: the delta alone.
                let first = (square(x, active) + 1.0) * square(d_hidden, shape.hidden);
                let second = (square(hidden, shape.hidden) + 1.0) * square(output, shape.output);
                *slope = (first + second).sqrt();
            }
        });
        let errors = workshop.errors.iter().enumerate().map(|(i, e)| share(i) * e);
        let loss = errors.sum::<f64>() / shape.output as f64;
        let steepest = workshop.slopes.iter().sum();
        self.workshop = workshop;
        Samples { loss, steepest, active }
    }

    /// Fills the gradient.
    fn pass_weights(&mut self, crew: Crew, samples: Samples) -> Result<Slope> {
        let Samples { loss, active, .. } = samples;
        let Workshop { x, hidden, output, d_hidden, gradient, norms, .. } = &mut self.workshop;
        let (gemm, shape) = (self.gemm, self.shape);
        let [w1, b1, w2, b2] = shape.split_mut(gradient);
        let (w1, untouched) = w1.split_at_mut(active * shape.hidden);
        untouched.fill(0.0);
        let (norms1, norms2) = norms.split_at_mut(active);
        let layers = [
            (w1, norms1, Outer::new(gemm, (x, active), (d_hidden, shape.hidden))),
            (w2, norms2, Outer::new(gemm, (hidden, shape.hidden), (output, shape.output))),
        ];
        for (weights, norms, outer) in layers {
            let whole = (Grid::new(weights, outer.columns), Grid::new(norms, 1));
            crew.each(whole, WEIGHT_ROWS, &|first, (weights, norms)| {
                outer.fill(first, weights.values, norms.values);
            });
        }
        let norm = pass_biases((b1, d_hidden), (b2, output), norms);
        Slope { loss, norm, with_context: active == shape.input }.checked()
    }

    /// Whether it is known, before the gradient is there, that it is finite and not clipped.
    fn is_free(&self, samples: Samples) -> bool {
        /// Far from what f32 can hold, and so are the squares.
        const FINITE: f64 = 1e18;
        // What the rounding of a sum of so many f32 can add.
        let rounding = self.workshop.slopes.len() as f64 * f64::from(f32::EPSILON);
        let most = self.settings.clip_norm.map_or(FINITE, |most| most.min(FINITE));
        samples.loss.is_finite() && samples.steepest * (1.0 + rounding) < most
    }

    /// [`Self::pass_weights`] and [`Self::step`] in one, to the same bits: the weights move a few rows at a time.
    fn pass_at_once(&mut self, crew: Crew, learning_rate: f64, samples: Samples) -> StepMetrics {
        let Samples { loss, active, .. } = samples;
        let Workshop { x, hidden, output, d_hidden, gradient, norms, .. } = &mut self.workshop;
        let (gemm, shape) = (self.gemm, self.shape);
        let (pace, with_context) = ((&self.settings, learning_rate), active == shape.input);
        let [blocks, context, b1, w2, b2] =
            self.memory.begin(pace, &mut self.params, 1.0, with_context);
        let [room1, d_b1, room2, d_b2] = shape.split_mut(gradient);
        let (room1, room_context) = room1.split_at_mut(blocks.len());
        let (norms1, norms2) = norms.split_at_mut(active);
        let (norms1, norms_context) = norms1.split_at_mut(blocks.len() / shape.hidden);
        let first = Outer::new(gemm, (x, active), (d_hidden, shape.hidden));
        let second = Outer::new(gemm, (hidden, shape.hidden), (output, shape.output));
        let top = norms1.len();
        crew.both(
            || first.descend(crew, 0, blocks, room1, norms1),
            || {
                second.descend(crew, 0, w2, room2, norms2);
                if with_context {
                    return first.descend(crew, top, context, room_context, norms_context);
                }
                if !context.only_decays() {
                    room_context.fill(0.0);
                }
                context.descend(crew, room_context);
            },
        );
        let norm = pass_biases((&mut *d_b1, d_hidden), (&mut *d_b2, output), norms);
        b1.descend(crew, d_b1);
        b2.descend(crew, d_b2);
        self.moved(learning_rate, loss, norm)
    }
}

/// The gradient by a matrix of weights, row by row: sums over the samples of a number of the input times the delta.
#[derive(Clone, Copy)]
struct Outer<'a> {
    gemm: Gemm,
    input: (&'a [f32], usize),
    delta: &'a [f32],
    columns: usize,
}

impl<'a> Outer<'a> {
    fn new(gemm: Gemm, input: (&'a [f32], usize), (delta, columns): (&'a [f32], usize)) -> Self {
        Self { gemm, input, delta, columns }
    }

    /// Fills rows of it from `first` on, and their squared norms.
    fn fill(self, first: usize, rows: &mut [f32], norms: &mut [f64]) {
        mlp::weight_rows(self.gemm, first, self.input, (self.delta, self.columns), rows);
        for (norm, row) in norms.iter_mut().zip(rows.chunks_exact(self.columns)) {
            *norm = sums::squares(row);
        }
    }

    /// Moves the weights from row `top` on down it. Of `room`, which has room for all of it, each thread uses a little,
    /// again and again, so that it stays in the cache.
    fn descend(
        self,
        crew: Crew,
        top: usize,
        weights: Part<'_>,
        room: &mut [f32],
        norms: &mut [f64],
    ) {
        let (weights, room) = (weights.in_rows(self.columns), Grid::new(room, self.columns));
        let whole = (weights, room, Grid::new(norms, 1));
        crew.each(whole, PART_ROWS, &|first, (mut weights, room, norms)| {
            for (nth, norms) in norms.values.chunks_mut(WEIGHT_ROWS).enumerate() {
                let gradient = &mut room.values[..norms.len() * self.columns];
                self.fill(top + first + nth * WEIGHT_ROWS, gradient, norms);
                let (moving, rest) = weights.cut(norms.len());
                moving.go(gradient);
                weights = rest;
            }
        });
    }
}

/// Fills the gradient by the biases; the norm of the whole gradient, if those of its other rows are `norms`.
fn pass_biases(
    (b1, d_hidden): (&mut [f32], &[f32]),
    (b2, d_output): (&mut [f32], &[f32]),
    norms: &[f64],
) -> f64 {
    for (bias, delta) in [(&mut *b1, d_hidden), (&mut *b2, d_output)] {
        bias.fill(0.0);
        sums::add_rows(delta, bias);
    }
    (norms.iter().sum::<f64>() + sums::squares(b1) + sums::squares(b2)).sqrt()
}

impl Workshop {
    /// Room for `n` samples of `active` inputs.
    fn make_room(&mut self, layer: &DecisionLayer, n: usize, active: usize) {
        let Self { x, hidden, output, d_hidden, turned, gradient, errors, slopes, norms } = self;
        let shape = layer.shape;
        x.resize(n * active);
        hidden.resize(n * shape.hidden);
        output.resize(n * shape.output);
        d_hidden.resize(n * shape.hidden);
        turned.resize(n * (shape.hidden + shape.output));
        gradient.resize(shape.parameters(), 0.0);
        errors.resize(n, 0.0);
        slopes.resize(n, 0.0);
        norms.resize(active + shape.hidden, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::settings::LayerSettings;
    use crate::rng::Rng;

    #[test]
    fn the_gradient_is_at_most_as_steep_as_its_samples_and_that_of_one_sample_exactly() {
        let (state, action) = (11, 7);
        let settings = LayerSettings { hidden_size: 19, ..LayerSettings::new(state, action) };
        for n in [1, 2, 30] {
            let mut layer = DecisionLayer::new(settings.clone()).expect("settings that fit");
            let rng = Rng::new(3, n as u64);
            let draw = |from: usize, n: usize| -> Vec<f32> {
                (from..from + n).map(|i| rng.normal(i as u64) as f32).collect()
            };
            let (states, contexts) = (draw(0, n * state), draw(1_000, n * state));
            let (actions, weights) = (draw(2_000, n * action), draw(3_000, n));
            let weights: Vec<f32> = weights.iter().map(|x| x.abs()).collect();
            let questions = Questions {
                states: &states,
                returns: &vec![0.5; n],
                contexts: (n > 1).then_some(&contexts[..]),
                timesteps: None,
            };
            let batch = Batch { questions, actions: &actions, weights: Some(&weights) };
            let samples = layer.pass_samples(Crew::ALONE, &batch, n);
            let norm = layer.pass_weights(Crew::ALONE, samples).expect("finite").norm;
            let above = samples.steepest / norm - 1.0;
            assert!(above > -1e-6, "{n}: {above}");
            assert_eq!(n == 1, above < 1e-6, "{n}: {above}");
        }
    }
}
