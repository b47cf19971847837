"""Exact search by index and by brute force."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from data import Vectors, clustered, filled, gaussian
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
    """Find the ten nearest rows, one query at a time, proven exact."""
    make = gaussian if noise else clustered
    states, queries = make(rows, dimension), make(QUERIES, dimension, seed=1)
    path = folder / f"search-{rows}-{dimension}-{noise}.db"
    first = int(
        filled(path, states, action_dimension=2, returns=False)[0][-10:], 16
    )  # an id ends with its row's key
    truth = _truth(states, queries)
    missing, peers = [], []

    faiss = peer("faiss")
    if faiss is None:
        missing.append("faiss IndexFlat")
    else:
        flat = faiss.IndexFlatIP(dimension)
        flat.add(states)
        found = [flat.search(query[None], K)[1][0] for query in queries]
        peers.append(
            Contender(
                "faiss IndexFlat",
                lambda: [flat.search(query[None], K) for query in queries],
                units=QUERIES,
                quality=_recall(found, truth),
            )
        )

    sqlite_vec = _sqlite_vec(folder / f"vec-{rows}-{dimension}-{noise}.db", states)
    if sqlite_vec is None:
        missing.append("sqlite-vec")
    else:
        few = queries[:3]  # it takes seconds otherwise
        found = [[row - 1 for row in sqlite_vec(query)] for query in few]
        peers.append(
            Contender(
                "sqlite-vec",
                lambda: [sqlite_vec(query) for query in few],
                units=len(few),
                quality=_recall(found, truth[:3]),
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
                    quality=_recall(found, truth),
                )
            )

    with TrajectoryStore(path, cache={"enabled": False}) as store:
        ids = partial(store.search_ids, k=K, exact=True)
        found = [ids(query)[0] - first for query in queries]
        yield Work(
            f"exact search, {rows:,} x {dimension}, {'noise' if noise else 'clusters'}, k={K} (`search_ids`)",
            Contender(
                "precedent",
                lambda: [ids(query) for query in queries],
                units=QUERIES,
                quality=_recall(found, truth),
            ),
            peers,
            targets={"faiss IndexFlat": 0.33, "sqlite-vec": 0.05}
            if (rows, dimension) == (ROWS, DIMENSION)
            else {},
            missing=missing,
        )


@contextmanager
def records(folder: Path) -> Iterator[Work]:
    """The same with k=5 and the records read from the file, as an agent asks."""
    states, queries = clustered(ROWS, DIMENSION), clustered(QUERIES, DIMENSION, seed=1)
    path = folder / "records.db"
    filled(path, states, action_dimension=DIMENSION, returns=False)
    with TrajectoryStore(path, cache={"enabled": False}) as store:
        yield Work(
            f"`store.search`, {ROWS:,} x {DIMENSION}, k=5, records included",
            Contender(
                "precedent",
                lambda: [store.search(query, k=5, threshold=None) for query in queries],
                units=QUERIES,
            ),
            [
                Contender(
                    "precedent `search_ids`",
                    lambda: [store.search_ids(query, k=5) for query in queries],
                    units=QUERIES,
                )
            ],
        )


def _sqlite_vec(path: Path, states: Vectors):
    """Return a search by sqlite-vec, or None where it or an SQLite that loads extensions is missing."""
    apsw, sqlite_vec = peer("apsw"), peer("sqlite_vec")
    if apsw is None or sqlite_vec is None:
        return None
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(e float[{states.shape[1]}] distance_metric=cosine)"
    )
    with connection:
        connection.executemany(
            "INSERT INTO v(rowid, e) VALUES (?, ?)", ((i + 1, s.tobytes()) for i, s in enumerate(states))
        )
    sql = f"SELECT rowid FROM v WHERE e MATCH ? AND k = {K}"
    return lambda query: [row for (row,) in connection.execute(sql, (query.tobytes(),))]


def _truth(states: Vectors, queries: Vectors) -> list[set[int]]:
    similarities = (
        queries.astype(np.float64) @ states.T.astype(np.float64)
        if len(states) <= SMALL
        else queries @ states.T
    )
    # The candidates by float32 are measured again in float64, so that rounding does not decide who is tenth.
    near = (
        np.argpartition(-similarities, 4 * K, axis=1)[:, : 4 * K]
        if len(states) > 4 * K
        else np.argsort(-similarities)
    )
    truth = []
    for query, rows in zip(queries, near, strict=True):
        precise = states[rows].astype(np.float64)
        cosines = precise @ query.astype(np.float64) / np.linalg.norm(precise, axis=1)
        truth.append(set(rows[np.argsort(-cosines)[:K]].tolist()))
    return truth


def _recall(found, truth: list[set[int]]) -> str:
    share = np.mean(
        [len(set(map(int, rows)) & right) / len(right) for rows, right in zip(found, truth, strict=True)]
    )
    return f"recall {share:.3f}"


WORKS = {
    "exact search, 768-d": exact,
    "exact search, 768-d noise": partial(exact, noise=True),
    "exact search, 384-d": partial(exact, dimension=384),
    "exact search, 10K": partial(exact, rows=10_000),
    "exact search, 1K": partial(exact, rows=1_000),
    "search with records": records,
}
