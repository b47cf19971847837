"""A process that loads a graph, asks it, prints what that took: `python loaded.py NAME FILE DIMENSION`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from data import clustered
from graphs import GRAPHS
from opened import anonymous
from peers import peer


def main(name: str, path: str, dimension: int) -> None:
    """Measure and print as JSON: times in ms, memory in bytes."""
    queries = clustered(20, dimension, seed=1)
    make, module = GRAPHS[name]
    graph = make()
    peer(module)  # its libraries are loaded before the clock starts
    before = anonymous()
    times = [perf_counter()]
    graph.load(Path(path), dimension)
    times.append(perf_counter())
    graph.ask(queries[0], 10)
    times.append(perf_counter())
    for query in queries:
        graph.ask(query, 10)
    held = anonymous() - before
    opened, first = times[1] - times[0], times[2] - times[1]
    print(json.dumps({"open": 1e3 * opened, "first": 1e3 * first, "anonymous": held}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
