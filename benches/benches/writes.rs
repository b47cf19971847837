//! What a store writes a second, beside one bare table that is given the same bytes. `cargo bench --bench writes`.
//!
//! The bare table has the best page size for its rows, no index, and the same pragmas; both take turns at every batch, so
//! that a slow moment of the machine hits both. Arguments: rows (20000), rounds (5).

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

use std::path::Path;
use std::time::Instant;

use precedent_core::ids::TrajectoryId;
use precedent_core::rng::Rng;
use precedent_core::store::{Naming, Options, Prune, Store};
use precedent_core::{Labels, Rows};
use rusqlite::Connection;

const BATCH: usize = 2000;
const PATTERNS: u64 = 300;

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<usize>().ok());
    let rows = numbers.next().unwrap_or(20_000);
    let rounds = numbers.next().unwrap_or(5);
    for dimension in [128, 384, 768] {
        for distinct in [false, true] {
            let batches = batches(rows, dimension, distinct);
            let page = best_page(&batches);
            let actions =
                if distinct { "every action another" } else { "300 actions, one a pattern" };
            println!(
                "{dimension}-d, {rows} rows in batches of {BATCH}, {actions}; the bare table has pages of {page} bytes"
            );
            let mut measured = vec![Vec::new(); 4];
            for _ in 0..rounds {
                for (all, one) in measured.iter_mut().zip(round(&batches, dimension, page)) {
                    all.push(one);
                }
            }
            let works = ["insert", "returns", "delete", "prune"];
            for (what, pairs) in works.iter().zip(&mut measured) {
                tell(what, pairs);
            }
        }
    }
}

/// The rates of both at every kind of work.
fn round(batches: &[Rows], dimension: usize, page: usize) -> Vec<(f64, f64)> {
    let folder = tempfile::tempdir().expect("a folder for the files");
    let options = Options { dimension: Some(dimension), ..Options::default() };
    let store = Store::open(&folder.path().join("ours.db"), options).expect("a new store");
    let table = open_bare(&folder.path().join("bare.db"), page);
    let mut ids = Vec::new();
    let (mut ours, mut bare) = (0.0, 0.0);
    for batch in batches {
        let insert = || ids.extend(store.insert(batch, Naming::Columns).expect("valid rows"));
        ours += seconds(insert);
        bare += seconds(|| fill_bare(&table, batch));
    }
    let rows = ids.len() as f64;
    let mut rates = vec![(rows / ours, rows / bare)];
    rates.extend(keep_ours(&store, &ids).into_iter().zip(keep_bare(&table, ids.len())));
    rates
}

/// The median of the ratios with its spread, and that round's rates.
fn tell(what: &str, pairs: &mut [(f64, f64)]) {
    pairs.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let ratio = |at: usize| pairs[at].0 / pairs[at].1;
    let (ours, bare) = pairs[pairs.len() / 2];
    let (low, middle, high) = (ratio(0), ratio(pairs.len() / 2), ratio(pairs.len() - 1));
    println!(
        "  {what:8} {ours:9.0} rows/s, bare table {bare:9.0}: {middle:.2}x ({low:.2} to {high:.2})"
    );
}

/// Episodes of 20 to 60 steps, 8 task types, actions that repeat with their pattern or never.
fn batches(rows: usize, dimension: usize, distinct: bool) -> Vec<Rows> {
    let rng = Rng::new(5, dimension as u64);
    let number = |at: u64| rng.uniform(at) as f32 - 0.5;
    let actions: Vec<Vec<f32>> = (0..PATTERNS)
        .map(|p| (0..dimension as u64).map(|i| number(1 << 40 | p << 20 | i)).collect())
        .collect();
    let (mut episode, mut step, mut length) = (0_u64, 0_i64, 20);
    (0..rows / BATCH)
        .map(|batch| {
            let mut out = Rows { len: BATCH, ..Rows::default() };
            let (mut episodes, mut steps) = (Vec::new(), Vec::new());
            let mut patterns = Vec::new();
            for i in 0..BATCH {
                let at = (batch * BATCH + i) as u64;
                if step == length {
                    (episode, step) = (episode + 1, 0);
                    length = 20 + rng.child(1).below(episode, 41) as i64;
                }
                let pattern = rng.child(2).below(at, PATTERNS);
                out.states.extend((0..dimension as u64).map(|i| number(at << 14 | i)));
                if distinct {
                    let at = 1 << 50 | at << 14;
                    out.actions.extend((0..dimension as u64).map(|i| number(at | i)));
                } else {
                    out.actions.extend_from_slice(&actions[pattern as usize]);
                }
                out.rewards.push(rng.child(3).uniform(at));
                patterns.push(format!("pattern-{pattern}"));
                episodes.push(format!("episode-{episode}"));
                steps.push(Some(step));
                step += 1;
            }
            out.returns = vec![f64::NAN; BATCH];
            out.patterns = patterns.into_iter().collect();
            out.task_types =
                episodes.iter().map(|name| format!("type-{}", name.len() % 8)).collect();
            out.timestamps = Some((0..BATCH as i64).map(|i| Some(1_750_000_000_000 + i)).collect());
            out.episodes = episodes.into_iter().collect::<Labels>();
            out.step_indices = Some(steps);
            out
        })
        .collect()
}

