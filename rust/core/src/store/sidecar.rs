//! When the index is saved beside the database, and when what lies there is believed.
//!
//! A file is read if it says that it belongs to this database, under these settings, and that it has seen no more of it
//! than there is; what was written since is caught up from the change log. Nothing that is wrong with it is an error:
//! then the rows are read, and a line is told.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::OptionalExtension;

use super::change::Position;
use super::connections::{Reader, Target};
use super::open::Facts;
use super::sync::Mirror;
use super::{Open, UNPOISONED, encode};
use crate::error::{During, Result};
use crate::hnsw::{Params, Quantization};
use crate::ids::RowKey;
use crate::index::Index;
use crate::index::save::Outline;
use crate::index::sidecar::{Copy, Header, Kind, Sidecar, Unfit, Writer};
use crate::metric::Metric;

const DOING: &str = "reading states into the saved index";

/// Rows whose states are read from the database in one snapshot, so that none lasts long enough to keep the log from
/// being copied into the file.
const STROKE: usize = 1024;

/// What brings somebody to save the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Rows were linked in a process that goes on.
    Behind,
    /// Somebody waits for all to be done.
    Flush,
    /// The store is closed.
    Closing,
}

impl Occasion {
    /// Whether so many changes of so many rows are worth writing the file, which is always written whole: two to four
    /// kilobytes a row.
    fn is_worth(self, changed: usize, rows: usize) -> bool {
        match self {
            // What is not saved costs the next opening some linking.
            Self::Flush | Self::Closing => changed * 20 > rows || changed > 20_000,
            // What is not saved costs nothing yet, and may never: a store that grows to a million rows under a limit of
            // 20,000 would write fifty files of which each makes the last one useless. A quarter makes it a dozen, five
            // times the final size in all.
            Self::Behind => changed * 4 > rows,
        }
    }
}

/// Where the index of a database lies: beside it, unless it has none.
pub(super) fn place(target: &Target, facts: &Facts) -> Option<PathBuf> {
    let file = target.path.as_ref().filter(|_| facts.hnsw.enabled)?;
    facts.identity.map(|_| beside(file))
}

/// `<database>-index`.
fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file.as_os_str());
    name.push("-index");
    PathBuf::from(name)
}

impl Open {
    /// Bytes of the saved index on disk.
    pub(super) fn sidecar_size(&self) -> u64 {
        let size = |path: &PathBuf| path.metadata().map_or(0, |found| found.len());
        self.sidecar.as_ref().map_or(0, size)
    }

    /// What is damaged in the saved index; an older one, or something else in its place, is no damage.
    pub(super) fn sidecar_damage(&self) -> Option<String> {
        let found = Sidecar::open(self.sidecar.as_deref()?);
        match found.and_then(|found| found.map_or(Ok(()), |found| found.check())) {
            Err(why @ Unfit::Torn(_)) => Some(why.to_string()),
            _ => None,
        }
    }

    /// The saved index and how much of the file it has seen, if there is one to be believed; `to` is where the file
    /// stands.
    pub(super) fn load_the_index(
        &self,
        reader: &Reader,
        to: Position,
    ) -> Option<(Index, Position)> {
        let path = self.sidecar.as_deref()?;
        let anew = |why: &Unfit| {
            self.news.tell(format!("the index is built anew, the saved one is not used: {why}"));
        };
        let sidecar = match Sidecar::open(path) {
            Ok(Some(sidecar)) => sidecar,
            Ok(None) => {
                if self.due((to.row - 1) as usize) {
                    self.news.tell("the index is built: none is saved beside the database");
                }
                return None;
            }
            Err(why) => {
                anew(&why);
                return None;
            }
        };
        let at = Position { row: sidecar.header.next_row, change: sidecar.header.change };
        let (dimension, params) = (self.facts.dimension, self.facts.hnsw.params());
        let restored = self
            .fits(&sidecar.header, reader, to)
            .and_then(|()| Index::restore(sidecar, dimension, params, &self.stop));
        match restored {
            Ok(index) => index.map(|index| (index, at)),
            Err(why) => {
                anew(&why);
                None
            }
        }
    }

