"""What has no peer: our own times and sizes, as tables. Absolute times illustrate; they are no claim."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from figures import build, decide, filters, gemm, growth, memory, rare, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from report import Table

# By section of the document. A figure is called with a scratch folder.
FIGURES: dict[str, dict[str, Callable[[Path], Table]]] = {
    "search": {
        "graph build, 10K x 768": partial(build.build, rows=10_000, dimension=768),
        "graph build, 100K x 768": partial(build.build, rows=100_000, dimension=768),
        "graph build, 100K x 384": partial(build.build, rows=100_000, dimension=384),
    },
    "filters": {
        "filters": filters.filters,
        "cells": filters.cells,
    },
    "deciding": {
        "decision": decide.decisions,
        "decision, 100K": partial(decide.at_scale, rows=100_000),
    },
    "store": {
        "memory": memory.open_store,
        "growth": growth.growth,
    },
    "learning": {
        "matrix products": gemm.products,
        "rare samples": rare.rare,
        "memory of a training run": run.memory,
    },
    "million": {
        "graph build, 1M x 768": partial(build.build, rows=1_000_000, dimension=768),
        "decision, 1M": partial(decide.at_scale, rows=1_000_000),
    },
}
