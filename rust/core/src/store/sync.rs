//! How what is in memory learns of writes: one path for those of this store, of other stores of the process and of
//! other processes. New rows are known by their keys, everything else from the log of changes.
//!
//! A snapshot and the mirror it is used with stand at the same position. The mirror only moves forward, so whoever finds
//! it ahead takes a newer snapshot, and whoever finds it behind moves it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Row;

use super::change::{Change, Position};
use super::connections::{Reader, Stamp};
use super::insert::succeeded;
use super::open::Facts;
use super::span::ROWS_OF;
use super::{Open, Store, UNPOISONED, encode};
use crate::error::{During, Error, Result};
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};
use crate::index::{Entry, Index};

const DOING: &str = "reading rows into the index";

/// What is derived from the file and kept in memory.
pub(super) struct Mirror {
    pub(super) index: Index,
    /// How much of the file it has seen; `None` = nothing was asked of it yet.
    pub(super) at: Option<Position>,
}

impl Mirror {
    pub(super) fn new(dimension: usize) -> Self {
        Self { index: Index::new(dimension), at: None }
    }
}

/// What a reader saw when it last looked.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    stamp: Stamp,
    position: Position,
}

impl Store {
    /// Runs `work` on a snapshot and a mirror of the same position, which is the newest there is.
    pub(super) fn in_sync<T>(
        &self,
        open: &Open,
        work: impl FnOnce(&mut Reader, &Mirror) -> Result<T>,
    ) -> Result<T> {
        open.connections.read(|reader| {
            let mirror = loop {
                let position = position(reader)?;
                let mirror = open.mirror.read().expect(UNPOISONED);
                if mirror.at == Some(position) {
                    break mirror;
                }
                let ahead = mirror.at.is_some_and(|at| at > position);
                drop(mirror);
                if ahead {
                    reader.renew()?;
                } else {
                    let mut mirror = open.mirror.write().expect(UNPOISONED);
                    mirror.catch_up(reader, &self.facts, position, &self.stop)?;
                }
            };
            work(reader, &mirror)
        })
    }

    /// Throws away what is derived and derives it anew.
    pub fn rebuild_index(&self) -> Result<()> {
        let open = self.enter()?;
        *open.mirror.write().expect(UNPOISONED) = Mirror::new(self.facts.dimension);
        self.in_sync(&open, |_, _| Ok(()))
    }

    /// Waits until every committed row is in the index.
    pub fn flush(&self) -> Result<()> {
        let open = self.enter()?;
        self.in_sync(&open, |_, _| Ok(()))
    }
}

/// Where the reader's snapshot stands; two or three microseconds less if nothing changed since it last looked.
pub(super) fn position(reader: &mut Reader) -> Result<Position> {
    let stamp = reader.stamp()?;
    if let Some(seen) = reader.seen.filter(|seen| seen.stamp == stamp) {
        return Ok(seen.position);
    }
    let position = Position::of(reader)?;
    reader.seen = Some(Seen { stamp, position });
    Ok(position)
}

impl Mirror {
    /// Moves to `to`, where the reader's snapshot stands, unless it is there or beyond already.
    fn catch_up(
        &mut self,
        reader: &Reader,
        facts: &Facts,
        to: Position,
        stop: &AtomicBool,
    ) -> Result<()> {
        if self.at.is_some_and(|at| at >= to) {
            return Ok(());
        }
        let from = self.at.take(); // should this fail half way, the next attempt starts from nothing
        let changes = match from {
            Some(from) => from.changes_since(reader)?,
            None => None,
        };
        if let (Some(from), Some(changes)) = (from, changes) {
            let mut episodes = self.apply(reader, from, &changes)?;
            self.append(reader, facts, from.row, stop, |episode| {
                episodes.insert(episode);
            })?;
            self.refresh_totals(reader, &episodes)?;
        } else {
            self.index = Index::new(facts.dimension);
            self.append(reader, facts, 0, stop, |_| {})?;
            self.load_totals(reader)?;
        }
        self.at = Some(to);
        Ok(())
    }

