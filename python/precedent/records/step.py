"""One step of one episode: the state, the action that was taken, what came of it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from precedent.values import Record, embedding, read_keys, record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Action", "Trajectory", "TrajectoryMetadata"]


@record
class Action(Record):
    """What was done in a state.

    Attributes:
        pattern_id: The pattern it is an instance of; what to look up in a `PatternLibrary`.
        embedding: `[a]` float32. Lists, float64 and strided arrays are accepted.
        metadata: Anything that has a JSON form, or None.
    """

    pattern_id: str
    embedding: npt.NDArray[np.float32]
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "embedding", embedding(self.embedding))


@record
class TrajectoryMetadata(Record):
    """The circumstances of a step.

    Attributes:
        task_type: The kind of task, such as `"code_generation"`.
        episode_id: The episode that the step belongs to.
        timestamp: Milliseconds since 1970, UTC; None = the moment of the insert.
        task_id: The task.
        duration: How long the step took, in ms.
        tokens_used: Tokens that a language model used for it.
        agent_type: Who did it.
        context_length: How long the context was.
        step_index: The position within the episode; steps without one come last.
        success: Whether the step succeeded; None = it did if its reward is above 0.5 (the seed's rule).
        quality: A grade in [0, 1].
        terminated: The environment ended the episode here.
        truncated: The episode was cut off here, though it could have gone on.
        extra: Anything else that has a JSON form.
    """

    task_type: str
    episode_id: str
    timestamp: int | None = None
    task_id: str | None = None
    duration: int | None = None
    tokens_used: int | None = None
    agent_type: str | None = None
    context_length: int | None = None
    step_index: int | None = None
    success: bool | None = None
    quality: float | None = None
    terminated: bool = False
    truncated: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


@record
class Trajectory(Record):
    """One step: state, action, reward, return. The name is the seed's.

    Attributes:
        state_embedding: `[d]` float32. Lists, float64 and strided arrays are accepted; so is text, or a task
            mapping, where the store has an encoder.
        action: What was done.
        reward: What it gave at once; any finite number (the seed: -1 to 1).
        return_to_go: The discounted sum of the rewards from here on; None = not computed.
        metadata: The circumstances.
        id: The store's id, 32 hex digits; set when read back, ignored by `insert`.

    Example:
        >>> step = Trajectory.from_dict(
        ...     {
        ...         "stateEmbedding": [1.0, 0.0],
        ...         "action": {"patternId": "retry", "embedding": [0.0, 1.0]},
        ...         "reward": 1.0,
        ...         "metadata": {"taskType": "build", "episodeId": "monday"},
        ...     }
        ... )
        >>> step.action
        Action(pattern_id='retry', embedding=<float32 [2]>, metadata=None)
        >>> step.to_dict()["metadata"]["episode_id"]
        'monday'
    """

    state_embedding: npt.NDArray[np.float32]
    action: Action
    reward: float
    return_to_go: float | None = None
    metadata: TrajectoryMetadata
    id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state_embedding", embedding(self.state_embedding))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read a step in snake_case or in the seed's camelCase (`stateEmbedding`, `returnToGo`, `patternId`).

        Raises:
            ValidationError: A key names no field, a field is named twice, or one that must be there is
                missing.
        """
        readers = {"action": _reader(Action), "metadata": _reader(TrajectoryMetadata)}
        return cls(**read_keys(cls, mapping, readers))


def _reader(record: type[Record]) -> Any:
    """Return what makes a `record` of a mapping and leaves a finished one as it is."""
    return lambda value: value if isinstance(value, record) else record.from_dict(value)
