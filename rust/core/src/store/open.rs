//! From a path and options to a connection and the facts that hold: what the file is, whether it is ours, and what it
//! says that the caller left open.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};
#[cfg(unix)]
use rustix::fs::Access;

use super::connections::{Target, bound_cache};
use super::options::{Hnsw, HnswSettings, Options, Storage};
use super::schema;
use crate::error::{During, Error, Result};
use crate::metric::Metric;

/// What holds for an open store, whoever said it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) dimension: usize,
    pub(super) action_dimension: usize,
    pub(super) storage: Storage,
    pub(super) hnsw: Hnsw,
    pub(super) encoder: Option<String>,
    /// Which database it is, if the file says.
    pub(super) identity: Option<[u8; 16]>,
    /// Whether the caller changed the graph's settings of a file that was there.
    pub(super) graph_changed: bool,
}

const SETTING: &str = "reading the settings of the store";

/// Opens or creates the file at `path`.
pub(super) fn open(path: &Path, options: &Options) -> Result<(Target, Connection, Facts)> {
    options.check()?;
    let memory = path == Path::new(":memory:");
    if memory && options.read_only {
        return Err(Error::invalid(
            "read_only",
            "a file: what is in memory starts empty",
            path.display(),
        ));
    }
    let mut target = Target {
        path: None,
        read_only: options.read_only,
        immutable: false,
        durability: options.durability,
        busy_timeout: options.busy_timeout,
    };
    if !memory {
        // An absolute path: the process may change its folder, and SQLite must not take "file:" for a URI.
        let file = std::path::absolute(path).map_err(|why| refused(path, why))?;
        let lies = prepare_place(&file, options.read_only)?;
        target.path = Some(file);
        if lies {
            probe(&target, path)?;
        }
    }
    let connection = connect(&mut target, path)?;
    let fresh = identify(&connection, path)?;
    if fresh && options.read_only {
        return Err(Error::Format { path: path.to_owned(), why: "it is empty".to_owned() });
    }
    if options.read_only {
        schema::check_newest(&connection, path)?;
    } else {
        if !memory {
            write_ahead(&connection, path, fresh, options)?;
            bound_cache(&connection, true).during("bounding the memory of a connection")?;
        }
        schema::migrate(&connection)?;
    }
    let facts = settle(&connection, options)?;
    Ok((target, connection, facts))
}

fn access(path: &Path, why: impl Into<String>) -> Error {
    Error::Access { path: path.to_owned(), why: why.into(), source: None }
}

/// An [`Error::Access`] with what the system said.
fn refused(path: &Path, why: std::io::Error) -> Error {
    Error::access(path, why.to_string(), why)
}

/// Looks at what lies at the path before SQLite does, and makes the folder it is to lie in; whether something lies there
/// that is not empty. Nothing but SQLite opens a database: when a process closes a file, whatever locks it has there are
/// gone, those of its other stores too.
fn prepare_place(file: &Path, read_only: bool) -> Result<bool> {
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => Err(access(file, "a folder is in the file's place")),
        Ok(found) if !found.is_file() => Err(access(file, "it is no regular file")),
        Ok(found) if found.len() == 1 => Err(foreign(file)), // SQLite takes it for empty
        Ok(found) => Ok(found.len() > 0),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            if read_only {
                return Err(Error::access(file, "there is no such file to read", why));
            }
            let parent = file.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(parent).map_err(|why| refused(file, why))?;
            Ok(false)
        }
        Err(why) => Err(refused(file, why)),
    }
}

/// Refuses what is no database. SQLite is asked in a way that touches nothing: opening a file for use removes what it
/// takes for a broken journal of it, and that may be anybody's.
fn probe(target: &Target, path: &Path) -> Result<()> {
    let looking = Target { read_only: true, immutable: true, ..target.clone() };
    match looking.connect(false) {
        Err(why) if why.sqlite_error_code() == Some(ErrorCode::NotADatabase) => Err(foreign(path)),
        _ => Ok(()),
    }
}

