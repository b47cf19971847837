//! A layer's file: it comes back whole and learns on to the same bits, and nothing hostile is believed.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test")]

#[expect(dead_code, reason = "this test needs the twin's samples only")]
mod twin;

use precedent_core::Error;
use precedent_core::nn::{
    COVERAGE, ContextKind, DecisionLayer, Encoding, LayerSettings, Optimizer, ReturnScale,
};
use proptest::prelude::*;
use serde::Serialize;
use twin::Material;
use xxhash_rust::xxh3::xxh3_64_with_seed;

fn settings() -> LayerSettings {
    LayerSettings {
        hidden_size: 5,
        learning_rate: 0.012_345_678_901,
        context: ContextKind::History,
        encoding: Encoding::Seed,
        return_scale: ReturnScale::Episode,
        return_range: Some((-7.3, 101.1)),
        clip_norm: None,
        ..LayerSettings::new(4, 3)
    }
}

/// A layer with something in every field.
fn layer() -> DecisionLayer {
    let mut layer = DecisionLayer::new(settings()).unwrap();
    let material = Material::new(1, &settings(), 30);
    layer.train(&material.full()).unwrap();
    layer.calibrate(&material.full()).unwrap();
    layer.set_encoder(Some("hashing-768-v1".into()));
    layer
}

#[test]
fn a_loaded_layer_is_the_saved_one_and_learns_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.bin");
    for &optimizer in Optimizer::ALL {
        let settings = LayerSettings { optimizer, ..settings() };
        let mut layer = DecisionLayer::new(settings.clone()).unwrap();
        let material = Material::new(1, &settings, 30);
        for _ in 0..5 {
            layer.train(&material.full()).unwrap();
        }
        layer.calibrate(&material.full()).unwrap();
        layer.set_encoder(Some("minilm".into()));
        layer.save(&path).unwrap();
        let mut loaded = DecisionLayer::load(&path).unwrap();
        assert!(loaded.to_bytes().unwrap() == layer.to_bytes().unwrap());
        assert_eq!(loaded.settings(), layer.settings());
        assert_eq!((loaded.encoder(), loaded.trained()), (Some("minilm"), true));
        let ask = |layer: &DecisionLayer| {
            layer
                .predict_with_confidence(&material.states[..4], 0.5, None, Some(3), COVERAGE)
                .unwrap()
        };
        assert!(ask(&layer).confidence.is_some());
        assert_eq!(ask(&layer), ask(&loaded));
        for _ in 0..5 {
            assert_eq!(
                layer.train(&material.plain()).unwrap(),
                loaded.train(&material.plain()).unwrap()
            );
        }
        assert!(loaded.to_bytes().unwrap() == layer.to_bytes().unwrap());
    }
}

#[test]
fn a_layer_that_never_learned_comes_back_as_one() {
    let layer = DecisionLayer::new(settings()).unwrap();
    let loaded = DecisionLayer::from_bytes(&layer.to_bytes().unwrap()).unwrap();
    assert!(!loaded.trained() && !loaded.calibrated());
    assert_eq!(loaded.weights(), layer.weights());
    let loaded = DecisionLayer::from_safetensors_bytes(&layer.to_safetensors().unwrap()).unwrap();
    assert!(!loaded.trained() && !loaded.calibrated());
}

fn refused(bytes: &[u8]) -> bool {
    matches!(DecisionLayer::from_bytes(bytes), Err(Error::Corrupt { .. }))
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let bytes = layer().to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(refused(&bytes[..length]), "cut to {length}");
    }
    let mut flipped = bytes.clone();
    for bit in 0..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&flipped), "bit {bit} flipped");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
    flipped.push(0);
    assert!(refused(&flipped), "a byte more");
}

#[test]
fn a_file_says_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.bin");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        DecisionLayer::load(&path).unwrap_err()
    };
    let bytes = layer().to_bytes().unwrap();
    assert!(matches!(load(b"SQLite format 3\0"), Error::Format { .. }));
    assert!(matches!(load(&bytes[..bytes.len() - 1]), Error::Corrupt { .. }));
    let newer = file(3, &[0xC0]);
    assert!(matches!(load(&newer), Error::Version { found: 3, newest: 2, .. }));
    let missing = DecisionLayer::load(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }), "{missing}");
}

