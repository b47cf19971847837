//! The layer's file. Two MessagePack values: a header, and a body that the header's checksum covers.
//!
//! ```text
//! header  [magic: str "precedent-layer", version: int, body length: int, xxh3-64 of the body seeded with the version: int]
//! body    {settings: map, encoder: str or nil, trained: bool, timesteps: bool, steps: int, params: bin, first: bin, second: bin, knots: bin}
//!         and in version 2, an ensemble's: {..., members: [bin], doubt: float}
//! ```
//!
//! `params` is W1, b1, W2, b2 in rows, `first` and `second` are the optimizer's moments in the same order, all
//! little-endian f32; `knots` is the calibration as quadruples of little-endian f64 (score, value, low, high), empty
//! before one. `members` are the files of the other members, each of version 1; `doubt` is what their disagreement counts
//! in a score. A single network is written as version 1. A later version keeps the header.
//!
//! Nothing in a file is believed: the checksum comes first, sizes are compared with what is there before anything is made
//! by them, and what is read is at most as large as the file.

use std::io::Cursor;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::atomic;
use super::calibration::{Calibration, Knot};
use super::layer::DecisionLayer;
use super::optimizer::Memory;
use super::settings::{LayerSettings, Optimizer};
use super::sums::all_finite;
use crate::error::{Error, Result};

const MAGIC: &str = "precedent-layer";
/// The version of a single network's body.
const SINGLE: u32 = 1;
/// The newest version of the body, an ensemble's.
const VERSION: u32 = 2;
/// Maps within maps in a body, and then some: a file that nests deeper is not ours.
const DEPTH: usize = 16;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    magic: String,
    version: u32,
    length: u64,
    checksum: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    settings: &'a LayerSettings,
    encoder: Option<&'a str>,
    trained: bool,
    timesteps: bool,
    steps: u64,
    params: Bytes<'a>,
    first: Bytes<'a>,
    second: Bytes<'a>,
    knots: Bytes<'a>,
    #[serde(flatten)]
    ensemble: Option<Ensemble<'a>>,
}

#[derive(Serialize)]
struct Ensemble<'a> {
    members: Vec<Bytes<'a>>,
    doubt: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found<'a> {
    settings: LayerSettings,
    encoder: Option<String>,
    trained: bool,
    timesteps: bool,
    steps: u64,
    #[serde(borrow)]
    params: Bytes<'a>,
    #[serde(borrow)]
    first: Bytes<'a>,
    #[serde(borrow)]
    second: Bytes<'a>,
    #[serde(borrow)]
    knots: Bytes<'a>,
    #[serde(borrow, default)]
    members: Vec<Bytes<'a>>,
    #[serde(default)]
    doubt: f64,
}

/// MessagePack's `bin`, borrowed.
struct Bytes<'a>(std::borrow::Cow<'a, [u8]>);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> serde::de::Visitor<'de> for Borrowed {
            type Value = Bytes<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Bytes(bytes.into()))
            }
        }
        from.deserialize_bytes(Borrowed)
    }
}

