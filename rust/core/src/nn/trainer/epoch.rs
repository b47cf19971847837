//! One pass over the training samples.

use std::sync::Arc;
use std::time::Instant;

use super::prioritized::Prioritized;
use super::report::EpochMetrics;
use super::run::TrainingRun;
use super::sampling;
use super::schedule::Rates;
use super::settings::Replay;
use super::study::unlearnable;
use super::vectors::Columns;
use crate::error::Result;
use crate::pool::Pool;
use crate::rng::Rng;

/// The share of the samples that learn without their context, so that the layer also answers where none is known.
const CONTEXT_DROPPED: f64 = 0.2;
/// The stream of the trainer's random numbers.
const STREAM: u64 = 0x7472_6169_6E65_7200;

impl TrainingRun {
    /// Learns from as many samples as train, batch by batch, and validates. `poll` is asked once a batch.
    pub(super) fn train_epoch(
        &mut self,
        pool: &Pool,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<EpochMetrics> {
        let started = Instant::now();
        self.warm_up(poll)?;
        let epoch = self.history.len() as u64 + 1;
        let rng = Rng::new(self.settings.seed, STREAM).child(epoch);
        let dropping = rng.child(1);
        let mut prioritized = self.priorities_of(epoch)?;
        let order =
            if prioritized.is_some() { Vec::new() } else { self.order(epoch, rng.child(0)) };
        let (rates, before) = (self.rates(), self.steps_before(epoch));
        let (samples, batch_size) = (self.samples_of(epoch).len(), self.settings.batch_size);
        let mut learned = Learned::default();
        let (mut columns, mut ahead, mut losses) =
            (Columns::default(), Columns::default(), Vec::new());
        self.work.set_epoch(epoch);
        let layer = self.work.settings().clone();
        let study = Arc::clone(&self.study);
        let assemble = |first: usize, steps: &[u32], weights: Option<&[f32]>, to: &mut Columns| {
            let dropped = |at| goes_without_context(dropping, first + at);
            study.fill_without(&layer, steps, &dropped, to)?;
            study.weigh(steps, weights, to);
            Ok(())
        };
        for (number, first) in (0..samples).step_by(batch_size).enumerate() {
            let n = batch_size.min(samples - first);
            if let Some(prioritized) = &mut prioritized {
                poll()?;
                prioritized.draw(n)?; // by what the last batch lost: nothing can be assembled ahead
                assemble(first, prioritized.steps(), Some(prioritized.weights()), &mut columns)?;
            } else if first == 0 {
                poll()?;
                assemble(0, &order[..n], None, &mut columns)?;
            }
            let drawn = prioritized.as_ref();
            let steps = drawn.map_or_else(|| &order[first..first + n], Prioritized::steps);
            let next = first + n..order.len().min(first + n + batch_size);
            let rate = layer.learning_rate * rates.share(before + number as u64);
            // The pool learns from this batch while this thread brings the next one.
            let (work, mut step) = (&mut self.work, None);
            let brought: Result<()> = pool.beside(|scope| {
                scope.spawn(|_| {
                    step = Some(work.train_at(&columns.batch(), Some(pool), rate));
                });
                if next.is_empty() {
                    return Ok(());
                }
                poll()?;
                assemble(next.start, &order[next], None, &mut ahead)
            });
            let step = step.expect("the scope has ended").map_err(|why| unlearnable(epoch, why))?;
            brought?;
            losses.clear();
            losses.extend(self.work.last_losses());
            learned.norm += step.gradient_norm;
            learned.batches += 1.0;
            for (at, (loss, step)) in losses.iter_mut().zip(steps).enumerate() {
                let claim = self.study.claim(*step);
                learned.add(*loss, claim / drawn.map_or(1.0, |drawn| drawn.odds()[at]));
                *loss *= claim; // what nobody asks for is not learned, and need not be drawn for what it loses
            }
            if let Some(prioritized) = &mut prioritized {
                prioritized.note(&losses)?;
            } else {
                std::mem::swap(&mut columns, &mut ahead);
            }
        }
        self.prioritized = prioritized;
        let val_loss = self.study.validation_loss(&self.work, epoch, pool, poll)?;
        Ok(EpochMetrics {
            epoch,
            train_loss: learned.loss / learned.claims,
            val_loss,
            gradient_norm: learned.norm / learned.batches,
            duration: started.elapsed().as_secs_f64(),
        })
    }

    /// The steps that an epoch learns from: the easy ones at first, under a curriculum.
    fn samples_of(&self, epoch: u64) -> &[u32] {
        match &self.easy {
            Some(easy) if epoch <= self.course.easy_epochs => easy,
            _ => &self.study.data.train,
        }
    }

    /// Their order, where it is settled before the epoch begins.
    fn order(&self, epoch: u64, rng: Rng) -> Vec<u32> {
        sampling::order(
            self.samples_of(epoch),
            &self.study.data.episodes.patterns,
            self.settings.replay,
            self.settings.diversity_weight,
            rng,
        )
    }

    /// The priorities by which an epoch draws, taken out for its time. None under other replays.
    fn priorities_of(&mut self, epoch: u64) -> Result<Option<Prioritized>> {
        if self.settings.replay != Replay::Prioritized {
            return Ok(None);
        }
        let mut prioritized = match self.prioritized.take() {
            Some(prioritized) => prioritized,
            None => Prioritized::new(&self.study, self.easy.as_deref(), self.settings.seed)?,
        };
        if epoch > self.course.easy_epochs {
            prioritized.admit_all()?;
        }
        Ok(Some(prioritized))
    }

    fn rates(&self) -> Rates {
        Rates {
            schedule: self.settings.schedule,
            warmup: self.settings.warmup_steps,
            total: self.steps_before(self.settings.epochs + 1),
        }
    }

    /// Optimizer steps in the epochs before this one.
    fn steps_before(&self, epoch: u64) -> u64 {
        let easy = (epoch - 1).min(self.course.easy_epochs);
        let batches = |samples: &[u32]| samples.len().div_ceil(self.settings.batch_size) as u64;
        let all = batches(&self.study.data.train);
        easy.saturating_mul(self.easy.as_deref().map_or(all, batches))
            .saturating_add((epoch - 1 - easy).saturating_mul(all))
    }
}

/// Sums over an epoch.
#[derive(Default)]
struct Learned {
    loss: f64,
    claims: f64,
    norm: f64,
    batches: f64,
}

impl Learned {
    /// A sample that stands for as many as its claim says.
    fn add(&mut self, loss: f64, claim: f64) {
        self.loss += loss * claim;
        self.claims += claim;
    }
}

/// Whether the sample at this position of an epoch learns without its context.
pub(super) fn goes_without_context(rng: Rng, position: usize) -> bool {
    rng.uniform(position as u64) < CONTEXT_DROPPED
}
