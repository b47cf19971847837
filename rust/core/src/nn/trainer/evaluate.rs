//! How good a layer is on episodes it did not learn from.

use std::collections::HashSet;
use std::sync::Arc;

use super::data::{Data, validating};
use super::nearest::Gallery;
use super::settings::TrainerSettings;
use super::study::{GLANCE, Study, check_fit};
use super::trust::{ReliabilityBin, Trust};
use super::vectors::{Columns, Vectors};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::nn::calibration::curve::Signs;
use crate::nn::{DecisionLayer, Experience, cosine};
use crate::pool::Pool;

/// What is evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// Which steps.
    pub filter: Filter,
    /// The filters of the runs that trained the layer, or may have: what counts as not learned from is what each of them
    /// held out or did not see at all. Empty = `filter`.
    pub trained_on: Vec<Filter>,
    /// The episodes that trained too.
    pub include_training: bool,
    /// Keep every prediction: `2 action_size` numbers a step.
    pub keep_predictions: bool,
}

/// How often and how nearly the layer did what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TaskScore {
    /// The share of the steps whose predicted action is nearest to the pattern that was taken.
    pub accuracy: f64,
    /// Mean cosine similarity of the predicted action to the action taken, in [-1, 1].
    pub avg_similarity: f64,
    /// Steps.
    pub count: usize,
}

/// Predictions by columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predictions {
    /// The actions taken, `[n, action_size]`.
    pub true_actions: Vec<f32>,
    /// The actions predicted, `[n, action_size]`.
    pub predicted_actions: Vec<f32>,
    /// Their cosine similarities, `[n]`.
    pub similarities: Vec<f64>,
}

/// What [`evaluate`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Over all steps.
    pub overall: TaskScore,
    /// By task type, in the order of their names.
    pub per_task_type: Vec<(String, TaskScore)>,
    /// Every prediction, if they were to be kept.
    pub predictions: Option<Predictions>,
    /// Expected calibration error: the mean distance of promise and result over the bins, weighted by their counts.
    /// `None` for a layer that was not calibrated. A step that the layer may have been calibrated on is promised what a
    /// calibration on the other half of such episodes says; so it is in `reliability` and `risk_coverage`.
    pub calibration_error: Option<f64>,
    /// Ten bins of equal count, least confident first; fewer where there are fewer steps. Empty without calibration.
    pub reliability: Vec<ReliabilityBin>,
    /// Coverage in (0, 1] and the mean of 1 - similarity over that share of the steps, the most confident ones. Twenty
    /// points, fewer where there are fewer steps. Empty without calibration.
    pub risk_coverage: Vec<(f64, f64)>,
}

/// Asks `layer` for every step in `scope`, with the return that was achieved, and compares with what was done.
///
/// # Errors
///
/// [`Error::NotTrained`], [`Error::InsufficientData`] where no step is left to evaluate, and as in
/// [`TrainingRun::start`](super::TrainingRun::start) where layer and store do not fit.
pub fn evaluate(
    experience: Arc<dyn Experience + Send + Sync>,
    layer: &DecisionLayer,
    settings: &TrainerSettings,
    scope: &Scope,
    poll: &mut dyn FnMut() -> Result<()>,
) -> Result<Evaluation> {
    if !layer.trained() {
        return Err(Error::NotTrained);
    }
    let settings = settings.clone().checked()?;
    check_fit(&*experience, layer)?;
    let scale = layer.settings().return_scale;
    let data = Data::load(&*experience, &scope.filter, &settings, scale)?;
    let (steps, calibrated) = steps_of(&*experience, &data, &settings, scope)?;
    if steps.is_empty() {
        return Err(Error::InsufficientData { required: 1, available: 0 });
    }
    let (names, embeddings) = experience.pattern_embeddings()?;
    let patterns = Gallery::new(embeddings, layer.settings().action_size);
    let vectors = Vectors::new(&data, layer.settings());
    let timesteps = layer.timesteps(); // as it learned, whatever another trainer would do
    let pool = Pool::shared()?;
    let study = Study { experience, data, vectors, timesteps, emphasis: 0.0 };
    let mut tally = Tally::new(&study, &names, scope.keep_predictions);
    let mut columns = Columns::default();
    let mut cosines = Vec::new();
    for samples in steps.chunks(GLANCE.min(patterns.rows_at_a_time())) {
        study.experience.check_open()?;
        poll()?;
        study.fill(layer.settings(), samples, &mut columns)?;
        let (mut predicted, apart) =
            layer.predict_many_apart_on(&columns.questions(), Some(&pool))?;
        tally.similarities(samples, &predicted, &columns);
        tally.signs(layer, &columns, &predicted, &apart);
        patterns.cosines(&pool, &mut predicted, &mut cosines);
        tally.choices(samples, &cosines, patterns.len());
    }
    Ok(tally.finish(layer, &steps, &calibrated))
}

