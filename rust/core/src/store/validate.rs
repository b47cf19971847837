//! Everything a caller can get wrong in rows and queries, found before anything is written.

use half::f16;

use super::open::Facts;
use super::options::Storage;
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::rows::{Labels, Rows};

/// How errors name a field of row 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `state_embedding`: there is only one record.
    One,
    /// `trajectories[3].state_embedding`: a sequence of records.
    Records,
    /// `states[3]`: columns.
    Columns,
}

/// A field of a trajectory, by its name in a record and as a column.
pub(super) struct Field {
    record: &'static str,
    column: &'static str,
}

const fn field(record: &'static str, column: &'static str) -> Field {
    Field { record, column }
}

const STATE: Field = field("state_embedding", "states");
const ACTION: Field = field("action.embedding", "actions");
const REWARD: Field = field("reward", "rewards");
const RETURN: Field = field("return_to_go", "returns_to_go");
const PATTERN: Field = field("action.pattern_id", "pattern_ids");
const EPISODE: Field = field("metadata.episode_id", "episode_ids");
const TASK_TYPE: Field = field("metadata.task_type", "task_types");
const QUALITY: Field = field("metadata.quality", "qualities");

impl Naming {
    fn name(self, field: &Field, row: usize) -> String {
        match self {
            Self::One => field.record.to_owned(),
            Self::Records => format!("trajectories[{row}].{}", field.record),
            Self::Columns => format!("{}[{row}]", field.column),
        }
    }
}

/// Refuses the first bad row by position. The states and actions are looked at as they will be stored.
pub(super) fn rows(rows: &Rows, facts: &Facts, naming: Naming) -> Result<()> {
    lengths(rows, facts, naming)?;
    let cosine = facts.hnsw.metric == Metric::Cosine;
    for row in 0..rows.len {
        let state = &rows.states[row * facts.dimension..][..facts.dimension];
        vector(state, facts.storage, || naming.name(&STATE, row))?;
        if cosine && is_zero(state, facts.storage) {
            let expected = "a vector with a direction: the store's metric is the cosine";
            return Err(Error::invalid(naming.name(&STATE, row), expected, "zeros"));
        }
        let action = &rows.actions[row * facts.action_dimension..][..facts.action_dimension];
        vector(action, facts.storage, || naming.name(&ACTION, row))?;
        let reward = rows.rewards[row];
        if !reward.is_finite() {
            return Err(Error::invalid(naming.name(&REWARD, row), "a finite number", reward));
        }
        let value = rows.returns.get(row).copied().unwrap_or(f64::NAN);
        if value.is_infinite() {
            return Err(Error::invalid(
                naming.name(&RETURN, row),
                "a finite number or none",
                value,
            ));
        }
        if let Some(quality) = rows.qualities.as_ref().and_then(|column| column[row])
            && !(0.0..=1.0).contains(&quality)
        {
            return Err(Error::invalid(naming.name(&QUALITY, row), "a number in [0, 1]", quality));
        }
    }
    let names =
        [(&rows.patterns, &PATTERN), (&rows.episodes, &EPISODE), (&rows.task_types, &TASK_TYPE)];
    for (labels, field) in names {
        no_empty_name(labels, field, naming)?;
    }
    Ok(())
}

/// Every column is as long as the rows, every vector as long as the store says.
fn lengths(rows: &Rows, facts: &Facts, naming: Naming) -> Result<()> {
    let n = rows.len;
    width(&rows.states, n, facts.dimension, naming.name(&STATE, 0))?;
    width(&rows.actions, n, facts.action_dimension, naming.name(&ACTION, 0))?;
    let column = |name: &str, length: Option<usize>| match length {
        Some(length) if length != n => {
            Err(Error::invalid(name, format!("{n} values, one a row"), length))
        }
        _ => Ok(()),
    };
    column("rewards", Some(rows.rewards.len()))?;
    column("returns_to_go", Some(rows.returns.len()).filter(|&length| length > 0))?;
    for (name, labels) in [
        ("pattern_ids", &rows.patterns),
        ("episode_ids", &rows.episodes),
        ("task_types", &rows.task_types),
    ] {
        column(name, Some(labels.codes.len()))?;
        if labels.codes.iter().any(|&code| code as usize >= labels.names.len()) {
            return Err(Error::invalid(name, "codes of names that are there", "one beyond them"));
        }
    }
    column("timestamps", rows.timestamps.as_ref().map(Vec::len))?;
    column("step_indices", rows.step_indices.as_ref().map(Vec::len))?;
    column("terminated", rows.terminated.as_ref().map(Vec::len))?;
    column("truncated", rows.truncated.as_ref().map(Vec::len))?;
    column("durations", rows.durations.as_ref().map(Vec::len))?;
    column("tokens_used", rows.tokens_used.as_ref().map(Vec::len))?;
    column("context_lengths", rows.context_lengths.as_ref().map(Vec::len))?;
    column("agent_types", rows.agent_types.as_ref().map(Vec::len))?;
    column("task_ids", rows.task_ids.as_ref().map(Vec::len))?;
    column("successes", rows.successes.as_ref().map(Vec::len))?;
    column("qualities", rows.qualities.as_ref().map(Vec::len))?;
    column("extras", rows.extras.as_ref().map(Vec::len))?;
    column("action_metadata", rows.action_metadata.as_ref().map(Vec::len))
}

