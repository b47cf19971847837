//! What an evaluation found out about each of its steps, and what that comes to.

use super::data::Data;
use super::evaluate::{Evaluation, Predictions, TaskScore};
use super::trust::Trust;
use super::vectors::Columns;
use crate::nn::{DecisionLayer, cosine};

/// What is known of some of the steps of an [`Assessment`](super::Assessment), in their order. They are made of numbers
/// only, to be sent to where they are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// The fingerprint of the assessment that they are of.
    pub of: u64,
    /// Cosine similarities of the predicted actions to those taken.
    pub similarities: Vec<f64>,
    /// Whether the nearest pattern is the one that was taken.
    pub right: Vec<bool>,
    /// What each answer showed of its worth: its length, the distance of its state to what was learned from, how far the
    /// members of an ensemble are apart.
    pub signs: Vec<[f64; 3]>,
    /// The actions taken and those predicted, if they are kept; without their similarities.
    pub kept: Option<Predictions>,
}

/// Cosines that are no farther apart are the same: a gallery's rows may be summed up in different orders.
const ALIKE: f32 = 1e-6;

impl Findings {
    /// Those of no step.
    pub(super) fn none(of: u64, keep_predictions: bool) -> Self {
        Self {
            of,
            similarities: Vec::new(),
            right: Vec::new(),
            signs: Vec::new(),
            kept: keep_predictions.then(Predictions::default),
        }
    }

    /// Takes the findings about the steps that follow.
    pub(super) fn append(&mut self, next: Self) {
        let Self { of: _, similarities, right, signs, kept } = next;
        self.similarities.extend(similarities);
        self.right.extend(right);
        self.signs.extend(signs);
        if let (Some(all), Some(kept)) = (&mut self.kept, kept) {
            all.true_actions.extend(kept.true_actions);
            all.predicted_actions.extend(kept.predicted_actions);
        }
    }

    /// Notes what the layer answered, and how far its members were apart.
    pub(super) fn answers(
        &mut self,
        layer: &DecisionLayer,
        columns: &Columns,
        predicted: &[f32],
        apart: &[f64],
    ) {
        let width = layer.settings().action_size;
        let states = columns.states().chunks_exact(layer.settings().state_size);
        let answers = predicted.chunks_exact(width);
        let pairs = answers.clone().zip(columns.actions().chunks_exact(width));
        self.similarities.extend(pairs.map(|(predicted, taken)| cosine(predicted, taken)));
        let signs = states.zip(answers).zip(apart).map(|((s, a), apart)| layer.signs(s, a, *apart));
        self.signs.extend(signs);
        if let Some(kept) = &mut self.kept {
            kept.true_actions.extend_from_slice(columns.actions());
            kept.predicted_actions.extend_from_slice(predicted);
        }
    }

    /// Notes whether the pattern that was taken is the nearest of the gallery to what was predicted, or has the embedding
    /// of the nearest; `codes` are those of the gallery's patterns. To an answer of zeros none is.
    pub(super) fn choices(
        &mut self,
        taken: impl ExactSizeIterator<Item = u32>,
        predicted: &[f32],
        codes: &[Option<u32>],
        cosines: &[f32],
    ) {
        let answers = predicted.chunks_exact(predicted.len() / taken.len());
        for ((taken, answer), at) in taken.zip(answers).zip(0..) {
            let cosines = &cosines[at * codes.len()..][..codes.len()];
            let nearest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut level =
                codes.iter().zip(cosines).filter(|(_, cosine)| **cosine >= nearest - ALIKE);
            let answered = answer.iter().any(|x| *x != 0.0);
            self.right.push(answered && level.any(|(code, _)| *code == Some(taken)));
        }
    }

    /// What they come to, for all `steps`; `calibrated` tells those that the layer may have been calibrated on.
    pub(super) fn judged(
        self,
        data: &Data,
        layer: &DecisionLayer,
        steps: &[u32],
        calibrated: &[bool],
    ) -> Evaluation {
        let Self { of: _, similarities, right, signs, kept } = self;
        let episodes = &data.episodes;
        let mut scores = vec![TaskScore::default(); episodes.task_type_names.len()];
        let mut overall = TaskScore::default();
        for ((&step, &similarity), &right) in steps.iter().zip(&similarities).zip(&right) {
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
        let halves = halves(&data.episode_of, steps, calibrated);
        let trust = Trust::of(&layer.promises(&signs, &similarities, &halves), &similarities);
        Evaluation {
            overall: mean(overall),
            per_task_type,
            predictions: kept.map(|kept| Predictions { similarities, ..kept }),
            calibration_error: trust.error,
            reliability: trust.bins,
            risk_coverage: trust.risk_coverage,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{Findings, halves};

    #[test]
    fn a_pattern_with_the_embedding_of_the_nearest_is_the_nearest_too() {
        let mut found = Findings::none(0, false);
        let (alias, codes) = ([0.9, 0.9, 0.1], [None, Some(4), Some(5)]);
        let answer = [1.0, 0.5];
        found.choices([4].into_iter(), &answer, &codes, &alias);
        found.choices([5].into_iter(), &answer, &codes, &alias);
        assert_eq!(found.right, [true, false]);
    }

    #[test]
    fn to_an_answer_of_zeros_no_pattern_is_near_and_to_one_across_all_of_them_all_are() {
        let mut found = Findings::none(0, false);
        let codes = [Some(4), Some(5)];
        found.choices([4, 5].into_iter(), &[0.0; 6], &codes, &[0.0; 4]);
        found.choices([4, 5].into_iter(), &[0.0, 0.0, 1.0].repeat(2), &codes, &[0.0; 4]);
        assert_eq!(found.right, [false, false, true, true]);
    }

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
