"""What crosses the seam to the compiled core, by name: the stubs and the faces share these types.

Nothing imports this while a program runs.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Codes",
    "Columns",
    "Doubles",
    "Filter",
    "Floats",
    "Found",
    "Keys",
    "Measured",
    "Pattern",
    "Records",
]

# What `insert` takes and `columns_of` gives: an entry a field of `TrajectoryBatch`; `keys` where given.
Columns: TypeAlias = dict[str, Any]
# States, actions, and one tuple a row: id, pattern, action metadata (JSON), reward, return, task type,
# episode, timestamp, task, duration, tokens, agent type, context length, step index, success, quality,
# terminated, truncated, extra (JSON).
Records: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], list[tuple[Any, ...]]]
# Similarities, distances and rows of one answer.
Found: TypeAlias = tuple[list[float], list[float], Records]
# Id, name, payload (JSON), embedding, uses, successes, mean reward.
Pattern: TypeAlias = tuple[
    str, str | None, str | None, npt.NDArray[np.float32] | None, int, int, float | None
]
Filter: TypeAlias = dict[str, Any] | None

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Keys: TypeAlias = npt.NDArray[np.int64]
Codes: TypeAlias = npt.NDArray[np.uint8]
# Of some steps of an evaluation: its fingerprint, similarities, whether the pattern was right, signs
# `[n, 3]`, and the actions taken and predicted, if they are kept.
Measured: TypeAlias = tuple[int, Doubles, npt.NDArray[np.bool_], Doubles, tuple[Floats, Floats] | None]
