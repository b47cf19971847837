"""Graph indexes behind one face: ours and the peers', at M=16 and efConstruction=200.

A graph takes minutes to build and seconds to load, so it is built once into a folder, with what that took
written beside it, and every work and figure loads it from there.
"""

from __future__ import annotations

import json
import os
from functools import partial
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from data import FIRST_KEY, Vectors, clustered, filled
from peers import peer

from precedent import TrajectoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

M, EF_CONSTRUCTION = 16, 200
# As many as our own pool has; searches have one.
THREADS = os.cpu_count() or 1
RECALL = 0.985
EF = 50  # a new store's
EFS = range(10, 513)
OURS = "precedent"
Rows = npt.NDArray[np.int64]


class Graph(Protocol):
    """An index that is built into a file, loaded from it and asked for the rows nearest to a state."""

    def build(self, path: Path, states: Vectors) -> None:
        """Build from unit vectors on all threads, and save."""

    def load(self, path: Path, dimension: int) -> None:
        """Load what was saved."""

    def tune(self, ef: int) -> None:
        """Ask with so many candidates from now on."""

    def ask(self, state: Vectors, k: int) -> Rows:
        """Return the numbers of the `k` nearest rows."""


class Precedent:
    """A store whose rows are linked. Their states lie in the file before the clock starts."""

    def __init__(self, quantization: str) -> None:
        self.quantization = quantization

    def build(self, path: Path, states: Vectors) -> None:
        del states
        hnsw = {"enabled": True, "build_above": 0, "quantization": self.quantization}
        with TrajectoryStore(path, hnsw=hnsw) as store:
            store.flush()

    def load(self, path: Path, dimension: int) -> None:
        del dimension
        self.store = TrajectoryStore(path, cache={"enabled": False})
        self.store.flush()
        self.ef = EF

    def tune(self, ef: int) -> None:
        self.ef = ef

    def ask(self, state: Vectors, k: int) -> Rows:
        return self.store.search_ids(state, k=k, ef_search=self.ef)[0] - FIRST_KEY


class Hnswlib:
    """The reference implementation, by inner product: the states are of unit length."""

    def build(self, path: Path, states: Vectors) -> None:
        index = peer("hnswlib").Index("ip", states.shape[1])
        index.init_index(len(states), M=M, ef_construction=EF_CONSTRUCTION)
        index.add_items(states, num_threads=THREADS)
        index.save_index(str(path))

    def load(self, path: Path, dimension: int) -> None:
        self.index = peer("hnswlib").Index("ip", dimension)
        self.index.load_index(str(path))

    def tune(self, ef: int) -> None:
        self.index.set_ef(ef)

    def ask(self, state: Vectors, k: int) -> Rows:
        return self.index.knn_query(state, k=k, num_threads=1)[0][0]


class Faiss:
    """Faiss' graph over plain f32, or over eight bits a component."""

    def __init__(self, *, quantized: bool) -> None:
        self.quantized = quantized

    def build(self, path: Path, states: Vectors) -> None:
        faiss = peer("faiss")
        dimension, metric = states.shape[1], faiss.METRIC_INNER_PRODUCT
        if self.quantized:
            index = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_8bit, M, metric)
        else:
            index = faiss.IndexHNSWFlat(dimension, M, metric)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        faiss.omp_set_num_threads(THREADS)
        index.train(states)
        index.add(states)
        faiss.omp_set_num_threads(1)
        faiss.write_index(index, str(path))

    def load(self, path: Path, dimension: int) -> None:
        del dimension
        self.index = peer("faiss").read_index(str(path))

    def tune(self, ef: int) -> None:
        self.index.hnsw.efSearch = ef

    def ask(self, state: Vectors, k: int) -> Rows:
        return self.index.search(state[None], k)[1][0]


