"""The true nearest rows, and how many of them were found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from data import Vectors

SLICE = 100  # queries at once: a million products each


def nearest(states: Vectors, queries: Vectors, k: int) -> list[set[int]]:
    """Return the numbers of each query's `k` rows of the greatest cosine; all are about of unit length.

    The candidates by float32 are measured again in float64, so that rounding does not decide who is last.
    """
    found = []
    for start in range(0, len(queries), SLICE):
        some = queries[start : start + SLICE]
        similarities = some @ states.T
        near = (
            np.argpartition(-similarities, 4 * k, axis=1)[:, : 4 * k]
            if len(states) > 4 * k
            else np.argsort(-similarities)
        )
        for query, rows in zip(some, near, strict=True):
            precise = states[rows].astype(np.float64)
            cosines = precise @ query.astype(np.float64) / np.linalg.norm(precise, axis=1)
            found.append(set(rows[np.argsort(-cosines)[:k]].tolist()))
    return found


def recall(found: Iterable[Iterable[int]], truth: Sequence[set[int]]) -> float:
    """Return the mean share of the true nearest that was found."""
    shares = [len(set(map(int, rows)) & right) / len(right) for rows, right in zip(found, truth, strict=True)]
    return float(np.mean(shares))
