"""What the decision layer sees and says: inputs, predictions, contexts, settings."""

import numpy as np
import pytest

import precedent
from network import (
    ACTION,
    HIDDEN,
    NAMES,
    STATE,
    compact_code,
    data,
    forward,
    layer,
    random_weights,
    same_bits,
    seed_code,
    timestep_code,
    trained,
)
from worlds import refused

NAN, INF = float("nan"), float("inf")
CODES = {"compact": compact_code, "seed": seed_code}


def test_the_network_of_the_documents_has_as_many_parameters_as_they_say():
    weights = precedent.DecisionLayer(768, 768).get_weights()
    assert [getattr(weights, n).shape for n in NAMES] == [(2304, 256), (256,), (256, 768), (768,)]
    assert sum(getattr(weights, n).size for n in NAMES) == 787_456
    assert {getattr(weights, n).dtype for n in NAMES} == {np.dtype(np.float32)}


@pytest.mark.parametrize("encoding", CODES)
@pytest.mark.parametrize("d", [2, 3, 6, 7, 64])
@pytest.mark.parametrize("value", [0.0, 0.37, 1.0, -2.5])
def test_the_return_code_is_its_formula(encoding, d, value):
    made = precedent.DecisionLayer(d, 2, encoding=encoding)
    states = np.ones((1, d), np.float32)
    inputs = made.inputs(states, [value])
    assert inputs.shape == (1, 3 * d)
    np.testing.assert_array_equal(inputs[0, :d], states[0])
    np.testing.assert_allclose(inputs[0, d : 2 * d], CODES[encoding](value, d), atol=2e-6)
    np.testing.assert_array_equal(inputs[0, 2 * d :], np.zeros(d))


def test_a_compact_code_has_norm_one_and_near_returns_have_near_codes():
    made = precedent.DecisionLayer(768, 2)
    half, near, far = made.inputs(np.ones((3, 768)), [0.9, 1.0, 0.0])[:, 768:1536]
    assert np.linalg.norm(half) == pytest.approx(1.0, abs=1e-5)
    assert half @ near > 0.8
    assert half @ far < 0.5


def test_the_seed_s_code_behaves_like_a_hash():
    made = precedent.DecisionLayer(768, 2, encoding="seed")
    one, other = made.inputs(np.ones((2, 768)), [0.9, 1.0])[:, 768:1536]
    assert np.linalg.norm(one) == pytest.approx(19.6, abs=0.2)
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) == pytest.approx(0.20, abs=0.01)


@pytest.mark.parametrize("encoding", CODES)
def test_returns_are_mapped_by_their_range_and_not_clipped(encoding):
    made = layer(encoding=encoding, return_range=(100.0, 500.0))
    inputs = made.inputs(np.ones((3, STATE)), [100.0, 450.0, 700.0])[:, STATE : 2 * STATE]
    for code, mapped in zip(inputs, [0.0, 0.875, 1.5], strict=True):
        np.testing.assert_allclose(code, CODES[encoding](mapped, STATE), atol=2e-6)


@pytest.mark.parametrize("d", [6, 7])
def test_a_timestep_adds_its_code_to_the_context(d):
    made = precedent.DecisionLayer(d, 2)
    contexts = np.arange(2 * d, dtype=np.float32).reshape(2, d)
    given = made.inputs(np.ones((2, d)), [0.5, 0.5], contexts=contexts, timesteps=[0, 17])
    for row, context, t in zip(given, contexts, [0, 17], strict=True):
        np.testing.assert_allclose(row[2 * d :], context + timestep_code(t, d), atol=2e-6)
    alone = made.inputs(np.ones((1, d)), [0.5], timesteps=[17])
    np.testing.assert_allclose(alone[0, 2 * d :], timestep_code(17, d), atol=2e-6)


@pytest.mark.parametrize("sizes", [(6, 4, 5), (1, 1, 1), (17, 33, 40), (768, 768, 256)], ids=str)
def test_a_prediction_is_the_network_s_forward_pass(sizes):
    d, a, h = sizes
    made = precedent.DecisionLayer(d, a, hidden_size=h)
    made.set_weights(random_weights(made.get_weights(), seed=3))
    states, _, returns = data(9, d=d, a=a)
    contexts = data(9, seed=5, d=d, a=a)[0]
    for extra in ({}, {"contexts": contexts}, {"timesteps": np.arange(9)}):
        expected, _ = forward(made.get_weights(), made.inputs(states, returns, **extra))
        many = made.predict_many(states, returns, **extra)
        assert (many.shape, many.dtype) == ((9, a), np.float32)
        error = np.linalg.norm(many - expected, axis=1)
        assert (error <= 0.01 * np.linalg.norm(expected, axis=1)).all()
        for i in range(9):
            one = {name.removesuffix("s"): values[i] for name, values in extra.items()}
            alone = made.predict(states[i], returns[i], **one)
            assert (alone.shape, alone.dtype) == ((a,), np.float32)
            assert np.linalg.norm(alone - expected[i]) <= 0.01 * np.linalg.norm(expected[i])


