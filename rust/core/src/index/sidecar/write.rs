//! How a sidecar comes to be: under a name that nobody reads, then, whole and on the disk, under its own.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::layout::{Entry, Header, Kind, PAGE, page};

const BUFFER: usize = 1 << 20;

/// Bytes that one checksum covers where the reader goes through all of a section anyway.
const CHUNK: u32 = 1 << 20;

/// A sidecar under way. Dropped before [`Self::finish`], it leaves nothing behind.
pub(crate) struct Writer {
    file: BufWriter<NamedTempFile>,
    /// What is not to reach the disk yet, see [`Self::hold`].
    held: Option<Vec<u8>>,
    at: u64,
    table: Vec<Entry>,
}

impl Writer {
    /// Begins the sidecar that will lie at `path`.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}-");
        sweep(folder, &prefix);
        let mut named = tempfile::Builder::new();
        named.prefix(&prefix);
        #[cfg(unix)]
        named.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)); // as SQLite makes files
        let mut file = named.tempfile_in(folder)?;
        // Held until the file has its name: what can be locked is what a process that was killed left behind.
        file.as_file().try_lock().map_err(io::Error::from)?;
        file.write_all(&[0; PAGE])?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { file, held: None, at: PAGE as u64, table: Vec::new() })
    }

    /// Keeps in memory what is put from now on, until [`Self::let_go`]: whoever puts it holds a lock that others want, and
    /// a disk may take its time.
    pub(crate) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Writes what was held.
    pub(crate) fn let_go(&mut self) -> io::Result<()> {
        self.held.take().map_or(Ok(()), |held| self.file.write_all(&held))
    }

    /// Writes a section that readers go through from end to end.
    pub(crate) fn section(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Section<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.chunked(kind, CHUNK, fill)
    }

    /// Writes a section of which readers look at `chunk` bytes at a time.
    pub(crate) fn chunked(
        &mut self,
        kind: Kind,
        chunk: u32,
        fill: impl FnOnce(&mut Section<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.pad(PAGE as u64)?;
        let offset = self.at;
        let hash = Xxh3Default::new();
        let mut section =
            Section { writer: self, chunk, left: chunk as usize, hash, sums: Vec::new() };
        fill(&mut section)?;
        let sums = section.end();
        let length = self.at - offset;
        self.pad(8)?;
        self.put(&sums)?;
        self.table.push(Entry { kind, chunk, offset, length, sums: xxh3_64(&sums) });
        Ok(())
    }

    /// Gives the file its header, puts it on the disk and under its name; the bytes it has.
    pub(crate) fn finish(mut self, path: &Path, header: &Header) -> io::Result<u64> {
        self.let_go()?;
        let Self { file, held: _, at, table } = self;
        let mut file = file.into_inner()?;
        file.rewind()?;
        file.write_all(&page(header, &table))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|why| why.error)?;
        sync_folder(path.parent().unwrap_or(Path::new("/")))?;
        Ok(at)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        match &mut self.held {
            Some(held) => held.extend_from_slice(bytes),
            None => self.file.write_all(bytes)?,
        }
        Ok(())
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        let missing = self.at.next_multiple_of(to) - self.at;
        self.put(&[0; PAGE][..missing as usize])
    }
}

/// A section under way.
pub(crate) struct Section<'a> {
    writer: &'a mut Writer,
    chunk: u32,
    /// Bytes that the running chunk still takes.
    left: usize,
    hash: Xxh3Default,
    sums: Vec<u8>,
}

impl Section<'_> {
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.left));
            self.hash.update(now);
            self.writer.put(now)?;
            self.left -= now.len();
            if self.left == 0 {
                self.close_chunk();
            }
            bytes = later;
        }
        Ok(())
    }

    /// Puts numbers, each as its bytes.
    pub(crate) fn numbers<const N: usize>(
        &mut self,
        numbers: impl IntoIterator<Item = [u8; N]>,
    ) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(1 << 16);
        for number in numbers {
            bytes.extend_from_slice(&number);
            if bytes.len() + N > 1 << 16 {
                self.put(&bytes)?;
                bytes.clear();
            }
        }
        self.put(&bytes)
    }

    fn close_chunk(&mut self) {
        self.sums.extend_from_slice(&self.hash.digest().to_le_bytes());
        self.hash.reset();
        self.left = self.chunk as usize;
    }

    fn end(mut self) -> Vec<u8> {
        if self.left < self.chunk as usize {
            self.close_chunk();
        }
        self.sums
    }
}

impl Write for Section<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // the file is flushed when it is whole
    }
}

/// Removes what killed processes left half written. What a living one writes is locked.
fn sweep(folder: &Path, prefix: &str) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let abandoned = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if abandoned {
            let _ = std::fs::remove_file(entry.path()); // another process may have been quicker
        }
    }
}

/// Makes the new name durable; systems without folders that can be opened do that by themselves.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
