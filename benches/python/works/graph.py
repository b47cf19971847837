"""Search by graph: each system at its smallest ef with which it finds enough of the true nearest."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import brute
from data import clustered
from graphs import EFS, OURS, RECALL, loaded, names, smallest_ef
from nearest import nearest, recall
from rounds import Contender, Work, each_timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from data import Vectors
    from graphs import Graph

QUERIES, TUNED = 500, 1_000
HNSWLIB = "hnswlib"


@contextmanager
def graph(
    folder: Path, *, rows: int, dimension: int, k: int = 10, beside: Sequence[str] = ("graphs", "scans")
) -> Iterator[Work]:
    """Find the ten nearest rows, one query at a time, on one thread, by row numbers alone.

    `beside` says which peers are in memory at once: other "graphs", "scans" of every row, or both.
    """
    queries = clustered(TUNED, dimension, seed=1)
    truth = nearest(clustered(rows, dimension), queries, k)
    contenders, missing, enough = [], [], []
    for name in names(rows) if "graphs" in beside else (OURS,):
        found = loaded(folder.parent, name, rows, dimension)
        if found is None:
            missing.append(name)
            continue
        contenders.append(_tuned(name, found, lambda query, graph=found: graph.ask(query, k), queries, truth))
        if "not reached" not in contenders[-1].quality:
            enough.append(name)
    if "scans" in beside:
        found, absent = _flat(folder, rows, dimension, k, queries, truth)
        contenders += found
        missing += absent
    ours, *peers = contenders
    yield Work(
        f"graph search, {rows:,} x {dimension}, clusters, k={k}, recall {RECALL} (`search_ids`)",
        ours,
        peers,
        targets={name: 0.35 if name == HNSWLIB else 0.6 for name in enough if not name.startswith(OURS)},
        missing=missing,
    )


@contextmanager
def records(folder: Path, *, rows: int, dimension: int = 768, k: int = 5) -> Iterator[Work]:
    """Find the five nearest with their records, cache off, as an agent asks; the peer answers row numbers."""
    queries = clustered(TUNED, dimension, seed=1)
    truth = nearest(clustered(rows, dimension), queries, k)
    ours = loaded(folder.parent, OURS, rows, dimension)
    theirs = loaded(folder.parent, HNSWLIB, rows, dimension)

    def ids(query: Vectors) -> object:
        return ours.ask(query, k)

    def whole(query: Vectors) -> object:
        return ours.store.search(query, k=k, threshold=None, ef_search=ours.ef)

    bare = _tuned("precedent `search_ids`", ours, ids, queries, truth)
    peers = [bare]
    if theirs is not None:
        peers.append(
            _tuned("hnswlib `knn_query`", theirs, lambda query: theirs.ask(query, k), queries, truth)
        )
    yield Work(
        f"`store.search`, {rows:,} x {dimension}, k={k}, records included, cache off, recall {RECALL}",
        Contender(
            OURS,
            lambda: each_timed(whole, queries[:QUERIES]),
            units=QUERIES,
            quality=bare.quality,
            each=True,
        ),
        peers,
        targets={"hnswlib `knn_query`": 1.0},
        missing=[] if theirs else [HNSWLIB],
    )


def _flat(
    folder: Path, rows: int, dimension: int, k: int, queries: Vectors, truth: list[set[int]]
) -> tuple[list[Contender], list[str]]:
    """Return those who look at every row, asked less often because that takes longer, and who is missing."""
    states = clustered(rows, dimension)
    ways = {
        "faiss IndexFlat": (brute.faiss_flat(states, k), queries[:20]),
        "sqlite-vec": (brute.sqlite_vec(folder / "vec.db", states, k), queries[:3]),
    }
    there = [
        Contender(
            name,
            partial(each_timed, ask, few),
            units=len(few),
            quality=f"recall {recall(map(ask, few), truth[: len(few)]):.3f}",
            each=True,
        )
        for name, (ask, few) in ways.items()
        if ask is not None
    ]
    return there, [name for name, (ask, _) in ways.items() if ask is None]


def _tuned(
    name: str, graph: Graph, ask: Callable[[Vectors], object], queries: Vectors, truth: list[set[int]]
) -> Contender:
    """Return a system that asks with its smallest sufficient ef."""

    def reached(ef: int) -> float:
        graph.tune(ef)
        return recall(map(ask, queries), truth)

    ef = smallest_ef(reached)
    share = reached(ef)
    few = queries[:QUERIES]
    short = f", {RECALL} not reached at ef={EFS[-1]}" if share < RECALL else ""
    return Contender(
        name,
        lambda: each_timed(ask, few),
        units=len(few),
        quality=f"ef={ef}, recall {share:.3f}{short}",
        each=True,
    )


# Each is (rows, dimension).
SIZES = ((10_000, 768), (100_000, 768), (100_000, 384))
MILLION = 1_000_000
WORKS = {
    **{
        f"graph search, {rows // 1000}K x {dimension}": partial(graph, rows=rows, dimension=dimension)
        for rows, dimension in SIZES
    },
    "graph search with records, 100K": partial(records, rows=100_000),
}
MILLIONS = {
    # Beside every row as well they would not fit into 24 GB.
    "graph search, 1M x 768": partial(graph, rows=MILLION, dimension=768, beside=("graphs",)),
    "graph search beside scans, 1M x 768": partial(graph, rows=MILLION, dimension=768, beside=("scans",)),
    "graph search with records, 1M": partial(records, rows=MILLION),
}
