//! Files that are there whole or not at all.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Replaces the file at `path` by `bytes`: written beside it, brought to the disk, renamed, and the folder brought to
/// the disk too. Whoever reads meanwhile, and whoever comes after a crash, finds the old file or the new one. What a
/// process that was killed while it wrote this same file left beside it is removed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(|source| Error::io("writing", path, source))
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::io("reading", path, source))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let prefix = format!(".{}-", path.file_name().unwrap_or_default().to_string_lossy());
    sweep(folder, &prefix);
    let mut file = loop {
        if let Some(file) = begin(folder, &prefix)? {
            break file;
        }
    };
    file.as_file_mut().write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    if cfg!(unix) {
        File::open(folder)?.sync_all()?; // elsewhere a folder cannot be opened
    }
    Ok(())
}

/// A new file in the folder, locked until it has its name: what can be locked is what a killed process left. `None`
/// where another process took it for that, between its making and its locking.
fn begin(folder: &Path, prefix: &str) -> io::Result<Option<NamedTempFile<File>>> {
    // Made by ourselves, so that it has the permissions of any other file, and that an error does not speak of its name.
    let make = |path: &Path| File::options().write(true).create_new(true).open(path);
    let file = tempfile::Builder::new().prefix(prefix).suffix(SUFFIX).make_in(folder, make)?;
    let taken = matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock));
    Ok((!taken && file.path().exists()).then_some(file)) // where nothing can be locked, nothing is swept either
}

/// Removes what killed processes left half written.
fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with(prefix) || !name.ends_with(SUFFIX) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if file.try_lock().is_ok() {
            // Locked while it is removed, so that nobody who just made it can think it is theirs.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The end of the names under which files are written.
const SUFFIX: &str = ".saving";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_save_left_is_removed_by_the_next_one_of_that_file_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [".weights-aaaaaa.saving", ".weights-mine", ".other-aaaaaa.saving"] {
            std::fs::write(at(name), b"half").unwrap();
        }
        let living = begin(folder.path(), ".weights-").unwrap().unwrap();
        write(&at("weights"), b"whole").unwrap();
        assert!(!at(".weights-aaaaaa.saving").exists());
        for kept in [at(".weights-mine"), at(".other-aaaaaa.saving"), living.path().to_owned()] {
            assert!(kept.exists(), "{kept:?}");
        }
    }

    #[test]
    fn many_who_save_the_same_file_at_once_do_not_sweep_each_other_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..50).for_each(|_| write(&path, b"whole").unwrap()));
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("weights");
        let error = write(&path, b"one").unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert!(read(&path).is_err());
    }
}
