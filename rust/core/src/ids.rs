//! Names of rows: integer keys inside, uuid7 outside.
//!
//! A trajectory's id is a uuid7 (RFC 9562) whose random part carries the row's key, so finding a row by its id is one
//! lookup by primary key and needs no index of its own. Layout, most significant bit first:
//!
//! ```text
//! 48 bits  milliseconds since 1970        4 bits  version 7
//! 12 bits  counter within a millisecond   2 bits  variant 0b10
//! 22 bits  random                        40 bits  row key
//! ```

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::rng::Rng;

/// A row of the `trajectory` table: never used again for another row. The `int64` keys of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct RowKey(pub i64);

/// A row of the `episode` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EpisodeId(pub i64);

/// A row of the `pattern` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatternId(pub i64);

/// A row of the `label` table: a task type or an agent type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelId(pub i64);

/// Row keys take 40 bits of an id.
pub const MAX_ROW_KEY: i64 = (1 << 40) - 1;

/// The public id of a trajectory: a uuid7, shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrajectoryId(u128);

impl TrajectoryId {
    /// The next id of this process, for the row `key`. Ids made later compare greater, across all stores of the
    /// process, also when the clock goes back.
    pub fn next(key: RowKey, now_ms: i64) -> Self {
        debug_assert!((0..=MAX_ROW_KEY).contains(&key.0));
        let stamp = next_stamp(now_ms);
        let random = Rng::new(process_seed(), 0).at(stamp) & ((1 << 22) - 1);
        let (ms, counter) = (u128::from(stamp >> 12), u128::from(stamp & 0xFFF));
        let tail = (u128::from(random) << 40) | key.0 as u128;
        Self(ms << 80 | 7 << 76 | counter << 64 | 0b10 << 62 | tail)
    }

    /// The row that an id claims to name. Whoever follows it compares the whole id with the row's own.
    pub fn row_key(self) -> RowKey {
        RowKey((self.0 & ((1 << 40) - 1)) as i64)
    }

    /// The sixteen bytes as stored in the file, most significant first, as RFC 9562 orders them.
    #[expect(
        clippy::big_endian_bytes,
        reason = "the byte order of a uuid is big-endian by its RFC"
    )]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The reverse of [`Self::to_bytes`].
    #[expect(
        clippy::big_endian_bytes,
        reason = "the byte order of a uuid is big-endian by its RFC"
    )]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Reads 32 hex digits. What is not an id cannot be in a store, so the error is "not found".
    pub fn parse(text: &str) -> Result<Self> {
        let hex = text.len() == 32
            && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        hex.then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| Error::NotFound { what: "trajectory", id: text.to_owned() })
    }
}

impl fmt::Display for TrajectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TrajectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Milliseconds (48 bits) and a counter (12 bits), strictly rising: 4,096 ids a millisecond before the counter
/// borrows from the next one.
fn next_stamp(now_ms: i64) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = (now_ms.max(0) as u64 & ((1 << 48) - 1)) << 12;
    let last =
        LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
    let last = last.expect("the closure never declines");
    now.max(last + 1)
}

/// Differs from process to process, so that two of them rarely give one id to rows of different files.
fn process_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_within_a_process_even_when_the_clock_goes_back() {
        let ids: Vec<_> =
            (0..10_000).map(|i| TrajectoryId::next(RowKey(i % 7), 1_000_000 - i)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!(ids.windows(2).all(|pair| pair[0].to_string() < pair[1].to_string()));
    }

    #[test]
    fn an_id_is_a_version_7_uuid_that_carries_its_row() {
        let id = TrajectoryId::next(RowKey(123_456_789), 1_763_689_000_000);
        let text = id.to_string();
        assert_eq!((text.len(), &text[12..13]), (32, "7"));
        assert!(matches!(text.as_bytes()[16], b'8'..=b'b'), "variant in {text}");
        assert_eq!(id.row_key(), RowKey(123_456_789));
        assert_eq!(TrajectoryId::parse(&text).unwrap(), id);
        assert_eq!(TrajectoryId::from_bytes(id.to_bytes()), id);
    }

    #[test]
    fn what_is_not_an_id_is_not_found() {
        let upper = "A".repeat(32);
        for text in ["", "no", "+1234567890123456789012345678901", upper.as_str()] {
            assert!(matches!(TrajectoryId::parse(text), Err(Error::NotFound { .. })), "{text:?}");
        }
    }
}
