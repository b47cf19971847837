"""Numeric observations as unit vectors: the features that are fitted, against numpy."""

import json
import math
import pickle

import numpy as np
import pytest

from precedent.encoders import FourierEncoder
from precedent.errors import ValidationError
from worlds import refused

MEAN, DEVIATION = np.array([3.0, -200.0, 0.0]), np.array([0.1, 50.0, 1.0])


def seen(n=2000, seed=0):
    return MEAN + DEVIATION * np.random.default_rng(seed).normal(size=(n, 3))


def spread(components, shares):
    """Bandwidths for so many components that vary, evenly in logarithm."""
    widest = 6.0 * math.sqrt(max(components, 2) / 2)
    narrowest = min(0.075 * max(components, 2), widest / 4)
    return np.exp(np.log(narrowest) + np.log(widest / narrowest) * shares)


def reference(data, asked, dimension, seed=0):
    """What the documentation says, with numpy; the frequencies are read off the plain encoder."""
    m, pairs = data.shape[1], (dimension - data.shape[1] - 1) // 2
    plain = FourierEncoder(np.zeros(m), np.ones(m), 2 * pairs, 1.0, seed=seed)
    # Angles of unit vectors are the frequencies; arctan2 tells them up to whole turns, small ones fully.
    tiny = plain(np.eye(m) * 1e-3).astype(np.float64)
    normal = np.arctan2(tiny[:, 1::2], tiny[:, 0::2]) * 1e3
    bandwidths = spread(m, (np.arange(pairs) + 0.5) / pairs)
    scaled = np.clip((asked - data.mean(axis=0)) / data.std(axis=0), -5, 5)
    angles = scaled @ (normal / bandwidths)
    features = np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(len(asked), -1)
    flat = scaled / math.sqrt(m)
    square = (flat**2).sum(axis=1, keepdims=True)
    sphere = np.hstack([2 * flat, 1 - square]) / (1 + square)
    rest = np.zeros((len(asked), dimension - 2 * pairs - m - 1))
    return np.hstack([features * math.sqrt(0.5 / pairs), sphere * math.sqrt(0.5), rest])


@pytest.mark.parametrize(
    "odd", [["0.5", "1"], [True, False], np.array(["2024-01-01"] * 2, "M8[D]"), [1j, 2.0]], ids=repr
)
def test_what_are_no_numbers_are_neither_bounds_nor_observations(odd):
    encode = FourierEncoder([0.0, 0.0], [1.0, 1.0], 8, 0.5)
    for refused_by in (
        lambda: encode(odd),
        lambda: FourierEncoder.fit([odd, odd], 8),
        lambda: FourierEncoder(odd, [5.0, 5.0], 8, 0.5),
    ):
        with pytest.raises(ValidationError, match="expected numbers"):
            refused_by()


@pytest.mark.parametrize("dimension", [6, 7, 64, 101])
def test_fitted_features_are_what_numpy_makes_of_the_documentation(dimension):
    data = seen()
    asked = np.vstack([seen(50, seed=1), data.mean(axis=0) + 20 * data.std(axis=0)])
    np.testing.assert_allclose(
        FourierEncoder.fit(data, dimension)(asked), reference(data, asked, dimension), atol=5e-3
    )


def test_fitted_features_have_norm_one_far_outside_the_data_too():
    encode = FourierEncoder.fit(seen(), 64)
    wide = MEAN + 1e9 * np.random.default_rng(1).normal(size=(200, 3))
    for asked in (seen(200, seed=2), wide):
        assert np.linalg.norm(encode(asked), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_the_kernel_is_a_mixture_that_falls_with_distance_at_every_scale():
    encode = FourierEncoder.fit(seen(), 8192)
    here = encode(MEAN)
    way = np.array([1.0, 0.0, 0.0]) * DEVIATION
    distances = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 4.8])
    cosines = encode(MEAN + distances[:, None] * way) @ here
    assert (np.diff(cosines) < 0).all()
    bandwidths = spread(3, np.linspace(0.0, 1.0, 2001))
    kernel = np.exp(-(distances[:, None] ** 2) / (2 * bandwidths**2)).mean(axis=1)
    square = distances**2 / 3
    assert np.abs(cosines - (0.5 * kernel + 0.5 * (1 - square) / (1 + square))).max() < 0.03


@pytest.mark.parametrize("components", [1, 2, 8, 30, 2000])
def test_bandwidths_grow_with_the_number_of_components(components):
    data = np.random.default_rng(4).normal(size=(500, components))
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    encode = FourierEncoder.fit(data, components + 8001)
    here, there = encode(np.zeros((1, components))), encode(np.eye(1, components) * 0.5)
    expected = np.exp(-(0.5**2) / (2 * spread(components, np.linspace(0.0, 1.0, 2001)) ** 2)).mean()
    features = 8000
    assert 2.0 * float((here[:, :features] * there[:, :features]).sum()) == pytest.approx(expected, abs=0.03)


def test_units_do_not_matter():
    data = seen()
    units = np.array([1e-6, 1.0, 1e9])
    plain, other = FourierEncoder.fit(data, 64), FourierEncoder.fit(data * units + 7.0, 64)
    np.testing.assert_allclose(plain(data[:20]), other(data[:20] * units + 7.0), atol=1e-4)


def test_a_component_that_never_varied_is_left_out_even_when_it_varies_later():
    data = np.column_stack([seen(), np.full(2000, 4.0)])
    encode = FourierEncoder.fit(data, 64)
    asked = data[:3].copy()
    asked[:, 3] = [0.0, 4.0, 1e6]
    assert encode(asked).tolist() == encode(data[:3]).tolist()
    assert np.isfinite(encode(asked)).all()


HUGE = 1e308


