//! The way of a query: cache, catch up, filter and scan in memory, rerank at full precision, read the rows.

use std::sync::Arc;

use rayon::prelude::*;

use super::connections::Reader;
use super::originals::{LaterStates, StoredStates};
use super::read::{Missing, pattern_name, rows};
use super::resolve;
use super::sync::Mirror;
use super::{Open, Store, UNPOISONED, encode, validate};
use crate::error::{During, Error, Result};
use crate::filter::Filter;
use crate::ids::{PatternId, RowKey};
use crate::index::{Hit, Originals, Question, Resolved, Scratch};
use crate::metric::Metric;
use crate::pool::Pool;
use crate::rows::Rows;

const DOING: &str = "reading states";

/// How to search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchOptions {
    /// At most this many answers, at least 1.
    pub k: usize,
    /// What nearness means; `None` is the store's.
    pub metric: Option<Metric>,
    /// The least similarity that counts; `None` counts all.
    pub threshold: Option<f64>,
    /// The rows that may be answers.
    pub filter: Filter,
    /// Whether the answer must be proven equal to brute force.
    pub exact: bool,
    /// Candidates of a graph search, at least `k`; `None` is the store's, or an eighth more than `k` where that is more.
    pub ef_search: Option<usize>,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            k: 5,
            metric: None,
            threshold: Some(0.8),
            filter: Filter::default(),
            exact: false,
            ef_search: None,
        }
    }
}

impl SearchOptions {
    fn check(&self) -> Result<()> {
        if self.k == 0 {
            return Err(Error::invalid("k", "at least 1", 0));
        }
        if let Some(ef) = self.ef_search.filter(|ef| *ef < self.k) {
            return Err(Error::invalid(
                "ef_search",
                format!("at least k, which is {}", self.k),
                ef,
            ));
        }
        validate::not_nan("threshold", self.threshold)?;
        resolve::check(&self.filter)
    }
}

/// What to search for, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The state.
    pub vector: Vec<f32>,
    /// The rest.
    pub options: SearchOptions,
}

/// Queries that are answered before the caller is asked whether to go on: a second's work on a large store.
const SLICE: usize = 64;

/// What was found: nearest first, ties to the row that was inserted first.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Keys, distances and similarities.
    pub hits: Vec<Hit>,
    /// The rows, in the order of the hits.
    pub rows: Rows,
}

/// What was done in a similar state.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbor {
    /// The row.
    pub key: RowKey,
    /// How near it is.
    pub similarity: f64,
    /// The pattern that was taken there.
    pub pattern: PatternId,
    /// Its name.
    pub pattern_name: String,
    /// Whether the step succeeded.
    pub succeeded: bool,
}

impl Store {
    /// The nearest rows to a state, read whole.
    pub fn search(&self, query: &Query) -> Result<Arc<Answer>> {
        let open = self.enter()?;
        let Query { vector, options } = query;
        options.check()?;
        let metric = options.metric.unwrap_or(self.metric());
        validate::query(vector, self.dimension(), metric, || "state".to_owned())?;
        if !open.cached {
            return open.in_sync(|reader, mirror| {
                self.answer(&open, reader, mirror, vector, options).map(Arc::new)
            });
        }
        let key = cache_key(query, metric);
        let now = || self.clock.now_ms(); // asked under the lock: no answer is from the future
        let given = |at| {
            let mut cache = open.cache.lock().expect(UNPOISONED);
            cache.get(&key, at, now())
        };
        // An answer that was given before needs no snapshot of the file.
        if let Some(answer) = open.in_step(|mirror| mirror.at.and_then(given))?.flatten() {
            return Ok(answer);
        }
        open.in_sync(|reader, mirror| {
            if let Some(answer) = mirror.at.and_then(given) {
                return Ok(answer);
            }
            let answer = Arc::new(self.answer(&open, reader, mirror, vector, options)?);
            if let Some(at) = mirror.at {
                let mut cache = open.cache.lock().expect(UNPOISONED);
                cache.put(Arc::from(&key[..]), at, &answer, now());
            }
            Ok(answer)
        })
    }

