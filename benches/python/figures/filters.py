"""What filters cost, and what is found through them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
from data import CLUSTERS, START, filled, trajectories, with_clusters
from nearest import recall
from report import Table
from rounds import Contender, Work, each_timed, measure

from precedent import TrajectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from data import Vectors

ROWS, DIMENSION, K, QUERIES = 100_000, 768, 10, 100
ASKED = 0  # the cluster of the queries
SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)
RECALL = 0.95
UNFILTERED, NOISE = 3.0, 1.1
SCAN, BARE = "scan of the matches", "no filter"


@dataclass(frozen=True)
class _World:
    """Rows, queries of one cluster, and the rows by the distance of their cluster from that one.

    Attributes:
        states: `[n, d]`.
        order: Row numbers, those of the queries' own cluster first.
        own: How many these are.
        queries: `[q, d]`.
    """

    states: Vectors
    order: npt.NDArray[np.int64]
    own: int
    queries: Vectors

    @classmethod
    def of(cls, rows: int) -> _World:
        states, clusters, centres = with_clusters(rows, DIMENSION)
        nearness = np.argsort(np.argsort(-(centres @ centres[ASKED])))
        fresh, theirs, _ = with_clusters(2 * QUERIES * CLUSTERS, DIMENSION, seed=8)
        return cls(
            states,
            np.argsort(nearness[clusters], kind="stable"),
            int((clusters == ASKED).sum()),
            fresh[theirs == ASKED][:QUERIES],
        )


def filters(folder: Path, *, rows: int = ROWS) -> Table:
    """Ask for the ten nearest of some rows, which lie anywhere, around the queries, or anywhere but there.

    The queries are of one cluster. Timestamps number the rows by the distance of their cluster from it, its
    own rows first, so that a span of time is what lies near all queries or far from them.
    """
    table = Table(
        f"Filters ({rows:,} x {DIMENSION}, k={K}, the store's own ef): CPU time beside that of a scan of the "
        "matches (`exact=True`), the brute force of the recall, and of the same search without a filter",
        [
            "rows that match",
            "of them",
            "recall@10",
            "p50, us",
            "p99, us",
            f"time / {SCAN}",
            f"time / {BARE}",
            f"recall >= {RECALL}, at most a scan and {UNFILTERED:g} unfiltered",
        ],
    )
    world, path = _World.of(rows), folder / "filters.db"
    _fill(path, world.states, order=world.order)
    with TrajectoryStore(path, cache={"enabled": False}) as store:
        store.flush()
        _make_cells(store, world)
        for where, share, condition in _conditions(rows, world.own):
            _add(table, store, world.queries, where, share, condition)
    return table


def cells(folder: Path, *, rows: int = ROWS) -> Table:
    """Make what answers filters that exclude the queries' own cluster: how long it takes and what it holds.

    It is made behind the first such questions; here `flush` waits for it.
    """
    table = Table(
        "Cells, which are made behind the first filters that exclude what a query is about "
        f"({rows:,} x {DIMENSION})",
        [
            "seconds, wall clock",
            "CPU seconds",
            "seconds of linking the same rows",
            "index, bytes a row",
            "with cells",
        ],
    )
    world, path = _World.of(rows), folder / "cells.db"
    _fill(path, world.states, order=world.order)
    with TrajectoryStore(path, cache={"enabled": False}) as store:
        begin = perf_counter()
        store.rebuild_index()
        linking, before = perf_counter() - begin, store.get_stats().index_size
        began = perf_counter(), process_time()
        _make_cells(store, world)
        took = perf_counter() - began[0], process_time() - began[1]
        after = store.get_stats().index_size
    table.add(
        f"{took[0]:.1f}", f"{took[1]:.1f}", f"{linking:.1f}", f"{before / rows:,.0f}", f"{after / rows:,.0f}"
    )
    return table


def _make_cells(store: TrajectoryStore, world: _World) -> None:
    """Ask what needs cells, and wait until they are there."""
    store.search_ids(world.queries[0], k=K, filter={"after_timestamp": START + world.own})
    store.flush()


def _fill(path: Path, states: Vectors, *, order: npt.NDArray[np.int64]) -> None:
    """Make the store: rewards are uniform, timestamps count the rows in an order."""
    rows = len(states)
    batch = trajectories(states, action_dimension=2)
    ranks = np.empty(rows, np.int64)
    ranks[order] = np.arange(rows)
    columns = {name: getattr(batch, name) for name in ("states", "actions", "pattern_ids", "episode_ids")}
    columns |= {name: getattr(batch, name) for name in ("task_types", "step_indices")}
    rewards = np.random.default_rng(11).uniform(-1, 1, size=rows)
    given = type(batch)(**columns, rewards=rewards, timestamps=START + ranks)
    filled(path, states, action_dimension=2, returns=False, batch=given)


def _conditions(rows: int, own: int) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Name which rows match, their share of all, and the filter; `own` rows are of the queries' cluster."""
    for share in SHARES:
        yield "anywhere", share, {"min_reward": 1 - 2 * share}
    yield "the queries' own cluster", own / rows, {"before_timestamp": START + own}
    for share in SHARES:
        yield "the nearest clusters", share, {"before_timestamp": START + int(share * rows)}
    others = {"after_timestamp": START + own}
    yield "all but the queries' own cluster", 1 - own / rows, others
    for share in SHARES:
        yield "anywhere but in the queries' own cluster", share, {**others, "min_reward": 1 - 2 * share}
    for share in SHARES:
        yield "the farthest clusters", share, {"after_timestamp": START + int((1 - share) * rows)}


def _add(
    table: Table, store: TrajectoryStore, queries: Vectors, where: str, share: float, filter: dict[str, Any]
) -> None:
    ways = {
        "precedent": partial(store.search_ids, k=K, filter=filter),
        SCAN: partial(store.search_ids, k=K, filter=filter, exact=True),
        BARE: partial(store.search_ids, k=K),
    }
    ours, *peers = (
        Contender(name, partial(each_timed, way, queries), units=len(queries), each=True)
        for name, way in ways.items()
    )
    work = Work("", ours, peers, rounds=5, targets={SCAN: NOISE, BARE: UNFILTERED * NOISE})
    measured = measure(work)
    truth = [{*ways[SCAN](query)[0].tolist()} for query in queries]
    found = recall((ways["precedent"](query)[0].tolist() for query in queries), truth)
    p50, p99 = measured.tails["precedent"]
    # A scan of few matches costs less than three unfiltered searches, one of many more: the lower counts.
    met = found >= RECALL and all(measured.met(peer) for peer in (SCAN, BARE))
    ratios = (measured.ratios[peer] for peer in (SCAN, BARE))
    table.add(
        f"{share:.1%}",
        where,
        f"{found:.3f}",
        f"{1e6 * p50:.0f}",
        f"{1e6 * p99:.0f}",
        *(f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" for ratio in ratios),
        "yes" if met else "**no**",
    )
