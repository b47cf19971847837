"""Exact search: the certified scan beside brute force. Search by graph is in `graph`."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import brute
from data import FIRST_KEY, clustered, filled, gaussian
from nearest import nearest, recall
from peers import peer
from rounds import Contender, Work

from precedent import TrajectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, SMALL, DIMENSION, K, QUERIES = 100_000, 10_000, 768, 10, 20


@contextmanager
def exact(
    folder: Path, *, rows: int = ROWS, dimension: int = DIMENSION, noise: bool = False
) -> Iterator[Work]:
    """Find the ten nearest rows, one query at a time, proven exact, in a store that has no graph."""
    make = gaussian if noise else clustered
    states, queries = make(rows, dimension), make(QUERIES, dimension, seed=1)
    path = folder / f"search-{rows}-{dimension}-{noise}.db"
    filled(path, states, action_dimension=2, returns=False, hnsw={"enabled": False})
    truth = nearest(states, queries, K)
    missing, peers = [], []

    flat = brute.faiss_flat(states, K)
    if flat is None:
        missing.append("faiss IndexFlat")
    else:
        found = [flat(query) for query in queries]
        peers.append(
            Contender(
                "faiss IndexFlat",
                lambda: [flat(query) for query in queries],
                units=QUERIES,
                quality=_found(found, truth),
            )
        )

    sqlite_vec = brute.sqlite_vec(folder / f"vec-{rows}-{dimension}-{noise}.db", states, K)
    if sqlite_vec is None:
        missing.append("sqlite-vec")
    else:
        few = queries[:3]  # it takes seconds otherwise
        found = [sqlite_vec(query) for query in few]
        peers.append(
            Contender(
                "sqlite-vec",
                lambda: [sqlite_vec(query) for query in few],
                units=len(few),
                quality=_found(found, truth[:3]),
            )
        )

    if rows <= SMALL:  # beyond, building its graph takes longer than everything else
        hnswlib = peer("hnswlib")
        if hnswlib is None:
            missing.append("hnswlib")
        else:
            graph = hnswlib.Index("ip", dimension)
            graph.init_index(rows, M=16, ef_construction=200)
            graph.add_items(states)
            graph.set_ef(50)
            found = [graph.knn_query(query, k=K, num_threads=1)[0][0] for query in queries]
            peers.append(
                Contender(
                    "hnswlib, ef=50",
                    lambda: [graph.knn_query(query, k=K, num_threads=1) for query in queries],
                    units=QUERIES,
                    quality=_found(found, truth),
                )
            )

    with TrajectoryStore(path, cache={"enabled": False}) as store:
        ids = partial(store.search_ids, k=K, exact=True)
        found = [ids(query)[0] - FIRST_KEY for query in queries]
        yield Work(
            f"exact search, {rows:,} x {dimension}, {'noise' if noise else 'clusters'}, k={K} "
            "(`search_ids(exact=True)`, no graph)",
            Contender(
                "precedent",
                lambda: [ids(query) for query in queries],
                units=QUERIES,
                quality=_found(found, truth),
            ),
            peers,
            targets={"faiss IndexFlat": 0.33, "sqlite-vec": 0.05}
            if (rows, dimension) == (ROWS, DIMENSION)
            else {},
            missing=missing,
        )


def _found(found, truth: list[set[int]]) -> str:
    return f"recall {recall(found, truth):.3f}"


WORKS = {
    "exact search, 768-d": exact,
    "exact search, 768-d noise": partial(exact, noise=True),
    "exact search, 384-d": partial(exact, dimension=384),
    "exact search, 10K": partial(exact, rows=10_000),
    "exact search, 1K": partial(exact, rows=1_000),
}
