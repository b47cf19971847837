"""What a training run holds in memory: at most so much of vectors, and columns that grow with the steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from report import Table

from precedent import TrajectoryBatch, TrajectoryStore

SIZES, DIMENSION, LENGTH = (10_000, 100_000, 1_000_000), 4, 100


def memory(folder: Path) -> Table:
    """Return the anonymous memory that two epochs add to a store that has answered, by steps."""
    table = Table(
        f"Memory of `OfflineTrainer.train` beside its open store ({DIMENSION}-d, so that columns show)",
        ("steps", "their vectors, MB", "added at its most, MB", "bytes a further step, without its vector"),
    )
    before = None
    for steps in SIZES:
        path = folder / f"{steps}.db"
        _fill(path, steps)
        told = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("ran.py")), str(path)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        vectors = 4 * DIMENSION * steps
        added = json.loads(told)["added"]
        further = "" if before is None else f"{(added - vectors - before[1]) / (steps - before[0]):.0f}"
        table.add(f"{steps:,}", f"{vectors / 1e6:.1f}", f"{added / 1e6:.1f}", further)
        before = steps, added - vectors
        path.unlink()
    return table


def _fill(path: Path, steps: int) -> None:
    rng, at_once = np.random.default_rng(0), 10_000
    with TrajectoryStore(path, dimension=DIMENSION, cache={"enabled": False}) as store:
        for first in range(0, steps, at_once):
            right = rng.integers(DIMENSION, size=at_once)
            store.insert_batch(
                TrajectoryBatch(
                    states=rng.standard_normal((at_once, DIMENSION), dtype=np.float32),
                    actions=np.eye(DIMENSION, dtype=np.float32)[right],
                    rewards=rng.uniform(size=at_once),
                    pattern_ids=[f"p{i}" for i in right],
                    episode_ids=[f"e{(first + i) // LENGTH}" for i in range(at_once)],
                    task_types="walk",
                    step_indices=np.arange(first, first + at_once) % LENGTH,
                )
            )
