//! Patterns: what an action embedding stands for, how often it was used, and how that went.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use super::change::{Change, log};
use super::connections::Reader;
use super::open::Facts;
use super::remove::drop_unused_pattern;
use super::resolve::{self, resolve};
use super::search::SearchOptions;
use super::sync::position;
use super::{Store, UNPOISONED, encode, validate};
use crate::error::{During, Error, Result};
use crate::filter::Filter;

const DOING: &str = "reading a pattern";

/// A pattern as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct PatternRecord {
    /// Its name in actions.
    pub pattern_id: String,
    /// Its name for people.
    pub name: Option<String>,
    /// What to execute: a JSON text.
    pub payload: Option<String>,
    /// What `upsert_pattern` gave, else the centroid of the actions that name it.
    pub embedding: Option<Vec<f32>>,
    /// Steps that took it.
    pub uses: usize,
    /// Those of them that succeeded.
    pub successes: usize,
    /// Mean reward of those steps.
    pub mean_reward: Option<f64>,
}

/// A pattern that was taken in similar states, and how well it went there.
#[derive(Clone, Debug, PartialEq)]
pub struct PatternMatch {
    /// The greatest similarity of a state in which it was taken.
    pub similarity: f64,
    /// What matches are ranked by: `low`.
    pub score: f64,
    /// The 5 % quantile of the posterior of its success here.
    pub low: f64,
    /// The 95 % quantile.
    pub high: f64,
    /// The pattern.
    pub pattern: PatternRecord,
}

/// What similar states say of one pattern.
#[derive(Clone, Copy, Default)]
struct Votes {
    successes: f64,
    failures: f64,
    similarity: f64,
}

impl Votes {
    /// The central 90 % of Beta(1 + successes, 1 + failures).
    fn interval(&self) -> (f64, f64) {
        let (a, b) = (1.0 + self.successes, 1.0 + self.failures);
        (puruspe::invbetai(0.05, a, b), puruspe::invbetai(0.95, a, b))
    }
}

impl Store {
    /// Describes a pattern; what is `None` stays as it was.
    pub fn upsert_pattern(
        &self,
        pattern_id: &str,
        embedding: Option<&[f32]>,
        name: Option<&str>,
        payload: Option<&str>,
    ) -> Result<()> {
        let doing = "describing a pattern";
        let open = self.enter_to_write(doing)?;
        if pattern_id.is_empty() {
            return Err(Error::invalid("pattern_id", "a name", "an empty string"));
        }
        let mut bytes = None;
        if let Some(embedding) = embedding {
            self.check_embedding(embedding)?;
            self.storage().encode(embedding, bytes.insert(Vec::new()));
        }
        open.connections.write(doing, |connection| {
            let sql = "INSERT INTO pattern (key, uses, successes, reward_sum) VALUES (?, 0, 0, 0.0)
                       ON CONFLICT (key) DO UPDATE SET key = key RETURNING id";
            let mut add = connection.prepare_cached(sql).during(doing)?;
            let id: i64 = add.query_row([pattern_id], |row| row.get(0)).during(doing)?;
            let sql =
                "INSERT INTO pattern_entry (pattern, name, payload, embedding) VALUES (?, ?, ?, ?)
                       ON CONFLICT (pattern) DO UPDATE SET name = ifnull(excluded.name, name),
                       payload = ifnull(excluded.payload, payload),
                       embedding = ifnull(excluded.embedding, embedding)";
            let mut describe = connection.prepare_cached(sql).during(doing)?;
            describe.execute((id, name, payload, bytes)).during(doing)?;
            log(connection, [Change::Pattern(id)])
        })
    }

    /// One pattern. An unknown name: [`Error::NotFound`].
    pub fn get_pattern(&self, pattern_id: &str) -> Result<PatternRecord> {
        let open = self.enter()?;
        open.connections.read(|reader| {
            let id = find(&reader.connection, pattern_id)?;
            record(reader, &self.facts, id, None)
        })
    }

