"""What is measured: a module a subject, a function a work. A work is a context, as long as its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from works import cache, graph, insert, maintain, predict, replay, search, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rounds import Work

# Called with a scratch folder.
WORKS: dict[str, Callable[[Path], AbstractContextManager[Work]]] = {
    **search.WORKS,
    **graph.WORKS,
    **insert.WORKS,
    **predict.WORKS,
    **train.WORKS,
    **replay.WORKS,
    **maintain.WORKS,
    **cache.WORKS,
}
# These take an hour and 15 GB.
MILLIONS: dict[str, Callable[[Path], AbstractContextManager[Work]]] = graph.MILLIONS
