"""How the decision layer learns: gradients, optimizers, weights of samples, refusals, confidence."""

import numpy as np
import pytest

import precedent
from network import (
    ACTION,
    NAMES,
    STATE,
    Reference,
    arrays,
    data,
    gradient,
    layer,
    loss,
    random_weights,
    same_bits,
    trained,
)
from worlds import refused

NAN = float("nan")
PLAIN = {"optimizer": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None}
EVEN = np.full(12, 1 / 12)


def moved(before, after):
    return [b - a for b, a in zip(arrays(before), arrays(after), strict=True)]


def test_one_plain_step_goes_down_the_gradient_of_finite_differences():
    made = trained(**PLAIN)
    states, actions, returns = data()
    before, inputs = made.get_weights(), made.inputs(states, returns)
    made.train(states, actions, returns)
    for name, step in zip(NAMES, moved(before, made.get_weights()), strict=True):
        for at in list(np.ndindex(step.shape))[:: max(1, step.size // 25)]:
            sides = []
            for nudge in (1e-5, -1e-5):
                values = dict(zip(NAMES, arrays(before), strict=True))
                values[name][at] += nudge
                sides.append(loss(precedent.NetworkWeights(**values), inputs, actions, EVEN))
            assert step[at] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=2e-3, abs=2e-6), (name, at)


@pytest.mark.parametrize("extra", ["contexts", "timesteps"])
def test_contexts_and_timesteps_are_learned_from(extra):
    made = trained(**PLAIN)
    states, actions, returns = data()
    given = {"contexts": data(seed=5)[0]} if extra == "contexts" else {"timesteps": np.arange(12)}
    before, inputs = made.get_weights(), made.inputs(states, returns, **given)
    made.train(states, actions, returns, **given)
    expected = gradient(before, inputs, actions, EVEN)
    for step, g in zip(moved(before, made.get_weights()), expected, strict=True):
        np.testing.assert_allclose(step, g, rtol=1e-3, atol=2e-6)


def test_a_step_reports_the_loss_before_it_and_the_gradient_s_norm_before_clipping():
    made = trained(clip_norm=0.01, learning_rate=0.005)
    states, actions, returns = data()
    before, inputs = made.get_weights(), made.inputs(states, returns)
    metrics = made.train(states, actions, returns)
    norm = np.sqrt(sum((g**2).sum() for g in gradient(before, inputs, actions, EVEN)))
    assert metrics.loss == pytest.approx(loss(before, inputs, actions, EVEN), rel=1e-5)
    assert metrics.gradient_norm == pytest.approx(norm, rel=1e-4)
    assert norm > 0.01
    assert (metrics.learning_rate, metrics.epoch) == (0.005, 0)
    with pytest.raises(AttributeError):
        metrics.loss = 0.0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [None, 0.05])
def test_an_optimizer_is_that_of_its_paper(optimizer, decay, clip):
    made = trained(optimizer=optimizer, learning_rate=0.01, momentum=0.8, weight_decay=decay, clip_norm=clip)
    twin = Reference(made.get_weights(), optimizer=optimizer, rate=0.01, momentum=0.8, decay=decay, clip=clip)
    for seed in range(6):
        states, actions, returns = data(seed=seed)
        norm = twin.train(made.inputs(states, returns), actions, EVEN)
        metrics = made.train(states, actions, returns)
        assert metrics.gradient_norm == pytest.approx(norm, rel=1e-3)
    for got, expected in zip(arrays(made.get_weights()), twin.values, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=5e-5)