    /// Drops what `upsert_pattern` gave. A pattern in use stays, as the centroid of its actions; another is gone. An
    /// unknown name: [`Error::NotFound`].
    pub fn delete_pattern(&self, pattern_id: &str) -> Result<()> {
        let doing = "deleting a pattern";
        let open = self.enter_to_write(doing)?;
        open.connections.write(doing, |connection| {
            let id = find(connection, pattern_id)?;
            let sql = "DELETE FROM pattern_entry WHERE pattern = ?";
            let mut forget = connection.prepare_cached(sql).during(doing)?;
            forget.execute([id]).during(doing)?;
            drop_unused_pattern(connection, id)?;
            log(connection, [Change::Pattern(id)])
        })
    }

    /// How many patterns there are.
    pub fn pattern_count(&self) -> Result<usize> {
        let open = self.enter()?;
        open.connections.read(|reader| {
            let mut count = reader.statement("SELECT count(*) FROM pattern")?;
            count.query_row([], |row| row.get::<_, i64>(0)).map(|n| n as usize).during(DOING)
        })
    }

    /// The names of all patterns, in the order of their first mention.
    pub fn pattern_ids(&self) -> Result<Vec<String>> {
        let open = self.enter()?;
        open.connections.read(|reader| {
            let mut list = reader.statement("SELECT key FROM pattern ORDER BY id")?;
            let names = list.query_map([], |row| row.get(0)).during(DOING)?;
            names.collect::<rusqlite::Result<_>>().during(DOING)
        })
    }

    /// The `k` patterns whose embedding is nearest to this one, with the cosine, clipped to [0, 1].
    pub fn search_patterns(
        &self,
        embedding: &[f32],
        k: usize,
    ) -> Result<Vec<(PatternRecord, f64)>> {
        let open = self.enter()?;
        check_k(k)?;
        self.check_embedding(embedding)?;
        if embedding.iter().all(|x| *x == 0.0) {
            return Err(Error::invalid("embedding", "a vector with a direction", "zeros"));
        }
        self.with_book(&open, |reader, book| {
            let nearest = book.nearest(embedding, k);
            let records = nearest.into_iter().map(|(id, cosine)| {
                let record = record(reader, &self.facts, id, book.embedding(id))?;
                Ok((record, cosine.clamp(0.0, 1.0)))
            });
            records.collect()
        })
    }

    /// The patterns that were taken in the `neighbors` states nearest to this one, best first by the lower bound of
    /// their success there: Beta(1 + sum of w for successes, 1 + sum of w for failures), w being the similarity, of
    /// which the central 90 % are given. States less similar than `min_similarity` have no vote.
    pub fn match_patterns(
        &self,
        state: &[f32],
        k: usize,
        neighbors: usize,
        min_similarity: f64,
        filter: &Filter,
    ) -> Result<Vec<PatternMatch>> {
        let open = self.enter()?;
        check_k(k)?;
        if neighbors == 0 {
            return Err(Error::invalid("neighbors", "at least 1", 0));
        }
        validate::not_nan("min_similarity", Some(min_similarity))?;
        resolve::check(filter)?;
        validate::query(state, self.dimension(), self.metric(), || "state".to_owned())?;
        let threshold = Some(min_similarity);
        let options = SearchOptions { k: neighbors, threshold, ..SearchOptions::default() };
        open.in_sync(|reader, mirror| {
            let filter = resolve(reader, filter)?;
            let mut votes = BTreeMap::<i64, Votes>::new();
            let hits = self.nearest(&open, reader, mirror, state, &options, &filter)?;
            // products have no bound: as they are, one use would weigh as many
            let most = hits.iter().fold(1.0, |most: f64, hit| most.max(hit.similarity));
            for hit in hits {
                let Some(entry) = mirror.index.entry(hit.key) else { continue };
                let votes = votes.entry(entry.pattern.0).or_default();
                let weight = hit.similarity.max(0.0) / most;
                *(if entry.succeeded { &mut votes.successes } else { &mut votes.failures }) +=
                    weight;
                votes.similarity = votes.similarity.max(hit.similarity);
            }
            let mut ranked: Vec<_> =
                votes.into_iter().map(|(id, votes)| (id, votes, votes.interval())).collect();
            ranked.sort_by(|(_, a, (low_a, _)), (_, b, (low_b, _))| {
                low_b.total_cmp(low_a).then(b.similarity.total_cmp(&a.similarity))
            });
            let mut book = open.book.lock().expect(UNPOISONED);
            let at = position(reader)?;
            book.catch_up(reader, &self.facts, at)?;
            let best = ranked.into_iter().take(k).map(|(id, votes, (low, high))| {
                // Another thread may have moved the book beyond this snapshot: then the file is asked.
                let known = if book.is_at(at) { book.embedding(id) } else { None };
                let pattern = record(reader, &self.facts, id, known)?;
                Ok(PatternMatch { similarity: votes.similarity, score: low, low, high, pattern })
            });
            best.collect()
        })
    }

