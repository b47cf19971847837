"""Many steps as columns, for bulk work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from precedent.values import Record, embedding, frozen_array, record

__all__ = ["TrajectoryBatch"]

# A column of optional values: an array where every row has one, else a list with None.
Integers = npt.NDArray[np.int64] | Sequence[int | None] | None


@record
class TrajectoryBatch(Record):
    """Steps by columns, all of one length. `len()` of it is the number of rows.

    A store takes one in `insert_batch` and gives them in `iter_batches`. Columns that no row has a value for
    are None. One value for all rows is accepted for `pattern_ids`, `episode_ids`, `task_types` and
    `agent_types`.

    Attributes:
        states: `[n, d]` float32; a list of texts or task mappings where the store has an encoder.
        actions: `[n, a]` float32.
        rewards: `[n]` float64.
        returns_to_go: `[n]` float64; NaN = not computed.
        pattern_ids: The pattern of each action.
        episode_ids: The episode of each step.
        task_types: The kind of each task.
        timestamps: Milliseconds since 1970; None = the moment of the insert.
        step_indices: Positions within the episodes.
        terminated: Where the environment ended an episode.
        truncated: Where an episode was cut off.
        durations: In ms.
        tokens_used: Tokens.
        agent_types: Who did it.
        context_lengths: Context lengths.
        task_ids: Task ids.
        successes: Whether steps succeeded.
        qualities: Grades in [0, 1].
        extras: Mappings with a JSON form.
        action_metadata: Mappings with a JSON form.
        ids: The store's ids; set when read back, ignored by `insert_batch`.

    Example:
        >>> import numpy as np
        >>> from precedent import TrajectoryBatch, TrajectoryStore
        >>> batch = TrajectoryBatch(
        ...     states=np.eye(3),
        ...     actions=np.ones((3, 2)),
        ...     rewards=[0.0, 0.5, 1.0],
        ...     pattern_ids="retry",
        ...     episode_ids=["monday", "monday", "tuesday"],
        ...     task_types="build",
        ... )
        >>> with TrajectoryStore(":memory:", dimension=3, action_dimension=2) as store:
        ...     ids = store.insert_batch(batch)
        ...     [len(read) for read in store.iter_batches({"episode_id": "monday"})]
        [2]
    """

    states: npt.NDArray[np.float32]
    actions: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float64]
    returns_to_go: npt.NDArray[np.float64] | None = None
    pattern_ids: Sequence[str] | str
    episode_ids: Sequence[str] | str
    task_types: Sequence[str] | str
    timestamps: Integers = None
    step_indices: Integers = None
    terminated: npt.NDArray[np.bool_] | None = None
    truncated: npt.NDArray[np.bool_] | None = None
    durations: Integers = None
    tokens_used: Integers = None
    agent_types: Sequence[str | None] | str | None = None
    context_lengths: Integers = None
    task_ids: Sequence[str | None] | None = None
    successes: npt.NDArray[np.bool_] | Sequence[bool | None] | None = None
    qualities: npt.NDArray[np.float64] | Sequence[float | None] | None = None
    extras: Sequence[dict[str, Any] | None] | None = None
    action_metadata: Sequence[dict[str, Any] | None] | None = None
    ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        # Bulk data is not copied: the arrays are read-only views of what was given.
        for name in ("states", "actions"):
            object.__setattr__(self, name, embedding(getattr(self, name), copy=False))
        for name in ("rewards", "returns_to_go", *_ARRAYS):
            column = getattr(self, name)
            if isinstance(column, np.ndarray):
                object.__setattr__(self, name, frozen_array(column))

    def __len__(self) -> int:
        return len(self.states)


_ARRAYS = (
    "timestamps",
    "step_indices",
    "terminated",
    "truncated",
    "durations",
    "tokens_used",
    "context_lengths",
    "successes",
    "qualities",
)