fn foreign(path: &Path) -> Error {
    Error::Format { path: path.to_owned(), why: "it is no SQLite database".to_owned() }
}

/// An [`Error::Access`] of a file that SQLite cannot open. It keeps the system's reason to itself, so the system is asked
/// again.
fn unopened_by(path: &Path, read_only: bool, why: &rusqlite::Error) -> Error {
    #[cfg(unix)]
    let asked = {
        let missing = !path.exists();
        let place = if missing { path.parent().unwrap_or(path) } else { path };
        let writing = if read_only { Access::empty() } else { Access::WRITE_OK };
        rustix::fs::access(place, Access::READ_OK | writing).map_err(std::io::Error::from)
    };
    #[cfg(not(unix))]
    let asked = std::fs::File::options().read(true).write(!read_only).open(path);
    asked.err().map_or_else(|| access(path, why.to_string()), |said| refused(path, said))
}

/// The first connection. A file that nobody can write to, in a folder where no log can be made, is read as it lies.
fn connect(target: &mut Target, path: &Path) -> Result<Connection> {
    let outcome = target.connect(!target.read_only);
    let unopened = |why: &rusqlite::Error| {
        matches!(
            why.sqlite_error_code(),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
        )
    };
    match outcome {
        Err(why) if unopened(&why) => {
            let log = target.path.as_deref().map(log_of);
            let logged = log.is_some_and(|log| log.metadata().is_ok_and(|found| found.len() > 0));
            if target.read_only && !logged {
                target.immutable = true;
                return target.connect(false).map_err(|why| unopened_by(path, true, &why));
            }
            Err(unopened_by(path, target.read_only, &why))
        }
        other => other.during("opening the store"),
    }
}

/// SQLite's write-ahead log of a file.
pub(super) fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Whether the file is new. A file of another program, or of a newer version, is refused untouched.
fn identify(connection: &Connection, path: &Path) -> Result<bool> {
    // One statement, so that the three facts are of one moment while another process creates the file.
    let (id, version, tables): (i32, u32, i64) = connection
        .query_row(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema)
             FROM pragma_application_id, pragma_user_version",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .during("asking what the file is")?;
    if id == 0 && tables == 0 && version == 0 {
        return Ok(true);
    }
    if id != schema::APPLICATION_ID {
        let why = "another program made this database".to_owned();
        return Err(Error::Format { path: path.to_owned(), why });
    }
    if version > schema::NEWEST {
        return Err(Error::Version {
            path: path.to_owned(),
            found: version,
            newest: schema::NEWEST,
        });
    }
    Ok(false)
}

