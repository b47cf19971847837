"""A process that trains from a store and prints the memory that this took: `python ran.py store.db`."""

from __future__ import annotations

import json
import sys
import threading
from time import sleep

import numpy as np
from opened import anonymous

from precedent import DecisionLayer, OfflineTrainer, TrajectoryStore


def main(path: str) -> None:
    """Watch the anonymous memory while two epochs run, and print by how much it grew at its most."""
    with TrajectoryStore(path, read_only=True, cache={"enabled": False}) as store:
        store.search(np.ones(store.dimension), k=1, threshold=None)  # now its columns are in memory
        layer = DecisionLayer(store.dimension, store.dimension, hidden_size=16)
        trainer = OfflineTrainer(store, layer, epochs=2, batch_size=1024, progress=False)
        before = most = anonymous()
        done = threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.is_set():
                most = max(most, anonymous())
                sleep(0.02)

        watcher = threading.Thread(target=watch)
        watcher.start()
        trainer.train()
        done.set()
        watcher.join()
    print(json.dumps({"added": most - before}))


if __name__ == "__main__":
    main(sys.argv[1])