/// A file whose header fits its body, whatever that is.
fn file(version: u32, body: &[u8]) -> Vec<u8> {
    let checksum = xxh3_64_with_seed(body, u64::from(version));
    let mut bytes =
        rmp_serde::to_vec(&("precedent-layer", version, body.len() as u64, checksum)).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

/// A body as the format has it, to be spoiled field by field.
#[derive(Clone, Serialize)]
struct Body {
    settings: LayerSettings,
    encoder: Option<String>,
    trained: bool,
    timesteps: bool,
    steps: u64,
    params: Bin,
    first: Bin,
    second: Bin,
    centroids: Bin,
    calibration: Option<Curve>,
}

/// The calibration as the format has it.
#[derive(Clone, Serialize)]
struct Curve {
    weights: Vec<f64>,
    knots: Vec<(f64, f64)>,
    spreads: Vec<Spread>,
}

#[derive(Clone, Serialize)]
struct Spread {
    from: f64,
    count: u32,
    levels: Vec<f64>,
}

/// One field that does not hold what it should.
type Lie<'a> = &'a dyn Fn(&mut Body);

#[derive(Clone)]
struct Bin(Vec<u8>);

impl Serialize for Bin {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

fn floats(values: &[f32]) -> Bin {
    Bin(values.iter().flat_map(|x| x.to_le_bytes()).collect())
}

fn curve(body: &mut Body) -> &mut Curve {
    body.calibration.as_mut().unwrap()
}

#[test]
fn a_body_that_lies_under_a_true_checksum_is_refused() {
    let settings = settings();
    let size = (3 * 4 + 1) * 5 + (5 + 1) * 3;
    let zeros = floats(&vec![0.0; size]);
    let honest = Body {
        settings: settings.clone(),
        encoder: None,
        trained: true,
        timesteps: true,
        steps: 1,
        params: zeros.clone(),
        first: zeros.clone(),
        second: zeros.clone(),
        centroids: floats(&[0.0; 8]),
        calibration: Some(Curve {
            weights: vec![1.0, -0.5, 0.0],
            knots: vec![(0.0, 0.1), (1.0, 0.5)],
            spreads: vec![Spread { from: 0.0, count: 2, levels: vec![-0.1, 0.1] }],
        }),
    };
    let packed = |body: &Body| file(1, &rmp_serde::to_vec_named(body).unwrap());
    let read = DecisionLayer::from_bytes(&packed(&honest)).unwrap();
    assert!(read.trained() && read.timesteps() && read.calibrated());
    let with = |at: usize, bad: f32| {
        let mut values = vec![0.0; size];
        values[at] = bad;
        floats(&values)
    };
    let lies: [(&str, Lie<'_>); 23] = [
        ("a huge layer", &|b| b.settings = LayerSettings::new(65_536, 65_536)),
        ("a larger hidden layer", &|b| b.settings.hidden_size = 65_536),
        ("no state", &|b| b.settings.state_size = 0),
        ("a size beyond all bounds", &|b| b.settings.state_size = usize::MAX),
        ("a rate that is no number", &|b| b.settings.learning_rate = f64::NAN),
        ("no weights", &|b| b.params = floats(&[])),
        ("one weight too many", &|b| b.params = floats(&vec![0.0; size + 1])),
        ("half a weight", &|b| b.params.0.truncate(4 * size - 2)),
        ("a weight that is no number", &|b| b.params = with(3, f32::NAN)),
        ("an infinite weight", &|b| b.params = with(3, f32::INFINITY)),
        ("a moment that is no number", &|b| b.first = with(0, f32::NAN)),
        ("a negative square", &|b| b.second = with(0, -1.0)),
        ("no second moments", &|b| b.second = floats(&[])),
        ("half a centroid", &|b| b.centroids = floats(&[0.0; 6])),
        ("a centroid that is no number", &|b| b.centroids = floats(&[f32::NAN; 4])),
        ("more centroids than are ever kept", &|b| b.centroids = floats(&vec![0.0; 4 * 1025])),
        ("a calibration without knots", &|b| curve(b).knots.clear()),
        ("falling knots", &|b| curve(b).knots.reverse()),
        ("a confidence above one", &|b| curve(b).knots[1].1 = 1.5),
        ("a sign too many", &|b| curve(b).weights.push(0.0)),
        ("a weight of a sign that is no number", &|b| curve(b).weights[0] = f64::NAN),
        ("falling residuals", &|b| curve(b).spreads[0].levels.reverse()),
        ("more residuals than there were", &|b| curve(b).spreads[0].count = 1),
    ];
    for (what, lie) in lies {
        let mut body = honest.clone();
        lie(&mut body);
        assert!(refused(&packed(&body)), "{what}");
    }
}

#[test]
fn claims_of_huge_lengths_and_deep_nesting_are_refused() {
    let deep = [vec![0x91; 100_000], vec![0xC0]].concat();
    let claims: [&[u8]; 6] = [
        &[0xDF, 0xFF, 0xFF, 0xFF, 0xFF], // a map of 2^32 - 1 entries
        &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF], // an array
        &[0xDB, 0xFF, 0xFF, 0xFF, 0xFF], // a string
        &[0xC6, 0xFF, 0xFF, 0xFF, 0xFF], // bytes
        &[0x81, 0xA6, b'p', b'a', b'r', b'a', b'm', b's', 0xC6, 0xFF, 0xFF, 0xFF, 0xFF],
        &deep,
    ];
    for body in claims {
        assert!(refused(&file(1, body)));
        assert!(refused(body));
    }
    for length in [u64::MAX, 1 << 40, 27] {
        let bytes = [&length.to_le_bytes()[..], b"{\"__metadata__\":{}}"].concat();
        assert!(DecisionLayer::from_safetensors_bytes(&bytes).is_err());
    }
}

#[test]
fn safetensors_bring_weights_settings_and_calibration_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.safetensors");
    let layer = layer();
    layer.export_safetensors(&path).unwrap();
    let loaded = DecisionLayer::from_safetensors(&path).unwrap();
    assert_eq!(loaded.weights(), layer.weights());
    assert_eq!(loaded.settings(), layer.settings());
    assert_eq!(loaded.encoder(), Some("hashing-768-v1"));
    assert!(loaded.trained());
    let ask = |layer: &DecisionLayer| {
        layer.predict_with_confidence(&[0.1, 0.2, 0.3, 0.4], 0.5, None, None, COVERAGE).unwrap()
    };
    assert_eq!(ask(&loaded), ask(&layer));
    let bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("W1").unwrap().shape(), [12, 5]);
    assert_eq!(tensors.tensor("b2").unwrap().shape(), [3]);
}

