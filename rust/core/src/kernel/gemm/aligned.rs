//! Numbers that begin at a cache line.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Numbers, the first at the beginning of a cache line: of a matrix in rows of whole lines a vector is then
/// never read from two of them. Large blocks of a plain vector begin a quarter of a line
/// later under glibc.
#[derive(Debug, Default)]
pub struct Aligned {
    numbers: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// As many zeros.
    pub fn zeros(len: usize) -> Self {
        let numbers = vec![0.0; len + LINE / size_of::<f32>()];
        // where no offset is known, which a compiler may say, they lie as they come
        let start = numbers.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        Self { numbers, start, len }
    }

    /// Makes room for as many numbers, whose values are any. Memory is taken only where there was less.
    pub fn resize(&mut self, len: usize) {
        if self.start + len > self.numbers.len() {
            *self = Self::zeros(len);
        }
        self.len = len;
    }
}

impl From<&[f32]> for Aligned {
    fn from(numbers: &[f32]) -> Self {
        let mut aligned = Self::zeros(numbers.len());
        aligned.copy_from_slice(numbers);
        aligned
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.start..][..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_begin_at_a_cache_line_and_so_do_their_copies() {
        for len in [0, 1, 15, 16, 1_000, 100_000] {
            let given: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let made = Aligned::from(&given[..]);
            for aligned in [made.clone(), made] {
                assert_eq!(aligned.as_ptr() as usize % LINE, 0);
                assert_eq!(&aligned[..], &given[..]);
            }
        }
    }

    #[test]
    fn room_is_kept_and_made_where_there_is_too_little() {
        let mut aligned = Aligned::default();
        for len in [0, 100, 7, 100, 5_000, 0, 5_000] {
            aligned.resize(len);
            aligned.fill(1.0);
            assert_eq!(aligned.len(), len);
            assert!(len == 0 || (aligned.as_ptr() as usize).is_multiple_of(LINE));
        }
    }
}
