"""What everything costs as a store grows."""

from __future__ import annotations

from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from data import clustered, filled, part, trajectories
from report import Table

from figures.decide import latencies, trained_layer
from figures.memory import opened
from precedent import Action, ActionSelector, Trajectory, TrajectoryMetadata, TrajectoryStore

if TYPE_CHECKING:
    from pathlib import Path

DIMENSION, SIZES, CALLS, EXTRA = 768, (1_000, 10_000, 100_000), 200, 1_000


def growth(folder: Path) -> Table:
    """Measure stores of 1,000, 10,000 and 100,000 rows."""
    table = Table(
        f"Cost against size ({DIMENSION}-d; medians; rows are linked before searches are timed, and while "
        "inserts are)",
        [
            "rows",
            "file, bytes a row",
            "`insert` of one, ms",
            "`insert_batch` of 1,000, rows/s",
            "`compute_all_returns`, rows/s",
            "open, ms",
            "first search, ms",
            "`search_ids` k=10, ms",
            "`search` k=5, ms",
            "`select_action`, ms",
            "`get`, ms",
        ],
    )
    queries = clustered(CALLS, DIMENSION, seed=5)
    more = trajectories(clustered(5 * EXTRA, DIMENSION, seed=6), action_dimension=DIMENSION, seed=6)
    for rows in SIZES:
        path = folder / f"growth-{rows}.db"
        ids = filled(path, clustered(rows, DIMENSION), action_dimension=DIMENSION, returns=False)
        with TrajectoryStore(path, cache={"enabled": False}) as store:
            began = perf_counter()
            store.compute_all_returns()
            returns = rows / (perf_counter() - began)
        size = path.stat().st_size / rows
        start = opened(path)
        with TrajectoryStore(path, cache={"enabled": False}) as store:
            store.flush()
            selector = ActionSelector(store, trained_layer(DIMENSION))
            measured = (
                latencies(partial(store.search_ids, k=10), queries),
                latencies(partial(store.search, k=5, threshold=None), queries),
                latencies(partial(selector.select_action, desired_return=0.95), queries),
                latencies(store.get, ids[:CALLS]),
            )
            steps = [
                Trajectory(
                    state_embedding=-query,
                    action=Action(pattern_id="pattern-01", embedding=query),
                    reward=0.0,
                    metadata=TrajectoryMetadata(task_type="code", episode_id="single"),
                )
                for query in queries
            ]
            single = median(latencies(store.insert, steps))
            rates = []
            for first in range(0, len(more), EXTRA):
                batch = part(more, first, first + EXTRA)
                began = perf_counter()
                store.insert_batch(batch)
                rates.append(EXTRA / (perf_counter() - began))
        table.add(
            f"{rows:,}",
            f"{size:,.0f}",
            f"{single:.3f}",
            f"{median(rates):,.0f}",
            f"{returns:,.0f}",
            f"{start['open']:.1f}",
            f"{start['first']:.1f}",
            *(f"{median(times):.3f}" for times in measured),
        )
        path.unlink()
    return table
