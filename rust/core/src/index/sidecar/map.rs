//! A file seen as memory: the only unsafe code of the index.
#![expect(unsafe_code, reason = "a mapping can be made in no other way")]

use std::fs::File;
use std::io;

use memmap2::{Advice, Mmap};

/// The bytes of a file that is never written again after it got its name.
#[derive(Debug)]
pub(super) struct Map(Mmap);

impl Map {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: a sidecar is written under another name, renamed, and from then on only ever replaced or unlinked as a
        // whole, which leaves the mapped inode as it was; whoever writes into it by hand breaks the same rule as with any
        // mapped file. Nothing is assumed of the bytes: they are plain numbers, checked before they are believed.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Tells the system that `length` bytes from `start` on are read here and there, so that reading one page does not
    /// bring its neighbours along. A hint: where it is not understood nothing changes.
    pub(super) fn scattered(&self, start: usize, length: usize) {
        let _ = self.0.advise_range(Advice::Random, start, length);
    }
}
