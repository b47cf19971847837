//! The actions of a batch on their way in: each distinct one of a pattern is stored once and counts its uses.
//!
//! A batch in which every row has an action of its own is as common as one that repeats a few, so new actions are
//! looked for and added sixteen to a statement.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Statement, ToSql};

use super::append::{GROUP, insert_into};
use super::encode;
use super::open::Facts;
use super::options::Storage;
use crate::error::{During, Error, Result};
use crate::rows::Rows;

const DOING: &str = "inserting the actions of trajectories";

/// No row: SQLite numbers them from 1.
const NONE: i64 = 0;

/// A distinct action of a batch.
struct Distinct {
    /// The first row that has it.
    row: usize,
    /// The row of its pattern.
    pattern: i64,
    hash: i64,
    uses: i64,
}

/// Stores each distinct action of the batch once and counts its uses; the action row of each row.
pub(super) fn store(
    connection: &Connection,
    rows: &Rows,
    facts: &Facts,
    patterns: &[i64],
) -> Result<Vec<i64>> {
    let actions = Actions {
        numbers: &rows.actions,
        dimension: facts.action_dimension,
        storage: facts.storage,
        patterns,
    };
    let (positions, distinct) = actions.distinct(&rows.patterns.codes);
    let ids = actions.settle(connection, &distinct)?;
    Ok(positions.into_iter().map(|at| ids[at as usize]).collect())
}

/// The action embeddings of a batch.
struct Actions<'a> {
    numbers: &'a [f32],
    dimension: usize,
    storage: Storage,
    /// The row of each code.
    patterns: &'a [i64],
}

impl Actions<'_> {
    fn numbers(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.dimension..][..self.dimension]
    }

    fn encode(&self, row: usize, bytes: &mut Vec<u8>) {
        self.storage.encode(self.numbers(row), bytes);
    }

    /// For each row the position of its action among the distinct ones.
    fn distinct(&self, codes: &[u32]) -> (Vec<u32>, Vec<Distinct>) {
        let mut known: HashMap<(i64, i64), u32> = HashMap::new();
        let mut distinct: Vec<Distinct> = Vec::new();
        // The newest action of each pattern: most patterns of most batches have but one, and to look is quicker than
        // to hash.
        let mut newest: Vec<Option<u32>> = vec![None; self.patterns.len()];
        let (mut bytes, mut other) = (Vec::new(), Vec::new());
        let mut positions = Vec::with_capacity(codes.len());
        for (row, &code) in codes.iter().enumerate() {
            let pattern = self.patterns[code as usize];
            let newest = &mut newest[code as usize];
            let at = newest.filter(|&at| {
                same_bits(self.numbers(row), self.numbers(distinct[at as usize].row))
            });
            let at = at.unwrap_or_else(|| {
                self.encode(row, &mut bytes);
                let mut hash = encode::signed(encode::hash(&bytes));
                loop {
                    match known.entry((pattern, hash)) {
                        Entry::Vacant(free) => {
                            let at = distinct.len() as u32;
                            free.insert(at);
                            distinct.push(Distinct { row, pattern, hash, uses: 0 });
                            break at;
                        }
                        Entry::Occupied(found) => {
                            let at = *found.get();
                            self.encode(distinct[at as usize].row, &mut other);
                            if bytes == other {
                                break at;
                            }
                            hash = hash.wrapping_add(1); // another action with this hash
                        }
                    }
                }
            });
            *newest = Some(at);
            distinct[at as usize].uses += 1;
            positions.push(at);
        }
        (positions, distinct)
    }

    /// Adds the actions that the file does not have and counts the uses of those that it has; their rows.
    fn settle(&self, connection: &Connection, distinct: &[Distinct]) -> Result<Vec<i64>> {
        let mut ids = Self::look_up(connection, distinct)?;
        let mut table = Table::prepare(connection)?;
        let (mut new, mut late, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (at, action) in distinct.iter().enumerate() {
            if ids[at] == NONE {
                new.push(at);
                continue;
            }
            self.encode(action.row, &mut bytes);
            if table.holds(ids[at], &bytes)? {
                table.count(ids[at], action.uses)?;
            } else {
                late.push(at);
            }
        }
        let (groups, rest) = new.as_chunks::<GROUP>();
        self.add(connection, distinct, groups.iter().map(|group| &group[..]), &mut ids)?;
        self.add(connection, distinct, rest.chunks(1), &mut ids)?;
        // Another action has the hash: the next free one is looked for when all the others have their places.
        for at in late {
            let Distinct { row, pattern, mut hash, uses } = distinct[at];
            self.encode(row, &mut bytes);
            ids[at] = loop {
                match table.find(pattern, hash)? {
                    Some(id) if table.holds(id, &bytes)? => {
                        table.count(id, uses)?;
                        break id;
                    }
                    Some(_) => hash = hash.wrapping_add(1),
                    None => {
                        let moved = [Distinct { row, pattern, hash, uses }];
                        let mut id = [NONE];
                        self.add(connection, &moved, [&[0][..]].into_iter(), &mut id)?;
                        break id[0];
                    }
                }
            };
        }
        Ok(ids)
    }

    /// The rows of the actions with these hashes, or [`NONE`]. What they hold may be another action.
    fn look_up(connection: &Connection, distinct: &[Distinct]) -> Result<Vec<i64>> {
        const FIND: &str = "ifnull((SELECT id FROM action WHERE pattern = ? AND hash = ?), 0)";
        let width = if distinct.len() < GROUP { 1 } else { GROUP };
        let sql = format!("SELECT {}", vec![FIND; width].join(", "));
        let mut find = connection.prepare_cached(&sql).during(DOING)?;
        let mut ids = Vec::with_capacity(distinct.len());
        for group in distinct.chunks(width) {
            find.clear_bindings(); // what the last group leaves unbound finds nothing
            for (action, at) in group.iter().zip((1..).step_by(2)) {
                bind(&mut find, at, action.pattern)?;
                bind(&mut find, at + 1, action.hash)?;
            }
            let mut found = find.raw_query();
            let row = found.next().during(DOING)?.expect("a SELECT without FROM has one row");
            for at in 0..group.len() {
                ids.push(row.get(at).during(DOING)?);
            }
        }
        Ok(ids)
    }

    /// Adds actions, groups of positions of one length, and notes their rows in `ids`.
    fn add<'g>(
        &self,
        connection: &Connection,
        distinct: &[Distinct],
        mut groups: impl Iterator<Item = &'g [usize]>,
        ids: &mut [i64],
    ) -> Result<()> {
        let Some(first) = groups.next() else { return Ok(()) };
        let prepare = |table, columns: &[_]| {
            connection.prepare_cached(&insert_into(table, columns, first.len())).during(DOING)
        };
        let mut actions = prepare("action", &["pattern", "hash", "uses"])?;
        let mut vectors = prepare("action_vector", &["embedding"])?;
        let mut bytes = Vec::new();
        for group in std::iter::once(first).chain(groups) {
            for ((&at, action), vector) in group.iter().zip((1..).step_by(3)).zip(1..) {
                let Distinct { row, pattern, hash, uses } = distinct[at];
                bind(&mut actions, action, pattern)?;
                bind(&mut actions, action + 1, hash)?;
                bind(&mut actions, action + 2, uses)?;
                self.encode(row, &mut bytes);
                bind(&mut vectors, vector, &bytes[..])?;
            }
            actions.raw_execute().during(DOING)?;
            let last = connection.last_insert_rowid();
            vectors.raw_execute().during(DOING)?;
            if connection.last_insert_rowid() != last {
                let what = "actions and their embeddings are not of one number".to_owned();
                return Err(Error::Corrupt { what });
            }
            // Each row took the number after the greatest there was, so the rows of a statement are neighbours.
            for (&at, id) in group.iter().rev().zip((1..=last).rev()) {
                ids[at] = id;
            }
        }
        Ok(())
    }
}

