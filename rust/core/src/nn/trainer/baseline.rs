//! Is the network worth its training? Beside it stands what a nearest neighbour would have answered.

use super::nearest::Gallery;
use super::report::Baseline;
use super::study::{GLANCE, Study, evenly};
use super::vectors::Columns;
use crate::error::Result;
use crate::nn::{DecisionLayer, cosine};
use crate::pool::Pool;

/// Validating steps that are compared at most.
const VALIDATION: usize = 2_000;
/// Training steps that are searched at most.
const TRAINING: usize = 20_000;

/// Compares `layer` with the action of the nearest training state. `None` where nothing validates.
pub(super) fn measure(
    study: &Study,
    layer: &DecisionLayer,
    pool: &Pool,
    poll: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<Baseline>> {
    let validate = evenly(&study.data.validate, VALIDATION);
    let train = evenly(&study.data.train, TRAINING);
    if validate.is_empty() || train.is_empty() {
        return Ok(None);
    }
    let settings = layer.settings();
    let (mut states, mut taken) = (Vec::new(), Vec::new());
    let mut by_layer = 0.0;
    let mut columns = Columns::default();
    for samples in validate.chunks(GLANCE) {
        poll()?;
        study.fill(settings, samples, &mut columns)?;
        states.extend_from_slice(columns.states());
        taken.extend_from_slice(columns.actions());
        let predicted = layer.predict_many_on(&columns.questions(), Some(pool))?;
        by_layer += similarities(&predicted, columns.actions(), settings.action_size).sum::<f64>();
    }
    let gallery = Gallery::new(states, settings.state_size);
    let mut nearest = vec![(f32::NEG_INFINITY, 0); validate.len()];
    let (mut rows, mut cosines) = (Vec::new(), Vec::new());
    for steps in train.chunks(gallery.rows_at_a_time()) {
        poll()?;
        rows.resize(steps.len() * settings.state_size, 0.0);
        study.vectors.read(&*study.experience, steps, Some(&mut rows), None)?;
        gallery.cosines(pool, &mut rows, &mut cosines);
        for (&step, cosines) in steps.iter().zip(cosines.chunks_exact(gallery.len())) {
            for (best, &cosine) in nearest.iter_mut().zip(cosines) {
                if cosine > best.0 {
                    *best = (cosine, step);
                }
            }
        }
    }
    let found: Vec<u32> = nearest.iter().map(|(_, step)| *step).collect();
    let mut answers = vec![0.0; taken.len()];
    study.vectors.read(&*study.experience, &found, None, Some(&mut answers))?;
    let by_neighbor: f64 = similarities(&answers, &taken, settings.action_size).sum();
    let n = validate.len() as f64;
    Ok(Some(Baseline {
        neighbor_similarity: by_neighbor / n,
        layer_similarity: by_layer / n,
        validation_size: validate.len(),
        training_size: train.len(),
    }))
}

fn similarities<'a>(
    predicted: &'a [f32],
    taken: &'a [f32],
    width: usize,
) -> impl Iterator<Item = f64> + 'a {
    predicted.chunks_exact(width).zip(taken.chunks_exact(width)).map(|(a, b)| cosine(a, b))
}
