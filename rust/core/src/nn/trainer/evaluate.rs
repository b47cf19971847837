//! How good a layer is on episodes it did not learn from.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::data::{Data, validating};
use super::findings::Findings;
use super::nearest::Gallery;
use super::settings::TrainerSettings;
use super::study::{GLANCE, Study, check_fit};
use super::trust::ReliabilityBin;
use super::vectors::{Columns, Vectors};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::nn::{DecisionLayer, Experience};
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
    let assessment = Assessment::start(experience, layer.clone(), settings, scope)?;
    let all = assessment.measure(0..assessment.steps.len(), poll)?;
    assessment.conclude(vec![all])
}

/// An [`evaluate`] in parts, which may be measured side by side, also in other processes: each makes its own of the same
/// arguments. However it is cut, it comes to the same bits.
pub struct Assessment {
    study: Study,
    layer: DecisionLayer,
    /// What is evaluated, in order.
    steps: Vec<u32>,
    /// Whether the run that learned from others may have calibrated on each step.
    calibrated: Vec<bool>,
    patterns: Gallery,
    /// For each pattern of the gallery, its code in the data.
    codes: Vec<Option<u32>>,
    keep_predictions: bool,
    /// Tells it from another one.
    fingerprint: u64,
    pool: Arc<Pool>,
}

impl Assessment {
    /// Finds out what is to be measured.
    ///
    /// # Errors
    ///
    /// Those of [`evaluate`].
    pub fn start(
        experience: Arc<dyn Experience + Send + Sync>,
        layer: DecisionLayer,
        settings: &TrainerSettings,
        scope: &Scope,
    ) -> Result<Self> {
        if !layer.trained() {
            return Err(Error::NotTrained);
        }
        let settings = settings.clone().checked()?;
        check_fit(&*experience, &layer)?;
        let scale = layer.settings().return_scale;
        let data = Data::load(&*experience, &scope.filter, &settings, scale)?;
        let (steps, calibrated) = steps_of(&*experience, &data, &settings, scope)?;
        if steps.is_empty() {
            return Err(Error::InsufficientData { required: 1, available: 0 });
        }
        let (names, embeddings) = experience.pattern_embeddings()?;
        let mut hash = Xxh3::new();
        hash.update(&data.fingerprint().to_le_bytes());
        for step in &steps {
            hash.update(&step.to_le_bytes());
        }
        for name in &names {
            hash.update(name.as_bytes());
        }
        for number in &embeddings {
            hash.update(&number.to_le_bytes());
        }
        let known: HashMap<&str, u32> =
            data.episodes.pattern_names.iter().map(String::as_str).zip(0..).collect();
        let codes = names.iter().map(|name| known.get(name.as_str()).copied()).collect();
        let vectors = Vectors::new(&data, layer.settings());
        let timesteps = layer.timesteps(); // as it learned, whatever another trainer would do
        Ok(Self {
            patterns: Gallery::new(embeddings, layer.settings().action_size),
            study: Study { experience, data, vectors, timesteps, emphasis: 0.0 },
            layer,
            steps,
            calibrated,
            codes,
            keep_predictions: scope.keep_predictions,
            fingerprint: hash.digest(),
            pool: Pool::shared()?,
        })
    }

    /// Cuts the steps between episodes into at most `parts` parts of about one size.
    pub fn parts(&self, parts: usize) -> Vec<Range<usize>> {
        let episode = |at: usize| self.study.data.episode_of[self.steps[at] as usize];
        let (n, mut cuts) = (self.steps.len(), vec![0]);
        for part in 1..parts {
            let from = (part * n / parts).max(1);
            let cut = (from..n).find(|at| episode(at - 1) != episode(*at)).unwrap_or(n);
            if cuts.last().is_some_and(|last| *last < cut) {
                cuts.push(cut);
            }
        }
        if cuts.last().is_some_and(|last| *last < n) {
            cuts.push(n);
        }
        cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// Asks the layer about some of the steps, by their positions. `poll` is asked now and then whether to go on.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] where there are not so many: the part is one of another assessment.
    pub fn measure(
        &self,
        part: Range<usize>,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Findings> {
        let Self { study, layer, patterns, .. } = self;
        let mut found = Findings::none(self.fingerprint, self.keep_predictions);
        let mut columns = Columns::default();
        let mut cosines = Vec::new();
        let steps = self.steps.get(part).ok_or_else(apart)?;
        for samples in steps.chunks(GLANCE.min(patterns.rows_at_a_time())) {
            study.experience.check_open()?;
            poll()?;
            study.fill(layer.settings(), samples, &mut columns)?;
            let (mut predicted, apart) =
                layer.predict_many_apart_on(&columns.questions(), Some(&self.pool))?;
            found.answers(layer, &columns, &predicted, &apart);
            patterns.cosines(&self.pool, &mut predicted, &mut cosines);
            let taken = samples.iter().map(|step| study.data.episodes.patterns[*step as usize]);
            found.choices(taken, &predicted, &self.codes, &cosines);
        }
        Ok(found)
    }

    /// Says what the parts, in their order, come to.
    ///
    /// # Errors
    ///
    /// [`Error::Training`] where they are not those of this assessment: the store was written to before another process
    /// began with its part.
    pub fn conclude(&self, parts: Vec<Findings>) -> Result<Evaluation> {
        let mut whole = Findings::none(self.fingerprint, self.keep_predictions);
        let ours = parts.iter().all(|part| part.of == self.fingerprint);
        for part in parts {
            whole.append(part);
        }
        if !ours || whole.similarities.len() != self.steps.len() {
            return Err(apart());
        }
        Ok(whole.judged(&self.study.data, &self.layer, &self.steps, &self.calibrated))
    }
}

fn apart() -> Error {
    let why = "its parts saw different steps, since the store was written to";
    Error::Training(format!("the evaluation cannot be joined: {why}"))
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