/// Puts the file into write-ahead mode. SQLite does not wait for locks here, so this does.
fn write_ahead(connection: &Connection, path: &Path, fresh: bool, options: &Options) -> Result<()> {
    let doing = "turning on the write-ahead log";
    if fresh {
        let width = options.storage.unwrap_or_default().width();
        let bytes = options.dimension.unwrap_or(DEFAULT_DIMENSION) * width;
        connection
            .pragma_update(None, "page_size", schema::page_size(bytes) as i64)
            .during(doing)?;
    }
    let deadline = Instant::now() + options.busy_timeout;
    loop {
        let mode =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match mode.during(doing) {
            Ok(mode) if mode == "wal" => return bound_log(connection),
            Ok(mode) => {
                let why = format!(
                    "a store needs SQLite's write-ahead log, the file system only allows {mode:?}"
                );
                return Err(access(path, why));
            }
            Err(Error::Busy { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(why) => return Err(why),
        }
    }
}

/// The log is copied into the file whenever it has grown by so many bytes: often enough to stay small, and seldom enough
/// that pages which are written again and again are copied once.
fn bound_log(connection: &Connection) -> Result<()> {
    let doing = "bounding the write-ahead log";
    let page: i64 =
        connection.pragma_query_value(None, "page_size", |row| row.get(0)).during(doing)?;
    connection
        .pragma_update_and_check(None, "wal_autocheckpoint", (32 << 20) / page, |_| Ok(()))
        .during(doing)
}

const DEFAULT_DIMENSION: usize = 768;

/// Compares what the caller says with what the file says; a new file takes what the caller says.
fn settle(connection: &Connection, options: &Options) -> Result<Facts> {
    let recorded = get(connection, "dimension")?.is_some();
    if recorded && !needs_writing(connection, options)? {
        return facts(connection, options);
    }
    if options.read_only {
        return facts(connection, options);
    }
    let write =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).during(SETTING)?;
    if get(&write, "dimension")?.is_none() {
        let dimension = options.dimension.unwrap_or(DEFAULT_DIMENSION);
        put(&write, "dimension", dimension as i64)?;
        let action = options.action_dimension.unwrap_or(dimension);
        put(&write, "action_dimension", action as i64)?;
        put(&write, "storage", options.storage.unwrap_or_default().name().to_owned())?;
        put(&write, "metric", options.hnsw.metric.unwrap_or_default().name().to_owned())?;
    }
    if identity_of(&write)?.is_none() {
        let mut make = write
            .prepare_cached("INSERT INTO meta VALUES ('identity', randomblob(16))")
            .during(SETTING)?;
        make.execute([]).during(SETTING)?;
    }
    let before = if recorded { Some(facts(&write, &Options::default())?.hnsw) } else { None };
    let mut facts = facts(&write, options)?;
    facts.graph_changed = before.is_some_and(|before| !before.same_graph(&facts.hnsw));
    record(&write, &facts)?;
    write.commit().during(SETTING)?;
    Ok(facts)
}

/// Whether the caller names something that is kept in the file from now on.
fn needs_writing(connection: &Connection, options: &Options) -> Result<bool> {
    let HnswSettings {
        enabled,
        m,
        ef_construction,
        ef_search,
        metric: _,
        quantization,
        build_above,
    } = &options.hnsw;
    let graph = enabled.is_some()
        || m.is_some()
        || ef_construction.is_some()
        || ef_search.is_some()
        || quantization.is_some()
        || build_above.is_some();
    let unnamed = identity_of(connection)?.is_none();
    Ok(graph || unnamed || options.encoder.is_some() && get(connection, "encoder")?.is_none())
}

/// Which database this is: what a sidecar must say to be read beside it. A file that was made before there were sidecars
/// has none until it is opened for writing.
fn identity_of(connection: &Connection) -> Result<Option<[u8; 16]>> {
    match get(connection, "identity")? {
        Some(Value::Blob(bytes)) => Ok(bytes.try_into().ok()),
        _ => Ok(None),
    }
}

/// What holds: the file's own where the caller said nothing. What cannot both hold is refused.
fn facts(connection: &Connection, options: &Options) -> Result<Facts> {
    let damaged = |key: &str| Error::Corrupt { what: format!("the store does not say its {key}") };
    let number = |key: &str| match get(connection, key)? {
        Some(Value::Integer(value)) if value >= 0 => Ok(Some(value as usize)),
        None => Ok(None),
        Some(_) => Err(damaged(key)),
    };
    let text = |key: &str| match get(connection, key)? {
        Some(Value::Text(value)) => Ok(Some(value)),
        None => Ok(None),
        Some(_) => Err(damaged(key)),
    };
    // Before the dimensions: another encoder is why they differ.
    let encoder = text("encoder")?;
    if let (Some(stored), Some(given)) = (&encoder, &options.encoder)
        && stored != given
    {
        return Err(Error::EncoderMismatch { stored: stored.clone(), given: given.clone() });
    }
    let dimension = number("dimension")?
        .filter(|d| (1..=16_384).contains(d))
        .ok_or_else(|| damaged("dimension"))?;
    let action_dimension = number("action_dimension")?
        .filter(|d| (1..=16_384).contains(d))
        .ok_or_else(|| damaged("action_dimension"))?;
    same_dimension("dimension", dimension, options.dimension)?;
    same_dimension("action_dimension", action_dimension, options.action_dimension)?;
    let stored = text("storage")?.ok_or_else(|| damaged("storage"))?;
    let storage = Storage::from_str(&stored).map_err(|_| damaged("storage"))?;
    if let Some(given) = options.storage.filter(|given| *given != storage) {
        return Err(Error::invalid(
            "storage",
            format!("{:?}, the file's", storage.name()),
            format!("{:?}", given.name()),
        ));
    }
    let stored = text("metric")?.ok_or_else(|| damaged("metric"))?;
    let metric = Metric::from_str(&stored).map_err(|_| damaged("metric"))?;
    if let Some(given) = options.hnsw.metric.filter(|given| *given != metric) {
        return Err(Error::invalid(
            "hnsw.metric",
            format!("{:?}, the file's", metric.name()),
            format!("{:?}", given.name()),
        ));
    }
    let (given, defaults) = (&options.hnsw, Hnsw::default());
    let hnsw = Hnsw {
        enabled: given
            .enabled
            .or(number("hnsw_enabled")?.map(|flag| flag != 0))
            .unwrap_or(defaults.enabled),
        m: given.m.or(number("hnsw_m")?).unwrap_or(defaults.m),
        ef_construction: given
            .ef_construction
            .or(number("hnsw_ef_construction")?)
            .unwrap_or(defaults.ef_construction),
        ef_search: given.ef_search.or(number("hnsw_ef_search")?).unwrap_or(defaults.ef_search),
        metric,
        quantization: match given.quantization {
            Some(given) => given,
            None => text("hnsw_quantization")?
                .map_or(Ok(defaults.quantization), |name| name.parse())
                .map_err(|_| damaged("quantization"))?,
        },
        build_above: given.build_above.or(number("hnsw_build_above")?),
    };
    let encoder = encoder.or_else(|| options.encoder.clone());
    let identity = identity_of(connection)?;
    let graph_changed = false;
    Ok(Facts { dimension, action_dimension, storage, hnsw, encoder, identity, graph_changed })
}

fn same_dimension(field: &str, stored: usize, given: Option<usize>) -> Result<()> {
    match given {
        Some(got) if got != stored => {
            Err(Error::Dimension { field: field.to_owned(), expected: stored, got })
        }
        _ => Ok(()),
    }
}

fn record(connection: &Connection, facts: &Facts) -> Result<()> {
    let Facts {
        dimension: _,
        action_dimension: _,
        storage: _,
        hnsw,
        encoder,
        identity: _,
        graph_changed: _,
    } = facts;
    let Hnsw { enabled, m, ef_construction, ef_search, metric: _, quantization, build_above } =
        hnsw;
    put(connection, "hnsw_enabled", i64::from(*enabled))?;
    put(connection, "hnsw_m", *m as i64)?;
    put(connection, "hnsw_ef_construction", *ef_construction as i64)?;
    put(connection, "hnsw_ef_search", *ef_search as i64)?;
    put(connection, "hnsw_quantization", quantization.name().to_owned())?;
    if let Some(rows) = build_above {
        put(connection, "hnsw_build_above", i64::try_from(*rows).unwrap_or(i64::MAX))?;
    }
    match encoder {
        Some(encoder) => put(connection, "encoder", encoder.clone()),
        None => Ok(()),
    }
}

fn get(connection: &Connection, key: &str) -> Result<Option<Value>> {
    let mut statement =
        connection.prepare_cached("SELECT value FROM meta WHERE key = ?").during(SETTING)?;
    statement.query_row([key], |row| row.get(0)).optional().during(SETTING)
}

fn put(connection: &Connection, key: &str, value: impl Into<Value>) -> Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)").during(SETTING)?;
    statement.execute((key, value.into())).map(drop).during(SETTING)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::{Options, write_ahead};
    use crate::error::Error;

    #[test]
    fn a_place_without_a_write_ahead_log_is_no_damage() {
        let connection = Connection::open_in_memory().unwrap(); // refuses the mode as such a place does
        let refused = write_ahead(&connection, Path::new("a.db"), true, &Options::default());
        let Err(Error::Access { path, why, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(path, Path::new("a.db"));
        assert!(why.contains("write-ahead log"), "{why}");
    }
}
