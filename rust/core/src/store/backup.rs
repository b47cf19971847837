//! A copy of a store while it is in use.

use std::fs::File;
use std::path::Path;

use rusqlite::Connection;

use super::Store;
use super::open::log_of;
use super::patience::Halt;
use crate::error::{During, Error, Result};

const DOING: &str = "copying the store";

impl Store {
    /// Writes a copy of one moment to `path`: a whole store, compact, in one file. It appears there complete or not at
    /// all, and replaces what was there; a file that is in use, or this store's own, is refused.
    ///
    /// `poll` is asked whether to go on; an error from it ends the copying.
    pub fn backup(&self, path: &Path, poll: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.patiently(poll, |halt| self.copy_to(path, halt))
    }

    fn copy_to(&self, path: &Path, halt: &Halt) -> Result<()> {
        let open = self.enter()?;
        if path == Path::new(":memory:") {
            // A file of that name could not be opened again.
            return Err(Error::invalid("path", "a file", path.display()));
        }
        let io = |source| Error::io(DOING, path, source);
        let refuse = |why: &str| {
            Err(Error::Access { path: path.to_owned(), why: why.to_owned(), source: None })
        };
        let target = std::path::absolute(path).map_err(io)?;
        if target.is_dir() {
            return refuse("a folder is in the file's place");
        }
        let own = open.connections.file().and_then(|file| file.canonicalize().ok());
        if own.is_some() && own == target.canonicalize().ok() {
            return Err(Error::invalid(
                "path",
                "another file than the store's own",
                path.display(),
            ));
        }
        if log_of(&target).exists() {
            return refuse("another store is open there");
        }
        let folder = target.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(io)?;
        let mut named = tempfile::Builder::new();
        named.prefix(".copy-");
        let make = |path: &Path| File::options().write(true).create_new(true).open(path);
        let unfinished = named.make_in(folder, make).map_err(io)?;
        let name = unfinished.path().to_str();
        let name = name.ok_or_else(|| Error::invalid("path", "a path in UTF-8", path.display()))?;
        let copy = |connection: &Connection| {
            connection.execute("VACUUM INTO ?", [name]).map(drop).during(DOING)
        };
        open.connections.bare(halt, copy).map_err(|why| why.of_file(Some(&target)))?;
        rename_copy(Path::new(name))?;
        unfinished.as_file().sync_all().map_err(io)?;
        unfinished.persist(&target).map_err(|why| io(why.error))?;
        sync_folder(folder).map_err(io)
    }
}

/// Gives a copy an identity of its own: what is saved beside the original must not be taken for the copy's.
fn rename_copy(file: &Path) -> Result<()> {
    let sql = "UPDATE meta SET value = randomblob(16) WHERE key = 'identity'";
    let copy = Connection::open(file).during(DOING)?;
    copy.pragma_update(None, "journal_mode", "MEMORY").during(DOING)?; // one file, in nobody's use
    copy.execute(sql, []).during(DOING)?;
    copy.close().map_err(|(_, why)| why).during(DOING)
}

/// Makes the new name durable; systems without folders that can be opened do that by themselves.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
