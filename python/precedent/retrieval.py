"""What a search found, read no further than a decision needs, and the mean of what was done there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Hits", "agreement", "interpolation", "no_retrieval"]

Matrix = npt.NDArray[np.float32]


class Hits:
    """The precedents of one search, nearest first.

    Attributes:
        similarities: One a precedent.
        actions: `[n, a]`.
        rows: The core's tuples, one a precedent.
    """

    __slots__ = ("actions", "rows", "similarities")

    def __init__(self, found: tuple[list[float], list[float], Any]) -> None:
        self.similarities, _, (_, self.actions, self.rows) = found

    def pattern(self, i: int) -> str:
        """Return the pattern of the i-th precedent's action."""
        return str(self.rows[i][1])

    def episode(self, i: int) -> str:
        """Return the episode of the i-th precedent."""
        return str(self.rows[i][6])

    def outside(self, episode: str, most: int) -> Hits:
        """Return the `most` nearest that are of other episodes."""
        kept = [i for i in range(len(self.rows)) if self.episode(i) != episode][:most]
        similarities = [self.similarities[i] for i in kept]
        return Hits((similarities, [], (None, self.actions[kept], [self.rows[i] for i in kept])))

    def ids(self, n: int) -> tuple[str, ...]:
        """Return the ids of the first n."""
        return tuple(row[0] for row in self.rows[:n])


def agreement(actions: npt.NDArray[np.float32]) -> float:
    """Return the length of the mean of the unit actions; a zero action counts as none."""
    lengths = np.sqrt((actions.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    unit = np.divide(actions, lengths, out=np.zeros(actions.shape), where=lengths > 0)
    return min(float(np.sqrt((unit.mean(axis=0) ** 2).sum())), 1.0)


def interpolation(actions: Matrix, similarities: npt.NDArray[np.float64]) -> tuple[Matrix, int]:
    """Return the similarity-weighted mean of actions `[n, a]`, and which of them is nearest to it.

    Weights are never negative; where none is positive all count the same.
    """
    weights = np.maximum(similarities, 0.0)
    total = weights.sum()
    weights = weights / total if total > 0 else np.full(len(actions), 1.0 / len(actions))
    mean = weights @ actions.astype(np.float64)  # of wide numbers, whose squares neither overflow nor vanish
    return mean.astype(np.float32), int(np.argmin(((actions - mean) ** 2).sum(axis=1)))


def no_retrieval(used: float | None) -> str:
    """Return why the tiers of retrieval were not asked."""
    return "no step that matches has a computed return" if used is None else "the thresholds close it"
