//! The layer in the safetensors format, for other programs: tensors W1, b1, W2 and b2 (and `centroids`, where a trainer
//! left them), the settings and the calibration as metadata.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use xxhash_rust::xxh3::Xxh3;

use super::calibration::curve::Curve;
use super::calibration::familiar::Familiar;
use super::layer::DecisionLayer;
use super::optimizer::Memory;
use super::settings::LayerSettings;
use super::sums::all_finite;
use super::weights::from_le;
use crate::atomic;
use crate::error::{Error, Result};

const NAMES: [&str; 4] = ["W1", "b1", "W2", "b2"];
/// What it keeps of the states it learned from, where it keeps something.
const CENTROIDS: &str = "centroids";
/// Marks the metadata as ours.
const FORMAT: &str = "precedent-layer";

/// One matrix or vector on its way into a file.
struct Tensor<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for &Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

impl DecisionLayer {
    /// Weights, settings and calibration, without what the optimizer remembers.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an ensemble: the format's names are those of one network. Export its members.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        if !self.others.is_empty() {
            let got = format!("an ensemble of {}", self.members());
            return Err(Error::invalid("layer", "a single network, or one member", got));
        }
        let shape = self.shape;
        let shapes = [
            vec![shape.input, shape.hidden],
            vec![shape.hidden],
            vec![shape.hidden, shape.output],
            vec![shape.output],
        ];
        let mut tensors: Vec<_> = shapes
            .into_iter()
            .zip(self.weights())
            .map(|(shape, values)| Tensor { shape, values })
            .collect();
        if let Some(familiar) = &self.familiar {
            let (values, width) = (familiar.centroids(), self.settings.state_size);
            tensors.push(Tensor { shape: vec![values.len() / width, width], values });
        }
        let mut metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("settings".to_owned(), json(&self.settings)),
            ("trained".to_owned(), json(&self.trained)),
            ("timesteps".to_owned(), json(&self.timesteps)),
            ("calibration".to_owned(), json(&self.calibration)),
        ]);
        metadata.extend(self.fingerprint.clone().map(|text| ("encoder".to_owned(), text)));
        let checksum = checksum(&metadata, tensors.iter().map(|tensor| tensor.values));
        metadata.insert("checksum".to_owned(), checksum);
        let names = NAMES.into_iter().chain([CENTROIDS]);
        safetensors::serialize(names.zip(&tensors), Some(metadata))
            .map_err(|why| Error::Training(format!("the layer cannot be exported: {why}")))
    }

    /// The reverse of [`Self::to_safetensors`]; the optimizer starts anew.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for everything that is not such a layer.
    pub fn from_safetensors_bytes(bytes: &[u8]) -> Result<Self> {
        read(bytes).map_err(|why| Error::Corrupt {
            what: format!("this is not a decision layer as safetensors: {why}"),
        })
    }

    /// Writes [`Self::to_safetensors`] to a file, which is replaced whole or not at all.
    pub fn export_safetensors(&self, path: &Path) -> Result<()> {
        atomic::write(path, &self.to_safetensors()?)
    }

    /// Reads what [`Self::export_safetensors`] wrote.
    pub fn from_safetensors(path: &Path) -> Result<Self> {
        read(&atomic::read(path)?).map_err(|why| Error::Corrupt {
            what: format!("{} is not a decision layer as safetensors: {why}", path.display()),
        })
    }
}

fn read(bytes: &[u8]) -> Result<DecisionLayer, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|why| why.to_string())?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|why| why.to_string())?;
    let metadata = header.metadata().as_ref().ok_or("it has no metadata")?;
    let text = |key: &str| metadata.get(key).ok_or(format!("its metadata lack {key:?}"));
    let settings: LayerSettings = parse(text("settings")?)?;
    let settings = settings.checked().map_err(|why| why.to_string())?;
    let (shape, optimizer) = (settings.shape(), settings.optimizer);
    let shapes: [&[usize]; 4] = [
        &[shape.input, shape.hidden],
        &[shape.hidden],
        &[shape.hidden, shape.output],
        &[shape.output],
    ];
    let mut parts = Vec::new();
    for (name, shape) in NAMES.into_iter().zip(shapes) {
        let tensor: TensorView<'_> = tensors.tensor(name).map_err(|why| why.to_string())?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(format!("{name} is not f32 of shape {shape:?}"));
        }
        let values = from_le(tensor.data()).ok_or(format!("{name} is cut"))?;
        if !all_finite(&values) {
            return Err(format!("{name} holds what is not a finite number"));
        }
        parts.push(values);
    }
    if tensors.names().contains(&CENTROIDS) {
        let tensor = tensors.tensor(CENTROIDS).map_err(|why| why.to_string())?;
        if tensor.dtype() != Dtype::F32 || tensor.shape().get(1) != Some(&settings.state_size) {
            return Err(format!("{CENTROIDS} are not f32 states"));
        }
        parts.push(from_le(tensor.data()).ok_or(format!("{CENTROIDS} are cut"))?);
    }
    // Files of other programs may come without one; ours that lacks it was damaged in that very place.
    let fits = match metadata.get("checksum") {
        Some(known) => *known == checksum(metadata, parts.iter().map(Vec::as_slice)),
        None => metadata.get("format").is_none_or(|format| format != FORMAT),
    };
    if !fits {
        return Err("its checksum does not fit".into());
    }
    let trained = metadata.get("trained").map_or(Ok(true), |text| parse(text))?;
    let timesteps = metadata.get("timesteps").map_or(Ok(false), |text| parse(text))?;
    let calibration: Option<Curve> =
        metadata.get("calibration").map_or(Ok(None), |text| parse(text))?;
    let calibration = calibration.map(Curve::checked).transpose()?;
    let centroids = parts.split_off(NAMES.len()).pop().unwrap_or_default();
    let familiar = Familiar::checked(centroids, settings.state_size)?;
    let (params, memory) = (parts.concat(), Memory::new(optimizer, shape));
    let encoder = metadata.get("encoder").cloned();
    let learned = (trained, timesteps);
    Ok(DecisionLayer::from_parts(
        settings,
        params[..].into(),
        memory,
        (calibration, familiar),
        learned,
        encoder,
    ))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("settings and numbers are valid JSON")
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|why| why.to_string())
}

/// Of the metadata, by name and without itself, and the tensors.
fn checksum<'a>(
    metadata: &HashMap<String, String>,
    tensors: impl Iterator<Item = &'a [f32]>,
) -> String {
    let mut hash = Xxh3::new();
    let mut texts: Vec<_> = metadata.iter().filter(|(key, _)| *key != "checksum").collect();
    texts.sort_unstable();
    for text in texts.into_iter().flat_map(|(key, value)| [key, value]) {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    for x in tensors.flatten() {
        hash.update(&x.to_le_bytes());
    }
    format!("{:016x}", hash.digest())
}
