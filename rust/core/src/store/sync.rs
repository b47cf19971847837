//! How what is in memory learns of writes: one path for those of this store, of other stores of the process and of
//! other processes. New rows are known by their keys, everything else from the log of changes.
//!
//! A snapshot and the mirror it is used with stand at the same position. The mirror only moves forward, so whoever finds
//! it ahead takes a newer snapshot, and whoever finds it behind moves it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::Ordering;

use rusqlite::Row;

use super::change::{Change, Position};
use super::connections::{Reader, Stamp};
use super::insert::succeeded;
use super::open::Facts;
use super::patience::{Halt, take};
use super::span::ROWS_OF;
use super::watch::Header;
use super::{Open, UNPOISONED, encode};
use crate::error::{During, Error, Result};
use crate::ids::{EpisodeId, LabelId, PatternId, RowKey};
use crate::index::{Entry, Index};

const DOING: &str = "reading rows into the index";

/// What [`entry`] is made of, and the state, of the rows from a key on.
pub(super) const ROWS: &str =
    "SELECT t.id, t.episode, a.pattern, t.task_type, t.agent_type, t.reward, t.return_to_go,
     t.timestamp_ms, t.success, t.state_hash, v.state
     FROM trajectory t JOIN vector v ON v.id = t.id JOIN action a ON a.id = t.action
     WHERE t.id >= ? ORDER BY t.id";

/// What is derived from the file and kept in memory.
pub(super) struct Mirror {
    pub(super) index: Index,
    /// How much of the file it has seen; `None` = nothing was asked of it yet.
    pub(super) at: Option<Position>,
    /// Whether the sidecar may know more than nothing: it is asked once.
    sidecar: bool,
}

impl Mirror {
    pub(super) fn new(facts: &Facts) -> Self {
        Self { index: facts.index(), at: None, sidecar: true }
    }

    /// One that reads every row, whatever lies beside the file.
    pub(super) fn anew(facts: &Facts) -> Self {
        Self { sidecar: false, ..Self::new(facts) }
    }
}

impl Facts {
    fn index(&self) -> Index {
        let made = if self.hnsw.enabled { Index::new } else { Index::scanned };
        made(self.dimension, self.hnsw.params())
    }
}

/// What a reader saw when it last looked.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    stamp: Stamp,
    position: Position,
    /// The header of the log, if it was read before the snapshot began: while it is the same, so is the rest.
    header: Option<Header>,
}

impl Open {
    /// Runs `work` on a snapshot and a mirror of the same position, which is the newest there is.
    pub(super) fn in_sync<T>(
        &self,
        work: impl FnOnce(&mut Reader, &Mirror) -> Result<T>,
    ) -> Result<T> {
        self.in_sync_until(None, work)
    }

    /// [`Self::in_sync`], ended by the halt if there is one.
    pub(super) fn in_sync_until<T>(
        &self,
        halt: Option<&Halt>,
        work: impl FnOnce(&mut Reader, &Mirror) -> Result<T>,
    ) -> Result<T> {
        self.connections.read_until(halt, |reader| {
            let mirror = loop {
                let position = position(reader)?;
                let mirror = match halt {
                    Some(halt) => halt.take(|| self.mirror.try_read())?,
                    None => self.mirror.read().expect(UNPOISONED),
                };
                if mirror.at == Some(position) {
                    break mirror;
                }
                let ahead = mirror.at.is_some_and(|at| at > position);
                drop(mirror);
                if ahead {
                    reader.renew()?;
                } else {
                    self.catch_up(reader, position, halt)?;
                }
            };
            work(reader, &mirror)
        })
    }

    /// Runs `work` on a mirror that has seen every commit that was there when it began, without a snapshot: for those who
    /// can do without the file. `None` where that needs more than a look.
    pub(super) fn in_step<T>(&self, work: impl FnOnce(&Mirror) -> T) -> Result<Option<T>> {
        let Some(position) = self.connections.peek(glance)? else { return Ok(None) };
        let mirror = self.mirror.read().expect(UNPOISONED);
        Ok(mirror.at.is_some_and(|at| at >= position).then(|| work(&mirror)))
    }

    /// The mirror for whoever changes it. It waits without standing in line: the lock lets nobody read behind a writer that
    /// waits, and of those who read already some wait for threads of the pool, which may be about to read themselves.
    pub(super) fn mirror_to_change(&self) -> RwLockWriteGuard<'_, Mirror> {
        let Ok(mirror) = take(|| self.mirror.try_write(), || Ok::<_, Infallible>(()));
        mirror
    }

    fn catch_up(&self, reader: &Reader, to: Position, halt: Option<&Halt>) -> Result<()> {
        let (rows, tended) = {
            let mut mirror = match halt {
                Some(halt) => halt.take(|| self.mirror.try_write())?,
                None => self.mirror_to_change(),
            };
            let moved = mirror.catch_up(reader, self, to);
            self.awake.store(moved.is_ok(), Ordering::Relaxed);
            moved?;
            (mirror.index.len(), self.is_tended(&mirror.index))
        };
        // rows of other processes come and go this way too
        self.rows.store(rows, Ordering::Relaxed);
        if tended {
            self.look_after();
        }
        Ok(())
    }
}

