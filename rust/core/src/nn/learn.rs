//! One training step: forwards, backwards, and down the gradient.
//!
//! Three passes over memory, each cut by rows among the threads: samples (inputs, both layers, the loss and its way back
//! to the hidden units), rows of the weights (their gradient and its norm), and parameters (the optimizer). Sums over
//! samples and norms run in one fixed order, so the number of threads does not change a bit.

use super::crew::{Crew, Grid};
use super::layer::DecisionLayer;
use super::mlp;
use super::questions::{Batch, Questions};
use super::sums;
use crate::error::{Error, Result};
use crate::kernel::gemm::Aligned;
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
    /// Squared norm of each row of the weights' gradients.
    norms: Vec<f64>,
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
            let slope = self.differentiate(crew, batch, n)?;
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
        let mut workshop = std::mem::take(&mut self.workshop);
        let active = self.active(&batch.questions);
        workshop.make_room(self, n, active);
        self.pass_samples(crew, batch, n, &mut workshop);
        let share = batch.shares(n);
        let errors = workshop.errors.iter().enumerate().map(|(i, e)| share(i) * e);
        let loss = errors.sum::<f64>() / self.shape.output as f64;
        let norm = self.pass_weights(crew, active, &mut workshop);
        self.workshop = workshop;
        Slope { loss, norm, with_context: active == self.shape.input }.checked()
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
        self.trained = true;
        self.changed();
        StepMetrics { loss, gradient_norm: norm, learning_rate, epoch: self.epoch }
    }

    /// How wide the inputs are without a context that is zero everywhere.
    pub(super) fn active(&self, questions: &Questions<'_>) -> usize {
        let zero = questions.contexts.is_none() && questions.timesteps.is_none();
        self.settings.state_size * if zero { 2 } else { 3 }
    }

    /// Fills everything that has a row a sample.
    fn pass_samples(&self, crew: Crew, batch: &Batch<'_>, n: usize, workshop: &mut Workshop) {
        let Workshop { x, hidden, output, d_hidden, turned, errors, .. } = workshop;
        let (shape, active) = (self.shape, x.len() / n);
        let [w1, b1, w2, b2] = shape.split(&self.params);
        let share = batch.shares(n);
        let whole = (
            (Grid::new(x, active), Grid::new(errors, 1), Grid::new(output, shape.output)),
            (
                Grid::new(hidden, shape.hidden),
                Grid::new(d_hidden, shape.hidden),
                Grid::new(turned, shape.hidden + shape.output),
            ),
        );
        crew.each(whole, crew.share(n, TILE, SAMPLES), &|first, (outer, inner)| {
            let (x, errors, output) = (outer.0.values, outer.1.values, outer.2.values);
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
        });
    }

    /// Fills the gradient and says its norm.
    fn pass_weights(&self, crew: Crew, active: usize, workshop: &mut Workshop) -> f64 {
        let Workshop { x, hidden, output, d_hidden, gradient, norms, .. } = workshop;
        let shape = self.shape;
        let [w1, b1, w2, b2] = shape.split_mut(gradient);
        let (w1, untouched) = w1.split_at_mut(active * shape.hidden);
        untouched.fill(0.0);
        let (norms1, norms2) = norms.split_at_mut(active);
        let layers = [
            (w1, norms1, (&x[..], active), (&d_hidden[..], shape.hidden)),
            (w2, norms2, (&hidden[..], shape.hidden), (&output[..], shape.output)),
        ];
        for (weights, norms, input, delta) in layers {
            let whole = (Grid::new(weights, delta.1), Grid::new(norms, 1));
            crew.each(whole, WEIGHT_ROWS, &|first, (weights, norms)| {
                mlp::weight_rows(self.gemm, first, input, delta, weights.values);
                for (norm, row) in norms.values.iter_mut().zip(weights.values.chunks_exact(delta.1))
                {
                    *norm = sums::squares(row);
                }
            });
        }
        for (bias, delta) in [(&mut *b1, d_hidden), (&mut *b2, output)] {
            bias.fill(0.0);
            sums::add_rows(delta, bias);
        }
        (norms.iter().sum::<f64>() + sums::squares(b1) + sums::squares(b2)).sqrt()
    }
}

impl Workshop {
    /// Room for `n` samples of `active` inputs.
    fn make_room(&mut self, layer: &DecisionLayer, n: usize, active: usize) {
        let Self { x, hidden, output, d_hidden, turned, gradient, errors, norms } = self;
        let shape = layer.shape;
        x.resize(n * active);
        hidden.resize(n * shape.hidden);
        output.resize(n * shape.output);
        d_hidden.resize(n * shape.hidden);
        turned.resize(n * (shape.hidden + shape.output));
        gradient.resize(shape.parameters(), 0.0);
        errors.resize(n, 0.0);
        norms.resize(active + shape.hidden, 0.0);
    }
}
