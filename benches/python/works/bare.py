"""The peer of all that writes: one bare SQLite table through Python's sqlite3, in its best page size."""

from __future__ import annotations

import sqlite3
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from data import clustered, trajectories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from precedent import TrajectoryBatch

PAGE_SIZES = (4096, 8192, 16384, 32768)
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-16384")
SCHEMA = """CREATE TABLE t(id INTEGER PRIMARY KEY, uuid BLOB, episode, step INTEGER, task_type, pattern,
  reward REAL, return_to_go REAL, timestamp INTEGER, state BLOB, action BLOB)"""
INSERT = "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
Row = tuple[object, ...]


def connect(path: Path, page_size: int) -> sqlite3.Connection:
    """Make the table, under the pragmas that a store has by default."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size={page_size}")
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(SCHEMA)
    return connection


def rows_of(batch: TrajectoryBatch, *, lean: bool = False) -> list[Row]:
    """Return a batch as what sqlite3 binds, made before the clock runs.

    Flat, a row has the bytes that a store is given: state, action, names. Lean, it has what a store writes:
    names that repeat are numbers, and so are actions.
    """
    names = (batch.episode_ids, batch.task_types, batch.pattern_ids)
    if lean:
        names = tuple(map(_numbered, names))
    return [
        (
            i + 1,
            bytes(16),
            names[0][i],
            int(batch.step_indices[i]),
            names[1][i],
            names[2][i],
            float(batch.rewards[i]),
            None,
            int(batch.timestamps[i]),
            batch.states[i].tobytes(),
            None if lean else batch.actions[i].tobytes(),
        )
        for i in range(len(batch))
    ]


def insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Write rows in one transaction."""
    transaction(connection, lambda: connection.executemany(INSERT, rows))


def transaction(connection: sqlite3.Connection, work: Callable[[], object]) -> None:
    """Do something in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    work()
    connection.execute("COMMIT")


@cache
def best_page_size(folder: Path, dimension: int, *, lean: bool = False) -> int:
    """Return the page size in which this table takes rows of a dimension fastest, a checkpoint included."""
    batch = trajectories(clustered(10_000, dimension), action_dimension=dimension)
    rows = rows_of(batch, lean=lean)
    best = dict.fromkeys(PAGE_SIZES, np.inf)
    for turn in range(3):
        for size in PAGE_SIZES:
            path = folder / f"pages-{dimension}-{lean}-{size}-{turn}.db"
            connection = connect(path, size)
            began = perf_counter()
            for start in range(0, len(rows), 5_000):
                insert(connection, rows[start : start + 5_000])
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            best[size] = min(best[size], perf_counter() - began)
            connection.close()
            path.unlink()
    return min(best, key=best.__getitem__)


def _numbered(column: list[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in column]
