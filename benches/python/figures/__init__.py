"""What has no peer: our own times and sizes, as tables. Absolute times illustrate; they are no claim."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from figures import build, decide, filters, growth, memory, rare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from report import Table

# Called with a scratch folder.
FIGURES: dict[str, Callable[[Path], Table]] = {
    "graph build, 10K x 768": partial(build.build, rows=10_000, dimension=768),
    "graph build, 100K x 768": partial(build.build, rows=100_000, dimension=768),
    "graph build, 100K x 384": partial(build.build, rows=100_000, dimension=384),
    "filters": filters.filters,
    "decision": decide.decisions,
    "decision, 100K": partial(decide.at_scale, rows=100_000),
    "memory": memory.open_store,
    "growth": growth.growth,
    "rare samples": rare.rare,
}
# These take an hour and 15 GB.
MILLIONS: dict[str, Callable[[Path], Table]] = {
    "graph build, 1M x 768": partial(build.build, rows=1_000_000, dimension=768),
    "decision, 1M": partial(decide.at_scale, rows=1_000_000),
}
