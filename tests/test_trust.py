"""How far a layer can be trusted: confidence, intervals and abstaining, on episodes that nobody has seen."""

import numpy as np
import pytest

import precedent
from precedent import DecisionLayer, TrajectoryStore
from training import trainer
from worlds import ACTION, LEFT, RIGHT, STATE, learnable, refused


def learned_from(store, **settings):
    learnable(store, episodes=400, noise=0.25)
    made = DecisionLayer(STATE, ACTION, hidden_size=32, learning_rate=0.01, **settings)
    return trainer(store, made, epochs=6).train(), made


@pytest.fixture(scope="module")
def learned():
    with TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
        _, made = learned_from(store)
        return made


def fresh(n=4000, seed=99):
    """Steps of the same world, none of which was recorded."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n, STATE))
    states /= np.linalg.norm(states, axis=1, keepdims=True)
    went_left = (states[:, 0] > 0) == (rng.random(n) >= 0.25)
    return states, np.where(went_left[:, None], LEFT, RIGHT)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_confidence_is_right_on_average_on_steps_that_nobody_has_seen(learned):
    states, taken = fresh()
    asked = [learned.predict_with_confidence(state, 0.5) for state in states]
    told = np.array([p.confidence for p in asked])
    came = np.array([cosine(p.action, action) for p, action in zip(asked, taken, strict=True)])
    bins = [(told[part].mean(), came[part].mean()) for part in np.array_split(np.argsort(told), 10)]
    assert np.mean([abs(a - b) for a, b in bins]) < 0.05


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_intervals_hold_the_share_that_was_asked_for(learned, coverage):
    states, taken = fresh()
    held = []
    for state, action in zip(states, taken, strict=True):
        told = learned.predict_with_confidence(state, 0.5, coverage=coverage)
        held.append(told.low <= max(0.0, cosine(told.action, action)) <= told.high)
        assert 0.0 <= told.low <= told.confidence <= told.high <= 1.0
    assert np.mean(held) >= coverage - 0.04


def test_a_state_unlike_all_that_was_learned_from_lowers_the_confidence(learned):
    states, _ = fresh(2000)
    rng = np.random.default_rng(0)
    # Half of what is held out lies elsewhere, where the layer is always wrong.
    away = states.copy()
    away[1000:] += 3.0 * np.sign(rng.normal(size=(1000, STATE)))
    answers = learned.predict_many(away, 0.5)
    right = np.where(np.arange(2000)[:, None] < 1000, answers, -answers)
    order = rng.permutation(2000)
    learned.calibrate(away[order], right[order], 0.5)
    inside = np.mean([learned.predict_with_confidence(s, 0.5).confidence for s in away[:200]])
    outside = np.mean([learned.predict_with_confidence(s, 0.5).confidence for s in away[-200:]])
    assert inside > 0.8
    assert outside < 0.2


def test_what_a_layer_remembers_of_its_data_is_saved_with_it(tmp_path):
    with TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
        _, made = learned_from(store)
    states, _ = fresh(20)
    asked = [made.predict_with_confidence(state, 0.5, coverage=0.9) for state in states]
    made.save(tmp_path / "layer")
    made.export_safetensors(tmp_path / "layer.safetensors")
    for loaded in (
        DecisionLayer.load(tmp_path / "layer"),
        DecisionLayer.from_safetensors(tmp_path / "layer.safetensors"),
    ):
        for state, before in zip(states, asked, strict=True):
            assert loaded.predict_with_confidence(state, 0.5, coverage=0.9) == before


def test_abstaining_from_unsure_answers_lowers_the_risk():
    with TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
        _, made = learned_from(store)
    with TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as later:
        learnable(later, episodes=500, seed=7)  # neither learned from nor calibrated on
        report = trainer(later, made).evaluate(include_training=True)
    risks = [risk for _, risk in report.risk_coverage]
    assert np.mean(risks[:5]) < risks[-1]
    assert report.calibration_error <= 0.05


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.5, float("nan"), "much"])
def test_a_coverage_that_is_no_share_is_refused(learned, bad):
    with refused("coverage"):
        learned.predict_with_confidence(np.ones(STATE), 0.5, coverage=bad)


def test_an_uncalibrated_layer_has_no_interval_whatever_the_coverage():
    made = DecisionLayer(STATE, ACTION)
    made.set_weights(DecisionLayer(STATE, ACTION).get_weights())
    told = made.predict_with_confidence(np.ones(STATE), 0.5, coverage=0.5)
    assert (told.confidence, told.low, told.high) == (None, None, None)
    assert isinstance(told, precedent.Prediction)