def test_one_return_does_for_many_states():
    made = trained()
    states, _, _ = data()
    np.testing.assert_array_equal(made.predict_many(states, 0.7), made.predict_many(states, np.full(12, 0.7)))
    np.testing.assert_array_equal(made.inputs(states, 0.7), made.inputs(states, np.full(12, 0.7)))


def test_a_context_that_is_given_is_always_used():
    made = trained(context="none")
    state, context = data()[0][:2]
    assert not np.array_equal(made.predict(state, 0.5), made.predict(state, 0.5, context=context))
    zero = np.zeros(STATE)
    np.testing.assert_array_equal(made.predict(state, 0.5), made.predict(state, 0.5, context=zero))


@pytest.mark.parametrize(
    "ask",
    [
        lambda made: made.predict(np.ones(STATE), 0.5),
        lambda made: made.predict_many(np.ones((2, STATE)), 0.5),
        lambda made: made.predict_with_confidence(np.ones(STATE), 0.5),
        lambda made: made.seed_confidence(np.ones(STATE), 0.5),
    ],
    ids=["predict", "predict_many", "predict_with_confidence", "seed_confidence"],
)
def test_a_layer_that_never_learned_refuses_to_predict(ask):
    made = layer()
    assert not made.trained
    with pytest.raises(precedent.NotTrainedError, match="train"):
        ask(made)
    made.train(*data())
    assert made.trained
    ask(made)


def test_setting_weights_makes_a_layer_trained():
    made = layer()
    made.set_weights(random_weights(made.get_weights(), seed=2))
    assert made.trained
    made.predict(np.ones(STATE), 0.5)


def test_history_is_the_mean_of_the_last_states_before_a_step():
    made = layer(context="history", history_length=3)
    states, actions, _ = data(8)
    contexts = made.context_of(states, actions)
    assert contexts.shape == (8, STATE)
    np.testing.assert_array_equal(contexts[0], np.zeros(STATE))
    for i in range(1, 8):
        np.testing.assert_allclose(contexts[i], states[max(0, i - 3) : i].mean(0), rtol=1e-5, atol=1e-6)


def test_the_previous_action_never_is_the_step_s_own():
    made = layer(action_size=STATE, context="previous_action")
    states, actions, _ = data(8, a=STATE)
    contexts = made.context_of(states, actions)
    np.testing.assert_array_equal(contexts[0], np.zeros(STATE))
    np.testing.assert_array_equal(contexts[1:], actions[:-1])
    spoiled = actions.copy()
    spoiled[5] = 99.0
    np.testing.assert_array_equal(made.context_of(states, spoiled)[:6], contexts[:6])


def test_without_a_context_it_is_zeros():
    states, actions, _ = data(4)
    np.testing.assert_array_equal(layer().context_of(states, actions), np.zeros((4, STATE)))


@pytest.mark.parametrize("context", ["none", "history"])
def test_an_episode_without_steps_has_no_contexts(context):
    empty = layer(context=context).context_of(np.empty((0, STATE)), np.empty((0, ACTION)))
    assert empty.shape == (0, STATE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state_size", 0),
        ("state_size", 1.5),
        ("action_size", -1),
        ("action_size", None),
        ("hidden_size", 0),
        ("hidden_size", True),
        ("learning_rate", 0.0),
        ("learning_rate", NAN),
        ("learning_rate", "fast"),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-9),
        ("weight_decay", INF),
        ("optimizer", "rmsprop"),
        ("clip_norm", 0.0),
        ("clip_norm", -1.0),
        ("encoding", "binary"),
        ("context", "memory"),
        ("context", "previous_action"),  # the sizes differ
        ("history_length", 0),
        ("return_scale", "log"),
        ("return_range", (1.0, 1.0)),
        ("return_range", (2.0, 1.0)),
        ("return_range", (0.0, NAN)),
        ("return_range", (0.0, INF)),
        ("return_range", 1.0),
        ("return_range", (0.0, 1.0, 2.0)),
        ("seed", -1),
        ("seed", 1.5),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(field, value):
    with refused(field):
        layer(**{field: value})


