//! Answers: one at a time in microseconds, or many.
//!
//! A single answer waits for memory, so it reads only the weights it needs: no rows of a context that is zero, none of
//! hidden units that the ReLU silenced, and the return code's part of the first layer is kept from question to question.
//! Sums run in the order of the matrix products, so one answer has the bits that it has among many. The weights it reads
//! are rounded ones where that is worth it (`rounded`); losses are computed with the weights as they are.

use std::sync::Mutex;

use super::crew::{Crew, Grid};
use super::ensemble::Votes;
use super::layer::DecisionLayer;
use super::mlp;
use super::questions::{Batch, Names, Questions, length};
use super::rounded::{Copies, Inference, Rounded};
use super::sums;
use crate::error::{Error, Result};
use crate::pool::Pool;

/// Desired returns whose part of the first layer is kept.
const KEPT_CODES: usize = 16;
/// Questions whose inputs are held at once, a thread.
const QUESTIONS: usize = 64;
const TILE: usize = 8;
/// So few questions are answered one by one: a product reads all weights, whatever the number of its rows.
const SINGLES: usize = 3;
const UNPOISONED: &str = "no holder panics";

/// Memory of predictions, kept between them. A clone starts with none.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// As many as there were questions at the same time.
    drafts: Mutex<Vec<Draft>>,
    /// Desired returns by their bits, and b1 plus their code's part of the first layer's sums.
    codes: Mutex<Vec<(u64, Vec<f32>)>>,
    pub(super) copies: Copies,
}

/// What one question needs.
#[derive(Debug, Default)]
struct Draft {
    block: Vec<f32>,
    hidden: Vec<f32>,
    /// The code of a return, where an answer is worked out anew.
    code: Vec<f32>,
    terms: Vec<(u32, f32)>,
    votes: Votes,
}

impl Clone for Desk {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Desk {
    /// The weights changed.
    pub(super) fn forget(&mut self) {
        self.codes.get_mut().expect(UNPOISONED).clear();
        self.copies.forget();
    }
}

impl DecisionLayer {
    /// The action for one situation, `[action_size]`.
    pub fn predict(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
    ) -> Result<Vec<f32>> {
        let mut action = vec![0.0; self.shape.output];
        self.predict_into(state, desired_return, context, timestep, &mut action)?;
        Ok(action)
    }

    /// [`Self::predict`] into memory of the caller, `[action_size]`; once warm, with these weights, it allocates nothing.
    pub fn predict_into(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
        action: &mut [f32],
    ) -> Result<()> {
        self.answer(state, desired_return, context, timestep, action).map(|_| ())
    }

    /// The actions for many situations, `[n, action_size]`.
    pub fn predict_many(&self, questions: &Questions<'_>) -> Result<Vec<f32>> {
        self.predict_many_on(questions, None)
    }

    /// [`Self::predict_many`] on the threads of a pool.
    pub fn predict_many_on(
        &self,
        questions: &Questions<'_>,
        pool: Option<&Pool>,
    ) -> Result<Vec<f32>> {
        Ok(self.predict_many_apart_on(questions, pool)?.0)
    }

    /// The loss of a batch, without learning from it; also of a layer that never learned.
    pub fn loss(&self, batch: &Batch<'_>) -> Result<f64> {
        self.loss_on(batch, None)
    }

    /// [`Self::loss`] on the threads of a pool.
    pub fn loss_on(&self, batch: &Batch<'_>, pool: Option<&Pool>) -> Result<f64> {
        let n = batch.checked(&self.settings)?;
        let (output, _) = self.outputs(&batch.questions, n, Inference::F32, pool);
        let (share, width) = (batch.shares(n), self.shape.output);
        let errors = output.chunks_exact(width).zip(batch.actions.chunks_exact(width));
        let weighted = errors.enumerate().map(|(i, (o, a))| share(i) * sums::distance(o, a));
        Ok(weighted.sum::<f64>() / width as f64)
    }

    /// What the first layer sees, `[n, 3 state_size]`.
    pub fn inputs(&self, questions: &Questions<'_>) -> Result<Vec<f32>> {
        let n = questions.checked(&self.settings, &Names::LEARNED)?;
        let mut x = vec![0.0; n * self.shape.input];
        self.fill_inputs(questions, 0, &mut x, (self.shape.input, true));
        Ok(x)
    }

    /// Writes the inputs from question `first` on, as many rows of `active` numbers as `x` has; without the codes of the
    /// returns, what is in their place stays.
    pub(super) fn fill_inputs(
        &self,
        questions: &Questions<'_>,
        first: usize,
        x: &mut [f32],
        (active, codes): (usize, bool),
    ) {
        let (d, range) = (self.settings.state_size, self.return_range());
        for (row, i) in x.chunks_exact_mut(active).zip(first..) {
            let (state, rest) = row.split_at_mut(d);
            let (code, context) = rest.split_at_mut(d);
            state.copy_from_slice(&questions.states[i * d..][..d]);
            if codes {
                let desired = questions.returns[i % questions.returns.len()];
                self.encoder.encode_return(desired, range, code);
            }
            match questions.contexts {
                Some(contexts) => context.copy_from_slice(&contexts[i * d..][..d]),
                None => context.fill(0.0),
            }
            if let Some(timesteps) = questions.timesteps {
                self.encoder.add_timestep(timesteps[i], context);
            }
        }
    }

