//! A sidecar as it is found: mapped, and believed chunk by chunk.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use half::f16;
use half::slice::HalfFloatSliceExt;
use xxhash_rust::xxh3::xxh3_64;

use crate::kernel::score::fetch;

use super::Unfit;
use super::layout::{Entry, Header, Kind, read};
use super::map::Map;

/// A mapped sidecar whose header is true of its length.
#[derive(Debug)]
pub(crate) struct Sidecar {
    map: Map,
    pub(crate) header: Header,
    table: Vec<Entry>,
}

impl Sidecar {
    /// Maps the file at `path`; `None` if there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Unfit> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(Unfit::Unreadable(why)),
        };
        let found = file.metadata().map_err(Unfit::Unreadable)?;
        if !found.is_file() || found.len() == 0 {
            return Err(Unfit::Foreign); // what is empty cannot be mapped
        }
        let map = Map::of(&file).map_err(Unfit::Unreadable)?;
        let (header, table) = read(map.bytes(), map.bytes().len() as u64)?;
        let sidecar = Self { map, header, table };
        for entry in &sidecar.table {
            if xxh3_64(sidecar.sums(entry)) != entry.sums {
                return Err(Unfit::Torn("a list of checksums"));
            }
        }
        Ok(Some(sidecar))
    }

    /// Looks at every byte that has a checksum.
    pub(crate) fn check(&self) -> Result<(), Unfit> {
        self.table.iter().try_for_each(|entry| self.view(entry).checked().map(drop))
    }

    /// A section, which must be `length` bytes long.
    pub(crate) fn section(&self, kind: Kind, length: u64) -> Result<Section<'_>, Unfit> {
        let section = self.any_length(kind)?;
        if section.bytes.len() as u64 == length {
            Ok(section)
        } else {
            Err(Unfit::Torn("the length of a section"))
        }
    }

    /// A section of whatever length.
    pub(crate) fn any_length(&self, kind: Kind) -> Result<Section<'_>, Unfit> {
        self.entry(kind).map(|entry| self.view(&entry))
    }

    fn entry(&self, kind: Kind) -> Result<Entry, Unfit> {
        let found = self.table.iter().find(|entry| entry.kind == kind);
        found.copied().ok_or(Unfit::Torn("a section is missing"))
    }

    fn view(&self, entry: &Entry) -> Section<'_> {
        let bytes = &self.map.bytes()[entry.offset as usize..][..entry.length as usize];
        Section { bytes, chunk: entry.chunk as usize, sums: self.sums(entry) }
    }

    fn sums(&self, entry: &Entry) -> &[u8] {
        let start = entry.sums_at().expect("checked with the table");
        &self.map.bytes()[start as usize..][..8 * entry.chunks() as usize]
    }
}

/// The bytes of a section, not yet believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    bytes: &'a [u8],
    chunk: usize,
    sums: &'a [u8],
}

impl<'a> Section<'a> {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Chunks it has.
    pub(crate) fn chunks(&self) -> usize {
        self.sums.len() / 8
    }

    /// The bytes of chunk `at`, if they are those that were written.
    pub(crate) fn chunk(&self, at: usize) -> Result<&'a [u8], Unfit> {
        let start = at * self.chunk;
        let bytes = &self.bytes[start..(start + self.chunk).min(self.bytes.len())];
        if xxh3_64(bytes).to_le_bytes() == self.sums[8 * at..][..8] {
            Ok(bytes)
        } else {
            Err(Unfit::Torn("a checksum differs"))
        }
    }

    /// Checks the chunks that begin in a range of bytes.
    pub(crate) fn check_from(&self, bytes: Range<usize>) -> Result<(), Unfit> {
        let [first, end] = [bytes.start, bytes.end].map(|at| at.div_ceil(self.chunk));
        (first..end).try_for_each(|at| self.chunk(at).map(drop))
    }

    /// The numbers of a section whose chunks hold whole ones.
    pub(crate) fn numbers<const N: usize, T>(
        &self,
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Unfit> {
        if !self.bytes.len().is_multiple_of(N) || !self.chunk.is_multiple_of(N) {
            return Err(Unfit::Torn("the length of a section"));
        }
        let mut numbers = Vec::with_capacity(self.bytes.len() / N);
        for at in 0..self.chunks() {
            numbers.extend(self.chunk(at)?.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)));
        }
        Ok(numbers)
    }

    /// All bytes, checked or not.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All bytes, checked.
    pub(crate) fn checked(&self) -> Result<&'a [u8], Unfit> {
        (0..self.chunks()).try_for_each(|at| self.chunk(at).map(drop))?;
        Ok(self.bytes)
    }
}