/// Why bytes are not a layer.
enum Flaw {
    Foreign,
    Newer(u32),
    Damaged(&'static str),
}

impl DecisionLayer {
    /// The layer as bytes, for a file or a database: weights, optimizer, calibration, settings.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if !all_finite(&self.params) {
            return Err(Error::Training(
                "the weights are not all finite numbers and are not saved".into(),
            ));
        }
        let knots = self.calibration.iter().flat_map(Calibration::knots);
        let knots = knots.flat_map(|knot| {
            let Knot { score, value, low, high } = *knot;
            [score, value, low, high].map(f64::to_le_bytes)
        });
        let members = self.others.iter().map(|other| Ok(Bytes(other.to_bytes()?.into())));
        let members = members.collect::<Result<Vec<_>>>()?;
        let doubt = self.calibration.as_ref().map_or(0.0, Calibration::doubt);
        let version = if members.is_empty() { SINGLE } else { VERSION };
        let body = Body {
            settings: &self.settings,
            encoder: self.fingerprint.as_deref(),
            trained: self.trained,
            timesteps: self.timesteps,
            steps: self.memory.steps,
            params: to_le(&self.params),
            first: to_le(&self.memory.first),
            second: to_le(&self.memory.second),
            knots: Bytes(knots.flatten().collect()),
            ensemble: (version == VERSION).then_some(Ensemble { members, doubt }),
        };
        let body = rmp_serde::to_vec_named(&body).expect("a layer holds nothing unserialisable");
        let mut bytes = header(version, &body);
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// The reverse of [`Self::to_bytes`]. It learns on to the same bits.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for everything that is not such a layer, whole and unharmed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::decode(bytes, VERSION).map_err(|flaw| Error::Corrupt {
            what: match flaw {
                Flaw::Foreign => "these bytes are not a decision layer".into(),
                Flaw::Newer(version) => {
                    format!(
                        "this decision layer has version {version}, {VERSION} is the newest known"
                    )
                }
                Flaw::Damaged(how) => format!("the saved decision layer is damaged: {how}"),
            },
        })
    }

    /// Writes [`Self::to_bytes`] to a file, which is replaced whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        atomic::write(path, &self.to_bytes()?)
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for another program's file, [`Error::Version`] for a newer version's, [`Error::Corrupt`] for a
    /// damaged one, [`Error::Io`] where it cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        Self::decode(&atomic::read(path)?, VERSION).map_err(|flaw| match flaw {
            Flaw::Foreign => Error::Format {
                path: path.to_owned(),
                why: "it does not begin as a saved decision layer does".into(),
            },
            Flaw::Newer(found) => Error::Version { path: path.to_owned(), found, newest: VERSION },
            Flaw::Damaged(how) => {
                Error::Corrupt { what: format!("{} is damaged: {how}", path.display()) }
            }
        })
    }

    /// Reads versions up to `newest`: a member is a single network, or files could nest without end.
    fn decode(bytes: &[u8], newest: u32) -> Result<Self, Flaw> {
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
        reader.set_max_depth(DEPTH);
        let found = Header::deserialize(&mut reader).map_err(|_| foreign_or_cut(bytes))?;
        if found.magic != MAGIC {
            return Err(Flaw::Foreign);
        }
        let (head, body) = bytes.split_at(reader.position() as usize);
        // Compared as bytes: a header has one spelling, so no changed bit in it goes unseen.
        if head != header(found.version, body) {
            return Err(Flaw::Damaged("its checksum does not fit"));
        }
        if !(SINGLE..=newest).contains(&found.version) {
            return Err(Flaw::Newer(found.version));
        }
        let mut reader = rmp_serde::Deserializer::from_read_ref(body);
        reader.set_max_depth(DEPTH);
        let version = found.version;
        let found = Found::deserialize(&mut reader)
            .map_err(|_| Flaw::Damaged("its fields are not a layer's"))?;
        if (version == SINGLE) != found.members.is_empty() {
            return Err(Flaw::Damaged("its version and its members contradict each other"));
        }
        Self::from_found(found)
    }

    fn from_found(found: Found<'_>) -> Result<Self, Flaw> {
        let Found {
            settings,
            encoder,
            trained,
            timesteps,
            steps,
            params,
            first,
            second,
            knots,
            members,
            doubt,
        } = found;
        let settings =
            settings.checked().map_err(|_| Flaw::Damaged("its settings are out of range"))?;
        let params = from_le(&params.0).ok_or(Flaw::Damaged("its weights are cut"))?;
        let first = from_le(&first.0).ok_or(Flaw::Damaged("its moments are cut"))?;
        let second = from_le(&second.0).ok_or(Flaw::Damaged("its moments are cut"))?;
        let size = settings.shape().parameters();
        let seconds = if settings.optimizer == Optimizer::Sgd { 0 } else { size };
        if (params.len(), first.len(), second.len()) != (size, size, seconds) {
            return Err(Flaw::Damaged("its sizes contradict each other"));
        }
        let numbers = [&first, &second].into_iter().flatten().all(|x| !x.is_nan());
        if !numbers || !all_finite(&params) || second.iter().any(|x| *x < 0.0) {
            return Err(Flaw::Damaged("its weights are not all numbers"));
        }
        let calibration = calibration(&knots.0, doubt)?;
        let memory = Memory::resumed(settings.optimizer, settings.shape(), steps, (first, second));
        let learned = (trained, timesteps);
        let first = Self::from_parts(settings, params, memory, None, learned, encoder);
        let members = members.iter().map(|member| Self::decode(&member.0, SINGLE));
        let members: Vec<_> =
            std::iter::once(Ok(first)).chain(members).collect::<Result<_, _>>()?;
        let mut layer = Self::of_members(members)
            .map_err(|_| Flaw::Damaged("its members do not belong together"))?;
        layer.calibration = calibration;
        Ok(layer)
    }
}

/// The calibration of a file; none where there are no knots.
fn calibration(bytes: &[u8], doubt: f64) -> Result<Option<Calibration>, Flaw> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let numbers: Vec<f64> = numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let (knots, left) = numbers.as_chunks::<4>();
    let knots = knots.iter().map(|&[score, value, low, high]| Knot { score, value, low, high });
    if !rest.is_empty() || !left.is_empty() {
        return Err(Flaw::Damaged("its calibration is cut"));
    }
    Calibration::checked(knots.collect(), doubt).map_err(Flaw::Damaged)
}

/// The only header that fits a body.
fn header(version: u32, body: &[u8]) -> Vec<u8> {
    let header = Header {
        magic: MAGIC.into(),
        version,
        length: body.len() as u64,
        checksum: xxh3_64_with_seed(body, u64::from(version)),
    };
    rmp_serde::to_vec(&header).expect("a header holds nothing unserialisable")
}

/// Whether bytes without a header are the beginning of ours.
fn foreign_or_cut(bytes: &[u8]) -> Flaw {
    let ours = header(VERSION, &[]);
    let known = bytes.len().min(MAGIC.len() + 2);
    if bytes[..known] == ours[..known] {
        Flaw::Damaged("its beginning is cut")
    } else {
        Flaw::Foreign
    }
}

fn to_le(values: &[f32]) -> Bytes<'static> {
    Bytes(values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// Little-endian numbers, if they are whole.
pub(super) fn from_le(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