    /// Appends the rows from the key `first` on.
    fn append(
        &mut self,
        reader: &Reader,
        facts: &Facts,
        first: i64,
        stop: &AtomicBool,
        mut touched: impl FnMut(i64),
    ) -> Result<()> {
        let sql = "SELECT t.id, t.episode, a.pattern, t.task_type, t.agent_type, t.reward, t.return_to_go,
                   t.timestamp_ms, t.success, t.state_hash, v.state
                   FROM trajectory t JOIN vector v ON v.id = t.id JOIN action a ON a.id = t.action
                   WHERE t.id >= ? ORDER BY t.id";
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query([first]).during(DOING)?;
        let mut state = vec![0.0; facts.dimension];
        let mut count = 0_u32;
        while let Some(row) = found.next().during(DOING)? {
            let entry = entry(row).during(DOING)?;
            let bytes = encode::blob(row, 10)?;
            facts.storage.decode(bytes, &mut state)?;
            self.index.append(&entry, &state);
            touched(entry.episode.0);
            count = count.wrapping_add(1);
            if count.is_multiple_of(1024) && stop.load(Ordering::Relaxed) {
                return Err(Error::Closed("the store was closed".to_owned()));
            }
        }
        Ok(())
    }

    /// Applies what the log says; the episodes whose total must be read again.
    fn apply(
        &mut self,
        reader: &Reader,
        from: Position,
        changes: &[Change],
    ) -> Result<BTreeSet<i64>> {
        let (mut removed, mut episodes) = (Vec::new(), BTreeSet::new());
        let (mut returns, mut all_returns) = (BTreeSet::new(), false);
        for change in changes {
            match *change {
                Change::Removed(first, last) => {
                    removed.extend((first..=last.min(from.row - 1)).map(RowKey));
                }
                Change::Returns(episode) => {
                    returns.insert(episode);
                }
                Change::AllReturns => all_returns = true,
                Change::Episode(episode) => {
                    episodes.insert(episode);
                }
                Change::Pattern(_) => {}
            }
        }
        if !removed.is_empty() {
            self.index.remove(&removed);
        }
        if all_returns {
            self.refresh_returns(
                reader,
                "SELECT id, return_to_go FROM trajectory WHERE id < ?",
                &[from.row],
            )?;
        } else {
            let sql = format!("SELECT t.id, t.return_to_go FROM {ROWS_OF} AND t.id < ?2");
            for episode in returns {
                self.refresh_returns(reader, &sql, &[episode, from.row])?;
            }
        }
        Ok(episodes)
    }

    fn refresh_returns(&mut self, reader: &Reader, sql: &str, arguments: &[i64]) -> Result<()> {
        let mut statement = reader.statement(sql)?;
        let mut found = statement.query(rusqlite::params_from_iter(arguments)).during(DOING)?;
        while let Some(row) = found.next().during(DOING)? {
            self.index.set_return(RowKey(row.get(0).during(DOING)?), row.get(1).during(DOING)?);
        }
        Ok(())
    }

    fn refresh_totals(&mut self, reader: &Reader, episodes: &BTreeSet<i64>) -> Result<()> {
        let mut statement = reader.statement("SELECT total_reward FROM episode WHERE id = ?")?;
        for id in episodes {
            let mut found = statement.query([id]).during(DOING)?;
            if let Some(row) = found.next().during(DOING)? {
                self.index.set_episode_total(EpisodeId(*id), row.get(0).during(DOING)?);
            }
        }
        Ok(())
    }

    fn load_totals(&mut self, reader: &Reader) -> Result<()> {
        let mut statement = reader.statement("SELECT id, total_reward FROM episode")?;
        let mut found = statement.query([]).during(DOING)?;
        while let Some(row) = found.next().during(DOING)? {
            let id = EpisodeId(row.get(0).during(DOING)?);
            self.index.set_episode_total(id, row.get(1).during(DOING)?);
        }
        Ok(())
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let reward = row.get(5)?;
    Ok(Entry {
        key: RowKey(row.get(0)?),
        episode: EpisodeId(row.get(1)?),
        pattern: PatternId(row.get(2)?),
        task_type: LabelId(row.get(3)?),
        agent_type: row.get::<_, Option<i64>>(4)?.map(LabelId),
        reward,
        ret: row.get(6)?,
        timestamp: row.get(7)?,
        succeeded: succeeded(row.get(8)?, reward),
        state_hash: encode::unsigned(row.get(9)?),
    })
}
