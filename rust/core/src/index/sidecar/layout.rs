//! Where things lie in a sidecar: one page of header with the table of sections, then the sections.
//!
//! All numbers are little-endian. The page ends with a checksum of itself, the table has one of each section's list of
//! checksums, and each list has one of every chunk of its section: whoever reads a chunk need look at no other.

use xxhash_rust::xxh3::xxh3_64;

use super::Unfit;

/// The first bytes of every sidecar.
pub(super) const MAGIC: [u8; 8] = *b"PRCDindx";

/// What this library writes, and the only version it reads: the rows are still there to build another from.
pub(super) const VERSION: u32 = 2;

/// Bytes of the header; sections begin at multiples of it, so a mapped one begins on a page of its own.
pub(crate) const PAGE: usize = 4096;

const FIXED: usize = 176;
const ENTRY: usize = 32;
const MOST_SECTIONS: usize = (PAGE - FIXED - 8) / ENTRY;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Key = 1,
    Episode = 2,
    Pattern = 3,
    TaskType = 4,
    AgentType = 5,
    Reward = 6,
    Return = 7,
    Timestamp = 8,
    Succeeded = 9,
    StateHash = 10,
    Live = 11,
    Episodes = 12,
    Blocks = 13,
    Graph = 14,
    Upper = 15,
    States = 16,
}

impl Kind {
    const ALL: [Self; 16] = [
        Self::Key,
        Self::Episode,
        Self::Pattern,
        Self::TaskType,
        Self::AgentType,
        Self::Reward,
        Self::Return,
        Self::Timestamp,
        Self::Succeeded,
        Self::StateHash,
        Self::Live,
        Self::Episodes,
        Self::Blocks,
        Self::Graph,
        Self::Upper,
        Self::States,
    ];

    fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// What the file says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// The database it belongs to.
    pub(crate) identity: [u8; 16],
    /// How many sidecars this database had before it.
    pub(crate) generation: u64,
    /// The key that the database's next row had when this was written.
    pub(crate) next_row: i64,
    /// The newest entry of the change log it has seen.
    pub(crate) change: i64,
    /// The newest living row (0: none) and its public id: a database that went back in time and on from there has
    /// another one under that key.
    pub(crate) witness: (i64, [u8; 16]),
    pub(crate) dimension: u32,
    pub(crate) metric: u32,
    pub(crate) quantization: u32,
    /// Bytes a number of a stored state.
    pub(crate) width: u32,
    pub(crate) m: u32,
    pub(crate) ef_construction: u32,
    pub(crate) seed: u64,
    /// Rows, dead ones included.
    pub(crate) rows: u64,
    /// Rows that the graph reaches: the first so many.
    pub(crate) linked: u64,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Bytes that one checksum covers.
    pub(super) chunk: u32,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// The checksum of the checksums, which follow the bytes at the next multiple of eight.
    pub(super) sums: u64,
}

impl Entry {
    pub(super) fn chunks(&self) -> u64 {
        self.length.div_ceil(u64::from(self.chunk))
    }

    /// Where the checksums begin.
    pub(super) fn sums_at(&self) -> Option<u64> {
        self.offset.checked_add(self.length)?.checked_next_multiple_of(8)
    }

    /// The first byte that belongs to nobody.
    pub(super) fn end(&self) -> Option<u64> {
        self.sums_at()?.checked_add(self.chunks().checked_mul(8)?)
    }
}

/// The first page of the file.
pub(super) fn page(header: &Header, table: &[Entry]) -> Vec<u8> {
    assert!(table.len() <= MOST_SECTIONS, "a table that fits its page");
    let Header {
        identity,
        generation,
        next_row,
        change,
        witness,
        dimension,
        metric,
        quantization,
        width,
        m,
        ef_construction,
        seed,
        rows,
        linked,
    } = header;
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(&MAGIC);
    page.extend_from_slice(&VERSION.to_le_bytes());
    page.extend_from_slice(&(table.len() as u32).to_le_bytes());
    page.extend_from_slice(identity);
    page.extend_from_slice(&generation.to_le_bytes());
    page.extend_from_slice(&next_row.to_le_bytes());
    page.extend_from_slice(&change.to_le_bytes());
    page.extend_from_slice(&witness.0.to_le_bytes());
    page.extend_from_slice(&witness.1);
    for number in [dimension, metric, quantization, width, m, ef_construction] {
        page.extend_from_slice(&number.to_le_bytes());
    }
    for number in [seed, rows, linked] {
        page.extend_from_slice(&number.to_le_bytes());
    }
    page.resize(FIXED, 0);
    for Entry { kind, chunk, offset, length, sums } in table {
        page.extend_from_slice(&(*kind as u32).to_le_bytes());
        page.extend_from_slice(&chunk.to_le_bytes());
        for number in [offset, length, sums] {
            page.extend_from_slice(&number.to_le_bytes());
        }
    }
    page.resize(PAGE - 8, 0);
    let sum = xxh3_64(&page);
    page.extend_from_slice(&sum.to_le_bytes());
    page
}

/// Reads a first page and refuses what is not ours, not whole, or not true of a file of `size` bytes.
pub(super) fn read(bytes: &[u8], size: u64) -> Result<(Header, Vec<Entry>), Unfit> {
    let page = bytes.get(..PAGE).ok_or(Unfit::Torn("the header"))?;
    let mut at = Cursor(page);
    if at.take::<8>()? != MAGIC {
        return Err(Unfit::Foreign);
    }
    let version = at.u32()?;
    if version != VERSION {
        return Err(Unfit::Version(version));
    }
    let (body, sum) = page.split_at(PAGE - 8);
    if xxh3_64(body).to_le_bytes() != *sum {
        return Err(Unfit::Torn("the header"));
    }
    let sections = at.u32()? as usize;
    if sections > MOST_SECTIONS {
        return Err(Unfit::Torn("the table of sections"));
    }
    let header = Header {
        identity: at.take()?,
        generation: at.u64()?,
        next_row: at.u64()? as i64,
        change: at.u64()? as i64,
        witness: (at.u64()? as i64, at.take()?),
        dimension: at.u32()?,
        metric: at.u32()?,
        quantization: at.u32()?,
        width: at.u32()?,
        m: at.u32()?,
        ef_construction: at.u32()?,
        seed: at.u64()?,
        rows: at.u64()?,
        linked: at.u64()?,
    };
    let mut at = Cursor(&page[FIXED..]);
    let mut table: Vec<Entry> = Vec::with_capacity(sections);
    let mut free = PAGE as u64;
    for _ in 0..sections {
        let torn = || Unfit::Torn("the table of sections");
        let entry = Entry {
            kind: Kind::of(at.u32()?).ok_or_else(torn)?,
            chunk: at.u32()?,
            offset: at.u64()?,
            length: at.u64()?,
            sums: at.u64()?,
        };
        // Sections that rise and never overlap: whatever their lengths say, together they are no longer than the file.
        let known = table.iter().any(|other| other.kind == entry.kind);
        let end = if entry.chunk == 0 { None } else { entry.end() };
        if known || entry.offset < free || !entry.offset.is_multiple_of(PAGE as u64) {
            return Err(torn());
        }
        free = end.filter(|end| *end <= size).ok_or_else(torn)?;
        table.push(entry);
    }
    Ok((header, table))
}

/// Reads numbers one after the other.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unfit> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Unfit::Torn("the header"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn u32(&mut self) -> Result<u32, Unfit> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unfit> {
        self.take().map(u64::from_le_bytes)
    }
}