/// Where the reader's snapshot stands; two or three microseconds less if nothing changed since it last looked.
pub(super) fn position(reader: &mut Reader) -> Result<Position> {
    let stamp = reader.stamp()?;
    if let Some(seen) = reader.seen.filter(|seen| seen.stamp == stamp) {
        return Ok(seen.position);
    }
    let position = Position::of(reader)?;
    reader.seen = Some(Seen { stamp, position, header: None });
    Ok(position)
}

/// [`position`] of a reader that has no snapshot: SQLite is asked only if the header of its log moved.
fn glance(reader: &mut Reader) -> Result<Position> {
    // Read before SQLite is asked, and noted only here: a commit in between is then noticed once more, rather than never.
    let header = reader.connection.header();
    if let Some(seen) = reader.seen.filter(|seen| header.is_some() && seen.header == header) {
        return Ok(seen.position);
    }
    let position = position(reader)?;
    if let Some(seen) = &mut reader.seen {
        seen.header = header;
    }
    Ok(position)
}

impl Mirror {
    /// Moves to `to`, where the reader's snapshot stands, unless it is there or beyond already.
    fn catch_up(&mut self, reader: &Reader, open: &Open, to: Position) -> Result<()> {
        if self.at.is_some_and(|at| at >= to) {
            return Ok(());
        }
        let mut from = self.at.take(); // should this fail half way, the next attempt starts from nothing
        let asked = from.is_none() && std::mem::take(&mut self.sidecar);
        if asked && let Some((index, at)) = open.load_the_index(reader, to) {
            self.index = index;
            from = Some(at);
        }
        let saved = asked && from.is_some();
        let changes = match from {
            Some(from) => from.changes_since(reader)?,
            None => None,
        };
        if let (Some(from), Some(changes)) = (from, changes) {
            let mut episodes = self.apply(reader, from, &changes)?;
            self.append(reader, open, from.row, |episode| {
                episodes.insert(episode);
            })?;
            self.refresh_totals(reader, &episodes)?;
            if saved && !self.counts_every_step(reader)? {
                open.news.tell("the index is built anew: the saved one holds other rows");
                self.read_all(reader, open)?;
            }
        } else {
            if saved {
                open.news.tell("the index is built anew: the saved one is too old to catch up");
            }
            self.read_all(reader, open)?;
        }
        self.at = Some(to);
        Ok(())
    }

    fn read_all(&mut self, reader: &Reader, open: &Open) -> Result<()> {
        self.index = open.facts.index();
        self.append(reader, open, 0, |_| {})?;
        self.load_totals(reader)
    }

    /// Whether the rows are as many as the episodes say.
    fn counts_every_step(&self, reader: &Reader) -> Result<bool> {
        let mut count = reader.statement("SELECT ifnull(sum(steps), 0) FROM episode")?;
        let steps: i64 = count.query_row([], |row| row.get(0)).during(DOING)?;
        Ok(steps == self.index.len() as i64)
    }

    /// Appends the rows from the key `first` on.
    fn append(
        &mut self,
        reader: &Reader,
        open: &Open,
        first: i64,
        mut touched: impl FnMut(i64),
    ) -> Result<()> {
        let facts = &open.facts;
        let mut statement = reader.statement(ROWS)?;
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
            if count.is_multiple_of(1024) && open.stop.load(Ordering::Relaxed) {
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

/// A row of [`ROWS`] as the index takes it.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Store};

    #[test]
    fn a_commit_during_a_snapshot_is_seen_by_the_next_glance() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let store = Store::open(&path, Options::default()).unwrap();
        let other = Store::open(&path, Options::default()).unwrap();
        let write = |name| other.upsert_pattern(name, None, None, None).unwrap();
        write("a");
        let open = store.enter().unwrap();
        let glanced = || open.connections.peek(glance).unwrap().unwrap();
        let position_of_a_snapshot = || open.connections.read(position).unwrap();
        assert_eq!(position_of_a_snapshot(), glanced());
        let watched = |reader: &mut Reader| Ok(reader.connection.header().is_some());
        assert!(open.connections.peek(watched).unwrap().unwrap());
        let inside = open.connections.read(|reader| {
            let before = position(reader)?;
            write("b");
            assert_eq!(position(reader)?, before, "a snapshot stays as it is");
            Ok(before)
        });
        let after = glanced();
        assert!(after > inside.unwrap());
        assert_eq!([glanced(), position_of_a_snapshot()], [after, after]);
        write("c");
        assert!(position_of_a_snapshot() > after);
        assert!(glanced() > after);
    }
}