/// The steps to evaluate, in order, and whether the run that learned from others may have calibrated on each.
fn steps_of(
    experience: &dyn Experience,
    data: &Data,
    settings: &TrainerSettings,
    scope: &Scope,
) -> Result<(Vec<u32>, Vec<bool>)> {
    let mut all: Vec<u32> = data.train.iter().chain(&data.validate).copied().collect();
    all.sort_unstable();
    if scope.include_training {
        let calibrated = vec![false; all.len()];
        return Ok((all, calibrated));
    }
    if scope.trained_on.iter().all(|filter| *filter == scope.filter) {
        return Ok((data.validate.clone(), vec![true; data.validate.len()]));
    }
    let (mut learned, mut validated) = (HashSet::new(), HashSet::new());
    for filter in &scope.trained_on {
        let names = experience.episodes(filter)?.names;
        let held_out = validating(&names, settings.validation_split, settings.seed);
        for (name, held_out) in names.into_iter().zip(held_out) {
            if held_out { &mut validated } else { &mut learned }.insert(name);
        }
    }
    let name = |step: u32| &data.episodes.names[data.episode_of[step as usize] as usize];
    all.retain(|step| !learned.contains(name(*step)));
    let calibrated = all.iter().map(|step| validated.contains(name(*step))).collect();
    Ok((all, calibrated))
}

/// The half of each step that was calibrated on, `None` for others; no episode is in both, if there are two.
fn halves(episode_of: &[u32], steps: &[u32], calibrated: &[bool]) -> Vec<Option<bool>> {
    let of = |step: u32| episode_of[step as usize];
    let episodes: Vec<u32> =
        steps.iter().zip(calibrated).filter_map(|(step, is)| is.then_some(of(*step))).collect();
    let starts = |at: &usize| episodes[at - 1] != episodes[*at];
    let middle = episodes.len() / 2;
    let cut = (middle.max(1)..episodes.len()).find(starts);
    let cut = cut.or_else(|| (1..middle).rev().find(starts)).unwrap_or(middle);
    let mut before = 0..;
    let half = |is: &bool| is.then(|| before.next().is_some_and(|before| before >= cut));
    calibrated.iter().map(half).collect()
}

/// What is known of each step so far, in the order of the steps.
struct Tally<'a> {
    study: &'a Study,
    /// For each pattern of the gallery, its code in the data.
    codes: Vec<Option<u32>>,
    kept: Option<Predictions>,
    similarities: Vec<f64>,
    right: Vec<bool>,
    /// What each answer showed of its worth.
    signs: Vec<Signs>,
}

impl<'a> Tally<'a> {
    fn new(study: &'a Study, names: &[String], keep_predictions: bool) -> Self {
        let known: std::collections::HashMap<&str, u32> =
            study.data.episodes.pattern_names.iter().map(String::as_str).zip(0..).collect();
        Self {
            study,
            codes: names.iter().map(|name| known.get(name.as_str()).copied()).collect(),
            kept: keep_predictions.then(Predictions::default),
            similarities: Vec::new(),
            right: Vec::new(),
            signs: Vec::new(),
        }
    }

