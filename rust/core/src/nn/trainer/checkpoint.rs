//! What of a run outlives its process: a folder of checkpoints, each written whole or not at all.
//!
//! ```text
//! last.ckpt        after every epoch
//! epoch-0005.ckpt  every save_interval epochs
//! best.weights     the best epoch so far, as DecisionLayer::load reads it
//! ```
//!
//! A checkpoint, little-endian: `PRECCKPT`, u32 version, four u64 lengths, then that many bytes each of the state
//! (`MessagePack`), the layer, the best layer (both as `DecisionLayer::to_bytes` makes them; the best is empty where it is the
//! layer itself) and the priorities (as `PrioritizedReplay::to_bytes` makes them; empty under other replays), and the CRC-32
//! of all before.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::report::EpochMetrics;
use super::settings::TrainerSettings;
use crate::atomic;
use crate::error::{Error, Result};
use crate::nn::DecisionLayer;

const MAGIC: &[u8; 8] = b"PRECCKPT";
const VERSION: u32 = 1;
const PARTS: usize = 4;
const HEADER: usize = 8 + 4 + PARTS * 8;

/// A run as it was after an epoch.
pub(super) struct Checkpoint {
    pub(super) settings: TrainerSettings,
    pub(super) fingerprint: u64,
    pub(super) history: Vec<EpochMetrics>,
    pub(super) layer: DecisionLayer,
    pub(super) best: DecisionLayer,
    pub(super) priorities: Vec<u8>,
}

/// The part of a checkpoint that is not weights.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    settings: TrainerSettings,
    fingerprint: u64,
    history: Vec<EpochMetrics>,
}

/// Where a run keeps its checkpoints.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`, made if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)
            .map_err(|source| Error::io("making the folder for checkpoints", path, source))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes `last.ckpt`, and the checkpoint of its own that `own_file` asks for. `best` is `None` where the layer is
    /// the best one.
    pub(super) fn save(
        &self,
        settings: &TrainerSettings,
        fingerprint: u64,
        history: &[EpochMetrics],
        (layer, best, priorities): (&DecisionLayer, Option<&DecisionLayer>, &[u8]),
        own_file: Option<u64>,
    ) -> Result<()> {
        let settings = TrainerSettings { save_path: None, ..settings.clone() }; // a folder may move
        let state = State { settings, fingerprint, history: history.to_vec() };
        let state = rmp_serde::to_vec_named(&state)
            .map_err(|why| Error::Training(format!("a checkpoint cannot be made: {why}")))?;
        let best = best.map_or_else(|| Ok(Vec::new()), DecisionLayer::to_bytes)?;
        let bytes = encode([&state, &layer.to_bytes()?, &best, priorities]);
        if let Some(epoch) = own_file {
            atomic::write(&self.0.join(format!("epoch-{epoch:04}.ckpt")), &bytes)?;
        }
        atomic::write(&self.0.join("last.ckpt"), &bytes)
    }

    /// Writes `best.weights`.
    pub(super) fn save_best(&self, layer: &DecisionLayer) -> Result<()> {
        layer.save(&self.0.join("best.weights"))
    }

    /// Reads `last.ckpt`.
    pub(super) fn last(&self) -> Result<Checkpoint> {
        read(&self.0.join("last.ckpt"))
    }
}