/// Seconds of this thread's own time; where the system does not tell it, of the clock's.
fn seconds(work: impl FnOnce()) -> f64 {
    let (clock, own) = (Instant::now(), own_seconds());
    work();
    own_seconds().zip(own).map_or(clock.elapsed().as_secs_f64(), |(after, before)| after - before)
}

/// Rows a second.
fn rate(rows: usize, work: impl FnOnce()) -> f64 {
    rows as f64 / seconds(work)
}

/// Seconds that this thread has run, the kernel's work for it included.
fn own_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse::<f64>().ok().map(|ns| ns / 1e9)
}

/// Every fourth row, in an order that jumps.
fn quarter(rows: usize) -> Vec<usize> {
    let mut picked: Vec<usize> = (0..rows).step_by(4).collect();
    Rng::new(9, 9).shuffle(&mut picked);
    picked
}

/// The rates at which a store computes returns, deletes and prunes.
fn keep_ours(store: &Store, ids: &[TrajectoryId]) -> [f64; 3] {
    let rows = ids.len();
    let returns =
        rate(rows, || assert!(store.compute_all_returns(0.99, false, &mut || Ok(())).is_ok()));
    let picked: Vec<_> = quarter(rows).into_iter().map(|at| ids[at]).collect();
    let delete = rate(picked.len(), || {
        for ids in picked.chunks(BATCH) {
            store.delete(ids).expect("known ids");
        }
    });
    let half = Prune { keep_days: None, max_size: Some(rows / 2), ..Prune::default() };
    let prune = rate(rows / 4, || assert!(store.prune(&half, &mut || Ok(())).is_ok()));
    [returns, delete, prune]
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn open_bare(path: &Path, page: usize) -> Connection {
    let connection = Connection::open(path).expect("a new file");
    let pragmas = format!(
        "PRAGMA page_size = {page}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         PRAGMA cache_size = -16384;
         CREATE TABLE step (id INTEGER PRIMARY KEY, uuid BLOB, episode TEXT, step_index INTEGER, task_type TEXT,
         pattern TEXT, reward REAL, return_to_go REAL, timestamp_ms INTEGER, state BLOB, action BLOB)"
    );
    connection.execute_batch(&pragmas).expect("a table");
    connection
}

fn fill_bare(connection: &Connection, rows: &Rows) {
    let sql = "INSERT INTO step VALUES (NULL, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?)";
    let write = connection.unchecked_transaction().expect("a free file");
    let mut insert = write.prepare_cached(sql).expect("good SQL");
    let (wide, action) = (rows.states.len() / rows.len, rows.actions.len() / rows.len);
    let (steps, times) = (rows.step_indices.as_ref(), rows.timestamps.as_ref());
    for row in 0..rows.len {
        let values = (
            [7_u8; 16],
            rows.episodes.get(row),
            steps.map(|column| column[row]),
            rows.task_types.get(row),
            rows.patterns.get(row),
            rows.rewards[row],
            times.map(|column| column[row]),
            bytes(&rows.states[row * wide..][..wide]),
            bytes(&rows.actions[row * action..][..action]),
        );
        insert.execute(values).expect("an insert");
    }
    drop(insert);
    write.commit().expect("a commit");
}

/// The page size with which the bare table is fastest, at its best of three times.
fn best_page(batches: &[Rows]) -> usize {
    let mut best = [4096, 8192, 16_384, 32_768].map(|page| (f64::INFINITY, page));
    for _ in 0..3 {
        let folder = tempfile::tempdir().expect("a folder for the files");
        for (spent, page) in &mut best {
            let table = open_bare(&folder.path().join(format!("{page}.db")), *page);
            *spent = spent.min(seconds(|| batches.iter().for_each(|one| fill_bare(&table, one))));
        }
    }
    best.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(4096, |best| best.1)
}

/// The rates at which plain SQL does the same.
fn keep_bare(connection: &Connection, rows: usize) -> [f64; 3] {
    let each = |sql: &str, ids: &[usize]| {
        for ids in ids.chunks(BATCH) {
            let write = connection.unchecked_transaction().expect("a free file");
            let mut statement = write.prepare_cached(sql).expect("good SQL");
            for id in ids {
                statement.execute([*id as i64 + 1]).expect("a row");
            }
            drop(statement);
            write.commit().expect("a commit");
        }
    };
    let all: Vec<usize> = (0..rows).collect();
    let returns = rate(rows, || {
        each("UPDATE step SET return_to_go = (?1 * 7919 % 10007) / 10007.0 WHERE id = ?1", &all);
    });
    let picked = quarter(rows);
    let delete = rate(picked.len(), || each("DELETE FROM step WHERE id = ?", &picked));
    let prune = rate(rows / 4, || {
        let sql = "DELETE FROM step WHERE id IN (SELECT id FROM step
                   ORDER BY reward > 0.5, return_to_go, timestamp_ms, id LIMIT ?)";
        connection.execute(sql, [rows as i64 / 4]).expect("rows");
    });
    [returns, delete, prune]
}