/// `rows` vectors of `expected` numbers each, in one slice.
pub(super) fn width(numbers: &[f32], rows: usize, expected: usize, field: String) -> Result<()> {
    if numbers.len() == rows * expected {
        return Ok(());
    }
    let got = if rows > 0 && numbers.len().is_multiple_of(rows) {
        numbers.len() / rows
    } else {
        numbers.len()
    };
    Err(Error::Dimension { field, expected, got })
}

fn no_empty_name(labels: &Labels, field: &Field, naming: Naming) -> Result<()> {
    let empty = labels.names.iter().position(String::is_empty);
    let row = empty.and_then(|code| labels.codes.iter().position(|&c| c as usize == code));
    match row {
        Some(row) => Err(Error::invalid(naming.name(field, row), "a name", "an empty string")),
        None => Ok(()),
    }
}

/// Finite numbers that the storage can hold.
pub(super) fn vector(
    numbers: &[f32],
    storage: Storage,
    field: impl FnOnce() -> String,
) -> Result<()> {
    let limit = match storage {
        Storage::F32 => f32::MAX,
        Storage::F16 => 65_519.996, // the largest number that rounds to a finite half
    };
    let fits = |x: &f32| x.abs() <= limit; // NaN does not
    // One pass without an early end, which the compiler turns into a few wide instructions.
    if !numbers.iter().fold(true, |all, x| all & fits(x)) {
        let found = numbers.iter().enumerate().find(|(_, x)| !fits(x));
        let (at, value) = found.expect("the pass above found one");
        let expected = match storage {
            Storage::F32 => "finite numbers within float32",
            Storage::F16 => "finite numbers within float16, in which this store keeps them",
        };
        return Err(Error::invalid(field(), expected, format!("{value} at position {at}")));
    }
    Ok(())
}

/// Whether nothing is left of a vector in the file.
fn is_zero(numbers: &[f32], storage: Storage) -> bool {
    match storage {
        Storage::F32 => numbers.iter().all(|x| *x == 0.0),
        Storage::F16 => numbers.iter().all(|x| f16::from_f32(*x).to_f32() == 0.0),
    }
}

/// What a search asks with: any float32, whatever the states are stored in. A distance to a number beyond float16 is well
/// defined; that a state *is* such a number is not, so whoever looks for equal bits asks with [`vector`].
pub(super) fn query(
    numbers: &[f32],
    dimension: usize,
    metric: Metric,
    field: impl Fn() -> String,
) -> Result<()> {
    if numbers.len() != dimension {
        return Err(Error::Dimension { field: field(), expected: dimension, got: numbers.len() });
    }
    vector(numbers, Storage::F32, &field)?;
    if metric == Metric::Cosine && is_zero(numbers, Storage::F32) {
        let expected = "a vector with a direction: the metric is the cosine";
        return Err(Error::invalid(field(), expected, "zeros"));
    }
    Ok(())
}

/// A number that is one.
pub(super) fn finite(field: &str, value: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::invalid(field, "a finite number", value)) }
}

/// A number that compares: infinite is fine.
pub(super) fn not_nan(field: &str, value: Option<f64>) -> Result<()> {
    match value {
        Some(value) if value.is_nan() => Err(Error::invalid(field, "a number", "NaN")),
        _ => Ok(()),
    }
}

/// A discount.
pub(super) fn gamma(gamma: f64) -> Result<()> {
    if (0.0..=1.0).contains(&gamma) {
        return Ok(());
    }
    Err(Error::invalid("gamma", "a number in [0, 1]", gamma))
}

#[cfg(test)]
mod tests {
    use super::vector;
    use crate::store::Storage;

    #[test]
    fn the_largest_half_is_accepted_and_the_next_float_is_not() {
        let fits = |x: f32| vector(&[0.0, x], Storage::F16, || "x".to_owned()).is_ok();
        for x in [65_504.0, 65_519.0, 65_519.99, 65_519.996, 65_520.0, -65_520.0, 1e9] {
            assert_eq!(fits(x), half::f16::from_f32(x).is_finite(), "{x}");
        }
        assert!(!fits(f32::NAN) && !fits(f32::INFINITY));
    }
}
