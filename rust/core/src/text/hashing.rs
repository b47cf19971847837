//! Texts as unit vectors by hashed n-grams: no vocabulary, no download, the same bits on every machine.
//!
//! Each text is lower-cased and cut into words; its features are the words, pairs of neighbouring words, and the runs
//! of 3 to 5 characters within a word that has a space put on each side. A feature adds `weight * sqrt(count)` to one
//! entry of the vector, chosen by a hash, with a sign that the same hash gives (the hashing trick, Weinberger et al.
//! 2009: signs make collisions cancel on average instead of adding up). The square root is there because a word said
//! ten times does not say ten times as much; unlike the usual logarithm it is rounded alike everywhere.
//!
//! It knows spelling, not meaning: "repair" and "fix" are strangers to it.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

/// The widest vector that can be asked for, as wide as a store's states may be.
const MAX_DIMENSION: usize = 16_384;
/// Lengths of the character n-grams.
const GRAMS: std::ops::RangeInclusive<usize> = 3..=5;

/// A family of features. The number is the seed of its hash, so that the word "cat" and the n-gram "cat" differ.
#[derive(Clone, Copy)]
enum Family {
    Word = 1,
    Pair = 2,
    Gram = 3,
    /// The text as a whole, where nothing else is left of it.
    Whole = 4,
}

impl Family {
    /// The weight of one feature. A word of six letters has fifteen n-grams, which together weigh about as much as
    /// the word; a pair only confirms what its words say.
    fn weight(self) -> f64 {
        match self {
            Self::Word | Self::Whole => 1.0,
            Self::Pair => 0.5,
            Self::Gram => 0.3,
        }
    }

    fn hash(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self as u64)
    }
}

/// Encodes texts as float32 vectors of length 1 that are near where words and spelling are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashingEncoder {
    dimension: usize,
}

impl HashingEncoder {
    /// An encoder to vectors of `dimension` entries, 1 to 16,384. Below some 256 unrelated texts begin to look alike.
    pub fn new(dimension: usize) -> Result<Self> {
        if !(1..=MAX_DIMENSION).contains(&dimension) {
            return Err(Error::invalid("dimension", "1 to 16384", dimension));
        }
        Ok(Self { dimension })
    }

    /// Entries of a vector.
    pub fn dimension(self) -> usize {
        self.dimension
    }

    /// Names what made a vector. Changes whenever the same text would be encoded otherwise.
    pub fn fingerprint(self) -> String {
        format!("precedent-hashing-1/{}", self.dimension)
    }

    /// One unit vector a text, `[texts, dimension]`. Never zero, also for the empty text.
    pub fn encode<S: AsRef<str>>(self, texts: &[S]) -> Vec<f32> {
        let mut vectors = vec![0.0; texts.len() * self.dimension];
        let mut scratch = Scratch::default();
        for (text, vector) in texts.iter().zip(vectors.chunks_exact_mut(self.dimension)) {
            self.encode_one(text.as_ref(), vector, &mut scratch);
        }
        vectors
    }

    fn encode_one(self, text: &str, vector: &mut [f32], scratch: &mut Scratch) {
        scratch.read(text);
        let Scratch { words, pairs, grams, sums, .. } = scratch;
        sums.clear();
        sums.resize(self.dimension, 0.0);
        for (family, hashes) in
            [(Family::Word, words), (Family::Pair, pairs), (Family::Gram, grams)]
        {
            hashes.sort_unstable(); // equal ones together, and one order of adding on every machine
            for run in hashes.chunk_by(|a, b| a == b) {
                add(sums, run[0], family.weight() * (run.len() as f64).sqrt());
            }
        }
        // Signs can cancel all of a text in a narrow vector, and a text can be empty or all punctuation.
        if sums.iter().all(|&sum| sum == 0.0) {
            let whole = Family::Whole;
            add(sums, whole.hash(text.trim().as_bytes()), whole.weight());
        }
        let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
        for (out, sum) in vector.iter_mut().zip(sums) {
            *out = (*sum / norm) as f32;
        }
    }
}

/// Puts a feature where its hash says: the high bits choose the entry, the lowest bit the sign.
fn add(sums: &mut [f64], hash: u64, weight: f64) {
    let entry = ((u128::from(hash) * sums.len() as u128) >> 64) as usize;
    sums[entry] += if hash & 1 == 0 { weight } else { -weight };
}

/// The features of one text as hashes, and room to find them in.
#[derive(Default)]
struct Scratch {
    words: Vec<u64>,
    pairs: Vec<u64>,
    grams: Vec<u64>,
    /// The word at hand, a space on each side.
    word: String,
    /// Where its characters begin, and its end.
    starts: Vec<usize>,
    sums: Vec<f64>,
}

