"""How long a decision takes."""

from __future__ import annotations

from time import perf_counter, process_time
from typing import TYPE_CHECKING

import numpy as np
from data import Vectors, clustered, filled, gaussian
from graphs import OURS, built
from report import Table

from precedent import (
    Action,
    ActionSelector,
    DecisionLayer,
    NetworkWeights,
    Trajectory,
    TrajectoryMetadata,
    TrajectoryStore,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Any

ROWS, DIMENSION, CALLS = 10_000, 768, 1_000
TARGET, LARGE_TARGET = 0.5, 0.4  # ms, at 10,000 rows and above


def trained_layer(dimension: int) -> DecisionLayer:
    """Return a layer with some weights: the time of a decision does not depend on which."""
    rng = np.random.default_rng(0)
    layer = DecisionLayer(dimension, dimension, return_scale="episode")
    shapes = [(3 * dimension, 256), (256,), (256, dimension), (dimension,)]
    w1, b1, w2, b2 = (rng.standard_normal(shape, dtype=np.float32) / np.float32(30) for shape in shapes)
    layer.set_weights(NetworkWeights(W1=w1, b1=b1, W2=w2, b2=b2))
    return layer


def latencies(call: Callable[[Any], object], asked: Iterable[Any]) -> list[float]:
    """Return the time of each call in ms, after a tenth of them to warm up."""
    times = []
    for one in asked:
        began = perf_counter()
        call(one)
        times.append(1e3 * (perf_counter() - began))
    return times[len(times) // 10 :]


def decisions(folder: Path) -> Table:
    """Ask the cascade at 10,000 rows: near a precedent, far from all, with an insert before each."""
    path = folder / "decide.db"
    states = clustered(ROWS, DIMENSION)
    filled(path, states, action_dimension=DIMENSION)

    def insert(state: Vectors) -> None:
        metadata = TrajectoryMetadata(task_type="code", episode_id="turns")
        action = Action(pattern_id="pattern-01", embedding=state)
        store.insert(Trajectory(state_embedding=-state, action=action, reward=0.0, metadata=metadata))

    with TrajectoryStore(path) as store:
        table = _asked(store, states)
        fresh = clustered(CALLS, DIMENSION, seed=3)
        _ask(table, store, "fresh, best twentieth, an insert before each", fresh, 0.95, insert)
    return table


def at_scale(folder: Path, *, rows: int) -> Table:
    """Ask the cascade where all rows are linked."""
    path, states = built(folder.parent, OURS, rows, DIMENSION), clustered(rows, DIMENSION)
    with TrajectoryStore(path) as store:
        store.flush()
        _read(path)
        return _asked(store, states)


def _read(path: Path) -> None:
    """Read a store's files, so that the system holds their pages: how long a disk takes is not asked here."""
    for each in path.parent.glob(f"{path.name}*"):
        with each.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def _asked(store: TrajectoryStore, states: Vectors) -> Table:
    """Return the table with what every store is asked."""
    rng = np.random.default_rng(4)
    known = states[rng.integers(len(states), size=CALLS)]
    # A hair beside a stored state (cosine 0.9998), so that neither cache nor hash can answer.
    known = known + np.float32(0.02) * gaussian(CALLS, DIMENSION, seed=2)
    fresh = clustered(CALLS, DIMENSION, seed=3)
    target = TARGET if len(states) <= ROWS else LARGE_TARGET
    table = Table(
        f"A decision (`select_action`, {len(states):,} x {DIMENSION}, "
        '`return_scale="episode"`, files in the page cache; CPU time)',
        ["asked", "tiers that answered", "p50, ms", "p99, ms", "p50 to reach, ms", "reached"],
    )
    for title, asked, desired in (
        ("beside a precedent, any return", known, 0.0),
        ("fresh, any return", fresh, 0.0),
        ("fresh, best twentieth", fresh, 0.95),
    ):
        _ask(table, store, title, asked, desired, target=target)
    return table


def _ask(
    table: Table,
    store: TrajectoryStore,
    title: str,
    asked: Vectors,
    desired: float,
    before: Callable[[Vectors], object] | None = None,
    target: float = TARGET,
) -> None:
    selector = ActionSelector(store, trained_layer(DIMENSION))
    times = []
    for state in asked:
        if before is not None:
            before(state)
        began = process_time()
        selector.select_action(state, desired)
        times.append(1e3 * (process_time() - began))
    counts = selector.stats().tiers
    tiers = ", ".join(
        f"{tier.name.lower()} {count / len(asked):.0%}" for tier, count in counts.items() if count
    )
    p50, p99 = np.percentile(times[CALLS // 10 :], [50, 99])
    table.add(title, tiers, f"{p50:.3f}", f"{p99:.3f}", f"{target}", "yes" if p50 <= target else "**no**")
