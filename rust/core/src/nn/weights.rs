//! The layer's file. Two MessagePack values: a header, and a body that the header's checksum covers.
//!
//! ```text
//! header  [magic: str "precedent-layer", version: int, body length: int, xxh3-64 of the body seeded with the version: int]
//! body    {settings: map, encoder: str or nil, trained: bool, timesteps: bool, steps: int, params: bin, first: bin, second: bin, centroids: bin, calibration: map or nil}
//!         and in version 2, an ensemble's: {..., members: [bin]}
//! ```
//!
//! `params` is W1, b1, W2, b2 in rows, `first` and `second` are the optimizer's moments in the same order, all
//! little-endian f32; so are `centroids`, rows of states that stand for those it learned from, empty where there are none.
//! `calibration` holds `weights` (of the signs), `knots` (pairs of score and value) and `spreads` (maps of `from`, `count`
//! and `levels`). `members` are the files of the other members, each of version 1. A single network is written
//! as version 1. A later version keeps the header.
//!
//! Nothing in a file is believed: the checksum comes first, sizes are compared with what is there before anything is made
//! by them, and what is read is at most as large as the file.

use std::io::Cursor;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::calibration::curve::Curve;
use super::calibration::familiar::Familiar;
use super::layer::DecisionLayer;
use super::optimizer::Memory;
use super::settings::{LayerSettings, Optimizer};
use super::sums::all_finite;
use crate::atomic;
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
    centroids: Bytes<'a>,
    calibration: Option<&'a Curve>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<Bytes<'a>>,
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
    centroids: Bytes<'a>,
    calibration: Option<Curve>,
    #[serde(borrow, default)]
    members: Vec<Bytes<'a>>,
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
        let members = self.others.iter().map(|other| Ok(Bytes(other.to_bytes()?.into())));
        let members = members.collect::<Result<Vec<_>>>()?;
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
            centroids: to_le(self.familiar.as_ref().map_or(&[], Familiar::centroids)),
            calibration: self.calibration.as_ref(),
            members,
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
            centroids,
            calibration,
            members,
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
        let calibration = calibration.map(Curve::checked).transpose().map_err(Flaw::Damaged)?;
        let centroids = from_le(&centroids.0).ok_or(Flaw::Damaged("its centroids are cut"))?;
        let familiar = Familiar::checked(centroids, settings.state_size).map_err(Flaw::Damaged)?;
        let memory = Memory::resumed(settings.optimizer, settings.shape(), steps, (first, second));
        let learned = (trained, timesteps);
        let first =
            Self::from_parts(settings, params[..].into(), memory, (None, None), learned, encoder);
        let members = members.iter().map(|member| Self::decode(&member.0, SINGLE));
        let members: Vec<_> =
            std::iter::once(Ok(first)).chain(members).collect::<Result<_, _>>()?;
        let mut layer = Self::of_members(members)
            .map_err(|_| Flaw::Damaged("its members do not belong together"))?;
        (layer.calibration, layer.familiar) = (calibration, familiar);
        Ok(layer)
    }
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
