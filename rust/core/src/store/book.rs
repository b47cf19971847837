//! The embeddings of all patterns in memory, for whoever asks which pattern an action is. Kept like the mirror: at a
//! position of the file, moved forward by what was written since, reading again only the patterns that writes touched.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::change::{Change, Position};
use super::connections::Reader;
use super::open::Facts;
use super::pattern::Gathered;
use super::sync::position;
use super::{Open, Store, UNPOISONED, encode};
use crate::error::{During, Result};

const DOING: &str = "reading patterns";

/// How far the quick cosine may be off: eight float32 sums over at most 16,384 products of unit vectors.
const SLACK: f32 = 1e-4;

/// All patterns of one store.
#[derive(Default)]
pub(super) struct Book {
    at: Option<Position>,
    patterns: BTreeMap<i64, Known>,
}

/// One pattern.
struct Known {
    key: String,
    /// What `upsert_pattern` gave.
    given: Option<Vec<f32>>,
    gathered: Gathered,
    /// The embedding at length 1, or zeros; empty where there is none.
    unit: Vec<f32>,
}

impl Store {
    /// Runs `work` on a snapshot and a book of the same position.
    pub(super) fn with_book<T>(
        &self,
        open: &Open,
        work: impl FnOnce(&mut Reader, &Book) -> Result<T>,
    ) -> Result<T> {
        open.connections.read(|reader| {
            let mut book = open.book.lock().expect(UNPOISONED);
            let mut now = position(reader)?;
            if book.at.is_some_and(|at| at > now) {
                // Nobody moves it while it is locked, and a new snapshot is at least as new.
                reader.renew()?;
                now = position(reader)?;
            }
            book.catch_up(reader, &self.facts, now)?;
            work(reader, &book)
        })
    }
}

impl Book {
    /// The `k` patterns with the greatest cosine to a vector that is not zero; ties to the older pattern.
    pub(super) fn nearest(&self, vector: &[f32], k: usize) -> Vec<(i64, f64)> {
        let unit = unit(vector);
        let known = self.patterns.iter().filter(|(_, known)| !known.unit.is_empty());
        let mut quick: Vec<(f32, i64)> =
            known.map(|(id, known)| (dot(&unit, &known.unit), *id)).collect();
        quick.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        if let Some(&(last, _)) = quick.get(k.saturating_sub(1)) {
            quick.retain(|(cosine, _)| *cosine >= last - SLACK);
        }
        let exact = |id: &i64| {
            let pairs = unit.iter().zip(&self.patterns[id].unit);
            pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let mut found: Vec<_> = quick.iter().map(|(_, id)| (*id, exact(id))).collect();
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(Reverse(b.0).cmp(&Reverse(a.0))));
        found.truncate(k);
        found
    }

    /// The patterns that have an embedding, in the order of their first mention.
    pub(super) fn embeddings(&self) -> impl Iterator<Item = (&str, Vec<f32>)> {
        self.patterns.values().filter_map(|known| Some((known.key.as_str(), known.embedding()?)))
    }

    /// Whether it has seen exactly as much of the file.
    pub(super) fn is_at(&self, position: Position) -> bool {
        self.at == Some(position)
    }

    /// The embedding of a pattern that has one.
    pub(super) fn embedding(&self, id: i64) -> Option<Vec<f32>> {
        self.patterns.get(&id).and_then(Known::embedding)
    }

    /// Moves to `to`, where the reader's snapshot stands, unless it is there or beyond already.
    pub(super) fn catch_up(&mut self, reader: &Reader, facts: &Facts, to: Position) -> Result<()> {
        if self.at.is_some_and(|at| at >= to) {
            return Ok(());
        }
        let from = self.at.take(); // should this fail half way, the next attempt starts from nothing
        let changes = match from {
            Some(from) => from.changes_since(reader)?,
            None => None,
        };
        let mut stale = BTreeSet::new();
        if let (Some(from), Some(changes)) = (from, changes) {
            stale.extend(changes.iter().filter_map(|change| match change {
                Change::Pattern(id) => Some(*id),
                _ => None,
            }));
            self.add_uses(reader, facts, from.row, &mut stale)?;
        } else {
            self.patterns.clear();
            let mut all = reader.statement("SELECT id FROM pattern")?;
            let ids = all.query_map([], |row| row.get(0)).during(DOING)?;
            stale = ids.collect::<rusqlite::Result<_>>().during(DOING)?;
        }
        for id in stale {
            match Known::read(reader, facts, id)? {
                Some(known) => drop(self.patterns.insert(id, known)),
                None => drop(self.patterns.remove(&id)),
            }
        }
        self.at = Some(to);
        Ok(())
    }

    /// Adds the actions of the rows from the key `first` on to patterns that are known and not stale; a pattern that is
    /// new is read whole.
    fn add_uses(
        &mut self,
        reader: &Reader,
        facts: &Facts,
        first: i64,
        stale: &mut BTreeSet<i64>,
    ) -> Result<()> {
        let sql = "SELECT a.pattern, t.uses, v.embedding FROM
                   (SELECT action, count(*) AS uses FROM trajectory WHERE id >= ? GROUP BY action) t
                   JOIN action a ON a.id = t.action JOIN action_vector v ON v.id = a.id";
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query([first]).during(DOING)?;
        let mut embedding = vec![0.0; facts.action_dimension];
        let mut moved = BTreeSet::new();
        while let Some(row) = found.next().during(DOING)? {
            let pattern: i64 = row.get(0).during(DOING)?;
            if stale.contains(&pattern) {
                continue;
            }
            let Some(known) = self.patterns.get_mut(&pattern) else {
                stale.insert(pattern);
                continue;
            };
            let bytes = encode::blob(row, 2)?;
            facts.storage.decode(bytes, &mut embedding)?;
            known.gathered.add(&embedding, row.get(1).during(DOING)?);
            moved.insert(pattern);
        }
        for pattern in moved {
            if let Some(known) = self.patterns.get_mut(&pattern) {
                known.point();
            }
        }
        Ok(())
    }
}

impl Known {
    fn read(reader: &Reader, facts: &Facts, id: i64) -> Result<Option<Self>> {
        let sql =
            "SELECT p.key, e.embedding FROM pattern p LEFT JOIN pattern_entry e ON e.pattern = p.id
                   WHERE p.id = ?";
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query([id]).during(DOING)?;
        let Some(row) = found.next().during(DOING)? else { return Ok(None) };
        let mut given = None;
        if let Some(bytes) = row.get_ref(1).during(DOING)?.as_blob_or_null().unwrap_or_default() {
            facts.storage.decode(bytes, given.insert(vec![0.0; facts.action_dimension]))?;
        }
        let gathered = Gathered::read(reader, facts, id)?;
        let mut known = Self { key: row.get(0).during(DOING)?, given, gathered, unit: Vec::new() };
        known.point();
        Ok(Some(known))
    }

    fn embedding(&self) -> Option<Vec<f32>> {
        self.given.clone().or_else(|| self.gathered.centroid())
    }

    fn point(&mut self) {
        self.unit = self.embedding().map_or_else(Vec::new, |embedding| unit(&embedding));
    }
}

/// The vector at length 1; zeros stay zeros.
fn unit(vector: &[f32]) -> Vec<f32> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let scale = if square > 0.0 { square.sqrt().recip() } else { 0.0 };
    vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}

/// Eight running sums, which the compiler keeps in one register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
