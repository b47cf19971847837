"""What the query cache saves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from data import clustered, filled
from rounds import Contender, Work

from precedent import TrajectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, DIMENSION, QUERIES = 100_000, 768, 20


@contextmanager
def hit(folder: Path) -> Iterator[Work]:
    """Ask what was asked before."""
    path = folder / "cache.db"
    filled(path, clustered(ROWS, DIMENSION), action_dimension=DIMENSION, returns=False)
    queries = clustered(QUERIES, DIMENSION, seed=1)
    with TrajectoryStore(path) as cached, TrajectoryStore(path, cache={"enabled": False}) as plain:
        cached.flush()  # nothing is linked while the clock runs
        plain.flush()
        yield Work(
            f"cache hit, {ROWS:,} x {DIMENSION}, k=5, records included",
            Contender(
                "precedent, asked before",
                lambda: [cached.search(query, k=5, threshold=None) for query in queries],
                units=QUERIES,
                prepare=lambda: [cached.search(query, k=5, threshold=None) for query in queries],
            ),
            [
                Contender(
                    "precedent, cache off, by graph",
                    lambda: [plain.search(query, k=5, threshold=None) for query in queries],
                    units=QUERIES,
                ),
                Contender(
                    "precedent, cache off, by scan",
                    lambda: [plain.search(query, k=5, threshold=None, exact=True) for query in queries],
                    units=QUERIES,
                ),
            ],
            targets={"precedent, cache off, by graph": 0.1},
        )


WORKS = {"cache hit": hit}
