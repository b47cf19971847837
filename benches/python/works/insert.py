"""Writing in bulk, beside one bare SQLite table that is given the same bytes.

The bare table of the target is written from Rust (`cargo bench --bench writes`); here it is Python's sqlite3,
whose rows are made before the clock runs, while ours start from arrays and names.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from data import clustered, part, trajectories
from rounds import Contender, Work

from precedent import TrajectoryStore
from works import bare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS, BATCH = 40_000, 10_000
FLAT, LEAN = "one flat table, sqlite3", "the same without what repeats"


@contextmanager
def insert_batch(folder: Path, *, dimension: int, distinct: bool = False) -> Iterator[Work]:
    """Insert four times 10,000 rows into a new file, a transaction each, checkpoints included."""
    place = folder / f"insert-{dimension}-{distinct}"
    place.mkdir()
    batch = trajectories(clustered(ROWS, dimension), action_dimension=dimension, distinct_actions=distinct)
    starts = range(0, ROWS, BATCH)
    numbers = count()
    target: dict[str, Any] = {}

    def fresh(open_file: Callable[[Path], Any]) -> None:
        for opened in target.values():
            opened.close()
        for path in place.iterdir():
            path.unlink()
        target["file"] = open_file(place / f"{next(numbers)}.db")

    def table(name: str, *, lean: bool) -> Contender:
        rows = bare.rows_of(batch, lean=lean)
        page_size = bare.best_page_size(folder, dimension, lean=lean)
        return Contender(
            name,
            lambda: [bare.insert(target["file"], rows[start : start + BATCH]) for start in starts],
            units=ROWS,
            prepare=lambda: fresh(lambda path: bare.connect(path, page_size)),
            quality=f"pages of {page_size // 1024} KB",
        )

    batches = [part(batch, start, start + BATCH) for start in starts]
    # The clock counts every thread. What it says is about writing, so no graph is linked behind it; how long
    # a caller waits while one is linked is measured by `linking`.
    plain = partial(TrajectoryStore, dimension=dimension, hnsw={"enabled": False})
    yield Work(
        f"`insert_batch`, {dimension}-d, {'every action another' if distinct else '64 actions'}, no graph",
        Contender(
            "precedent",
            lambda: [target["file"].insert_batch(one) for one in batches],
            units=ROWS,
            prepare=lambda: fresh(plain),
            quality="both WAL, synchronous=NORMAL",
        ),
        [table(FLAT, lean=False)] if distinct else [table(FLAT, lean=False), table(LEAN, lean=True)],
        unit="row",
        # At 128-d the target is 116K rows/s where the table takes 150K.
        targets={FLAT: 1.25 if dimension > 128 else 150 / 116},
    )
    target["file"].close()


@contextmanager
def linking(folder: Path, *, dimension: int) -> Iterator[Work]:
    """Insert the same while a graph is linked behind the commits, and without one: callers have to wait."""
    place = folder / f"linking-{dimension}"
    place.mkdir()
    batch = trajectories(clustered(ROWS, dimension), action_dimension=dimension)
    batches = [part(batch, start, start + BATCH) for start in range(0, ROWS, BATCH)]
    numbers, opened = count(), []

    def fresh(*, enabled: bool) -> None:
        while opened:
            opened.pop().close()
        path = place / f"{next(numbers)}.db"
        opened.append(TrajectoryStore(path, dimension=dimension, hnsw={"enabled": enabled, "build_above": 0}))

    def insert() -> None:
        for one in batches:
            opened[0].insert_batch(one)

    yield Work(
        f"`insert_batch`, {dimension}-d, a graph linked behind it from the first row on (wall clock: the "
        "linking threads take processors from it)",
        Contender("precedent", insert, units=ROWS, prepare=partial(fresh, enabled=True)),
        [Contender("precedent, no graph", insert, units=ROWS, prepare=partial(fresh, enabled=False))],
        clock="wall",
        unit="row",
    )
    opened[0].close()


WORKS = {
    "insert, 768-d": partial(insert_batch, dimension=768),
    "insert, 768-d, distinct actions": partial(insert_batch, dimension=768, distinct=True),
    "insert, 128-d": partial(insert_batch, dimension=128),
    "insert, 768-d, linking": partial(linking, dimension=768),
}