/// Whether a chunk of states was looked at.
const UNSEEN: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

/// The states as the database stores them, mapped: what is not looked at costs no memory, and what is held can be dropped
/// by the system at any time.
#[derive(Debug)]
pub(crate) struct Copy {
    sidecar: Sidecar,
    states: Entry,
    /// Bytes a state.
    stride: usize,
    rows: usize,
    seen: Vec<AtomicU8>,
}

impl Copy {
    /// What the bytes of a row are that was gone when it was to be written: NaN in either width.
    pub(crate) const GONE: u8 = 0xFF;

    /// The states of a sidecar; whether each chunk is what was written is asked when it is first needed.
    pub(crate) fn of(sidecar: Sidecar) -> Result<Self, Unfit> {
        let Header { dimension, width, rows, .. } = sidecar.header;
        if !matches!(width, 2 | 4) {
            return Err(Unfit::Torn("the width of a number"));
        }
        let stride = u64::from(dimension) * u64::from(width);
        let length = rows.checked_mul(stride).ok_or(Unfit::Torn("the number of rows"))?;
        let section = sidecar.section(Kind::States, length)?;
        let stride = stride as usize;
        if stride == 0 || !section.chunk.is_multiple_of(stride) {
            return Err(Unfit::Torn("the chunks of the states"));
        }
        let seen = (0..section.chunks()).map(|_| AtomicU8::new(UNSEEN)).collect();
        let states = sidecar.entry(Kind::States)?;
        sidecar.map.scattered(states.offset as usize, states.length as usize);
        Ok(Self { states, stride, rows: rows as usize, seen, sidecar })
    }

    /// Bytes of a chunk for states of `stride` bytes: little enough that a first look is cheap.
    pub(crate) fn chunk(stride: usize) -> u32 {
        ((32 << 10) / stride).max(1) as u32 * stride as u32
    }

    /// How many states there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Anonymous bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.seen.len()
    }

    pub(crate) fn header(&self) -> &Header {
        &self.sidecar.header
    }

    /// Asks for the bytes of a state ahead of their use.
    pub(crate) fn fetch(&self, row: usize) {
        let start = row.saturating_mul(self.stride);
        let end = start.saturating_add(self.stride);
        self.sidecar.view(&self.states).bytes.get(start..end).into_iter().for_each(fetch);
    }

    /// The stored bytes of a state; `None` where the copy has none or cannot be believed.
    pub(crate) fn stored(&self, row: usize) -> Option<&[u8]> {
        let section = self.sidecar.view(&self.states);
        let start = row.checked_mul(self.stride)?;
        let chunk = start / section.chunk;
        match self.seen.get(chunk)?.load(Ordering::Relaxed) {
            GOOD => {}
            BAD => return None,
            _ => {
                let good = section.chunk(chunk).is_ok();
                self.seen[chunk].store(if good { GOOD } else { BAD }, Ordering::Relaxed);
                if !good {
                    return None;
                }
            }
        }
        let bytes = section.bytes.get(start..start + self.stride)?;
        // a row that was gone when its turn came is written as numbers that no state has
        let width = self.header().width as usize;
        bytes[..width].iter().any(|byte| *byte != Self::GONE).then_some(bytes)
    }

    /// Reads a state into `numbers`, which has the dimension; false where [`Self::stored`] has none.
    pub(crate) fn state(&self, row: usize, numbers: &mut [f32]) -> bool {
        let Some(bytes) = self.stored(row) else { return false };
        if bytes.len() == numbers.len() * 4 {
            for (four, number) in bytes.as_chunks::<4>().0.iter().zip(numbers) {
                *number = f32::from_le_bytes(*four);
            }
        } else {
            let mut halves = [f16::ZERO; 64];
            for (bytes, numbers) in bytes.chunks(128).zip(numbers.chunks_mut(64)) {
                let halves = &mut halves[..numbers.len()];
                let bits: &mut [u16] = halves.reinterpret_cast_mut();
                for (two, half) in bytes.as_chunks::<2>().0.iter().zip(bits) {
                    *half = u16::from_le_bytes(*two);
                }
                halves.convert_to_f32_slice(numbers);
            }
        }
        true
    }
}