fn encode(parts: [&[u8]; PARTS]) -> Vec<u8> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(HEADER + total + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn read(path: &Path) -> Result<Checkpoint> {
    let bytes = atomic::read(path)?;
    let damaged = |how: &str| Error::Corrupt {
        what: format!("the checkpoint {} is damaged: {how}", path.display()),
    };
    let Some((body, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(damaged("it is too short"));
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err(damaged("its checksum is wrong"));
    }
    let Some((MAGIC, body)) = body.split_first_chunk::<8>() else {
        return Err(Error::Format {
            path: path.to_owned(),
            why: "it does not begin as a checkpoint does".into(),
        });
    };
    let Some((version, body)) = body.split_first_chunk::<4>() else {
        return Err(damaged("it is too short"));
    };
    let found = u32::from_le_bytes(*version);
    if found > VERSION {
        return Err(Error::Version { path: path.to_owned(), found, newest: VERSION });
    }
    let [state, layer, best, priorities] =
        split(body).ok_or_else(|| damaged("its lengths do not add up"))?;
    let State { settings, fingerprint, history } =
        rmp_serde::from_slice(state).map_err(|why| damaged(&why.to_string()))?;
    if !history.iter().map(|metrics| metrics.epoch).eq(1..=history.len() as u64) {
        return Err(damaged("its epochs do not follow each other"));
    }
    let layer = DecisionLayer::from_bytes(layer)?;
    let best = if best.is_empty() { layer.clone() } else { DecisionLayer::from_bytes(best)? };
    Ok(Checkpoint { settings, fingerprint, history, layer, best, priorities: priorities.to_vec() })
}

/// The parts after their lengths, if these take up the rest exactly.
fn split(body: &[u8]) -> Option<[&[u8]; PARTS]> {
    let (lengths, mut rest) = body.split_first_chunk::<{ 8 * PARTS }>()?;
    let mut parts = [&[][..]; PARTS];
    for (part, length) in parts.iter_mut().zip(lengths.as_chunks::<8>().0) {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        (*part, rest) = rest.split_at_checked(length)?;
    }
    rest.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::LayerSettings;

    fn saved(folder: &Folder) -> PathBuf {
        let mut layer = DecisionLayer::new(LayerSettings::new(3, 2)).unwrap();
        let shapes = [9 * 256, 256, 256 * 2, 2].map(|n| vec![0.5; n]);
        layer.set_weights(std::array::from_fn(|i| &shapes[i][..])).unwrap();
        folder
            .save(&TrainerSettings::default(), 7, &[], (&layer, None, b"priorities"), Some(5))
            .unwrap();
        folder.0.join("last.ckpt")
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(&home.path().join("a/b")).unwrap();
        let path = saved(&folder);
        let Checkpoint { settings, fingerprint, history, layer, best, priorities } =
            folder.last().unwrap();
        assert_eq!((settings, fingerprint, history.len()), (TrainerSettings::default(), 7, 0));
        assert_eq!(priorities, b"priorities");
        assert_eq!(layer.weights(), best.weights());
        assert_eq!(layer.weights()[0][0], 0.5);
        assert_eq!(fs::read(&path).unwrap(), fs::read(folder.0.join("epoch-0005.ckpt")).unwrap());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2, "temporary files are gone");
    }

    #[test]
    fn a_damaged_checkpoint_is_corrupt_wherever_it_was_hit() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let path = saved(&folder);
        let whole = fs::read(&path).unwrap();
        for cut in [0, 3, 4, 12, HEADER, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(folder.last(), Err(Error::Corrupt { .. })), "cut at {cut}");
        }
        for at in (0..whole.len()).step_by(97).chain([0, 9, 13, 20, whole.len() - 1]) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(folder.last(), Err(Error::Corrupt { .. })), "flipped at {at}");
        }
    }

    #[test]
    fn lengths_that_lie_under_a_right_checksum_are_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let path = saved(&folder);
        let whole = fs::read(&path).unwrap();
        for length in [u64::MAX, 1 << 40, 0] {
            let mut lying = whole[..whole.len() - 4].to_vec();
            lying[12..20].copy_from_slice(&length.to_le_bytes());
            lying.extend_from_slice(&crc32fast::hash(&lying).to_le_bytes());
            fs::write(&path, &lying).unwrap();
            assert!(matches!(folder.last(), Err(Error::Corrupt { .. })), "length {length}");
        }
    }

    #[test]
    fn a_checkpoint_of_a_newer_version_or_of_another_program_says_so() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let path = saved(&folder);
        let whole = fs::read(&path).unwrap();
        let rewrite = |at: usize| {
            let mut other = whole[..whole.len() - 4].to_vec();
            other[at] = 9;
            other.extend_from_slice(&crc32fast::hash(&other).to_le_bytes());
            fs::write(&path, &other).unwrap();
            folder.last().map(|_| ())
        };
        assert!(matches!(rewrite(8), Err(Error::Version { found: 9, newest: 1, .. })));
        assert!(matches!(rewrite(0), Err(Error::Format { .. })));
        fs::remove_file(&path).unwrap();
        let error = folder.last().map(|_| ()).unwrap_err();
        assert!(
            matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
            "{error}"
        );
    }
}