    /// Whether a header speaks of this database, at or before the position `to`, and of these settings.
    fn fits(&self, header: &Header, reader: &Reader, to: Position) -> Result<(), Unfit> {
        let ours = header_of(&self.facts);
        let Header {
            identity,
            dimension,
            metric,
            quantization,
            width,
            m,
            ef_construction,
            seed,
            ..
        } = *header;
        if identity != ours.identity {
            return Err(Unfit::Other("another database"));
        }
        if (dimension, metric, width) != (ours.dimension, ours.metric, ours.width)
            || (quantization, m) != (ours.quantization, ours.m)
            || (ef_construction, seed) != (ours.ef_construction, ours.seed)
        {
            return Err(Unfit::Other("other settings"));
        }
        let at = Position { row: header.next_row, change: header.change };
        let seen_more = at.row > to.row || at.change > to.change;
        if seen_more || at.row < 1 || at.change < 0 || !witnessed(header, reader).unwrap_or(false) {
            return Err(Unfit::Other("another past of this database"));
        }
        Ok(())
    }

    /// Saves the index, if the occasion is worth it. Whatever goes wrong is told and no error: the rows are safe.
    pub(super) fn save_the_index(&self, occasion: Occasion) {
        let Some(path) = self.sidecar.as_deref().filter(|_| !self.connections.read_only()) else {
            return;
        };
        let worth = {
            let mirror = self.mirror.read().expect(UNPOISONED);
            let index = &mirror.index;
            let changed = index.changed();
            mirror.at.is_some()
                && index.graph().linked() > 0
                && occasion.is_worth(changed, index.len())
        };
        if worth && let Err(why) = self.write_sidecar(path) {
            self.news.tell(format!("the index could not be saved: {why}"));
        }
    }

    fn write_sidecar(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let before = Sidecar::open(path).ok().flatten().map(|sidecar| sidecar.header);
        let mut header = header_of(&self.facts);
        if self.is_saved_elsewhere(before.as_ref(), &header) {
            return Ok(());
        }
        header.generation = before.map_or(0, |before| before.generation) + 1;
        let mut writer = Writer::begin(path)?;
        writer.hold(); // searches that have to catch up wait for the mirror, and must not wait for the disk
        let graph = Arc::clone(self.mirror.read().expect(UNPOISONED).index.graph());
        let outline = self.connections.read(|reader| {
            let mirror = self.mirror.read().expect(UNPOISONED);
            let Mirror { index, at, .. } = &*mirror;
            // lost or rebuilt meanwhile: whoever did that will save what comes of it
            let Some(at) = at.filter(|_| Arc::ptr_eq(index.graph(), &graph)) else {
                return Ok(None);
            };
            (header.next_row, header.change) = (at.row, at.change);
            let outline = index.write_columns(&graph, &mut writer);
            drop(mirror);
            if let Ok(outline) = &outline {
                header.witness = witness(reader, outline)?;
            }
            Ok(Some(outline))
        })?;
        let Some(outline) = outline else { return Ok(()) };
        let outline = outline?;
        writer.let_go()?;
        header.rows = outline.keys.len() as u64;
        header.linked = outline.write_graph(&mut writer)? as u64;
        self.write_states(&outline, &mut writer)?;
        drop(outline);
        writer.finish(path, &header)?;
        let Some(written) = Sidecar::open(path)? else { return Ok(()) };
        if written.header == header {
            let mut mirror = self.mirror_to_change();
            mirror.index.saved_as(&graph, Copy::of(written)?);
        }
        Ok(())
    }

    /// Whether another process saved as much as this one has to save, after this one last looked.
    fn is_saved_elsewhere(&self, before: Option<&Header>, ours: &Header) -> bool {
        let Some(before) = before else { return false };
        let mut mirror = self.mirror_to_change();
        let Some(at) = mirror.at else { return false };
        let known = mirror.index.copy().map(|copy| copy.header().generation);
        let same = |header: &Header| {
            let Header { identity, dimension, metric, quantization, m, ef_construction, .. } =
                header;
            (*identity, *dimension, *metric, *quantization, *m, *ef_construction)
        };
        let saved = known.is_some_and(|known| before.generation > known)
            && same(before) == same(ours)
            && (before.next_row, before.change) >= (at.row, at.change)
            && before.linked >= mirror.index.graph().linked() as u64;
        if saved {
            mirror.index.saved_elsewhere();
        }
        saved
    }

