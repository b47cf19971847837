//! The file beside the database: the index as it was, so that opening a large store reads it instead of every row.
//!
//! It is derived and never trusted: what is missing, torn, foreign or of another database is built again from the rows,
//! what is older is caught up from the change log.

mod layout;
mod map;
mod read;

mod write;

#[cfg(test)]
pub(crate) use layout::PAGE;
pub(crate) use layout::{Header, Kind};
pub(crate) use read::{Copy, Sidecar};
pub(crate) use write::{Section as SectionWriter, Writer};

/// Why a sidecar is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("it is no index of ours")]
    Foreign,
    #[error("it has version {0} of the format")]
    Version(u32),
    #[error("it is damaged: {0}")]
    Torn(&'static str),
    #[error("it belongs to {0}")]
    Other(&'static str),
}