    /// [`Self::predict_many_on`], and how far the members of an ensemble are from each answer, `[n]`.
    pub fn predict_many_apart_on(
        &self,
        questions: &Questions<'_>,
        pool: Option<&Pool>,
    ) -> Result<(Vec<f32>, Vec<f64>)> {
        let n = questions.checked(&self.settings, &Names::ASKED)?;
        if !self.trained {
            return Err(Error::NotTrained);
        }
        Ok(self.outputs(questions, n, self.inference, pool))
    }

    /// The mean answers of all members, and how far they are from them.
    fn outputs(
        &self,
        questions: &Questions<'_>,
        n: usize,
        inference: Inference,
        pool: Option<&Pool>,
    ) -> (Vec<f32>, Vec<f64>) {
        let own = self.own_outputs(questions, n, inference, pool);
        if self.others.is_empty() {
            return (own, vec![0.0; n]);
        }
        let mut votes = Votes::default();
        votes.restart(&own, self.shape.output);
        for other in &self.others {
            votes.add(&other.own_outputs(questions, n, inference, pool));
        }
        votes.count();
        (votes.actions, votes.spreads)
    }

    fn own_outputs(
        &self,
        questions: &Questions<'_>,
        n: usize,
        inference: Inference,
        pool: Option<&Pool>,
    ) -> Vec<f32> {
        let (shape, active) = (self.shape, self.active(questions));
        if n <= SINGLES && inference == self.inference {
            return self.one_by_one(questions, n);
        }
        let [mut w1, b1, mut w2, b2] = shape.split(&self.params);
        let by = if inference == Inference::F32 { None } else { self.rounded() };
        if let Some(copy) = by {
            (w1, w2) = copy.wide();
        }
        let mut output = vec![0.0; n * shape.output];
        // One return for all: its part of the first layer is summed once, if it is not kept from before.
        let mut draft = self.desk.draft();
        // What is kept is of the weights that answer.
        let coded = questions.returns.len() == 1 && inference == self.inference;
        if coded {
            self.code_sums(by, questions.returns[0], &mut draft);
        }
        let start = if coded { &draft.hidden } else { b1 };
        Crew::gather(pool, |crew| {
            let whole = Grid::new(&mut output, shape.output);
            crew.each(whole, crew.share(n, TILE, QUESTIONS), &|first, output| {
                let mut draft = self.desk.draft();
                let Draft { block, hidden, .. } = &mut draft;
                let rows = output.values.len() / shape.output;
                block.resize(rows * active, 0.0);
                hidden.resize(rows * shape.hidden, 0.0);
                self.fill_inputs(questions, first, block, (active, !coded));
                mlp::hidden_rows(self.gemm, shape, w1, (block, active), (start, coded), hidden);
                mlp::output_rows(self.gemm, shape, (w2, b2), hidden, output.values);
                if let Some(copy) = by {
                    self.reconsider(copy, questions, first, &mut draft, output.values);
                }
                self.desk.give_back(draft);
            });
        });
        self.desk.give_back(draft);
        output
    }

    /// Answers those of the questions from `first` on anew whose rounded answers are in doubt. The draft has their inputs and
    /// their hidden units.
    fn reconsider(
        &self,
        copy: &Rounded,
        questions: &Questions<'_>,
        first: usize,
        draft: &mut Draft,
        output: &mut [f32],
    ) {
        let (d, active) = (self.settings.state_size, self.active(questions));
        let Draft { block, hidden, code, terms, .. } = draft;
        let mut anew = Vec::new();
        let rows = block.chunks_exact(active).zip(hidden.chunks_exact(self.shape.hidden));
        for ((i, (x, hidden)), action) in
            (first..).zip(rows).zip(output.chunks_exact_mut(self.shape.output))
        {
            let (state, context) = (&x[..d], x.get(2 * d..).unwrap_or_default());
            if copy.doubts(state, context, hidden, action) {
                self.code_of(questions.returns[i % questions.returns.len()], code);
                self.answer_by(None, [state, code, context], (&mut anew, terms), action);
            }
        }
    }

    /// Makes `code` that of a desired return.
    pub(super) fn code_of(&self, desired_return: f64, code: &mut Vec<f32>) {
        code.resize(self.settings.state_size, 0.0);
        self.encoder.encode_return(desired_return, self.return_range(), code);
    }

    fn one_by_one(&self, questions: &Questions<'_>, n: usize) -> Vec<f32> {
        let Questions { states, returns, contexts, timesteps } = *questions;
        let (d, a) = (self.settings.state_size, self.shape.output);
        let mut output = vec![0.0; n * a];
        for (i, action) in output.chunks_exact_mut(a).enumerate() {
            let context = contexts.map(|contexts| &contexts[i * d..][..d]);
            let timestep = timesteps.map(|timesteps| timesteps[i]);
            let desired_return = returns[i % returns.len()];
            self.work_out(&states[i * d..][..d], desired_return, context, timestep, action);
        }
        output
    }