    /// Writes the stored bytes of every living row's state, from the last copy where it has them.
    fn write_states(
        &self,
        outline: &Outline<'_>,
        writer: &mut Writer,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let stride = self.facts.dimension * self.facts.storage.width();
        let mut bytes = Vec::with_capacity(STROKE * stride);
        let mut failure = None;
        let written = writer.chunked(Kind::States, Copy::chunk(stride), |to| {
            for first in (0..outline.keys.len()).step_by(STROKE) {
                let slots = first..(first + STROKE).min(outline.keys.len());
                bytes.clear();
                bytes.resize(slots.len() * stride, Copy::GONE);
                if let Err(why) = self.gather(outline, slots, stride, &mut bytes) {
                    failure = Some(why);
                    return Err(io::Error::other("the database could not be read"));
                }
                to.put(&bytes)?;
            }
            Ok(())
        });
        match failure {
            Some(why) => Err(why.into()),
            None => Ok(written?),
        }
    }

    fn gather(
        &self,
        outline: &Outline<'_>,
        slots: std::ops::Range<usize>,
        stride: usize,
        into: &mut [u8],
    ) -> Result<()> {
        let mut far = Vec::new();
        for (at, place) in slots.zip(into.chunks_exact_mut(stride)) {
            match outline.state(at) {
                _ if !outline.live.get(at) => {}
                Some(state) => place.copy_from_slice(state),
                None => far.push((outline.keys[at], place)),
            }
        }
        let (Some((first, _)), Some((last, _))) = (far.first(), far.last()) else { return Ok(()) };
        let range = (first.0, last.0);
        self.connections.read(|reader| {
            let sql = "SELECT id, state FROM vector WHERE id BETWEEN ? AND ? ORDER BY id";
            let mut statement = reader.statement(sql)?;
            let mut found = statement.query(range).during(DOING)?;
            let mut wanted = far.into_iter().peekable();
            while let Some(row) = found.next().during(DOING)? {
                let key = RowKey(row.get(0).during(DOING)?);
                while wanted.next_if(|(wanted, _)| *wanted < key).is_some() {} // gone since
                if let Some((_, place)) = wanted.next_if(|(wanted, _)| *wanted == key) {
                    let state = encode::blob(row, 1)?;
                    if state.len() == place.len() {
                        place.copy_from_slice(state);
                    }
                }
            }
            Ok(())
        })
    }
}

/// What a sidecar of this store says of its settings.
fn header_of(facts: &Facts) -> Header {
    let Params { m, ef_construction, metric, quantization, seed } = facts.hnsw.params();
    let metric = match metric {
        Metric::Cosine => 0,
        Metric::Euclidean => 1,
        Metric::Dot => 2,
    };
    let quantization = match quantization {
        Quantization::None => 0,
        Quantization::Int8 => 1,
        Quantization::Binary => 2,
    };
    Header {
        identity: facts.identity.unwrap_or_default(),
        dimension: facts.dimension as u32,
        metric,
        quantization,
        width: facts.storage.width() as u32,
        m: m as u32,
        ef_construction: ef_construction.min(u32::MAX as usize) as u32,
        seed,
        ..Header::default()
    }
}

/// The newest living row that the database still has.
fn witness(reader: &Reader, outline: &Outline<'_>) -> Result<(i64, [u8; 16])> {
    let mut find = reader.statement("SELECT uuid FROM trajectory WHERE id = ?")?;
    let living = (0..outline.keys.len()).rev().filter(|at| outline.live.get(*at));
    for at in living.take(STROKE) {
        let key = outline.keys[at].0;
        let found = find.query_row([key], |row| row.get(0)).optional().during(DOING)?;
        if let Some(uuid) = found {
            return Ok((key, uuid));
        }
    }
    Ok((0, [0; 16]))
}

/// Whether the database has the row that the header names, or says that it was removed later.
fn witnessed(header: &Header, reader: &Reader) -> Result<bool> {
    let (key, uuid) = header.witness;
    if key == 0 {
        return Ok(true);
    }
    let mut find = reader.statement("SELECT uuid FROM trajectory WHERE id = ?")?;
    let found = find.query_row([key], |row| row.get::<_, [u8; 16]>(0)).optional().during(DOING)?;
    if let Some(found) = found {
        return Ok(found == uuid);
    }
    let sql =
        "SELECT EXISTS (SELECT 1 FROM change WHERE seq > ? AND kind = 0 AND ? BETWEEN id AND last)";
    let mut removed = reader.statement(sql)?;
    removed.query_row((header.change, key), |row| row.get(0)).during(DOING)
}
