//! A replay's file, little-endian:
//!
//! ```text
//! b"PRECPRIO"  u32 version
//! u64 capacity, f64 alpha, f64 eps, u64 beta_steps (0 = none), u64 seed
//! u64 place of the next item, f64 greatest priority so far, u64 items drawn so far
//! u64 items, f64 priority each
//! u32 CRC-32 of all before
//! ```
//!
//! Nothing in a file is believed: the checksum comes first, and memory is taken for as many items as the file holds, however
//! large a capacity it names.

use std::path::Path;

use super::buffer::{LARGEST, PrioritizedReplay, ReplaySettings};
use crate::atomic;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"PRECPRIO";
const VERSION: u32 = 1;
/// Numbers of eight bytes between the version and the priorities.
const NUMBERS: usize = 9;

/// Why bytes are not a replay.
enum Flaw {
    Foreign,
    Newer(u32),
    Damaged(&'static str),
}

impl PrioritizedReplay {
    /// Writes everything the draws depend on to a file, which is replaced whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic::write(path, &self.to_bytes())
    }

    /// Reads what [`Self::save`] wrote. It draws on as the one that was saved.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for another program's file, [`Error::Version`] for a newer version's, [`Error::Corrupt`] for a
    /// damaged one, [`Error::Io`] where it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        Self::decode(&atomic::read(path)?).map_err(|flaw| match flaw {
            Flaw::Foreign => Error::Format {
                path: path.to_owned(),
                why: "it does not begin as a saved replay does".into(),
            },
            Flaw::Newer(found) => Error::Version { path: path.to_owned(), found, newest: VERSION },
            Flaw::Damaged(how) => {
                Error::Corrupt { what: format!("{} is damaged: {how}", path.display()) }
            }
        })
    }

    /// What [`Self::save`] writes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { settings, rng: _, tree: _, priorities, next, greatest, drawn } = self;
        let ReplaySettings { capacity, alpha, eps, beta_steps, seed } = settings;
        let numbers: [u64; NUMBERS] = [
            *capacity as u64,
            alpha.to_bits(),
            eps.to_bits(),
            beta_steps.unwrap_or(0),
            *seed,
            *next as u64,
            greatest.to_bits(),
            *drawn,
            priorities.len() as u64,
        ];
        let mut bytes = Vec::with_capacity(16 + 8 * (NUMBERS + priorities.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(priorities.iter().flat_map(|priority| priority.to_le_bytes()));
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// The reverse of [`Self::to_bytes`].
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for everything that is not such a replay, whole and unharmed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::decode(bytes).map_err(|flaw| Error::Corrupt {
            what: match flaw {
                Flaw::Foreign => "these bytes are not a saved replay".into(),
                Flaw::Newer(version) => {
                    format!("this replay has version {version}, {VERSION} is the newest known")
                }
                Flaw::Damaged(how) => format!("the saved replay is damaged: {how}"),
            },
        })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(Flaw::Foreign);
        }
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Flaw::Damaged("it is too short"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(Flaw::Damaged("its checksum does not fit"));
        }
        let body = body.get(MAGIC.len()..).ok_or(Flaw::Damaged("it is too short"))?;
        let (version, body) =
            body.split_first_chunk::<4>().ok_or(Flaw::Damaged("it is too short"))?;
        match u32::from_le_bytes(*version) {
            VERSION => {}
            newer if newer > VERSION => return Err(Flaw::Newer(newer)),
            _ => return Err(Flaw::Damaged("there never was such a version")),
        }
        let (numbers, rest) = body.as_chunks::<8>();
        let Some((numbers, priorities)) =
            numbers.split_first_chunk::<NUMBERS>().filter(|_| rest.is_empty())
        else {
            return Err(Flaw::Damaged("it is cut"));
        };
        let [capacity, alpha, eps, beta_steps, seed, next, greatest, drawn, len] =
            numbers.map(u64::from_le_bytes);
        let settings = ReplaySettings {
            capacity: usize::try_from(capacity).map_err(|_| Flaw::Damaged("it is too large"))?,
            alpha: f64::from_bits(alpha),
            eps: f64::from_bits(eps),
            beta_steps: (beta_steps > 0).then_some(beta_steps),
            seed,
        };
        let mut replay =
            Self::new(settings).map_err(|_| Flaw::Damaged("its settings are out of range"))?;
        let priorities: Vec<f64> =
            priorities.iter().map(|number| f64::from_le_bytes(*number)).collect();
        let greatest = f64::from_bits(greatest);
        if priorities.len() as u64 != len || len > capacity {
            return Err(Flaw::Damaged("its lengths contradict each other"));
        }
        if next >= capacity || (len < capacity && next != len) {
            return Err(Flaw::Damaged("its next place is no place"));
        }
        let sound = |p: &f64| (0.0..=LARGEST).contains(p);
        if !sound(&greatest) || !priorities.iter().all(|p| sound(p) && *p <= greatest) {
            return Err(Flaw::Damaged("its priorities are out of range"));
        }
        if !priorities.is_empty() {
            replay
                .add(priorities.len(), Some(&priorities))
                .map_err(|_| Flaw::Damaged("it is too large"))?;
        }
        (replay.next, replay.greatest, replay.drawn) = (next as usize, greatest, drawn);
        Ok(replay)
    }
}