    /// [`Self::search`] for each of several states, which lie one after the other, in parallel.
    ///
    /// `poll` is asked between slices of queries; an error from it ends the search.
    pub fn search_many(
        &self,
        queries: &[f32],
        options: &SearchOptions,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Answer>> {
        self.check_queries(queries, options)?;
        self.each(queries, poll, |open, query| {
            open.in_sync(|reader, mirror| self.answer(open, reader, mirror, query, options))
        })
    }

    /// The keys of the nearest rows to each of several states, without the rows, in parallel; `poll` as in
    /// [`Self::search_many`].
    pub fn search_ids(
        &self,
        queries: &[f32],
        options: &SearchOptions,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Vec<Hit>>> {
        let count = self.check_queries(queries, options)?;
        let open = self.enter()?;
        if open.connections.file().is_none() {
            drop(open);
            return self.each(queries, poll, |open, query| {
                open.in_sync(|reader, mirror| {
                    let filter = open.resolve(reader, &options.filter, mirror.at)?;
                    self.nearest(open, reader, mirror, query, options, &filter)
                })
            });
        }
        // A file has readers enough for every thread, and most states are mapped: one look at where the file stands is
        // enough for a slice.
        if count == 1 {
            let found = open.in_step(|mirror| {
                let filter = open.resolved(&options.filter, mirror.at)?;
                self.at_hand(&open, mirror, queries, options, &filter).ok()
            });
            if let Some(hits) = found?.flatten() {
                return Ok(vec![hits]);
            }
        }
        drop(open);
        let mut answers = Vec::with_capacity(count);
        self.slices(queries, self.dimension(), poll, |open, slice| {
            self.slice(open, slice, options, &mut answers)
        })?;
        Ok(answers)
    }

    /// Answers a slice of queries with one snapshot.
    fn slice(
        &self,
        open: &Open,
        queries: &[f32],
        options: &SearchOptions,
        answers: &mut Vec<Vec<Hit>>,
    ) -> Result<()> {
        let wide = self.dimension();
        let pool = if queries.len() > wide { Some(open.pool()?) } else { None };
        let found: Vec<Result<Vec<Hit>>> = open.in_sync(|reader, mirror| {
            let filter = open.resolve(reader, &options.filter, mirror.at)?;
            let Some(pool) = &pool else {
                return Ok(vec![self.nearest(open, reader, mirror, queries, options, &filter)]);
            };
            let answer = |query: &[f32]| self.at_hand(open, mirror, query, options, &filter);
            Ok(pool.run(|| queries.par_chunks_exact(wide).map(answer).collect()))
        })?;
        for (hits, query) in found.into_iter().zip(queries.chunks_exact(wide)) {
            answers.push(match hits {
                // a row was deleted between the slice's snapshot and the one its state was to be read from
                Err(Error::NotFound { .. }) => open.in_sync(|reader, mirror| {
                    let filter = open.resolve(reader, &options.filter, mirror.at)?;
                    self.nearest(open, reader, mirror, query, options, &filter)
                })?,
                other => other?,
            });
        }
        Ok(())
    }

    /// What was done in the `k` states nearest to this one, under the store's metric.
    pub fn neighbors(&self, query: &[f32], k: usize, filter: &Filter) -> Result<Vec<Neighbor>> {
        let open = self.enter()?;
        let options = SearchOptions {
            k,
            threshold: None,
            filter: filter.clone(),
            ..SearchOptions::default()
        };
        options.check()?;
        validate::query(query, self.dimension(), self.metric(), || "state".to_owned())?;
        open.in_sync(|reader, mirror| {
            let filter = open.resolve(reader, filter, mirror.at)?;
            let hits = self.nearest(&open, reader, mirror, query, &options, &filter)?;
            hits.into_iter().map(|hit| neighbor(reader, mirror, &hit)).collect()
        })
    }

    /// The rows whose state has the same bits, in the order of their insertion.
    pub fn by_state(&self, state: &[f32], filter: &Filter) -> Result<Rows> {
        let open = self.enter()?;
        resolve::check(filter)?;
        let field = || "state".to_owned();
        validate::width(state, 1, self.dimension(), field())?;
        validate::vector(state, self.storage(), field)?;
        let mut bytes = Vec::new();
        self.storage().encode(state, &mut bytes);
        open.in_sync(|reader, mirror| {
            let filter = open.resolve(reader, filter, mirror.at)?;
            let mut keys = mirror.index.by_state_hash(encode::hash(&bytes), &filter);
            let mut same = reader.statement("SELECT state = ? FROM vector WHERE id = ?")?;
            let mut failure = None;
            keys.retain(|key| {
                let found = same.query_row((&bytes, key.0), |row| row.get(0)).during(DOING);
                found.unwrap_or_else(|why| {
                    failure = Some(why);
                    false
                })
            });
            failure.map_or(Ok(()), Err)?;
            rows(reader, &self.facts, &keys, Missing::Refused)
        })
    }

    /// Checks many queries; how many there are.
    fn check_queries(&self, queries: &[f32], options: &SearchOptions) -> Result<usize> {
        drop(self.enter()?); // no queries at all are refused by a closed store too
        options.check()?;
        let metric = options.metric.unwrap_or(self.metric());
        let wide = self.dimension();
        if !queries.len().is_multiple_of(wide) {
            let (field, got) = ("states".to_owned(), queries.len() % wide);
            return Err(Error::Dimension { field, expected: wide, got });
        }
        for (at, query) in queries.chunks_exact(wide).enumerate() {
            validate::query(query, wide, metric, || format!("states[{at}]"))?;
        }
        Ok(queries.len() / wide)
    }

    /// Answers each of many queries, on as many threads as the machine has.
    fn each<T: Send>(
        &self,
        queries: &[f32],
        poll: &mut dyn FnMut() -> Result<()>,
        answer: impl Fn(&Open, &[f32]) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let wide = self.dimension();
        let mut answers = Vec::with_capacity(queries.len() / wide);
        self.slices(queries, wide, poll, |open, slice| {
            if slice.len() == wide {
                answers.push(answer(open, slice)?);
                return Ok(());
            }
            let found: Result<Vec<_>> = open
                .pool()?
                .run(|| slice.par_chunks_exact(wide).map(|query| answer(open, query)).collect());
            answers.extend(found?);
            Ok(())
        })?;
        Ok(answers)
    }

    /// Gives `work` some queries at a time, each of `width` numbers. The store is let go while `poll` is asked: what
    /// that calls may close the store, which would wait for ever for the one who asked.
    pub(super) fn slices<T>(
        &self,
        queries: &[T],
        width: usize,
        poll: &mut dyn FnMut() -> Result<()>,
        mut work: impl FnMut(&Open, &[T]) -> Result<()>,
    ) -> Result<()> {
        self.awaken(poll)?;
        for slice in queries.chunks(SLICE * width) {
            poll()?;
            work(&*self.enter()?, slice)?;
        }
        Ok(())
    }

    fn answer(
        &self,
        open: &Open,
        reader: &Reader,
        mirror: &Mirror,
        query: &[f32],
        options: &SearchOptions,
    ) -> Result<Answer> {
        let filter = open.resolve(reader, &options.filter, mirror.at)?;
        let hits = self.nearest(open, reader, mirror, query, options, &filter)?;
        let keys: Vec<RowKey> = hits.iter().map(|hit| hit.key).collect();
        let rows = rows(reader, &self.facts, &keys, Missing::Refused)?;
        Ok(Answer { hits, rows })
    }

    /// The index's answer within a snapshot, cut at the threshold.
    pub(super) fn nearest(
        &self,
        open: &Open,
        reader: &Reader,
        mirror: &Mirror,
        query: &[f32],
        options: &SearchOptions,
        filter: &Resolved,
    ) -> Result<Vec<Hit>> {
        let mut originals = StoredStates::new(reader, &self.facts);
        self.ask(open, mirror, query, options, filter, &mut originals)
    }

    /// The index's answer where every state is mapped, or else is still there a moment later; [`Error::NotFound`] where
    /// one is not.
    fn at_hand(
        &self,
        open: &Open,
        mirror: &Mirror,
        query: &[f32],
        options: &SearchOptions,
        filter: &Resolved,
    ) -> Result<Vec<Hit>> {
        let mut originals = LaterStates::new(open, &self.facts);
        self.ask(open, mirror, query, options, filter, &mut originals)
    }

    fn ask(
        &self,
        open: &Open,
        mirror: &Mirror,
        query: &[f32],
        options: &SearchOptions,
        filter: &Resolved,
        originals: &mut dyn Originals,
    ) -> Result<Vec<Hit>> {
        let &SearchOptions { k, metric, threshold, filter: _, exact, ef_search } = options;
        let hnsw = &self.facts.hnsw;
        let ef = ef_search.unwrap_or_else(|| hnsw.candidates(k));
        let question = Question {
            query,
            metric: metric.unwrap_or(hnsw.metric),
            k,
            filter,
            ef: (!exact && hnsw.enabled).then_some(ef),
            threshold,
        };
        let found = open
            .with_scratch(|scratch| mirror.index.search(&question, originals, scratch, &self.stop));
        let mut hits = found?;
        if mirror.index.lacks_cells() {
            open.look_after();
        }
        if let Some(threshold) = threshold {
            hits.retain(|hit| hit.similarity >= threshold);
        }
        Ok(hits)
    }
}

impl Open {
    /// Runs `work` in memory that an earlier search left warm.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.scratch.lock().expect(UNPOISONED).pop().unwrap_or_default();
        let done = work(&mut scratch);
        self.scratch.lock().expect(UNPOISONED).push(scratch);
        done
    }

    /// The threads, from the first need until the store is closed.
    pub(super) fn pool(&self) -> Result<Arc<Pool>> {
        let mut pool = self.pool.lock().expect(UNPOISONED);
        match &*pool {
            Some(pool) => Ok(Arc::clone(pool)),
            None => Ok(Arc::clone(pool.insert(Pool::shared()?))),
        }
    }
}

/// A hit as a precedent.
fn neighbor(reader: &Reader, mirror: &Mirror, hit: &Hit) -> Result<Neighbor> {
    let entry = mirror.index.entry(hit.key);
    let entry = entry.ok_or_else(|| Error::Corrupt {
        what: format!("the index found the row {} and does not know it", hit.key.0),
    })?;
    Ok(Neighbor {
        key: hit.key,
        similarity: hit.similarity,
        pattern: entry.pattern,
        pattern_name: pattern_name(reader, entry.pattern.0)?,
        succeeded: entry.succeeded,
    })
}

/// Every bit of the question.
fn cache_key(query: &Query, metric: Metric) -> Vec<u8> {
    let Query { vector, options } = query;
    let SearchOptions { k, metric: _, threshold, filter, exact, ef_search } = options;
    let mut key = Vec::with_capacity(vector.len() * 4 + 64);
    for number in vector {
        key.extend_from_slice(&number.to_le_bytes());
    }
    key.push(metric as u8);
    key.push(u8::from(*exact));
    key.extend_from_slice(&k.to_le_bytes());
    key.push(u8::from(threshold.is_some()));
    key.extend_from_slice(&threshold.unwrap_or_default().to_le_bytes());
    key.extend_from_slice(&ef_search.unwrap_or_default().to_le_bytes());
    if !filter.is_empty() {
        // Debug writes floats so that they read back to the same bits, and quotes strings: no two filters look alike.
        key.extend_from_slice(format!("{filter:?}").as_bytes());
    }
    key
}