def test_weights_of_samples_are_normalised_to_sum_one():
    states, actions, returns = data()
    weights = np.linspace(0.1, 3.0, 12)
    made, scaled, reference = trained(**PLAIN), trained(**PLAIN), trained(**PLAIN)
    inputs, before = made.inputs(states, returns), made.get_weights()
    metrics = made.train(states, actions, returns, weights=weights)
    scaled.train(states, actions, returns, weights=1000 * weights)
    shares = weights / weights.sum()
    assert metrics.loss == pytest.approx(loss(before, inputs, actions, shares), rel=1e-5)
    for step, g in zip(
        moved(before, made.get_weights()), gradient(before, inputs, actions, shares), strict=True
    ):
        np.testing.assert_allclose(step, g, rtol=1e-3, atol=2e-6)
    for one, other in zip(arrays(made.get_weights()), arrays(scaled.get_weights()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    reference.train(states, actions, returns)
    assert not same_bits(reference.get_weights(), made.get_weights())


def test_a_sample_without_weight_teaches_nothing():
    states, actions, returns = data()
    weights = np.ones(12)
    weights[4:] = 0.0
    made, reference = trained(**PLAIN), trained(**PLAIN)
    made.train(states, actions, returns, weights=weights)
    reference.train(states[:4], actions[:4], returns[:4])
    for one, other in zip(arrays(made.get_weights()), arrays(reference.get_weights()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


REFUSED = {
    "wide states": ("states", {"states": np.ones((12, STATE + 1))}, precedent.DimensionError),
    "narrow actions": ("actions", {"actions": np.ones((12, ACTION - 1))}, precedent.DimensionError),
    "fewer actions": ("actions", {"actions": np.ones((11, ACTION))}, precedent.ValidationError),
    "fewer returns": ("returns", {"returns": np.ones(11)}, precedent.ValidationError),
    "NaN state": ("states", {"states": np.full((12, STATE), NAN)}, precedent.ValidationError),
    "NaN action": ("actions", {"actions": np.full((12, ACTION), NAN)}, precedent.ValidationError),
    "NaN return": ("returns", {"returns": np.full(12, NAN)}, precedent.ValidationError),
    "NaN context": ("contexts", {"contexts": np.full((12, STATE), NAN)}, precedent.ValidationError),
    "fewer contexts": ("contexts", {"contexts": np.ones((11, STATE))}, precedent.ValidationError),
    "fewer timesteps": ("timesteps", {"timesteps": np.arange(11)}, precedent.ValidationError),
    "fewer weights": ("weights", {"weights": np.ones(11)}, precedent.ValidationError),
    "negative weights": ("weights", {"weights": np.full(12, -1.0)}, precedent.ValidationError),
    "zero weights": ("weights", {"weights": np.zeros(12)}, precedent.ValidationError),
    "NaN weights": ("weights", {"weights": np.full(12, NAN)}, precedent.ValidationError),
    "no samples": (
        "states",
        {"states": np.empty((0, STATE)), "actions": np.empty((0, ACTION)), "returns": []},
        precedent.ValidationError,
    ),
    "text": ("states", {"states": "text"}, precedent.ValidationError),
}


@pytest.mark.parametrize(("field", "bad", "error"), REFUSED.values(), ids=REFUSED)
def test_a_refused_batch_changes_nothing(field, bad, error):
    made, twin = trained(), trained()
    given = dict(zip(("states", "actions", "returns"), data(), strict=True)) | bad
    before = made.get_weights()
    with refused(field, error):
        made.train(given.pop("states"), given.pop("actions"), given.pop("returns"), **given)
    assert same_bits(made.get_weights(), before)
    for each in (made, twin):
        each.train(*data())
    assert same_bits(made.get_weights(), twin.get_weights()), "the optimizer remembers the refused batch"


def test_a_refused_batch_does_not_make_a_layer_trained():
    made = layer()
    with pytest.raises(precedent.ValidationError):
        made.train(np.full((2, STATE), NAN), np.ones((2, ACTION)), [0.5, 0.5])
    assert not made.trained


def test_a_loss_beyond_all_numbers_is_a_training_error_and_changes_nothing():
    made = trained(**PLAIN)
    large = {name: np.full_like(getattr(made.get_weights(), name), 3e38) for name in NAMES}
    made.set_weights(precedent.NetworkWeights(**large))
    before = made.get_weights()
    with pytest.raises(precedent.TrainingError):
        made.train(*data())
    assert same_bits(made.get_weights(), before)


def test_setting_weights_resets_the_optimizer():
    made, fresh = trained(), layer()
    made.train(*data(seed=1))
    for each in (made, fresh):
        each.set_weights(random_weights(each.get_weights(), seed=4))
        each.train(*data(seed=2))
    assert same_bits(made.get_weights(), fresh.get_weights())


def test_the_same_batches_give_the_same_bits():
    layers = [layer(seed=3), layer(seed=3)]
    for made in layers:
        for seed in range(5):
            made.train(*data(33, seed=seed))
    assert same_bits(layers[0].get_weights(), layers[1].get_weights())


def test_learning_lowers_the_loss_on_a_rule_that_can_be_learned():
    made = layer(hidden_size=32, learning_rate=0.01)
    states, _, returns = data(256)
    actions = np.tanh(states[:, :ACTION]) * returns[:, None]
    losses = [made.train(states, actions, returns).loss for _ in range(300)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.fixture
def learned():
    """A layer that knows a rule, and data of that rule which it was not trained on."""
    made = layer(hidden_size=32, learning_rate=0.01)
    states, _, returns = data(512)
    actions = np.where(states[:, :1] > 0, *np.eye(ACTION)[:2])
    for _ in range(200):
        made.train(states[:256], actions[:256], returns[:256])
    return made, (states[256:], actions[256:], returns[256:])


def test_confidence_is_none_before_there_was_anything_to_calibrate_on(learned):
    made, (states, _, returns) = learned
    prediction = made.predict_with_confidence(states[0], returns[0])
    assert (prediction.confidence, prediction.low, prediction.high) == (None, None, None)
    np.testing.assert_array_equal(prediction.action, made.predict(states[0], returns[0]))


def test_calibrated_confidence_is_the_cosine_to_expect(learned):
    made, (states, actions, returns) = learned
    made.calibrate(states, actions, returns)
    predictions = [made.predict_with_confidence(s, r) for s, r in zip(states, returns, strict=True)]
    for p in predictions:
        assert 0.0 <= p.low <= p.confidence <= p.high <= 1.0
    cosines = [
        p.action @ a / np.linalg.norm(p.action) / np.linalg.norm(a)
        for p, a in zip(predictions, actions, strict=True)
    ]
    assert np.mean([p.confidence for p in predictions]) == pytest.approx(np.mean(cosines), abs=0.05)
    inside = [
        p.low - 1e-6 <= min(1, max(0, c)) <= p.high + 1e-6 for p, c in zip(predictions, cosines, strict=True)
    ]
    assert np.mean(inside) > 0.7


def test_calibration_tells_sure_answers_from_unsure_ones(learned):
    made, (states, actions, returns) = learned
    unsure = np.abs(states[:, 0]) < 0.3
    coin = np.random.default_rng(0).random(len(states)) < 0.5
    actions = np.where((unsure & coin)[:, None], actions[:, [1, 0, 2, 3]], actions)
    made.calibrate(states, actions, returns)
    asked = [made.predict_with_confidence(s, r).confidence for s, r in zip(states, returns, strict=True)]
    assert np.mean(np.array(asked)[~unsure]) > np.mean(np.array(asked)[unsure])


@pytest.mark.parametrize("by", ["train", "set_weights"])
def test_new_weights_clear_the_calibration(learned, by):
    made, held_out = learned
    made.calibrate(*held_out)
    assert made.predict_with_confidence(held_out[0][0], 0.5).confidence is not None
    if by == "train":
        made.train(*data())
    else:
        made.set_weights(made.get_weights())
    assert made.predict_with_confidence(held_out[0][0], 0.5).confidence is None


@pytest.mark.parametrize("bad", ["nothing", "NaN", "lengths"])
def test_what_cannot_be_calibrated_on_is_refused_and_keeps_the_old_calibration(learned, bad):
    made, (states, actions, returns) = learned
    made.calibrate(states, actions, returns)
    before = made.predict_with_confidence(states[0], 0.5)
    spoiled = {
        "nothing": (states[:0], actions[:0], returns[:0]),
        "NaN": (states, np.full_like(actions, NAN), returns),
        "lengths": (states, actions[1:], returns),
    }
    with pytest.raises(precedent.ValidationError, match=r"expected .+, got .+"):
        made.calibrate(*spoiled[bad])
    assert made.predict_with_confidence(states[0], 0.5) == before


def test_an_untrained_layer_cannot_be_calibrated():
    with pytest.raises(precedent.NotTrainedError):
        layer().calibrate(*data())
