//! The store as a trainer sees it: whole episodes by columns, and vectors by key.

use std::collections::{HashMap, HashSet};

use super::connections::Reader;
use super::episode::STEP_ORDER;
use super::originals::{each_state, gone};
use super::read::{label, pattern_name};
use super::resolve::{self, resolve};
use super::span::ROWS_OF;
use super::{Store, encode};
use crate::error::{During, Result};
use crate::filter::Filter;
use crate::ids::RowKey;
use crate::nn::{Episodes, Experience};

const DOING: &str = "reading episodes to learn from";

/// A dictionary of stored numbers, in the order of their first mention.
#[derive(Default)]
struct Names {
    codes: HashMap<i64, u32>,
    names: Vec<String>,
}

impl Names {
    fn code(&mut self, id: i64, name: impl FnOnce() -> Result<String>) -> Result<u32> {
        if let Some(code) = self.codes.get(&id) {
            return Ok(*code);
        }
        let code = self.names.len() as u32;
        self.names.push(name()?);
        self.codes.insert(id, code);
        Ok(code)
    }
}

impl Experience for Store {
    fn check_open(&self) -> Result<()> {
        self.enter().map(drop)
    }

    fn state_size(&self) -> usize {
        self.dimension()
    }

    fn action_size(&self) -> usize {
        self.action_dimension()
    }

    fn episodes(&self, filter: &Filter) -> Result<Episodes> {
        let open = self.enter()?;
        resolve::check(filter)?;
        open.in_sync(|reader, mirror| {
            let resolved = resolve(reader, filter)?;
            let mut ids = mirror.index.episodes_matching(&resolved);
            ids.sort_unstable();
            let selected = (!filter.is_empty())
                .then(|| mirror.index.keys_matching(&resolved).into_iter().collect::<HashSet<_>>());
            let is_selected = |key| selected.as_ref().is_none_or(|keys| keys.contains(&key));
            let mut reading = Reading::new(reader);
            for id in ids {
                reading.episode(id.0, is_selected)?;
            }
            Ok(reading.finish())
        })
    }

    fn read_vectors(
        &self,
        keys: &[RowKey],
        states: Option<&mut [f32]>,
        actions: Option<&mut [f32]>,
    ) -> Result<()> {
        let open = self.enter()?;
        open.connections.read(|reader| {
            if let Some(states) = states {
                self.read_states(reader, keys, states)?;
            }
            actions.map_or(Ok(()), |actions| self.read_actions(reader, keys, actions))
        })
    }

    fn pattern_embeddings(&self) -> Result<(Vec<String>, Vec<f32>)> {
        let open = self.enter()?;
        self.with_book(&open, |_, book| {
            let (mut names, mut embeddings) = (Vec::new(), Vec::new());
            for (name, embedding) in book.embeddings() {
                names.push(name.to_owned());
                embeddings.extend_from_slice(&embedding);
            }
            Ok((names, embeddings))
        })
    }

    fn encoder(&self) -> Option<String> {
        Store::encoder(self).map(str::to_owned)
    }
}

impl Store {
    fn read_states(&self, reader: &Reader, keys: &[RowKey], states: &mut [f32]) -> Result<()> {
        let wide = self.dimension();
        each_state(reader, keys, DOING, gone, |at, bytes| {
            self.storage().decode(bytes, &mut states[at * wide..][..wide])
        })
    }

    /// Equal actions are decoded once.
    fn read_actions(&self, reader: &Reader, keys: &[RowKey], actions: &mut [f32]) -> Result<()> {
        let wide = self.action_dimension();
        let mut find = reader.statement("SELECT action FROM trajectory WHERE id = ?")?;
        let mut read = reader.statement("SELECT embedding FROM action_vector WHERE id = ?")?;
        let mut first = HashMap::<i64, usize>::new();
        for (at, key) in keys.iter().enumerate() {
            let mut found = find.query([key.0]).during(DOING)?;
            let row = found.next().during(DOING)?.ok_or_else(|| gone(*key))?;
            let action: i64 = row.get(0).during(DOING)?;
            if let Some(known) = first.get(&action) {
                actions.copy_within(known * wide..(known + 1) * wide, at * wide);
                continue;
            }
            let mut found = read.query([action]).during(DOING)?;
            let row = found.next().during(DOING)?.ok_or_else(|| gone(*key))?;
            self.storage().decode(encode::blob(row, 0)?, &mut actions[at * wide..][..wide])?;
            first.insert(action, at);
        }
        Ok(())
    }
}

/// Episodes on their way into columns.
struct Reading<'a> {
    reader: &'a Reader,
    out: Episodes,
    patterns: Names,
    task_types: Names,
}

impl<'a> Reading<'a> {
    fn new(reader: &'a Reader) -> Self {
        let out = Episodes { bounds: vec![0], ..Episodes::default() };
        Self { reader, out, patterns: Names::default(), task_types: Names::default() }
    }

    fn episode(&mut self, id: i64, is_selected: impl Fn(RowKey) -> bool) -> Result<()> {
        let reader = self.reader;
        let mut head = reader.statement("SELECT name, total_reward FROM episode WHERE id = ?")?;
        let head = head.query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).during(DOING)?;
        self.out.names.push(head.0);
        self.out.total_rewards.push(head.1);
        let sql = format!(
            "SELECT t.id, t.reward, t.return_to_go, (SELECT pattern FROM action WHERE id = t.action),
             t.task_type, t.duration_ms, t.ended FROM {ROWS_OF} {STEP_ORDER}"
        );
        let mut statement = reader.statement(&sql)?;
        let mut found = statement.query([id]).during(DOING)?;
        let mut cut_off = false;
        while let Some(row) = found.next().during(DOING)? {
            let key = RowKey(row.get(0).during(DOING)?);
            self.out.keys.push(key);
            self.out.selected.push(is_selected(key));
            self.out.rewards.push(row.get(1).during(DOING)?);
            self.out.returns.push(row.get::<_, Option<f64>>(2).during(DOING)?.unwrap_or(f64::NAN));
            let pattern = row.get(3).during(DOING)?;
            self.out.patterns.push(self.patterns.code(pattern, || pattern_name(reader, pattern))?);
            let task_type = row.get(4).during(DOING)?;
            self.out.task_types.push(self.task_types.code(task_type, || label(reader, task_type))?);
            self.out.durations.push(row.get::<_, Option<i64>>(5).during(DOING)?.unwrap_or(0));
            cut_off = row.get::<_, i64>(6).during(DOING)? == 2; // truncated, and not terminated
        }
        self.out.cut_off.push(cut_off);
        self.out.bounds.push(self.out.keys.len());
        Ok(())
    }

    fn finish(self) -> Episodes {
        let Self { mut out, patterns, task_types, .. } = self;
        (out.pattern_names, out.task_type_names) = (patterns.names, task_types.names);
        out
    }
}