    fn check_embedding(&self, embedding: &[f32]) -> Result<()> {
        let field = || "embedding".to_owned();
        validate::width(embedding, 1, self.action_dimension(), field())?;
        validate::vector(embedding, self.storage(), field)
    }
}

fn check_k(k: usize) -> Result<()> {
    if k == 0 { Err(Error::invalid("k", "at least 1", 0)) } else { Ok(()) }
}

fn find(connection: &Connection, key: &str) -> Result<i64> {
    let mut find =
        connection.prepare_cached("SELECT id FROM pattern WHERE key = ?").during(DOING)?;
    let found = find.query_row([key], |row| row.get(0)).optional().during(DOING)?;
    found.ok_or_else(|| Error::NotFound { what: "pattern", id: key.to_owned() })
}

/// Reads a pattern; its embedding too, unless it is known.
fn record(
    reader: &Reader,
    facts: &Facts,
    id: i64,
    known: Option<Vec<f32>>,
) -> Result<PatternRecord> {
    let sql = "SELECT p.key, p.uses, p.successes, p.reward_sum, e.name, e.payload, e.embedding
               FROM pattern p LEFT JOIN pattern_entry e ON e.pattern = p.id WHERE p.id = ?";
    let mut statement = reader.statement(sql)?;
    let mut found = statement.query([id]).during(DOING)?;
    let row = found.next().during(DOING)?;
    let row = row.ok_or_else(|| Error::NotFound { what: "pattern", id: id.to_string() })?;
    let uses: i64 = row.get(1).during(DOING)?;
    let reward_sum: f64 = row.get(3).during(DOING)?;
    let given = row.get_ref(6).during(DOING)?.as_blob_or_null().unwrap_or_default();
    let embedding = match (known, given) {
        (Some(known), _) => Some(known),
        (None, Some(bytes)) => {
            let mut given = vec![0.0; facts.action_dimension];
            facts.storage.decode(bytes, &mut given)?;
            Some(given)
        }
        (None, None) => Gathered::read(reader, facts, id)?.centroid(),
    };
    Ok(PatternRecord {
        pattern_id: row.get(0).during(DOING)?,
        name: row.get(4).during(DOING)?,
        payload: row.get(5).during(DOING)?,
        embedding,
        uses: uses as usize,
        successes: row.get::<_, i64>(2).during(DOING)? as usize,
        mean_reward: (uses > 0).then(|| reward_sum / uses as f64),
    })
}

/// The actions of a pattern, summed.
#[derive(Clone, Default)]
pub(super) struct Gathered {
    pub(super) sum: Vec<f64>,
    pub(super) uses: i64,
}

impl Gathered {
    /// Sums what the snapshot has.
    pub(super) fn read(reader: &Reader, facts: &Facts, pattern: i64) -> Result<Self> {
        let sql = "SELECT a.uses, v.embedding FROM action a JOIN action_vector v ON v.id = a.id
                   WHERE a.pattern = ?";
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query([pattern]).during(DOING)?;
        let mut gathered = Self { sum: vec![0.0; facts.action_dimension], uses: 0 };
        let mut embedding = vec![0.0; facts.action_dimension];
        while let Some(row) = found.next().during(DOING)? {
            let bytes = encode::blob(row, 1)?;
            facts.storage.decode(bytes, &mut embedding)?;
            gathered.add(&embedding, row.get(0).during(DOING)?);
        }
        Ok(gathered)
    }

    /// Adds `uses` uses of an action.
    pub(super) fn add(&mut self, embedding: &[f32], uses: i64) {
        self.uses += uses;
        for (sum, number) in self.sum.iter_mut().zip(embedding) {
            *sum += f64::from(*number) * uses as f64;
        }
    }

    /// The mean action; none where there is no use.
    pub(super) fn centroid(&self) -> Option<Vec<f32>> {
        let uses = self.uses as f64;
        (self.uses > 0).then(|| self.sum.iter().map(|sum| (sum / uses) as f32).collect())
    }
}