    /// Makes the draft's hidden units b1 plus the part that the code of a desired return has in their sums.
    fn code_sums(&self, by: Option<&Rounded>, desired_return: f64, draft: &mut Draft) {
        let Draft { block, hidden, terms, .. } = draft;
        hidden.clear();
        if self.desk.recall(desired_return, hidden) {
            return;
        }
        let [_, b1, ..] = self.shape.split(&self.params);
        hidden.extend_from_slice(b1);
        self.code_of(desired_return, block);
        not_zero(block, terms);
        self.combine_first(by, 1, terms, hidden);
        self.desk.keep(desired_return, hidden);
    }

    /// Answers one question; says the norm of the hidden units, of an ensemble those of its first member, and how far
    /// its members are from the answer.
    pub(super) fn answer(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
        action: &mut [f32],
    ) -> Result<(f64, f64)> {
        let norm = self.own_answer(state, desired_return, context, timestep, action)?;
        if self.others.is_empty() {
            return Ok((norm, 0.0));
        }
        let mut draft = self.desk.draft();
        let votes = &mut draft.votes;
        votes.restart(action, action.len());
        for other in &self.others {
            other.own_answer(state, desired_return, context, timestep, action)?;
            votes.add(action);
        }
        votes.count();
        action.copy_from_slice(&votes.actions);
        let apart = votes.spreads[0];
        self.desk.give_back(draft);
        Ok((norm, apart))
    }

    fn own_answer(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
        action: &mut [f32],
    ) -> Result<f64> {
        length("action", action.len(), self.shape.output)?;
        let (returns, timesteps) = ([desired_return], timestep.as_ref().map(std::slice::from_ref));
        Questions { states: state, returns: &returns, contexts: context, timesteps }
            .checked(&self.settings, &Names::ONE)?;
        if !self.trained {
            return Err(Error::NotTrained);
        }
        Ok(self.work_out(state, desired_return, context, timestep, action))
    }

    /// Answers one question that was checked; the norm of the hidden units.
    fn work_out(
        &self,
        state: &[f32],
        desired_return: f64,
        context: Option<&[f32]>,
        timestep: Option<i64>,
        action: &mut [f32],
    ) -> f64 {
        let mut draft = self.desk.draft();
        let by = self.rounded();
        self.code_sums(by, desired_return, &mut draft);
        let Draft { block, hidden, code, terms, .. } = &mut draft;
        not_zero(state, terms);
        self.combine_first(by, 0, terms, hidden);
        block.clear();
        if context.is_some() || timestep.is_some() {
            block.extend_from_slice(context.unwrap_or_default());
            block.resize(state.len(), 0.0);
            if let Some(timestep) = timestep {
                self.encoder.add_timestep(timestep, block);
            }
            not_zero(block, terms);
            self.combine_first(by, 2, terms, hidden);
        }
        self.finish(by, hidden, terms, action);
        if by.is_some_and(|copy| copy.doubts(state, block, hidden, action)) {
            self.code_of(desired_return, code);
            self.answer_by(None, [state, code, block], (hidden, terms), action);
        }
        let norm = sums::squares(hidden).sqrt();
        self.desk.give_back(draft);
        norm
    }
}

impl Desk {
    fn draft(&self) -> Draft {
        self.drafts.lock().expect(UNPOISONED).pop().unwrap_or_default()
    }

    fn give_back(&self, draft: Draft) {
        self.drafts.lock().expect(UNPOISONED).push(draft);
    }

    /// Appends what is kept for a desired return to `hidden`, and says whether there was anything.
    fn recall(&self, desired_return: f64, hidden: &mut Vec<f32>) -> bool {
        let bits = desired_return.to_bits();
        let mut codes = self.codes.lock().expect(UNPOISONED);
        let Some(at) = codes.iter().position(|(known, _)| *known == bits) else { return false };
        codes[at..].rotate_left(1); // to the end, as the newest
        hidden.extend_from_slice(&codes[codes.len() - 1].1);
        true
    }

    /// Keeps the sums of a desired return in the place of the oldest. They were computed without the lock: two threads
    /// may both have, to the same bits.
    fn keep(&self, desired_return: f64, sums: &[f32]) {
        let bits = desired_return.to_bits();
        let mut codes = self.codes.lock().expect(UNPOISONED);
        if codes.iter().any(|(known, _)| *known == bits) {
            return;
        }
        let mut memory = if codes.len() == KEPT_CODES { codes.remove(0).1 } else { Vec::new() };
        memory.clear();
        memory.extend_from_slice(sums);
        codes.push((bits, memory));
    }
}

/// The terms of a sparse vector.
pub(super) fn not_zero(values: &[f32], terms: &mut Vec<(u32, f32)>) {
    terms.clear();
    terms.extend((0..).zip(values.iter().copied()).filter(|(_, value)| *value != 0.0));
}
