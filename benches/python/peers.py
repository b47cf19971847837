"""The peers: imported where they are installed, on one thread, missed by name where they are not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


# What the libraries read when they are loaded.
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}


def peer(module: str) -> ModuleType | None:
    """Return an installed peer, held to one thread; None where it is missing."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    if module == "torch":
        found.set_num_threads(1)
    if module == "faiss":
        found.omp_set_num_threads(1)
    return found


def versions() -> dict[str, str]:
    """Return the version of every peer that is there, and "missing" for the others."""
    from importlib import metadata

    names = ("numpy", "faiss-cpu", "sqlite-vec", "apsw", "hnswlib", "usearch", "torch", "cpprb")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
