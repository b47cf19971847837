//! Sets of rows: one bit a row, sixty-four rows a word.

use crate::kernel::wide::{self, Loop};

/// A set of positions `0..len`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    /// The set with these words, of the positions below `len`; `None` if there are more or fewer words, or bits beyond.
    pub fn from_words(words: Vec<u64>, len: usize) -> Option<Self> {
        let spare = words.len() * 64 - len.min(words.len() * 64);
        let beyond = words.last().is_some_and(|last| spare > 0 && last >> (64 - spare) != 0);
        (words.len() == len.div_ceil(64) && !beyond).then_some(Self { words, len })
    }

    /// Positions there are, in the set or not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many positions below `end` are in the set.
    pub fn count_before(&self, end: usize) -> usize {
        let whole: usize =
            self.words.iter().take(end / 64).map(|word| word.count_ones() as usize).sum();
        let part = self.words.get(end / 64).map_or(0, |word| word & ((1 << (end % 64)) - 1));
        whole + part.count_ones() as usize
    }

    /// Adds a position at the end.
    pub fn push(&mut self, value: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        self.words[self.len / 64] |= u64::from(value) << (self.len % 64);
        self.len += 1;
    }

    /// Whether `at` is in the set.
    pub fn get(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// Puts `at` into the set or takes it out.
    pub fn set(&mut self, at: usize, value: bool) {
        let word = &mut self.words[at / 64];
        *word = *word & !(1 << (at % 64)) | u64::from(value) << (at % 64);
    }

    /// Takes `at` out of the set.
    pub fn unset(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
    }

    /// How many positions are in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The words, the first position in the lowest bit of the first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Becomes a copy of `other`, in the memory it already has.
    pub fn copy_from(&mut self, other: &Self) {
        let Self { words, len } = self;
        words.clone_from(&other.words);
        *len = other.len;
    }

    /// Takes every position out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Keeps the positions whose value in `column` passes. A column that differs in length from the set is a bug.
    pub fn narrow<T: Copy>(&mut self, column: &[T], passes: impl Fn(T) -> bool) {
        debug_assert_eq!(column.len(), self.len);
        wide::run(Narrow { words: &mut self.words, column, passes });
    }

    /// Keeps the positions that are in `other` (or are not, if `wanted` is false).
    pub fn narrow_to(&mut self, other: &Self, wanted: bool) {
        debug_assert_eq!(other.len, self.len);
        let flip = if wanted { 0 } else { u64::MAX };
        for (word, theirs) in self.words.iter_mut().zip(&other.words) {
            *word &= theirs ^ flip;
        }
    }

    /// The positions in the set, rising.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| at * 64 + word.trailing_zeros() as usize)
        })
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

struct Narrow<'a, T, F> {
    words: &'a mut [u64],
    column: &'a [T],
    passes: F,
}

impl<T: Copy, F: Fn(T) -> bool> Loop for Narrow<'_, T, F> {
    type Output = ();

    #[expect(clippy::inline_always, reason = "a loop that is compiled for several vector widths")]
    #[inline(always)]
    fn run(self) {
        let Self { words, column, passes } = self;
        for (word, values) in words.iter_mut().zip(column.chunks(64)) {
            if *word == 0 {
                continue;
            }
            // a byte a value, which is compared with many at once, then eight bytes to a bit each: every product has its
            // byte's bit in another place of the uppermost byte
            let mut bytes = [0; 64];
            for (byte, &value) in bytes.iter_mut().zip(values) {
                *byte = u8::from(passes(value));
            }
            let eights = bytes.as_chunks::<8>().0.iter().zip((0..64).step_by(8));
            let keep = eights.map(|(eight, at)| {
                (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << at
            });
            *word &= keep.fold(0, |all, bits| all | bits);
        }
    }
}

impl FromIterator<bool> for Bits {
    fn from_iter<I: IntoIterator<Item = bool>>(values: I) -> Self {
        let mut bits = Self::default();
        values.into_iter().for_each(|value| bits.push(value));
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn a_set_gives_back_what_was_put_in_across_word_borders() {
        let member = |i: usize| i.is_multiple_of(3) || i == 64;
        let mut bits: Bits = (0..200).map(member).collect();
        let expected: Vec<usize> = (0..200).filter(|&i| member(i)).collect();
        assert_eq!(bits.iter().collect::<Vec<_>>(), expected);
        assert_eq!(bits.count(), expected.len());
        bits.unset(64);
        assert!(!bits.get(64) && bits.get(63));
        for (at, value) in [(64, true), (63, false), (63, true), (64, false)] {
            bits.set(at, value);
            assert_eq!(bits.get(at), value);
        }
        assert_eq!(bits.count(), expected.len() - 1);
        let column: Vec<usize> = (0..200).collect();
        bits.narrow(&column, |i| i >= 100);
        assert_eq!(bits.iter().next(), Some(102));
        let mixed = |i: usize| i * i % 11 < 5;
        bits.narrow(&column, mixed);
        let expected: Vec<usize> = (100..200).filter(|&i| member(i) && mixed(i)).collect();
        assert_eq!(bits.iter().collect::<Vec<_>>(), expected);
        assert!(expected.len() > 5);
        let mut bits: Bits = (0..200).map(member).collect();
        let odd: Bits = (0..200).map(|i| i % 2 == 1).collect();
        bits.narrow_to(&odd, false);
        assert!(bits.iter().all(|i| i % 2 == 0) && bits.count() > 0);
    }
}
