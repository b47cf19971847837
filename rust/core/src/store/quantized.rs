//! The graph's codes as a thing of their own: states as codes and back, and searches by codes alone.

use std::sync::Arc;

use rayon::prelude::*;

use super::resolve::{self, resolve};
use super::{Open, Store, UNPOISONED, validate};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::hnsw::{Codec, Graph, Role};
use crate::ids::RowKey;

/// One row of an answer by codes: its distance is estimated.
pub type Estimate = (RowKey, f32);

impl Store {
    /// Bytes of one encoded vector.
    pub fn code_bytes(&self, role: Role) -> Result<usize> {
        self.with_codec(|codec| Ok(codec.bytes_per_vector(role)))
    }

    /// The codes of states that lie one after the other, [`Self::code_bytes`] each. States are what `insert` takes; as
    /// queries, what `search` takes.
    pub fn encode(&self, states: &[f32], role: Role) -> Result<Vec<u8>> {
        let wide = self.dimension();
        validate::width(states, states.len() / wide.max(1), wide, "states".to_owned())?;
        for (at, state) in states.chunks_exact(wide).enumerate() {
            validate::query(state, wide, self.metric(), || format!("states[{at}]"))?;
        }
        self.with_codec(|codec| {
            let mut codes = Vec::with_capacity(states.len() / wide * codec.bytes_per_vector(role));
            states.chunks_exact(wide).for_each(|state| codec.encode(state, role, &mut codes));
            Ok(codes)
        })
    }

    /// The states that codes of rows stand for, one after the other.
    pub fn decode(&self, codes: &[u8]) -> Result<Vec<f32>> {
        self.with_codec(|codec| {
            let bytes = codec.bytes_per_vector(Role::Row);
            let mut states = Vec::with_capacity(codes.len() / bytes * self.dimension());
            for code in codes.chunks(bytes) {
                states.extend(codec.decode(code)?);
            }
            Ok(states)
        })
    }

    /// The `k` rows nearest to each of some codes (of [`Role::Query`], one after the other) under the graph's metric, by
    /// codes only: nothing is measured again, so distances are estimates and the order is theirs. `poll` as in
    /// [`Self::search_many`].
    pub fn search_quantized(
        &self,
        codes: &[u8],
        k: usize,
        filter: &Filter,
        poll: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<Vec<Estimate>>> {
        resolve::check(filter)?;
        if k == 0 {
            return Err(Error::invalid("k", "at least 1", 0));
        }
        let bytes = self.code_bytes(Role::Query)?;
        if !codes.len().is_multiple_of(bytes) {
            let expected = format!("{bytes} bytes a query");
            return Err(Error::invalid("codes", expected, codes.len() % bytes));
        }
        let hnsw = &self.facts.hnsw;
        let ef = hnsw.enabled.then(|| hnsw.candidates(k));
        let mut answers = Vec::with_capacity(codes.len() / bytes);
        self.slices(codes, bytes, poll, |open, slice| {
            let pool = if slice.len() > bytes { Some(open.pool()?) } else { None };
            let found: Result<Vec<_>> = open.in_sync(|reader, mirror| {
                let filter = resolve(reader, filter)?;
                let answer = |code: &[u8]| {
                    open.with_scratch(|scratch| {
                        mirror.index.search_code(code, k, &filter, ef, scratch, &self.stop)
                    })
                };
                match &pool {
                    Some(pool) => pool.run(|| slice.par_chunks_exact(bytes).map(answer).collect()),
                    None => answer(slice).map(|only| vec![only]),
                }
            });
            answers.extend(found?);
            Ok(())
        })?;
        Ok(answers)
    }

    fn with_codec<T>(&self, work: impl FnOnce(&Codec) -> Result<T>) -> Result<T> {
        let open = self.enter()?;
        work(graph(&open).codec())
    }
}

/// A graph of this store, whatever rows it has: all code alike.
fn graph(open: &Open) -> Arc<Graph> {
    Arc::clone(open.mirror.read().expect(UNPOISONED).index.graph())
}
