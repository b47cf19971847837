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

use super::crew::{Crew, Grid};
use super::layer::DecisionLayer;
use super::mlp;
use super::outer::Outer;
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
    /// After a pass at once only scratch.
    pub(super) gradient: Vec<f32>,
    /// Squared error of each sample.
    errors: Vec<f64>,
    /// The norm of each sample's own gradient, with its share in the batch.
    sample_norms: Vec<f64>,
    /// Squared norm of each row of the weights' gradients.
    norms: Vec<f64>,
}

/// What is known of a gradient before it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    loss: f64,
    /// The norm is at most this.
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
            let outlook = self.pass_samples(crew, batch, n);
            if self.is_surely_unclipped(outlook) {
                return Ok(self.pass_at_once(crew, learning_rate, outlook));
            }
            let slope = self.pass_weights(crew, outlook)?;
            Ok(self.step(crew, learning_rate, slope))
        })
    }

    /// The loss of each sample of the last step, before it: squared error, mean over dimensions.
    pub(super) fn last_losses(&self) -> impl Iterator<Item = f64> {
        let width = self.shape.output as f64;
        self.workshop.errors.iter().map(move |error| error / width)
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
    pub(super) fn pass_samples(&mut self, crew: Crew, batch: &Batch<'_>, n: usize) -> Outlook {
        let active = self.active(&batch.questions);
        let mut workshop = std::mem::take(&mut self.workshop);
        workshop.make_room(self, n, active);
        let Workshop { x, hidden, output, d_hidden, turned, errors, sample_norms, .. } =
            &mut workshop;
        let shape = self.shape;
        let [w1, b1, w2, b2] = shape.split(&self.params);
        let share = batch.shares(n);
        let whole = (
            (Grid::new(x, active), Grid::new(output, shape.output)),
            (Grid::new(errors, 1), Grid::new(sample_norms, 1)),
            (
                Grid::new(hidden, shape.hidden),
                Grid::new(d_hidden, shape.hidden),
                Grid::new(turned, shape.hidden + shape.output),
            ),
        );
        crew.each(whole, crew.share(n, TILE, SAMPLES), &|first, (outer, found, inner)| {
            let (x, output) = (outer.0.values, outer.1.values);
            let (errors, sample_norms) = (found.0.values, found.1.values);
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
            for (i, norm) in sample_norms.iter_mut().enumerate() {
                let square = |rows: &[f32], width| sums::squares(&rows[i * width..][..width]);
                // Each layer's weights: its input times its delta. Its biases: the delta alone.
                let of_first = (square(x, active) + 1.0) * square(d_hidden, shape.hidden);
                let of_second = (square(hidden, shape.hidden) + 1.0) * square(output, shape.output);
                *norm = (of_first + of_second).sqrt();
            }
        });
        let errors = workshop.errors.iter().enumerate().map(|(i, e)| share(i) * e);
        let loss = errors.sum::<f64>() / shape.output as f64;
        // A sum of n numbers in f32 is off by at most some n half units of the sum of their amounts.
        let rounding = n as f64 * f64::from(f32::EPSILON);
        let steepest = workshop.sample_norms.iter().sum::<f64>() * (1.0 + rounding);
        self.workshop = workshop;
        Outlook { loss, steepest, active }
    }

    /// Fills the gradient. One that leads nowhere is refused.
    pub(super) fn pass_weights(&mut self, crew: Crew, outlook: Outlook) -> Result<Slope> {
        let Outlook { loss, active, .. } = outlook;
        let Workshop { x, hidden, output, d_hidden, gradient, norms, .. } = &mut self.workshop;
        let (gemm, shape) = (self.gemm, self.shape);
        let [w1, b1, w2, b2] = shape.split_mut(gradient);
        let (w1, untouched) = w1.split_at_mut(active * shape.hidden);
        untouched.fill(0.0);
        let (norms1, norms2) = norms.split_at_mut(active);
        let of_first = Outer::new(gemm, (x, active), (d_hidden, shape.hidden));
        let of_second = Outer::new(gemm, (hidden, shape.hidden), (output, shape.output));
        of_first.fill(crew, w1, norms1);
        of_second.fill(crew, w2, norms2);
        sums::of_rows(d_hidden, b1);
        sums::of_rows(output, b2);
        let norm = norm_of(norms.iter().sum(), [b1, b2]);
        Slope { loss, norm, with_context: active == shape.input }.checked()
    }

    /// Whether a gradient is known to be finite, and not to be clipped.
    pub(super) fn is_surely_unclipped(&self, outlook: Outlook) -> bool {
        /// Far from what f32 can hold, and so are the squares.
        const FINITE: f64 = 1e18;
        let most = self.settings.clip_norm.map_or(FINITE, |most| most.min(FINITE));
        outlook.loss.is_finite() && outlook.steepest < most
    }

    /// [`Self::pass_weights`] and [`Self::step`] in one, to the same bits: the weights move a few rows at a time.
    pub(super) fn pass_at_once(
        &mut self,
        crew: Crew,
        learning_rate: f64,
        outlook: Outlook,
    ) -> StepMetrics {
        let Outlook { loss, active, .. } = outlook;
        let Workshop { x, hidden, output, d_hidden, gradient, norms, .. } = &mut self.workshop;
        let (gemm, shape) = (self.gemm, self.shape);
        let (pace, with_context) = ((&self.settings, learning_rate), active == shape.input);
        let [blocks, context, b1, w2, b2] =
            self.memory.begin(pace, &mut self.params, 1.0, with_context);
        let [room1, d_b1, room2, d_b2] = shape.split_mut(gradient);
        let (room1, room_context) = room1.split_at_mut(blocks.len());
        let (norms1, norms2) = norms.split_at_mut(active);
        let (norms1, norms_context) = norms1.split_at_mut(blocks.len() / shape.hidden);
        let of_first = Outer::new(gemm, (x, active), (d_hidden, shape.hidden));
        let of_second = Outer::new(gemm, (hidden, shape.hidden), (output, shape.output));
        let of_context = of_first.below(norms1.len());
        crew.both(
            || of_first.descend(crew, blocks, room1, norms1),
            || {
                of_second.descend(crew, w2, room2, norms2);
                if with_context {
                    of_context.descend(crew, context, room_context, norms_context);
                } else {
                    if !context.only_decays() {
                        room_context.fill(0.0);
                    }
                    context.descend(crew, room_context);
                }
            },
        );
        sums::of_rows(d_hidden, d_b1);
        sums::of_rows(output, d_b2);
        let norm = norm_of(norms.iter().sum(), [d_b1, d_b2]);
        b1.descend(crew, d_b1);
        b2.descend(crew, d_b2);
        self.moved(learning_rate, loss, norm)
    }
}

