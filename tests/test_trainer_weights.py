"""How a trainer weighs samples and steps: emphasis, schedule, warm-up, prioritized replay."""

import numpy as np
import pytest

import precedent
from network import NAMES, same_bits
from training import layer, trainer
from worlds import ACTION, STATE

EPISODES, LENGTH = 30, 4
ROWS = EPISODES * LENGTH
# Nothing but the gradient moves the weights.
SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": None}


@pytest.fixture
def world(memory):
    """Steps of episodes whose totals differ, some equal: states, actions, returns and quantiles."""
    rng = np.random.default_rng(4)
    states = rng.normal(size=(ROWS, STATE)).astype(np.float32)
    actions = rng.normal(size=(ROWS, ACTION)).astype(np.float32)
    totals = rng.integers(0, 12, EPISODES).astype(float)
    rewards = np.repeat(totals / LENGTH, LENGTH)
    memory.insert_batch(
        precedent.TrajectoryBatch(
            states=states,
            actions=actions,
            rewards=rewards,
            returns_to_go=np.linspace(0, 1, ROWS),
            pattern_ids="p",
            episode_ids=[f"e{i // LENGTH}" for i in range(ROWS)],
            task_types="t",
            step_indices=np.arange(ROWS) % LENGTH,
        )
    )
    below = (totals[:, None] > totals).mean(1)
    equal = (totals[:, None] == totals).mean(1)
    return states, actions, np.linspace(0, 1, ROWS), np.repeat(below + equal / 2, LENGTH)


def whole(store, made, **options):
    """A trainer whose epoch is one step on all samples."""
    plain = {"batch_size": ROWS, "validation_split": 0.0, "early_stopping_patience": 99}
    return trainer(store, made, **(plain | options))


def losses(made, states, actions, returns):
    """Squared error of each step, mean over dimensions."""
    return ((made.predict_many(states, returns) - actions) ** 2).mean(1).astype(np.float64)


def started(**settings):
    """Layers with one and the same weights, ready to predict."""
    made = layer(**(SGD | {"return_range": (0.0, 1.0)} | settings))
    made.set_weights(made.get_weights())
    return made


@pytest.mark.parametrize("emphasis", [0.0, 1.0, 10.0, 500.0])
def test_emphasis_weighs_samples_by_the_quantile_of_their_episode_s_reward(memory, world, emphasis):
    states, actions, returns, q = world
    weights = np.exp(emphasis * (q - 1))
    made, twin = started(learning_rate=0.05), started(learning_rate=0.05)
    expected = np.average(losses(twin, states, actions, returns), weights=weights)
    report = whole(memory, made, epochs=1, emphasis=emphasis).train()
    assert report.final_metrics.train_loss == pytest.approx(expected, rel=1e-5)
    twin.train(states, actions, returns, weights=(weights / weights.max()).astype(np.float32))
    for name in NAMES:
        ours, theirs = getattr(made.get_weights(), name), getattr(twin.get_weights(), name)
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("emphasis", [0.0, 5.0])
def test_emphasis_weighs_what_validates_too(memory, world, emphasis):
    states, actions, returns, q = world
    made = started(learning_rate=1e-30)
    training = trainer(memory, made, epochs=1, emphasis=emphasis)
    report = training.train()
    held_out = {prediction.true_action.tobytes() for prediction in training.evaluate().predictions}
    chosen = np.array([action.tobytes() in held_out for action in actions])
    assert chosen.sum() == report.data_stats.val_size
    weights = np.exp(emphasis * (q - 1)) * chosen
    expected = np.average(losses(made, states, actions, returns), weights=weights)
    assert report.final_metrics.val_loss == pytest.approx(expected, rel=1e-5)


def rates(schedule, warmup, total):
    """The shares of the learning rate, from their formula."""
    t = np.arange(total)
    fall = (1 + np.cos(np.pi * (t - warmup) / (total - warmup))) / 2
    fall = fall if schedule == "cosine" else np.ones(total)
    return np.where(t < warmup, (t + 1) / max(warmup, 1), fall)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_each_step_has_the_size_of_the_schedule_s_formula(memory, world, schedule, warmup):
    states, actions, returns, _ = world
    made = started(learning_rate=0.05)
    training = whole(memory, made, epochs=8, schedule=schedule, warmup_steps=warmup)
    before = made.get_weights()
    for share, _ in zip(rates(schedule, warmup, 8), training.fitter(), strict=False):
        twin = started(learning_rate=0.05 * share)
        twin.set_weights(before)
        twin.train(states, actions, returns)
        before = made.get_weights()
        for name in NAMES:
            assert getattr(before, name) == pytest.approx(getattr(twin.get_weights(), name), abs=1e-6)
    assert made.settings.learning_rate == 0.05, "the layer's own setting stays"


def test_a_cosine_counts_the_steps_of_a_curriculum(memory):
    rng = np.random.default_rng(0)
    for name, took in (("quick", 10), ("slow", 10**6)):
        memory.insert_batch(
            precedent.TrajectoryBatch(
                states=rng.normal(size=(100, STATE)),
                actions=rng.normal(size=(100, ACTION)),
                rewards=np.zeros(100),
                returns_to_go=np.zeros(100),
                pattern_ids="p",
                episode_ids=[f"{name}{i}" for i in range(100)],
                task_types="t",
                durations=np.full(100, took),
            )
        )
    made = started(learning_rate=0.05)
    easy = {"easy_epochs": 2, "max_duration": 1000}
    training = whole(memory, made, batch_size=100, epochs=3, schedule="cosine", curriculum=easy)
    # Two epochs of one step, one of two: four steps.
    shares = rates("cosine", 0, 4)
    norms, moved, before = [], [], made.get_weights()
    for metrics in training.fitter():
        after = made.get_weights()
        delta = [(getattr(after, n).astype(np.float64) - getattr(before, n)).ravel() for n in NAMES]
        norms.append(metrics.gradient_norm)
        moved.append(np.linalg.norm(np.concatenate(delta)))
        before = after
    assert moved[0] / norms[0] == pytest.approx(0.05 * shares[0], rel=1e-4)
    assert moved[1] / norms[1] == pytest.approx(0.05 * shares[1], rel=1e-4)


def resumed_after(world_store, folder, options, epochs):
    made = layer(learning_rate=0.02)
    fitter = trainer(world_store, made, save_path=folder, **options).fitter()
    for _ in range(epochs):
        next(fitter)
    fitter.close()
    again = layer(learning_rate=0.02)
    trainer(world_store, again, save_path=folder, **options).train(resume=True)
    return again


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "cosine"},
        {"warmup_steps": 15},
        {"schedule": "cosine", "warmup_steps": 5, "emphasis": 4.0, "replay": "prioritized"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("world")
def test_a_resumed_run_goes_on_with_its_schedule(memory, tmp_path, options):
    options = {"epochs": 6, "early_stopping_patience": 99} | options
    straight = layer(learning_rate=0.02)
    trainer(memory, straight, **options).train()
    assert same_bits(resumed_after(memory, tmp_path, options, 3).get_weights(), straight.get_weights())


@pytest.mark.usefixtures("world")
def test_a_cosine_cannot_be_made_longer_on_the_way(memory, tmp_path):
    options = {"schedule": "cosine", "save_path": tmp_path}
    trainer(memory, epochs=2, **options).train()
    with pytest.raises(precedent.ValidationError, match=r"epochs: expected 2, .*got 4"):
        trainer(memory, epochs=4, **options).train(resume=True)
