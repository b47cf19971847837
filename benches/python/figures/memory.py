"""How much memory an open store holds, how fast it opens, how fast it answers first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from data import clustered, filled
from report import Table

DIMENSION = 768
TARGET = 150  # MB at 100,000 rows
CHILD = Path(__file__).parent / "opened.py"


def opened(path: Path) -> dict[str, float]:
    """Open a store and search in it, in three processes of their own; return the median of each measure."""
    command = [sys.executable, str(CHILD), str(path)]
    answers = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    found = [json.loads(answer) for answer in answers]
    return {name: sorted(one[name] for one in found)[1] for name in found[0]}


def open_store(folder: Path) -> Table:
    """Measure stores of 10,000 and 100,000 rows."""
    table = Table(
        "An open store (768-d) in a process of its own: anonymous memory (RssAnon) above what it was before",
        [
            "rows",
            "graph",
            "open, ms",
            "first search, ms",
            "later search, ms",
            "MB above",
            "bytes a row",
            f"within {TARGET} MB",
        ],
    )
    for rows, linked in ((10_000, False), (100_000, False), (100_000, True)):
        path = folder / f"memory-{rows}-{linked}.db"
        filled(path, clustered(rows, DIMENSION), action_dimension=DIMENSION, hnsw={"enabled": linked})
        middle = opened(path)
        table.add(
            f"{rows:,}",
            "yes" if linked else "no",
            f"{middle['open']:.1f}",
            f"{middle['first']:.1f}",
            f"{middle['later']:.2f}",
            f"{middle['anonymous'] / 1e6:.0f}",
            f"{middle['anonymous'] / rows:.0f}",
            "yes" if middle["anonymous"] <= TARGET * 1e6 else "**no**",
        )
    return table