/// The norm of a gradient, from the squared norm of its weights' part. Summed in one order everywhere, for equal bits.
pub(super) fn norm_of(weights: f64, [b1, b2]: [&[f32]; 2]) -> f64 {
    (weights + sums::squares(b1) + sums::squares(b2)).sqrt()
}

impl Workshop {
    /// Room for `n` samples of `active` inputs.
    fn make_room(&mut self, layer: &DecisionLayer, n: usize, active: usize) {
        let Self { x, hidden, output, d_hidden, turned, gradient, errors, sample_norms, norms } =
            self;
        let shape = layer.shape;
        x.resize(n * active);
        hidden.resize(n * shape.hidden);
        output.resize(n * shape.output);
        d_hidden.resize(n * shape.hidden);
        turned.resize(n * (shape.hidden + shape.output));
        gradient.resize(shape.parameters(), 0.0);
        errors.resize(n, 0.0);
        sample_norms.resize(n, 0.0);
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
            let outlook = layer.pass_samples(Crew::ALONE, &batch, n);
            let norm = layer.pass_weights(Crew::ALONE, outlook).expect("finite").norm;
            let above = outlook.steepest / norm - 1.0;
            assert!(above >= 0.0, "{n}: {above}");
            assert_eq!(n == 1, above < 1e-6, "{n}: {above}");

            let mut with = |clip_norm, loss| {
                layer.settings.clip_norm = clip_norm;
                layer.is_surely_unclipped(Outlook { loss, ..outlook })
            };
            assert!(with(None, 1.0) && with(Some(outlook.steepest * 1.001), 1.0));
            assert!(!with(Some(outlook.steepest), 1.0) && !with(Some(norm * 0.999), 1.0));
            assert!(!with(None, f64::NAN) && !with(None, f64::INFINITY));
            let endless = Outlook { steepest: f64::INFINITY, ..outlook };
            let unknown = Outlook { steepest: f64::NAN, ..outlook };
            assert!([endless, unknown].iter().all(|outlook| !layer.is_surely_unclipped(*outlook)));
        }
    }
}