class Usearch:
    """Usearch with components of some type."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def build(self, path: Path, states: Vectors) -> None:
        index = self._empty(states.shape[1])
        index.add(np.arange(len(states)), states, threads=THREADS)
        index.save(str(path))

    def load(self, path: Path, dimension: int) -> None:
        self.index = self._empty(dimension)
        self.index.load(str(path))

    def tune(self, ef: int) -> None:
        self.index.expansion_search = ef

    def ask(self, state: Vectors, k: int) -> Rows:
        return self.index.search(state, k, threads=1).keys

    def _empty(self, dimension: int) -> Any:
        return peer("usearch.index").Index(
            ndim=dimension,
            metric="cos" if self.dtype == "i8" else "ip",  # i8 is scaled row by row, so lengths differ
            dtype=self.dtype,
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )


# By name: how to make one, and the module it needs.
GRAPHS: dict[str, tuple[Callable[[], Graph], str]] = {
    OURS: (partial(Precedent, "int8"), "precedent"),
    "precedent `none`": (partial(Precedent, "none"), "precedent"),
    "precedent `binary`": (partial(Precedent, "binary"), "precedent"),
    "hnswlib": (Hnswlib, "hnswlib"),
    "faiss HNSW": (partial(Faiss, quantized=False), "faiss"),
    "faiss HNSW-SQ8": (partial(Faiss, quantized=True), "faiss"),
    "usearch f32": (partial(Usearch, "f32"), "usearch.index"),
    "usearch bf16": (partial(Usearch, "bf16"), "usearch.index"),
    "usearch i8": (partial(Usearch, "i8"), "usearch.index"),
}
# At so many rows our other quantisations are left out: each of their graphs would take a quarter of an hour.
MANY = 1_000_000


def names(rows: int) -> Sequence[str]:
    """Return who is compared at so many rows."""
    return tuple(name for name in GRAPHS if rows < MANY or name == OURS or not name.startswith(OURS))


def built(folder: Path, name: str, rows: int, dimension: int) -> Path | None:
    """Return the file of a graph over `clustered(rows, dimension)`, built now if it is not there; None if its
    module is missing. What building took lies beside the file, see `cost`.
    """
    make, module = GRAPHS[name]
    if peer(module) is None:
        return None
    place = folder / "graphs" / f"{rows}-{dimension}"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name.replace(' ', '-').replace('`', '')}.db"
    if not _costs(path).exists():
        states = clustered(rows, dimension)
        graph = make()
        if isinstance(graph, Precedent):
            for left in place.glob(f"{path.name}*"):
                left.unlink()
            filled(path, states, action_dimension=dimension, hnsw={"enabled": False})
        wall, cpu = perf_counter(), process_time()
        graph.build(path, states)
        spent = {"wall": perf_counter() - wall, "cpu": process_time() - cpu, "rows": rows}
        _costs(path).write_text(json.dumps(spent))
    return path


def cost(path: Path) -> dict[str, float]:
    """Return what building a graph took: seconds of "wall" clock and "cpu", saving included, and "rows"."""
    return json.loads(_costs(path).read_text())


def size(path: Path) -> int:
    """Return the bytes of a graph's file; a store has its graph in a file beside the database."""
    beside = path.with_name(path.name + "-index")
    return (beside if beside.exists() else path).stat().st_size


def loaded(folder: Path, name: str, rows: int, dimension: int) -> Graph | None:
    """Return a graph, built if need be; None if its module is missing."""
    path = built(folder, name, rows, dimension)
    if path is None:
        return None
    graph = GRAPHS[name][0]()
    graph.load(path, dimension)
    return graph


def smallest_ef(recall: Callable[[int], float]) -> int:
    """Return the least of `EFS` whose recall is `RECALL`, or the greatest if none is."""
    low, high = EFS.start, EFS.stop - 1
    while low < high:
        middle = (low + high) // 2
        if recall(middle) >= RECALL:
            high = middle
        else:
            low = middle + 1
    return low


def _costs(path: Path) -> Path:
    return path.with_suffix(".json")