    fn similarities(&mut self, samples: &[u32], predicted: &[f32], columns: &Columns) {
        let width = predicted.len() / samples.len();
        let pairs = predicted.chunks_exact(width).zip(columns.actions().chunks_exact(width));
        self.similarities.extend(pairs.map(|(predicted, taken)| cosine(predicted, taken)));
        if let Some(kept) = &mut self.kept {
            kept.true_actions.extend_from_slice(columns.actions());
            kept.predicted_actions.extend_from_slice(predicted);
        }
    }

    fn signs(
        &mut self,
        layer: &DecisionLayer,
        columns: &Columns,
        predicted: &[f32],
        apart: &[f64],
    ) {
        let states = columns.states().chunks_exact(layer.settings().state_size);
        let actions = predicted.chunks_exact(layer.settings().action_size).zip(apart);
        let signs = states.zip(actions).map(|(s, (action, apart))| layer.signs(s, action, *apart));
        self.signs.extend(signs);
    }

    /// Notes whether the nearest pattern, the first of equals, is the one that was taken.
    fn choices(&mut self, samples: &[u32], cosines: &[f32], patterns: usize) {
        for (at, &step) in samples.iter().enumerate() {
            let cosines = &cosines[at * patterns..][..patterns];
            let mut nearest = None;
            for (pattern, &cosine) in cosines.iter().enumerate() {
                if nearest.is_none_or(|(_, best)| cosine > best) {
                    nearest = Some((pattern, cosine));
                }
            }
            let taken = self.study.data.episodes.patterns[step as usize];
            self.right.push(nearest.is_some_and(|(at, _)| self.codes[at] == Some(taken)));
        }
    }

    fn finish(self, layer: &DecisionLayer, steps: &[u32], calibrated: &[bool]) -> Evaluation {
        let episodes = &self.study.data.episodes;
        let mut scores = vec![TaskScore::default(); episodes.task_type_names.len()];
        let mut overall = TaskScore::default();
        for ((&step, &similarity), &right) in steps.iter().zip(&self.similarities).zip(&self.right)
        {
            for score in [&mut overall, &mut scores[episodes.task_types[step as usize] as usize]] {
                score.accuracy += f64::from(u8::from(right));
                score.avg_similarity += similarity;
                score.count += 1;
            }
        }
        let mean = |score: TaskScore| TaskScore {
            accuracy: score.accuracy / score.count as f64,
            avg_similarity: score.avg_similarity / score.count as f64,
            count: score.count,
        };
        let mut per_task_type: Vec<_> = episodes
            .task_type_names
            .iter()
            .zip(scores)
            .filter(|(_, score)| score.count > 0)
            .map(|(name, score)| (name.clone(), mean(score)))
            .collect();
        per_task_type.sort_by(|a, b| a.0.cmp(&b.0));
        let halves = halves(&self.study.data.episode_of, steps, calibrated);
        let promises = layer.promises(&self.signs, &self.similarities, &halves);
        let trust = Trust::of(&promises, &self.similarities);
        let similarities = self.similarities;
        Evaluation {
            overall: mean(overall),
            per_task_type,
            predictions: self.kept.map(|kept| Predictions { similarities, ..kept }),
            calibration_error: trust.error,
            reliability: trust.bins,
            risk_coverage: trust.risk_coverage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::halves;

    #[test]
    fn halves_share_no_episode_and_leave_out_what_was_not_calibrated_on() {
        let of = [0, 0, 0, 1, 1, 2, 2, 2];
        let all: Vec<u32> = (0..8).collect();
        let told = |calibrated: [bool; 8]| -> String {
            let letter =
                |half: &Option<bool>| half.map_or('-', |second| if second { '2' } else { '1' });
            halves(&of, &all, &calibrated).iter().map(letter).collect()
        };
        let without = |left_out: &[usize]| std::array::from_fn(|at| !left_out.contains(&at));
        assert_eq!(told([true; 8]), "11111222");
        assert_eq!(told(without(&[3, 4])), "111--222");
        assert_eq!(told(without(&[0, 1, 2, 3])), "----1222");
        assert_eq!(told(without(&[3, 4, 5, 6, 7])), "122-----", "one episode has to be cut");
        assert_eq!(told(without(&[0, 1, 2, 3, 4, 5, 6])), "-------2", "as alone as it is");
        assert_eq!(told([false; 8]), "--------");
    }
}