QUESTIONS = {
    "a short state": ("state", {"state": np.ones(STATE - 1)}, precedent.DimensionError),
    "a matrix": ("state", {"state": np.ones((2, STATE))}, precedent.ValidationError),
    "text": ("state", {"state": "text"}, precedent.ValidationError),
    "NaN": ("state", {"state": [NAN] * STATE}, precedent.ValidationError),
    "a state beyond float32": ("state", {"state": [1e39] * STATE}, precedent.ValidationError),
    "a NaN return": ("desired_return", {"desired_return": NAN}, precedent.ValidationError),
    "an infinite return": ("desired_return", {"desired_return": INF}, precedent.ValidationError),
    "text as return": ("desired_return", {"desired_return": "best"}, precedent.ValidationError),
    "a short context": ("context", {"context": np.ones(2)}, precedent.DimensionError),
    "an infinite context": ("context", {"context": [INF] * STATE}, precedent.ValidationError),
    "a fractional timestep": ("timestep", {"timestep": 1.5}, precedent.ValidationError),
    "a negative timestep": ("timestep", {"timestep": -1}, precedent.ValidationError),
}


@pytest.mark.parametrize(("field", "bad", "error"), QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("method", ["predict", "predict_with_confidence", "seed_confidence"])
def test_a_bad_question_is_refused_by_name(method, field, bad, error):
    asked = {"state": np.ones(STATE), "desired_return": 0.5} | bad
    with refused(field, error):
        getattr(trained(), method)(asked.pop("state"), asked.pop("desired_return"), **asked)


MANY = {
    "wide states": ("states", {"states": np.ones((3, STATE + 1))}, precedent.DimensionError),
    "a vector": ("states", {"states": np.ones(STATE)}, precedent.ValidationError),
    "NaN": ("states", {"states": np.full((3, STATE), NAN)}, precedent.ValidationError),
    "too few returns": ("returns", {"returns": [0.5, 0.5]}, precedent.ValidationError),
    "a NaN return": ("returns", {"returns": [0.5, NAN, 0.5]}, precedent.ValidationError),
    "too few contexts": ("contexts", {"contexts": np.ones((2, STATE))}, precedent.ValidationError),
    "too few timesteps": ("timesteps", {"timesteps": [1, 2]}, precedent.ValidationError),
}


@pytest.mark.parametrize(("field", "bad", "error"), MANY.values(), ids=MANY)
@pytest.mark.parametrize("method", ["predict_many", "inputs"])
def test_bad_questions_are_refused_by_name(method, field, bad, error):
    asked = {"states": np.ones((3, STATE)), "returns": 0.5} | bad
    if method == "predict_many" and field == "returns":
        field = "desired_returns"
    with refused(field, error):
        getattr(trained(), method)(asked.pop("states"), asked.pop("returns"), **asked)


OVERFLOWING = {
    "state": {"state": np.full(STATE, 3e38, np.float32)},
    "context": {"state": np.ones(STATE), "context": np.full(STATE, 3e38, np.float32)},
}


@pytest.mark.parametrize("field", OVERFLOWING)
@pytest.mark.parametrize("method", ["predict", "predict_with_confidence", "predict_many"])
def test_an_answer_that_is_not_finite_is_refused_by_what_made_it(method, field):
    made, asked = overflowing(), dict(OVERFLOWING[field])
    for calibrate in (False, True):
        if calibrate:
            states, actions, returns = data(60)
            made.calibrate(states, actions, returns)
        if method == "predict_many":
            rows = {f"{name}s": np.stack([np.zeros(STATE), given]) for name, given in asked.items()}
            with refused(f"{field}s[1]"):
                made.predict_many(rows.pop("states"), 0.5, **rows)
        else:
            with refused(field):
                getattr(made, method)(desired_return=0.5, **asked)


def test_large_answers_that_are_finite_are_given_without_a_warning():
    made = overflowing()
    large = np.full(STATE, 3e34, np.float32)
    assert np.isfinite(made.predict(large, 0.5)).all()
    assert np.linalg.norm(made.predict(large, 0.5).astype(np.float64)) > 1e25
    assert np.isfinite(made.predict_many([large], 0.5)).all()
    assert np.isfinite(made.predict_with_confidence(large, 0.5).action).all()


@pytest.mark.parametrize("signs", [(1, 1), (-1, -1), (1, -1)])
def test_infinities_of_any_signs_are_no_answer(signs):
    made = overflowing()
    weights = made.get_weights()
    weights.W2[:, :2] *= signs
    made.set_weights(weights)
    with refused("state"):
        made.predict(np.full(STATE, 3e38, np.float32), 0.5)


def overflowing():
    """A layer whose answer to the largest states is beyond float32."""
    made = trained()
    weights = made.get_weights()
    made.set_weights(precedent.NetworkWeights(**{n: np.ones_like(getattr(weights, n)) for n in NAMES}))
    return made


def test_no_questions_have_no_answers():
    assert trained().predict_many(np.empty((0, STATE)), 0.5).shape == (0, ACTION)


def test_weights_are_copies():
    made = layer()
    taken = made.get_weights()
    taken.W1[:] = 9.0
    assert not np.any(made.get_weights().W1 == 9.0)
    given = random_weights(taken, seed=2)
    made.set_weights(given)
    given.b2[:] = 9.0
    assert not np.any(made.get_weights().b2 == 9.0)
    assert made.get_weights().W1.shape == (3 * STATE, HIDDEN)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spoil", ["shape", "NaN", "float64"])
def test_weights_that_do_not_fit_are_refused_and_change_nothing(name, spoil):
    made = layer()
    before = made.get_weights()
    good = {n: getattr(before, n).copy() for n in NAMES}
    if spoil == "shape":
        good[name] = good[name][..., 1:]
    else:
        good[name] = good[name].astype(np.float64)
        good[name].flat[0] = NAN if spoil == "NaN" else 1e39
    with refused(name):
        made.set_weights(precedent.NetworkWeights(**good))
    assert same_bits(made.get_weights(), before)
    assert not made.trained


def test_the_same_seed_draws_the_same_weights_and_another_one_others():
    assert same_bits(layer(seed=5).get_weights(), layer(seed=5).get_weights())
    assert not np.array_equal(layer(seed=5).get_weights().W1, layer(seed=6).get_weights().W1)


def test_the_seed_s_confidence_is_its_formula():
    made = trained()
    for state in data(5)[0]:
        output, hidden = forward(made.get_weights(), made.inputs([state], [0.5]))
        hidden_score = 1.0 - abs(np.linalg.norm(hidden) - 50) / 100
        output_score = 1.0 - abs(np.linalg.norm(output) - 10) / 20
        expected = (hidden_score + output_score) / 2
        assert made.seed_confidence(state, 0.5) == pytest.approx(expected, abs=1e-3)


def test_a_step_number_that_int64_cannot_hold_is_refused_and_not_taken_for_another():
    with refused("timesteps"):
        trained().predict_many(data(n=2)[0], 0.5, timesteps=np.array([1, 2**64 - 1], np.uint64))


def test_a_network_that_no_memory_holds_is_refused_before_it_is_made():
    with refused("hidden_size"):
        precedent.DecisionLayer(65_536, 65_536, hidden_size=65_536)


@pytest.mark.parametrize("option", ["learning_rate", "clip_norm"])
def test_an_open_bound_is_said_in_words(option):
    with pytest.raises(precedent.ValidationError, match=f"{option}: expected more than 0, got 0.0"):
        layer(**{option: 0.0})


def large(**settings):
    """A layer of enough weights to answer by rounded ones."""
    made = precedent.DecisionLayer(state_size=128, action_size=32, **({"hidden_size": 256} | settings))
    states, actions, returns = data(64, d=128, a=32)
    for _ in range(20):
        made.train(states, actions, returns)
    return made


def test_rounded_answers_are_within_a_hundredth_and_float32_ones_are_the_reference_s():
    made = large()
    states, _, returns = data(40, seed=8, d=128, a=32)
    rounded, error = made.predict_many(states, returns), made.inference_error
    assert made.inference == "bf16"
    made.inference = "f32"
    exact = made.predict_many(states, returns)
    np.testing.assert_allclose(
        exact, forward(made.get_weights(), made.inputs(states, returns))[0], atol=1e-5, rtol=1e-5
    )
    off = np.linalg.norm(rounded - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0.0 < off.max() <= 0.01
    assert 0.0 < error <= 0.01
    assert made.inference_error == 0.0
    np.testing.assert_array_equal(made.predict(states[3], returns[3]), exact[3])
    made.inference = "bf16"
    np.testing.assert_array_equal(made.predict_many(states, returns), rounded)
    np.testing.assert_array_equal(made.predict(states[3], returns[3]), rounded[3])
    assert made.inference_error == error


def test_how_it_answers_is_neither_learned_nor_saved(tmp_path):
    one, other = large(), large()
    other.inference = "f32"
    states, actions, returns = data(64, seed=2, d=128, a=32)
    one.predict(states[0], 0.5)
    assert one.train(states, actions, returns) == other.train(states, actions, returns)
    assert same_bits(one.get_weights(), other.get_weights())
    other.save(tmp_path / "layer")
    assert precedent.DecisionLayer.load(tmp_path / "layer").inference == "bf16"
    assert [member.inference for member in other.members] == ["f32"]


@pytest.mark.parametrize("name", ["int8", None, 32])
def test_an_unknown_way_to_answer_is_refused(name):
    with pytest.raises(precedent.ValidationError, match="inference"):
        large().inference = name
