"""The network's matrix products beside OpenBLAS: the core's own bench, with the library of numpy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from report import ROOT, Table

BENCH = ("cargo", "bench", "--quiet", "--bench", "gemm")
COLUMNS = ("product", "rows x columns x depth", "GFLOPS", "OpenBLAS", "its time over ours (middle half)")


def products(folder: Path) -> Table:
    """Return the bench's table: GFLOPS on one thread, and ratios of CPU times, round by round."""
    del folder
    if shutil.which(BENCH[0]) is None:
        return Table("Matrix products of a training step: not measured, there is no cargo here", COLUMNS)
    told = subprocess.run(
        BENCH, cwd=ROOT, env={**os.environ, **_library()}, check=True, capture_output=True, text=True
    ).stdout
    found = [line for line in told.splitlines() if line.strip()]
    conditions = next(line for line in found if "one thread" in line)
    table = Table(f"Matrix products of a training step ({conditions}; `{' '.join(BENCH)}`)", COLUMNS)
    for line in found:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == len(COLUMNS) and cells[1][0].isdigit():
            table.add(*cells)
    return table


def _library() -> dict[str, str]:
    """Return where numpy's OpenBLAS lies, if it brought one."""
    beside = Path(np.__file__).parents[1] / "numpy.libs"
    found = sorted(beside.glob("*openblas*"))
    return {"PRECEDENT_OPENBLAS": str(found[0])} if found else {}
