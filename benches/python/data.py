"""The data of the benches: vectors like sentence embeddings, plain noise, and trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from precedent import TrajectoryBatch, TrajectoryStore

if TYPE_CHECKING:
    from pathlib import Path

Vectors = npt.NDArray[np.float32]

LATENT = 64
CLUSTERS = 400
NOISE = 0.1  # length of the isotropic noise beside a unit vector
PATTERNS = 64
TASK_TYPES = ("code", "search", "review", "deploy", "data", "mail", "plan", "chat")
TASK_SHARES = (0.30, 0.22, 0.16, 0.11, 0.08, 0.06, 0.04, 0.03)
CHUNK = 10_000
DAY = 24 * 3600 * 1000
FIRST_KEY = 1  # of a new store: keys are counted from there
START = 1_700_000_000_000  # any fixed moment: the benches do not read the clock


def clustered(rows: int, dimension: int, *, seed: int = 0) -> Vectors:
    """Return unit vectors of 400 clusters on a 64-dimensional manifold, as wide within a cluster as between
    them.

    hnswlib (M=16, efConstruction=200) finds 0.92 of the ten nearest among 40,000 at ef=10, as with sentence
    embeddings. Two calls with one seed and other sizes do not share rows, and share the manifold.
    """
    return with_clusters(rows, dimension, seed=seed)[0]


def with_clusters(
    rows: int, dimension: int, *, seed: int = 0
) -> tuple[Vectors, npt.NDArray[np.int64], Vectors]:
    """Return `clustered`, the number of each vector's cluster, and the centres of the clusters."""
    manifold = np.random.default_rng([0, dimension])
    basis = manifold.standard_normal((LATENT, dimension), dtype=np.float32) / np.float32(np.sqrt(LATENT))
    centres = manifold.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    rng = np.random.default_rng([1, seed, rows])
    vectors, clusters = np.empty((rows, dimension), np.float32), np.empty(rows, np.int64)
    for start in range(0, rows, CHUNK):
        part = vectors[start : start + CHUNK]
        drawn = rng.integers(CLUSTERS, size=len(part))
        clusters[start : start + CHUNK] = drawn
        latent = centres[drawn]
        latent = latent + rng.standard_normal(latent.shape, dtype=np.float32)
        part[:] = _unit(latent @ basis)
        part += np.float32(NOISE / np.sqrt(dimension)) * rng.standard_normal(part.shape, dtype=np.float32)
        part[:] = _unit(part)
    return vectors, clusters, _unit(centres @ basis)


def gaussian(rows: int, dimension: int, *, seed: int = 0) -> Vectors:
    """Return unit vectors without any structure: the worst case of every index."""
    rng = np.random.default_rng([2, seed, rows])
    return _unit(rng.standard_normal((rows, dimension), dtype=np.float32))


def trajectories(
    states: Vectors, *, action_dimension: int, seed: int = 0, distinct_actions: bool = False
) -> TrajectoryBatch:
    """Return steps over these states: episodes of 20 to 60 steps, 8 task types of unequal size, 64 patterns.

    Actions repeat, one embedding a pattern, as they do where a pattern is a tool or a prompt;
    `distinct_actions` makes every one different.
    """
    rows = len(states)
    rng = np.random.default_rng([3, seed, rows])
    lengths = rng.integers(20, 61, size=rows // 20 + 1)
    episodes = np.repeat(np.arange(len(lengths)), lengths)[:rows]
    firsts = np.searchsorted(episodes, episodes)
    kinds = rng.choice(len(TASK_TYPES), size=len(lengths), p=TASK_SHARES)[episodes]
    patterns = rng.integers(PATTERNS, size=rows)
    embeddings = gaussian(rows if distinct_actions else PATTERNS, action_dimension, seed=seed + 1)
    return TrajectoryBatch(
        states=states,
        actions=embeddings if distinct_actions else embeddings[patterns],
        rewards=np.clip(rng.normal(0.3, 0.5, size=rows), -1, 1),
        pattern_ids=[f"pattern-{pattern:02}" for pattern in patterns],
        episode_ids=[f"episode-{seed}-{episode}" for episode in episodes],
        task_types=[TASK_TYPES[kind] for kind in kinds],
        step_indices=np.arange(rows) - firsts,
        timestamps=START + np.arange(rows) * (30 * DAY // max(rows, 1)),
    )


def part(batch: TrajectoryBatch, start: int, stop: int) -> TrajectoryBatch:
    """Return some rows of a batch that `trajectories` made."""
    given = {
        name: getattr(batch, name)[start:stop]
        for name in (
            "states",
            "actions",
            "rewards",
            "pattern_ids",
            "episode_ids",
            "task_types",
            "step_indices",
            "timestamps",
        )
    }
    return TrajectoryBatch(**given)


def filled(
    path: Path,
    states: Vectors,
    *,
    action_dimension: int,
    returns: bool = True,
    hnsw: dict[str, Any] | None = None,
    batch: TrajectoryBatch | None = None,
) -> list[str]:
    """Make a store of these states, with returns. Return the ids.

    Where there are enough rows for a graph, they are linked and the index is saved. `hnsw={"enabled": False}`
    keeps the graph away, also from whoever opens the file later and does not ask for one: nothing is linked
    behind what is timed. `batch` is used instead of `trajectories` of the states.
    """
    batch = batch or trajectories(states, action_dimension=action_dimension)
    ids: list[str] = []
    with TrajectoryStore(
        path, dimension=states.shape[1], action_dimension=action_dimension, hnsw=hnsw
    ) as store:
        for start in range(0, len(states), CHUNK):
            ids += store.insert_batch(part(batch, start, start + CHUNK))
        if returns:
            store.compute_all_returns()
        store.flush()
    return ids


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