def test_a_constant_component_of_any_size_is_left_out_and_comes_back_from_a_mapping():
    data = np.column_stack([seen(), np.full(2000, HUGE)])
    encode = FourierEncoder.fit(data, 64)
    asked = np.column_stack([seen(2, seed=1), [-HUGE, HUGE]])
    told = encode(asked)
    assert np.linalg.norm(told, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert told.tolist() == encode(np.column_stack([asked[:, :3], [0.0, 7.0]])).tolist()
    assert FourierEncoder.from_dict(encode.to_dict())(asked).tolist() == told.tolist()


def test_a_fitted_encoder_takes_the_greatest_observations_for_far_out():
    encode = FourierEncoder.fit(seen(), 64)
    far = MEAN + 1e6 * DEVIATION
    assert encode([[HUGE] * 3, [-HUGE] * 3]).tolist() == encode([far, 2 * MEAN - far]).tolist()


def test_a_scale_of_any_size_comes_back_from_a_mapping():
    encode = FourierEncoder.fit(seen() * 1e100, 64)
    back = FourierEncoder.from_dict(json.loads(json.dumps(encode.to_dict())))
    assert back.fingerprint == encode.fingerprint


@pytest.mark.parametrize("bandwidth", [0.2, 1e-300])
@pytest.mark.parametrize("far", [HUGE, -HUGE, 1.7e308])
def test_an_observation_too_far_for_its_angles_to_be_told_is_refused_by_name(far, bandwidth):
    encode = FourierEncoder([-1.0, -1.0], [1.0, 1.0], 256, bandwidth)
    with refused("observations[1, 0]"):
        encode([[-1.0, -1.0], [far, 0.0]])
    with refused("observations[1]"):
        encode([-1.0, far])


def test_the_fit_depends_on_the_data_and_the_seed_only():
    made, same = FourierEncoder.fit(seen(), 64, seed=3), FourierEncoder.fit(seen(), 64, seed=3)
    assert made.fingerprint == same.fingerprint
    assert made(MEAN).tolist() == same(MEAN).tolist()
    others = [
        FourierEncoder.fit(seen(), 64, seed=4),
        FourierEncoder.fit(seen(), 66, seed=3),
        FourierEncoder.fit(seen(seed=5), 64, seed=3),
        FourierEncoder(MEAN - 1, MEAN + 1, 64, 0.2, seed=3),
    ]
    assert len({encode.fingerprint for encode in [made, *others]}) == 5


def test_one_observation_gives_one_vector():
    encode = FourierEncoder.fit(seen(), 64)
    many = encode(seen(3))
    assert (many.shape, many.dtype) == ((3, 64), np.float32)
    np.testing.assert_allclose(encode(seen(3)[1]), many[1], atol=1e-6)


@pytest.mark.parametrize(
    "made",
    [FourierEncoder.fit(seen(), 64, seed=9), FourierEncoder(MEAN - 1, MEAN + 1, 64, 0.2, seed=9)],
    ids=["fitted", "given"],
)
def test_an_encoder_comes_back_from_json_and_from_a_pickle(made):
    back = FourierEncoder.from_dict(json.loads(json.dumps(made.to_dict())))
    for same in (back, pickle.loads(pickle.dumps(made))):
        assert same.fingerprint == made.fingerprint
        assert same(seen(5)).tolist() == made(seen(5)).tolist()


def test_what_to_dict_returns_may_be_changed_without_harm():
    made = FourierEncoder.fit(seen(), 64)
    made.to_dict()["mean"][0] = 0.0
    assert made.to_dict()["mean"][0] == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"mean": [0.0], "deviation": [1.0], "dimension": 64},
        {"mean": [0.0], "deviation": [0.0], "dimension": 64, "seed": 0},
        {"mean": [0.0], "deviation": [-1.0], "dimension": 64, "seed": 0},
        {"mean": [0.0], "deviation": [1.0, 1.0], "dimension": 64, "seed": 0},
        {"mean": [math.nan], "deviation": [1.0], "dimension": 64, "seed": 0},
        {1: 2, "a": 3},
        [("mean", [0.0]), ("deviation", [1.0])],
        5,
        None,
        "abc",
    ],
    ids=repr,
)
def test_what_is_no_mapping_of_an_encoder_is_refused(mapping):
    with pytest.raises(
        ValidationError, match=r"^(FourierEncoder|mean|deviation)(\[0\])?: expected .+, got .+"
    ):
        FourierEncoder.from_dict(mapping)


@pytest.mark.parametrize(
    ("observations", "dimension", "named"),
    [
        ([[1.0, 2.0]], 64, "at least 2 rows"),
        ([], 64, "observations"),
        ([1.0, 2.0], 64, "matrix"),
        (np.zeros((5, 0)), 64, "matrix"),
        ([[1.0, 2.0], [1.0, 2.0]], 64, "rows that differ"),
        ([[1.0], [math.nan]], 64, "NaN"),
        ([[1.0], [math.inf]], 64, "NaN or infinity"),
        ([[0.0], [1e308], [-1e308]], 64, "column 0"),
        ([["a"], ["b"]], 64, "observations"),
        ([[0.0, 1.0], [1.0, 0.0]], 4, "dimension"),
        ([[0.0, 1.0], [1.0, 0.0]], 16_385, "dimension"),
    ],
)
def test_data_that_gives_no_scale_is_refused(observations, dimension, named):
    with pytest.raises(ValidationError, match=named):
        FourierEncoder.fit(observations, dimension)


@pytest.mark.parametrize("observation", [[0.1], [[[0.1, 0.2, 0.3]]], [0.1, 0.2, math.nan], ["a", "b", "c"]])
def test_bad_observations_are_refused(observation):
    with pytest.raises(ValidationError, match="observations"):
        FourierEncoder.fit(seen(), 64)(observation)
