"""Deleting, pruning and computing returns, beside plain SQL that does the same on the bare table."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from data import clustered, filled, trajectories
from rounds import Contender, Work

from precedent import TrajectoryStore
from works import bare

ROWS, GAMMA = 20_000, 0.99
# The clock counts every thread; what is linked and repaired behind a commit is not part of this.
NO_GRAPH = {"enabled": False}
# Every fourth row, in an order that jumps.
CHOSEN = np.random.default_rng(9).permutation(np.arange(0, ROWS, 4)).tolist()
# For each kind of work: ours on an open store and the ids, the peer's on an open table, the rows it is about.
Ours = Callable[[TrajectoryStore, list[str]], object]
Theirs = Callable[[sqlite3.Connection], object]


@contextmanager
def maintenance(
    folder: Path, *, title: str, dimension: int, ours: Ours, theirs: Theirs, rows: int
) -> Iterator[Work]:
    """Do something to a fresh copy of a file with 20,000 rows, once a round."""
    place = folder / f"maintain-{title}-{dimension}"
    place.mkdir()
    states = clustered(ROWS, dimension)
    ids = filled(
        place / "store.db", states, action_dimension=dimension, returns=title != "returns", hnsw=NO_GRAPH
    )
    batch = trajectories(states, action_dimension=dimension)
    page_size = bare.best_page_size(folder, dimension)
    table = bare.connect(place / "table.db", page_size)
    bare.insert(table, bare.rows_of(batch))
    if title != "returns":
        _returns_by_sql(table)
    table.close()
    state: dict[str, object] = {}

    def fresh(kind: str) -> Path:
        for opened in state.values():
            opened.close()
        state.clear()
        for path in place.glob("copy-*"):
            path.unlink()
        return Path(shutil.copy(place / f"{kind}.db", place / f"copy-{kind}.db"))

    def fresh_store() -> None:
        state["store"] = TrajectoryStore(fresh("store"))
        state["store"].get(ids[0])  # opened and warm

    def fresh_table() -> None:
        state["table"] = sqlite3.connect(fresh("table"), isolation_level=None)
        for pragma in bare.PRAGMAS:
            state["table"].execute(f"PRAGMA {pragma}")
        state["table"].execute("SELECT state FROM t WHERE id = 1").fetchone()

    yield Work(
        f"{_NAMES[title]}, {dimension}-d, no graph",
        Contender("precedent", lambda: ours(state["store"], ids), units=rows, prepare=fresh_store),
        [Contender("SQL on one flat table", lambda: theirs(state["table"]), units=rows, prepare=fresh_table)],
        unit="row",
        targets={"SQL on one flat table": 1 / 0.7},
    )
    for opened in state.values():
        opened.close()
    shutil.rmtree(place)


def _delete(store: TrajectoryStore, ids: list[str]) -> None:
    store.delete([ids[row] for row in CHOSEN])


def _delete_by_sql(table: sqlite3.Connection) -> None:
    keys = [(row + 1,) for row in CHOSEN]
    bare.transaction(table, lambda: table.executemany("DELETE FROM t WHERE id = ?", keys))


def _prune(store: TrajectoryStore, ids: list[str]) -> None:
    del ids
    store.prune(keep_days=None, max_size=ROWS * 3 // 4, keep_successful=False)


def _prune_by_sql(table: sqlite3.Connection) -> None:
    worst = "SELECT id FROM t ORDER BY return_to_go IS NOT NULL, return_to_go, timestamp LIMIT ?"
    bare.transaction(table, lambda: table.execute(f"DELETE FROM t WHERE id IN ({worst})", (ROWS // 4,)))


def _returns(store: TrajectoryStore, ids: list[str]) -> None:
    del ids
    store.compute_all_returns(GAMMA)


def _returns_by_sql(table: sqlite3.Connection) -> None:
    def work() -> None:
        updates, following, last = [], 0.0, None
        steps = "SELECT id, episode, reward FROM t ORDER BY episode, step DESC"
        for key, episode, reward in table.execute(steps).fetchall():
            following = reward + GAMMA * (following if episode == last else 0.0)
            last = episode
            updates.append((following, key))
        table.executemany("UPDATE t SET return_to_go = ? WHERE id = ?", updates)

    bare.transaction(table, work)


_NAMES = {
    "delete": "`delete` of every fourth of 20,000 rows by id",
    "prune": "`prune` of the worst quarter of 20,000 rows",
    "returns": "`compute_all_returns` of 20,000 rows",
}
_WORK = {
    "delete": (_delete, _delete_by_sql, ROWS // 4),
    "prune": (_prune, _prune_by_sql, ROWS // 4),
    "returns": (_returns, _returns_by_sql, ROWS),
}
WORKS = {
    f"{title}, {dimension}-d": partial(
        maintenance, title=title, dimension=dimension, ours=ours, theirs=theirs, rows=rows
    )
    for title, (ours, theirs, rows) in _WORK.items()
    for dimension in (768, 128)
}
