"""A process that opens a store, searches, and prints what that took: `python opened.py store.db`."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from precedent import TrajectoryStore


def anonymous() -> int:
    """Return this process's anonymous memory in bytes: what the system cannot drop."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("RssAnon is not told here: this figure needs Linux")


def main(path: str) -> None:
    """Measure and print as JSON: times in ms, memory in bytes."""
    query = np.random.default_rng(0).standard_normal(768, dtype=np.float32)
    before = anonymous()
    times = [perf_counter()]
    store = TrajectoryStore(path, cache={"enabled": False})
    times.append(perf_counter())
    store.search(query, k=5, threshold=None)
    times.append(perf_counter())
    held = anonymous() - before
    for _ in range(20):
        store.search(query, k=5, threshold=None)
    later = (perf_counter() - times[-1]) / 20
    store.close()
    opened, first = times[1] - times[0], times[2] - times[1]
    print(json.dumps({"open": 1e3 * opened, "first": 1e3 * first, "later": 1e3 * later, "anonymous": held}))


if __name__ == "__main__":
    main(sys.argv[1])
