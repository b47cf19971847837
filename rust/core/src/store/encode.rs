//! Vectors as bytes: little-endian, in the store's storage.

use half::f16;
use rusqlite::Row;
use xxhash_rust::xxh3::xxh3_64;

use super::options::Storage;
use crate::error::{During, Error, Result};

impl Storage {
    /// Replaces what is in `bytes` by the stored form of `numbers`.
    pub(super) fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) {
        bytes.resize(numbers.len() * self.width(), 0); // all of it is written below
        match self {
            Self::F32 => {
                for (four, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                    *four = number.to_le_bytes();
                }
            }
            Self::F16 => {
                for (two, number) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(numbers) {
                    *two = f16::from_f32(*number).to_le_bytes();
                }
            }
        }
    }

    /// The numbers behind `bytes`, into `numbers`; both must be of one length.
    pub(super) fn decode(self, bytes: &[u8], numbers: &mut [f32]) -> Result<()> {
        if bytes.len() != numbers.len() * self.width() {
            let what = format!(
                "a vector of {} bytes, expected {}",
                bytes.len(),
                numbers.len() * self.width()
            );
            return Err(Error::Corrupt { what });
        }
        match self {
            Self::F32 => {
                for (four, number) in bytes.as_chunks::<4>().0.iter().zip(numbers) {
                    *number = f32::from_le_bytes(*four);
                }
            }
            Self::F16 => {
                for (two, number) in bytes.as_chunks::<2>().0.iter().zip(numbers) {
                    *number = f16::from_le_bytes(*two).to_f32();
                }
            }
        }
        Ok(())
    }
}

/// The bytes in a column of a row; what is no blob is damage.
pub(super) fn blob<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8]> {
    let value = row.get_ref(column).during("reading a vector")?;
    value.as_blob().map_err(|why| Error::Corrupt { what: format!("a vector is no blob: {why}") })
}

/// The 64 bits that stand for a stored vector.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// A hash as SQLite keeps it, and back.
pub(super) fn signed(hash: u64) -> i64 {
    hash as i64
}

/// The reverse of [`signed`].
pub(super) fn unsigned(stored: i64) -> u64 {
    stored as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_stored_comes_back(numbers: Vec<f32>) {
            let (mut bytes, mut again) = (Vec::new(), Vec::new());
            for storage in [Storage::F32, Storage::F16] {
                storage.encode(&numbers, &mut bytes);
                let mut read = vec![0.0; numbers.len()];
                storage.decode(&bytes, &mut read).unwrap();
                storage.encode(&read, &mut again);
                prop_assert_eq!(&bytes, &again);
            }
        }
    }

    #[test]
    fn bytes_of_another_length_are_damage() {
        let damaged = Storage::F32.decode(&[0; 7], &mut [0.0; 2]);
        assert!(matches!(damaged, Err(Error::Corrupt { .. })));
    }
}