impl Scratch {
    fn read(&mut self, text: &str) {
        self.words.clear();
        self.pairs.clear();
        self.grams.clear();
        self.word.clear();
        for c in text.chars() {
            if !belongs_to_word(c) {
                self.end_word();
                continue;
            }
            if self.word.is_empty() {
                self.word.push(' ');
            }
            if c.is_ascii() {
                self.word.push(c.to_ascii_lowercase());
            } else {
                self.word.extend(c.to_lowercase());
            }
        }
        self.end_word();
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        self.word.push(' ');
        let hash = Family::Word.hash(self.word.as_bytes());
        if let Some(&before) = self.words.last() {
            let mut pair = [0; 16];
            pair[..8].copy_from_slice(&before.to_le_bytes());
            pair[8..].copy_from_slice(&hash.to_le_bytes());
            self.pairs.push(Family::Pair.hash(&pair));
        }
        self.words.push(hash);
        self.starts.clear();
        self.starts.extend(self.word.char_indices().map(|(at, _)| at));
        self.starts.push(self.word.len());
        let bytes = self.word.as_bytes();
        for length in GRAMS {
            for ends in self.starts.windows(length + 1) {
                self.grams.push(Family::Gram.hash(&bytes[ends[0]..ends[length]]));
            }
        }
        self.word.clear();
    }
}

/// Letters and digits of any script, and what is beyond ASCII and no space or punctuation: combining marks, emoji.
fn belongs_to_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    let punctuation = matches!(c,
        '\u{80}'..='\u{BF}' | '\u{2000}'..='\u{206F}' | '\u{3000}'..='\u{303F}' | '\u{FF00}'..='\u{FF0F}'
    );
    c.is_alphanumeric() || !(punctuation || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::HashingEncoder;

    fn cosine(a: &str, b: &str) -> f64 {
        let both = HashingEncoder::new(768).unwrap().encode(&[a, b]);
        let (a, b) = both.split_at(768);
        a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum()
    }

    #[test]
    fn texts_that_share_words_are_nearer_than_strangers() {
        let base = "Fix the failing login test in the auth module";
        let near = cosine(base, "fix a failing test of the login page");
        let typo = cosine(base, "Fix teh failing logn test in the auth modul");
        let far = cosine(base, "Bake bread for tomorrow's breakfast");
        assert!(near > far + 0.2 && typo > far + 0.4, "near {near}, misspelt {typo}, far {far}");
        assert!(far.abs() < 0.15, "strangers are nearly orthogonal, not {far}");
    }

    #[test]
    fn case_and_punctuation_do_not_matter_but_the_order_of_words_does() {
        assert!((cosine("Open, the DOOR!", "open the door") - 1.0).abs() < 1e-6);
        assert!((cosine("ÄRGER über Übung", "ärger ÜBER übung") - 1.0).abs() < 1e-6);
        let swapped = cosine("the dog bites the man", "the man bites the dog");
        assert!((0.7..0.99).contains(&swapped), "{swapped}");
    }

    #[test]
    fn a_repeated_word_does_not_drown_the_others() {
        let many = format!("{}deploy the service", "error ".repeat(50));
        assert!(cosine(&many, "deploy the service") > 0.15);
        assert!(cosine(&many, "error") < 0.99);
    }

    #[test]
    fn every_text_has_length_one_in_every_dimension() {
        let long = "word ".repeat(2_000);
        let texts = [
            "",
            " ",
            "!!!",
            "+",
            "-",
            "a",
            "ab",
            "日本語のテキスト",
            "e\u{301}te\u{301}",
            "👍",
            "the and of to in on at by",
            &long,
        ];
        for dimension in [1, 2, 3, 7, 64, 768, 16_384] {
            let vectors = HashingEncoder::new(dimension).unwrap().encode(&texts);
            for (text, vector) in texts.iter().zip(vectors.chunks(dimension)) {
                let norm: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
                assert!((norm - 1.0).abs() < 1e-5, "{text:?} in {dimension}: {norm}");
            }
        }
    }

    #[test]
    fn texts_without_words_still_differ() {
        assert!(cosine("+", "-").abs() < 0.5);
        assert!(cosine("👍", "👎").abs() < 0.9);
        assert!((cosine("", "   ") - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_vectors_of_version_1_never_change() {
        let encoder = HashingEncoder::new(96).unwrap();
        let vectors = encoder.encode(&["Fix the login test", "", "naïve café №7"]);
        let bytes: Vec<u8> = vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
        let print = xxhash_rust::xxh3::xxh3_64(&bytes);
        assert_eq!(
            print, 0x2B14_DFA2_7736_2E03,
            "another vector needs another fingerprint, not {print:#018x}"
        );
        assert_eq!(encoder.fingerprint(), "precedent-hashing-1/96");
    }

    #[test]
    fn a_dimension_out_of_range_is_refused() {
        assert!(HashingEncoder::new(0).is_err());
        assert!(HashingEncoder::new(16_385).is_err());
    }
}
