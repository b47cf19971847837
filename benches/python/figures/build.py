"""What a graph costs before it is asked: building, memory, opening."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from graphs import GRAPHS, THREADS, built, cost, names, size
from report import Table

CHILD = Path(__file__).parent / "loaded.py"
HNSWLIB = "hnswlib"


def build(folder: Path, *, rows: int, dimension: int) -> Table:
    """Build each graph once, on all threads, and load it in a process of its own."""
    table = Table(
        f"A graph over {rows:,} x {dimension}, M=16, efConstruction=200: built on {THREADS} threads and "
        "saved, loaded by a process of its own (median of three)",
        [
            "system",
            "rows/s, wall clock",
            "CPU seconds",
            "CPU time of hnswlib / its own (ours to reach: 3)",
            "open, ms",
            "first search, ms",
            "anonymous bytes a row (ours to reach: 1,100)",
            "file, bytes a row",
        ],
    )
    paths = {name: built(folder.parent, name, rows, dimension) for name in names(rows)}
    there = {name: path for name, path in paths.items() if path is not None}
    for name, path in there.items():
        spent, held = cost(path), _loaded(name, path, dimension)
        faster = cost(there[HNSWLIB])["cpu"] / spent["cpu"] if HNSWLIB in there else None
        table.add(
            name,
            f"{rows / spent['wall']:,.0f}",
            f"{spent['cpu']:.1f}",
            "" if faster is None else f"{faster:.2f}",
            f"{held['open']:.1f}",
            f"{held['first']:.1f}",
            f"{held['anonymous'] / rows:,.0f}",
            f"{size(path) / rows:,.0f}",
        )
    for name in GRAPHS:
        if name in paths and name not in there:
            table.add(f"{name}: not installed", *[""] * 7)
    return table


def _loaded(name: str, path: Path, dimension: int) -> dict[str, float]:
    command = [sys.executable, str(CHILD), name, str(path), str(dimension)]
    answers = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    found = [json.loads(answer) for answer in answers]
    return {measure: sorted(one[measure] for one in found)[1] for measure in found[0]}
