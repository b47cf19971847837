"""The decision layer's files: the same bits after loading, and nothing hostile believed."""

import json
import struct

import numpy as np
import pytest

import precedent
from network import ACTION, NAMES, STATE, data, layer, same_bits, trained

READ = {
    "save": precedent.DecisionLayer.load,
    "export_safetensors": precedent.DecisionLayer.from_safetensors,
}
SETTINGS = {
    "optimizer": "adam",
    "learning_rate": 0.02,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "clip_norm": None,
    "encoding": "seed",
    "context": "history",
    "history_length": 2,
    "return_scale": "episode",
    "return_range": (-3.0, 4.5),
    "seed": 99,
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_loaded_layer_goes_on_to_the_same_bits(tmp_path, optimizer):
    made = trained(optimizer=optimizer)
    for seed in range(3):
        made.train(*data(seed=seed))
    made.save(tmp_path / "layer.weights")
    loaded = precedent.DecisionLayer.load(tmp_path / "layer.weights")
    assert same_bits(made.get_weights(), loaded.get_weights())
    for seed in range(3, 6):
        assert made.train(*data(seed=seed)) == loaded.train(*data(seed=seed))
    assert same_bits(made.get_weights(), loaded.get_weights())


@pytest.mark.parametrize("form", ["save", "export_safetensors"])
def test_a_file_holds_settings_state_and_calibration(tmp_path, form):
    made = layer(**SETTINGS)
    made.train(*data())
    made.calibrate(*data(50, seed=1))
    where = str(tmp_path / "layer.file")
    getattr(made, form)(where)
    loaded = READ[form](where)
    assert loaded.settings == made.settings
    assert {name: getattr(loaded.settings, name) for name in SETTINGS} == SETTINGS
    assert loaded.trained
    state = data()[0][0]
    asked = made.predict_with_confidence(state, 0.5)
    assert asked.confidence is not None
    assert loaded.predict_with_confidence(state, 0.5) == asked


@pytest.mark.parametrize("form", ["save", "export_safetensors"])
def test_an_untrained_layer_stays_untrained(tmp_path, form):
    getattr(layer(), form)(tmp_path / "file")
    loaded = READ[form](tmp_path / "file")
    assert not loaded.trained
    with pytest.raises(precedent.NotTrainedError):
        loaded.predict(np.ones(STATE), 0.5)
    assert same_bits(loaded.get_weights(), layer().get_weights())


def test_safetensors_can_be_read_without_this_library(tmp_path):
    made = trained()
    made.export_safetensors(tmp_path / "layer.safetensors")
    raw = (tmp_path / "layer.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    settings = header.pop("__metadata__")
    assert all(isinstance(value, str) for value in settings.values())
    assert sorted(header) == sorted(NAMES)
    for name in NAMES:
        start, end = header[name]["data_offsets"]
        values = np.frombuffer(raw[8 + length + start : 8 + length + end], "<f4")
        assert header[name]["dtype"] == "F32"
        np.testing.assert_array_equal(
            values.reshape(header[name]["shape"]), getattr(made.get_weights(), name)
        )


def test_saving_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    made = trained()
    for _ in range(2):
        made.train(*data())
        made.save(tmp_path / "layer.weights")
        made.export_safetensors(tmp_path / "layer.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layer.safetensors", "layer.weights"]
    loaded = precedent.DecisionLayer.load(tmp_path / "layer.weights")
    assert same_bits(loaded.get_weights(), made.get_weights())


FORMS = list(READ.items())


@pytest.mark.parametrize(("write", "read"), FORMS, ids=READ)
def test_a_truncated_file_is_a_storage_error(tmp_path, write, read):
    where = tmp_path / "file"
    getattr(trained(), write)(where)
    whole = where.read_bytes()
    for length in sorted({0, 1, 7, 8, 9, *range(10, len(whole), 61), len(whole) - 1}):
        where.write_bytes(whole[:length])
        with pytest.raises(precedent.StorageError, match=r"\w \w"):
            read(where)


@pytest.mark.parametrize(("write", "read"), FORMS, ids=READ)
def test_a_file_with_one_flipped_bit_is_never_believed(tmp_path, write, read):
    where = tmp_path / "file"
    getattr(trained(), write)(where)
    whole = where.read_bytes()
    rng = np.random.default_rng(0)
    for at in sorted(set(rng.integers(0, len(whole), 150).tolist()) | set(range(64))):
        bits = bytearray(whole)
        bits[at] ^= 1 << int(rng.integers(8))
        where.write_bytes(bits)
        with pytest.raises(precedent.StorageError):
            read(where)


@pytest.mark.parametrize("read", READ.values(), ids=READ)
@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary",
        b"\x00" * 4096,
        b"\xff" * 4096,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 40) + b'{"W1":{"dtype":"F32","shape":[4294967295'.ljust(40),
        b"\xdf\xff\xff\xff\xff" * 100,
        b"\x91" * 5000,
        np.random.default_rng(0).bytes(3000),
    ],
    ids=["text", "zeros", "ones", "a huge header", "a huge tensor", "a huge map", "deep nesting", "noise"],
)
def test_a_foreign_or_hostile_file_is_a_storage_error(tmp_path, read, content):
    where = tmp_path / "hostile"
    where.write_bytes(content)
    with pytest.raises(precedent.StorageError, match="hostile"):
        read(where)