#[test]
fn safetensors_that_are_cut_or_whose_weights_changed_are_refused() {
    let bytes = layer().to_safetensors().unwrap();
    for length in 0..bytes.len() {
        assert!(
            DecisionLayer::from_safetensors_bytes(&bytes[..length]).is_err(),
            "cut to {length}"
        );
    }
    let data = bytes.len() - 4 * 83;
    let mut flipped = bytes.clone();
    for bit in data * 8..bytes.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = DecisionLayer::from_safetensors_bytes(&flipped);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "bit {bit} flipped");
        flipped[bit / 8] ^= 1 << (bit % 8);
    }
}

proptest! {
    #[test]
    fn bytes_that_were_tampered_with_never_panic_and_never_pass(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = layer().to_bytes().unwrap();
        let mut spoiled = bytes.clone();
        for (at, flip) in &changes {
            spoiled[at.index(bytes.len())] ^= flip;
        }
        if spoiled != bytes {
            prop_assert!(refused(&spoiled));
        }
        spoiled.truncate(cut.index(bytes.len()));
        prop_assert!(refused(&spoiled));
    }

    #[test]
    fn safetensors_that_were_tampered_with_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut bytes = layer().to_safetensors().unwrap();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        match DecisionLayer::from_safetensors_bytes(&bytes) {
            Ok(read) => prop_assert_eq!(read.settings().state_size, 4),
            Err(error) => {
                let refused = matches!(error, Error::Corrupt { .. });
                prop_assert!(refused, "{error}");
            }
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(refused(&bytes));
        prop_assert!(refused(&file(1, &bytes)));
        prop_assert!(DecisionLayer::from_safetensors_bytes(&bytes).is_err());
    }
}
