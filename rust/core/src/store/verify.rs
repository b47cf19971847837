//! Whether a file holds what its tables promise.

use std::time::Instant;

use super::connections::Reader;
use super::patience::Halt;
use super::promises::QUESTIONS;
use super::sync::{Mirror, ROWS, entry};
use super::{Open, Store, encode};
use crate::error::{During, Error, Result};
use crate::index::Scratch;

const DOING: &str = "verifying the store";

/// At most this many problems are told apart; one damaged page can make thousands.
const TOLD: usize = 100;

/// Embeddings of one pattern that may have one hash: each takes the next number that is free.
const CLASHES: u64 = 256;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifyReport {
    /// Sentences, each about one problem; none if all is well.
    pub problems: Vec<String>,
    /// Rows in the store.
    pub rows: usize,
    /// Vectors that were read and looked at.
    pub checked: usize,
    /// How long it took.
    pub seconds: f64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn tell(&mut self, problem: impl Into<String>) {
        if self.problems.len() < TOLD {
            self.problems.push(problem.into());
        }
    }
}

impl Store {
    /// Reads everything and reports what is wrong. `deep` also compares what is derived with the rows.
    ///
    /// `poll` is asked whether to go on; an error from it ends the reading.
    pub fn verify(&self, deep: bool, poll: &mut dyn FnMut() -> Result<()>) -> Result<VerifyReport> {
        self.patiently(poll, |halt| self.look_through(deep, halt))
    }

    fn look_through(&self, deep: bool, halt: &Halt) -> Result<VerifyReport> {
        let started = Instant::now();
        let open = self.enter()?;
        let mut report = VerifyReport::default();
        let read =
            open.connections.read_until(Some(halt), |reader| self.inspect(reader, &mut report));
        tolerate(read, &mut report)?;
        if deep && report.ok() {
            let compared = open.in_sync_until(Some(halt), |reader, mirror| {
                let indexed = mirror.index.len();
                if indexed != report.rows {
                    report
                        .tell(format!("the index holds {indexed} rows, the file {}", report.rows));
                }
                compare(reader, mirror, &open, &mut report)
            });
            tolerate(compared, &mut report)?;
            if let Some(damage) = open.sidecar_damage() {
                report.tell(format!("the saved index will not be used: {damage}"));
            }
        }
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    fn inspect(&self, reader: &Reader, report: &mut VerifyReport) -> Result<()> {
        let mut check = reader.statement("PRAGMA integrity_check(100)")?;
        let mut found = check.query([]).during(DOING)?;
        while let Some(row) = found.next().during(DOING)? {
            let line: String = row.get(0).during(DOING)?;
            if line != "ok" {
                report.tell(line);
            }
        }
        let mut count = reader.statement("SELECT count(*) FROM trajectory")?;
        report.rows = count.query_row([], |row| row.get::<_, i64>(0)).during(DOING)? as usize;
        for &(problem, question) in QUESTIONS {
            let mut ask = reader.statement(question)?;
            let mut found = ask.query([]).during(DOING)?;
            while let Some(row) = found.next().during(DOING)? {
                let id: i64 = row.get(0).during(DOING)?;
                report.tell(problem.replace("{}", &id.to_string()));
            }
        }
        let states =
            "SELECT v.id, v.state, t.state_hash FROM vector v JOIN trajectory t ON t.id = v.id";
        self.inspect_vectors(reader, report, ("state", 1), states, self.dimension())?;
        let wide = self.action_dimension();
        let actions = "SELECT v.id, v.embedding, a.hash FROM action_vector v
                       LEFT JOIN action a ON a.id = v.id";
        self.inspect_vectors(reader, report, ("action", CLASHES), actions, wide)?;
        let patterns =
            "SELECT pattern, embedding, NULL FROM pattern_entry WHERE embedding IS NOT NULL";
        self.inspect_vectors(reader, report, ("the embedding of pattern", 0), patterns, wide)
    }

    /// Lengths, finite values, and the hash where there is one: that of the bytes, or one of the next, as many as told.
    fn inspect_vectors(
        &self,
        reader: &Reader,
        report: &mut VerifyReport,
        (what, hashes): (&str, u64),
        sql: &'static str,
        dimension: usize,
    ) -> Result<()> {
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query([]).during(DOING)?;
        let mut numbers = vec![0.0; dimension];
        let expected = dimension * self.storage().width();
        while let Some(row) = found.next().during(DOING)? {
            let id: i64 = row.get(0).during(DOING)?;
            let bytes = encode::blob(row, 1)?;
            report.checked += 1;
            if self.storage().decode(bytes, &mut numbers).is_err() {
                report.tell(format!("{what} {id} has {} bytes, expected {expected}", bytes.len()));
            } else if !numbers.iter().all(|x| x.is_finite()) {
                report.tell(format!("{what} {id} holds a number that is not finite"));
            } else if let Some(hash) = row.get::<_, Option<i64>>(2).during(DOING)?
                && encode::unsigned(hash).wrapping_sub(encode::hash(bytes)) >= hashes
            {
                report.tell(format!("{what} {id} is not the one whose hash its row has"));
            }
        }
        Ok(())
    }
}

/// Compares what the index says of every row, the state in its copy and the row's code with the row itself.
fn compare(reader: &Reader, mirror: &Mirror, open: &Open, report: &mut VerifyReport) -> Result<()> {
    let mut statement = reader.statement(ROWS)?;
    let mut found = statement.query([0]).during(DOING)?;
    let mut state = vec![0.0; open.facts.dimension];
    let mut scratch = Scratch::default();
    while let Some(row) = found.next().during(DOING)? {
        let entry = entry(row).during(DOING)?;
        let bytes = encode::blob(row, 10)?;
        open.facts.storage.decode(bytes, &mut state)?;
        let key = entry.key;
        if mirror.index.entry(key) != Some(entry) {
            report.tell(format!("the index does not know row {} as it is", key.0));
        } else if mirror.index.copied_state(key).is_some_and(|copied| copied != bytes) {
            report.tell(format!("the saved index has another state than row {}", key.0));
        } else if !mirror.index.codes(key, &state, &mut scratch) {
            report.tell(format!("the index codes another state than that of row {}", key.0));
        }
    }
    Ok(())
}

/// Damage that ends a read is what was looked for; anything else is a failure to look.
fn tolerate(outcome: Result<()>, report: &mut VerifyReport) -> Result<()> {
    match outcome {
        Err(Error::Corrupt { what }) => {
            report.tell(what);
            Ok(())
        }
        Err(why @ Error::Sqlite { .. }) => {
            report.tell(why.to_string());
            Ok(())
        }
        other => other,
    }
}