@pytest.mark.parametrize(("write", "read"), FORMS, ids=READ)
def test_a_file_that_cannot_be_opened_is_a_storage_error_that_names_it(tmp_path, write, read):
    with pytest.raises(precedent.StorageError, match=r"nowhere"):
        read(tmp_path / "nowhere")
    with pytest.raises(precedent.StorageError, match=tmp_path.name):
        read(tmp_path)
    with pytest.raises(precedent.StorageError, match=tmp_path.name):
        getattr(trained(), write)(tmp_path)


def test_the_two_formats_are_not_taken_for_each_other(tmp_path):
    made = trained()
    made.save(tmp_path / "own")
    made.export_safetensors(tmp_path / "tensors")
    with pytest.raises(precedent.StorageError):
        precedent.DecisionLayer.load(tmp_path / "tensors")
    with pytest.raises(precedent.StorageError):
        precedent.DecisionLayer.from_safetensors(tmp_path / "own")


def test_safetensors_of_other_shapes_are_refused(tmp_path):
    header = {
        name: {"dtype": "F32", "shape": [1, 1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, name in enumerate(NAMES)
    }
    text = json.dumps(header).encode()
    (tmp_path / "small").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 16)
    with pytest.raises(precedent.StorageError):
        precedent.DecisionLayer.from_safetensors(tmp_path / "small")


def test_predictions_survive_the_round_trip(tmp_path):
    made = trained()
    made.save(tmp_path / "w")
    loaded = precedent.DecisionLayer.load(tmp_path / "w")
    states = data()[0]
    np.testing.assert_array_equal(loaded.predict_many(states, 0.5), made.predict_many(states, 0.5))
    assert made.predict(states[0], 0.5).shape == (ACTION,)


@pytest.mark.parametrize(
    "use",
    [
        lambda made, path: made.save(path),
        lambda made, path: made.export_safetensors(path),
        lambda _, path: precedent.DecisionLayer.load(path),
        lambda _, path: precedent.DecisionLayer.from_safetensors(path),
    ],
    ids=["save", "export_safetensors", "load", "from_safetensors"],
)
def test_a_folder_in_a_layer_s_place_is_an_access_error(tmp_path, use):
    with pytest.raises(precedent.errors.AccessError, match=f"{tmp_path.name}.*folder"):
        use(trained(), tmp_path)
    assert list(tmp_path.iterdir()) == []
