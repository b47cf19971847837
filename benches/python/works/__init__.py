"""What is measured: a module a subject, a function a work. A work is a context, as long as its data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from works import cache, graph, insert, maintain, predict, replay, search, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rounds import Work

# By section of the document. A work is called with a scratch folder.
WORKS: dict[str, dict[str, Callable[[Path], AbstractContextManager[Work]]]] = {
    "search": {**graph.WORKS, **search.WORKS, **cache.WORKS},
    "filters": {},
    "deciding": {},
    "store": {**insert.WORKS, **maintain.WORKS},
    "learning": {**predict.WORKS, **train.WORKS, **replay.WORKS},
    "million": {**graph.MILLIONS},
}
