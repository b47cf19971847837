//! Rows by the hash of their state: chained buckets in eight to twelve bytes a row.
//!
//! The state's hash is the hash, so nothing is computed. Chains and not probing: a state that repeats a hundred thousand
//! times must not make its insertion slow.

const END: u32 = u32::MAX;

/// For every bucket its newest row, for every row the next older one of its bucket.
#[derive(Debug, Default)]
pub(super) struct Chains {
    newest: Vec<u32>,
    older: Vec<u32>,
}

impl Chains {
    /// The chains of rows with these hashes.
    pub(super) fn of(hashes: &[u64]) -> Self {
        let buckets = hashes.len().next_power_of_two().max(64);
        let mut chains = Self { newest: vec![END; buckets], older: Vec::new() };
        chains.older.reserve_exact(hashes.len());
        for &hash in hashes {
            chains.link(hash);
        }
        chains
    }

    /// Links the row after the last one. `hashes` are those of all rows, this one included.
    pub(super) fn push(&mut self, hash: u64, hashes: &[u64]) {
        let row = self.older.len();
        debug_assert_eq!(hashes.len(), row + 1);
        if row >= self.newest.len() {
            self.grow(&hashes[..row]);
        }
        self.link(hash);
    }

    fn link(&mut self, hash: u64) {
        let bucket = self.bucket(hash);
        self.older.push(self.newest[bucket]);
        self.newest[bucket] = self.older.len() as u32 - 1;
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.newest.len() - 1)
    }

    fn grow(&mut self, hashes: &[u64]) {
        let buckets = (2 * self.newest.len()).max(64);
        self.newest.clear();
        self.newest.resize(buckets, END);
        self.older.clear();
        for &hash in hashes {
            self.link(hash);
        }
    }

    /// The rows of the bucket of `hash`, newest first: a superset of the rows with that hash.
    pub(super) fn bucket_of(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let first = if self.newest.is_empty() { END } else { self.newest[self.bucket(hash)] };
        std::iter::successors((first != END).then_some(first), |&row| {
            let next = self.older[row as usize];
            (next != END).then_some(next)
        })
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.newest.capacity() + self.older.capacity())
    }
}
