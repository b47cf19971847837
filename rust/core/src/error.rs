//! What can go wrong, as data. Every message is a sentence; the seam turns each variant into one Python exception.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in the core.
///
/// Not `#[non_exhaustive]`: its only foreign reader is the seam, which must notice a new variant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument has a value, kind or range it must not have.
    #[error("{field}: expected {expected}, got {got}")]
    Invalid {
        /// The argument, with its position where there are many: `trajectories[3].reward`.
        field: String,
        /// What would have been right.
        expected: String,
        /// What came.
        got: String,
    },
    /// A vector is not as long as its store or layer needs.
    #[error("{field}: expected {expected} dimensions, got {got}")]
    Dimension {
        /// The argument, with its position where there are many.
        field: String,
        /// The dimensions of the store or layer.
        expected: usize,
        /// The dimensions that came.
        got: usize,
    },
    /// Another encoder made the states of this store.
    #[error("the store's states were made by the encoder {stored:?}, this one is {given:?}")]
    EncoderMismatch {
        /// The fingerprint in the file.
        stored: String,
        /// The fingerprint of the encoder that was given.
        given: String,
    },
    /// Nothing has this name.
    #[error("no {what} {id:?} in this store")]
    NotFound {
        /// The kind of thing: "trajectory", "episode", "pattern".
        what: &'static str,
        /// Its name or number.
        id: String,
    },
    /// A write to something opened for reading.
    #[error("{doing}: the store was opened read-only")]
    ReadOnly {
        /// The attempt, as a gerund phrase.
        doing: &'static str,
    },
    /// A use after `close`, or of a store that another process opened before a fork.
    #[error("{0}")]
    Closed(String),
    /// Another process kept the lock longer than the timeout.
    #[error("{doing}: another process holds the lock on the store")]
    Busy {
        /// The attempt, as a gerund phrase.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// No room left.
    #[error("{doing}: the disk {}is full", of(path.as_deref()))]
    DiskFull {
        /// The attempt, as a gerund phrase.
        doing: &'static str,
        /// The file that was being written; `None` is memory.
        path: Option<PathBuf>,
        /// What SQLite or the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The path cannot be opened: permissions, or a folder in the file's place.
    #[error("cannot open {}: {why}", path.display())]
    Access {
        /// The file that was asked for.
        path: PathBuf,
        /// The reason, as a phrase.
        why: String,
        /// What the system said, where it was asked.
        source: Option<std::io::Error>,
    },
    /// The file belongs to another program.
    #[error("{} is not a Precedent file: {why}", path.display())]
    Format {
        /// The file that was asked for.
        path: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// A newer version of this library wrote the file.
    #[error("{} has format version {found}, this library reads up to {newest}", path.display())]
    Version {
        /// The file that was asked for.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest version this library knows.
        newest: u32,
    },
    /// The file contradicts itself.
    #[error("{what}")]
    Corrupt {
        /// What is damaged, as a sentence.
        what: String,
    },
    /// SQLite failed in another way.
    #[error("{doing}: {source}")]
    Sqlite {
        /// The attempt, as a gerund phrase.
        doing: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The system failed to read or write a file.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// The attempt, as a gerund phrase.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Training cannot go on: a loss or a gradient is not a number.
    #[error("{0}")]
    Training(String),
    /// A prediction was asked of a layer that never learned.
    #[error("the layer has not been trained: train it, load weights or set them first")]
    NotTrained,
    /// Too few trajectories match to train on.
    #[error("at least {required} {} needed, {available} match", trajectories(*required))]
    InsufficientData {
        /// `min_trajectories`.
        required: usize,
        /// What matched.
        available: usize,
    },
    /// The caller asked for an end in the middle of long work (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::Invalid`] from anything that can be shown.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers show numbers and sentences they have just made; none keeps them"
    )]
    pub fn invalid(
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Self::Invalid { field: field.into(), expected: expected.into(), got: got.to_string() }
    }
}

impl Error {
    /// Sorts a failure of the system into its variant; `doing` is a gerund phrase, to be followed by the path.
    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded => {
                Self::DiskFull { doing, path: Some(path.to_owned()), source: Box::new(source) }
            }
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
                Self::access(path, format!("{doing} it: {source}"), source)
            }
            Kind::IsADirectory => Self::access(path, "a folder is in the file's place", source),
            Kind::NotADirectory | Kind::AlreadyExists => {
                Self::access(path, "a file is in a folder's place", source)
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    /// An [`Error::Access`] that the system is the reason of.
    pub(crate) fn access(path: &Path, why: impl Into<String>, source: std::io::Error) -> Self {
        Self::Access { path: path.to_owned(), why: why.into(), source: Some(source) }
    }

    /// Adds the file to a full disk that SQLite told of: it does not say which.
    pub(crate) fn of_file(self, file: Option<&Path>) -> Self {
        match self {
            Self::DiskFull { doing, path: None, source } => {
                Self::DiskFull { doing, path: file.map(Path::to_owned), source }
            }
            other => other,
        }
    }
}

fn of(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| format!("of {} ", path.display()))
}

fn trajectories(count: usize) -> &'static str {
    if count == 1 { "trajectory is" } else { "trajectories are" }
}

/// Adds to a failure of SQLite what was being done.
pub(crate) trait During<T> {
    /// Sorts the failure into its variant; `doing` is a gerund phrase ("reading an episode").
    fn during(self, doing: &'static str) -> Result<T>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::Busy { doing, source }
            }
            Some(ErrorCode::DiskFull) => {
                Error::DiskFull { doing, path: None, source: Box::new(source) }
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Error::Corrupt { what: format!("{doing}: the file is damaged ({source})") }
            }
            Some(ErrorCode::ReadOnly) => Error::ReadOnly { doing },
            Some(ErrorCode::OperationInterrupted) => Error::Interrupted,
            _ => Error::Sqlite { doing, source },
        })
    }
}