/// The actions that the file has.
struct Table<'c> {
    find: CachedStatement<'c>,
    compare: CachedStatement<'c>,
    count: CachedStatement<'c>,
}

impl<'c> Table<'c> {
    fn prepare(connection: &'c Connection) -> Result<Self> {
        let prepare = |sql| connection.prepare_cached(sql).during(DOING);
        Ok(Self {
            find: prepare("SELECT id FROM action WHERE pattern = ? AND hash = ?")?,
            compare: prepare("SELECT embedding = ? FROM action_vector WHERE id = ?")?,
            count: prepare("UPDATE OR ROLLBACK action SET uses = uses + ? WHERE id = ?")?,
        })
    }

    fn find(&mut self, pattern: i64, hash: i64) -> Result<Option<i64>> {
        self.find.query_row((pattern, hash), |row| row.get(0)).optional().during(DOING)
    }

    /// Whether an action is stored as these bytes.
    fn holds(&mut self, id: i64, bytes: &[u8]) -> Result<bool> {
        let same = self.compare.query_row((bytes, id), |row| row.get(0)).optional();
        same.map(|same| same == Some(true)).during(DOING)
    }

    fn count(&mut self, id: i64, uses: i64) -> Result<()> {
        self.count.execute((uses, id)).map(drop).during(DOING)
    }
}

fn bind(statement: &mut Statement<'_>, at: usize, value: impl ToSql) -> Result<()> {
    statement.raw_bind_parameter(at, value).during(DOING)
}

/// Whether two vectors are the same down to the last bit; then so are their stored forms.
fn same_bits(a: &[f32], b: &[f32]) -> bool {
    // Pieces without an early end, which the compiler turns into a few wide instructions each.
    let same = |(a, b): (&[f32], &[f32])| {
        a.iter().zip(b).fold(0, |different, (a, b)| different | (a.to_bits() ^ b.to_bits())) == 0
    };
    a.chunks(64).zip(b.chunks(64)).all(same)
}
