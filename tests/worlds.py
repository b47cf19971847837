"""Small data for the tests: steps, batches, worlds to learn from, and plain references."""

import dataclasses
import re

import numpy as np
import pytest

import precedent

STATE = 8
ACTION = 3
# 2024-01-01, so that a timestamp is never mistaken for "now".
EPOCH = 1_704_067_200_000
DAY = 86_400_000

# The two actions of the world that `learnable` builds.
LEFT = np.array([1.0, 0.0, 0.0], np.float32)
RIGHT = np.array([0.0, 1.0, 0.0], np.float32)


def states(n, d=STATE, seed=0):
    """`[n, d]` float32, normally distributed."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def one_hot(i, d=STATE):
    state = np.zeros(d, np.float32)
    state[i] = 1.0
    return state


def step(state=None, *, pattern="retry", action=None, reward=0.5, returns=None, **metadata):
    """One step. What is not named has a plain value; keywords go to the metadata."""
    metadata = {"task_type": "support", "episode_id": "e0", "timestamp": EPOCH} | metadata
    return precedent.Trajectory(
        state_embedding=one_hot(0) if state is None else state,
        action=precedent.Action(pattern_id=pattern, embedding=[1.0, 2.0, 3.0] if action is None else action),
        reward=reward,
        return_to_go=returns,
        metadata=precedent.TrajectoryMetadata(**metadata),
    )


def steps(n, seed=0, **metadata):
    """Steps that differ in everything a filter can see."""
    rng = np.random.default_rng(seed)
    made = []
    for i, state in enumerate(states(n, seed=seed)):
        facts = {
            "task_type": ("support", "code", "search")[rng.integers(3)],
            "episode_id": f"e{rng.integers(max(1, n // 5))}",
            "timestamp": EPOCH + int(rng.integers(1000)),
            "agent_type": (None, "coder", "tester")[rng.integers(3)],
            "success": (None, True, False)[rng.integers(3)],
            "step_index": i,
        }
        made.append(
            step(
                state,
                pattern=("retry", "escalate", "ask")[rng.integers(3)],
                action=rng.normal(size=ACTION),
                reward=float(rng.uniform(-1, 1)),
                returns=None if rng.random() < 0.3 else float(rng.uniform(-2, 2)),
                **(facts | metadata),
            )
        )
    return made


def batch(n=6, *, d=STATE, a=ACTION, seed=0, **columns):
    """Columns that are fit to be inserted, with some of them replaced."""
    rng = np.random.default_rng(seed)
    plain = {
        "states": states(n, d, seed),
        "actions": rng.normal(size=(n, a)).astype(np.float32),
        "rewards": rng.uniform(-1, 1, n),
        "pattern_ids": "retry",
        "episode_ids": "e0",
        "task_types": "support",
        "timestamps": EPOCH + np.arange(n),
    }
    return precedent.TrajectoryBatch(**(plain | columns))


def changed(record, **fields):
    """A copy of a record with other fields; a field of the action or the metadata may be named directly."""
    given = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    for name in [name for name in fields if name not in given]:
        for inner in ("action", "metadata"):
            if name in {field.name for field in dataclasses.fields(given[inner])}:
                given[inner] = changed(given[inner], **{name: fields[name]})
    return type(record)(**(given | {name: value for name, value in fields.items() if name in given}))


def succeeded(trajectory):
    """The rule for a step: its own word, else the seed's threshold."""
    said = trajectory.metadata.success
    return trajectory.reward > 0.5 if said is None else said


def distances(metric, query, rows):
    """Distances in float64, straight from their definitions."""
    query, rows = np.asarray(query, np.float64), np.asarray(rows, np.float64)
    dots = rows @ query
    if metric == "dot":
        return -dots
    if metric == "euclidean":
        return np.linalg.norm(rows - query, axis=1)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return 1.0 - np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)


def similarity(metric, distance):
    if metric == "dot":
        return -distance
    return 1.0 / (1.0 + distance) if metric == "euclidean" else min(1.0, max(0.0, 1.0 - distance))


def discounted(rewards, gamma, tail=0.0):
    """R_t = r_t + gamma R_{t+1}, from the end."""
    returns, following = [], tail
    for reward in reversed(list(rewards)):
        following = reward + gamma * following
        returns.insert(0, following)
    return np.array(returns)


def refused(field, error=precedent.ValidationError):
    """Expects a refusal that names the field, what was expected and what came."""
    start = r"(^|\W)" if field[0].isalpha() else ""
    return pytest.raises(error, match=rf"{start}{re.escape(field)}\W.*expected .+, got .+")


def unchanged(store, before):
    """Asserts that a store has as many steps and episodes as it had by these statistics."""
    after = store.get_stats()
    assert after.total_trajectories == before.total_trajectories
    assert after.total_episodes == before.total_episodes


def learnable(store, *, episodes=60, length=4, seed=0, noise=0.25):
    """Fills a store of the suite's dimensions with a world that a small network can learn.

    The right action is LEFT where the first number of the state is positive, RIGHT elsewhere. Who recorded it
    was right with probability 1 - noise and got 1 for it, else -1.
    """
    rng = np.random.default_rng(seed)
    rows = episodes * length
    seen = rng.normal(size=(rows, STATE)).astype(np.float32)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    right = rng.random(rows) >= noise
    went_left = (seen[:, 0] > 0) == right
    store.insert_batch(
        precedent.TrajectoryBatch(
            states=seen,
            actions=np.where(went_left[:, None], LEFT, RIGHT),
            rewards=np.where(right, 1.0, -1.0),
            pattern_ids=["left" if left else "right" for left in went_left],
            episode_ids=[f"episode-{i // length}" for i in range(rows)],
            task_types=["walk" if i % 2 else "run" for i in range(rows)],
            timestamps=EPOCH + np.arange(rows),
            step_indices=np.arange(rows) % length,
            durations=np.full(rows, 100),
        )
    )
    return seen, went_left, right
