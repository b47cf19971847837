"""A training step whose samples lie apart: gradients by shards, and one step down their mean."""

from itertools import pairwise

import numpy as np
import pytest

import precedent
from network import NAMES, data, gradient, layer, same_bits, trained
from precedent import Gradients

ROWS = 40


def batch(seed=3, rows=ROWS):
    states, actions, returns = data(rows, seed)
    weights = np.random.default_rng(seed).uniform(0.1, 2.0, rows).astype(np.float32)
    return {"states": states, "actions": actions, "returns": returns, "weights": weights}


def part(whole, start, end):
    return {name: column[start:end] for name, column in whole.items()}


def shards(made, whole, cuts):
    return [made.gradients(**part(whole, *cut)) for cut in pairwise(cuts)]


def test_a_flat_gradient_is_w1_b1_w2_b2_of_the_reference_and_nothing_is_learned():
    made, whole = trained(), batch()
    before = made.get_weights()
    told = made.gradients(**whole)
    shares = whole["weights"].astype(np.float64)
    inputs = made.inputs(whole["states"], whole["returns"])
    exact = gradient(before, inputs, whole["actions"], shares / shares.sum())
    np.testing.assert_allclose(told.flat, np.concatenate([g.ravel() for g in exact]), atol=1e-6)
    assert told.weight == pytest.approx(shares.sum())
    assert told.flat.dtype == np.float32
    assert not told.flat.flags.writeable
    assert same_bits(made.get_weights(), before)
    assert not layer_that_only_told().trained


def layer_that_only_told():
    made = layer()
    made.gradients(**batch())
    return made


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_gradient_that_is_applied_is_a_step_of_train_to_the_bits(optimizer):
    apart, whole = trained(optimizer=optimizer), trained(optimizer=optimizer)
    for seed in range(5):
        told = apart.apply_gradients(apart.gradients(**batch(seed)))
        assert told == whole.train(**batch(seed))
        assert same_bits(apart.get_weights(), whole.get_weights())


def test_a_single_shard_s_mean_is_itself():
    told = trained().gradients(**batch())
    assert Gradients.mean([told]) == told


@pytest.mark.parametrize("cuts", [(0, 20, 40), (0, 1, 9, 25, 40)])
def test_the_mean_of_the_shards_is_the_gradient_of_all_but_for_float32(cuts):
    made, whole = trained(), batch()
    at_once, mean = made.gradients(**whole), Gradients.mean(shards(made, whole, cuts))
    off = np.linalg.norm(mean.flat - at_once.flat) / np.linalg.norm(at_once.flat)
    assert off < 1e-6
    assert mean.loss == pytest.approx(at_once.loss, rel=1e-6)
    assert mean.weight == pytest.approx(at_once.weight)


def test_steps_by_shards_follow_the_steps_by_whole_batches():
    apart, whole = trained(clip_norm=0.5), trained(clip_norm=0.5)
    for seed in range(50):
        apart.apply_gradients(Gradients.mean(shards(apart, batch(seed), (0, 13, 40))))
        whole.train(**batch(seed))
    for name in NAMES:
        np.testing.assert_allclose(
            getattr(apart.get_weights(), name), getattr(whole.get_weights(), name), atol=1e-4
        )


def test_shards_of_an_executor_make_the_bits_that_they_make_here(executor):
    here, there, cuts = trained(), trained(), (0, 11, 22, 40)
    for seed in range(3):
        whole = batch(seed)
        here.apply_gradients(Gradients.mean(shards(here, whole, cuts)))
        weights = there.get_weights()
        tasks = [executor.submit(of_weights, weights, part(whole, *cut)) for cut in pairwise(cuts)]
        there.apply_gradients(Gradients.mean(task.result() for task in tasks))
        assert same_bits(here.get_weights(), there.get_weights())


def of_weights(weights, shard):
    """One shard's gradient, as a process of its own computes it."""
    made = layer()
    made.set_weights(weights)
    return made.gradients(**shard)


def replaced(told, **changed):
    return Gradients(**({"flat": told.flat, "loss": told.loss, "weight": told.weight} | changed))


@pytest.mark.parametrize(
    ("spoil", "error", "field"),
    [
        (lambda g: replaced(g, flat=g.flat[1:]), precedent.DimensionError, "gradients.flat"),
        (lambda g: replaced(g, flat=[]), precedent.ValidationError, "gradients.flat"),
        (lambda g: replaced(g, flat=g.flat * np.nan), precedent.ValidationError, r"gradients.flat\[0\]"),
        (lambda g: replaced(g, loss=np.inf), precedent.ValidationError, "gradients.loss"),
        (lambda g: g.flat, precedent.ValidationError, "gradients"),
    ],
)
def test_what_is_no_gradient_of_this_layer_is_refused_by_name_and_changes_nothing(spoil, error, field):
    made = trained()
    before, told = made.get_weights(), made.gradients(**batch())
    with pytest.raises(error, match=field):
        made.apply_gradients(spoil(told))
    assert same_bits(made.get_weights(), before)
    assert made.apply_gradients(told).loss == told.loss


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda _: [], "shards"),
        (lambda g: [g, g.flat], r"shards\[1\]"),
        (lambda g: [g, replaced(g, flat=g.flat[1:])], r"shards\[1\].flat"),
        (lambda g: [replaced(g, flat=g.flat * np.nan)], r"shards\[0\].flat"),
        (lambda g: [g, replaced(g, weight=0.0)], r"shards\[1\].weight"),
        (lambda g: [g, replaced(g, loss=np.nan)], r"shards\[1\].loss"),
        (lambda _: 5, "shards"),
        (lambda _: None, "shards"),
        (lambda g: [replaced(g, weight=1e308)] * 2, r"shards\[0\].weight"),
        (lambda g: [replaced(g, weight=6e268)] * 2, r"shards\[1\].weight"),
        (lambda g: [replaced(g, loss=1e308, weight=1.0)] * 2, r"shards\[1\].loss"),
    ],
)
def test_shards_that_have_no_mean_are_refused_by_name(spoil, field):
    told = trained().gradients(**batch())
    with pytest.raises(precedent.ValidationError, match=rf"^{field}.*: expected .+, got .+"):
        Gradients.mean(spoil(told))


def test_the_heaviest_shards_of_the_largest_numbers_have_a_mean():
    largest = np.array([np.finfo(np.float32).max, -1.0], np.float32)
    shards = [Gradients(flat=largest, loss=1e30, weight=weight) for weight in (9e268, 1e268)]
    mean = Gradients.mean(shards)
    assert (mean.flat.tolist(), mean.loss) == (largest.tolist(), pytest.approx(1e30))


def test_a_gradient_that_is_not_finite_is_no_gradient():
    made = trained()
    with pytest.raises(precedent.TrainingError):
        made.gradients(**(batch() | {"states": np.full((ROWS, made.state_size), 3e38, np.float32)}))
