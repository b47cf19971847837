//! States at full precision, from the file, for those that are not mapped.

use super::connections::Reader;
use super::open::Facts;
use super::{Open, encode};
use crate::error::{During, Error, Result};
use crate::ids::RowKey;
use crate::index::Originals;

const DOING: &str = "reading states";

/// The states of a snapshot.
pub(super) struct StoredStates<'a> {
    reader: &'a Reader,
    facts: &'a Facts,
    state: Vec<f32>,
}

impl<'a> StoredStates<'a> {
    pub(super) fn new(reader: &'a Reader, facts: &'a Facts) -> Self {
        Self { reader, facts, state: Vec::new() }
    }
}

impl Originals for StoredStates<'_> {
    fn read(&mut self, keys: &[RowKey], visit: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let Self { reader, facts, state } = self;
        let gone = |key: RowKey| Error::Corrupt { what: format!("row {} has no state", key.0) };
        read_states(reader, facts, keys, state, gone, visit)
    }
}

/// The states of the file as it is when they are asked for.
pub(super) struct LaterStates<'a> {
    open: &'a Open,
    facts: &'a Facts,
}

impl<'a> LaterStates<'a> {
    pub(super) fn new(open: &'a Open, facts: &'a Facts) -> Self {
        Self { open, facts }
    }
}

impl Originals for LaterStates<'_> {
    fn read(&mut self, keys: &[RowKey], visit: &mut dyn FnMut(usize, &[f32])) -> Result<()> {
        let read = |reader: &mut Reader| {
            read_states(reader, self.facts, keys, &mut Vec::new(), gone, visit)
        };
        self.open.connections.read(read)
    }
}

fn read_states(
    reader: &Reader,
    facts: &Facts,
    keys: &[RowKey],
    state: &mut Vec<f32>,
    gone: impl Fn(RowKey) -> Error,
    visit: &mut dyn FnMut(usize, &[f32]),
) -> Result<()> {
    state.resize(facts.dimension, 0.0);
    each_state(reader, keys, DOING, gone, |at, bytes| {
        facts.storage.decode(bytes, state)?;
        visit(at, state);
        Ok(())
    })
}

/// Hands on the position and the stored bytes of each row's state.
pub(super) fn each_state(
    reader: &Reader,
    keys: &[RowKey],
    doing: &'static str,
    gone: impl Fn(RowKey) -> Error,
    mut take: impl FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut statement = reader.statement("SELECT state FROM vector WHERE id = ?")?;
    for (at, key) in keys.iter().enumerate() {
        let mut found = statement.query([key.0]).during(doing)?;
        let row = found.next().during(doing)?.ok_or_else(|| gone(*key))?;
        take(at, encode::blob(row, 0)?)?;
    }
    Ok(())
}

/// A row that was deleted meanwhile.
pub(super) fn gone(key: RowKey) -> Error {
    Error::NotFound { what: "trajectory", id: key.0.to_string() }
}
