"""The steps of one episode, in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from precedent.records.step import Trajectory
from precedent.values import Record, read_keys, record

__all__ = ["Episode"]


@record
class Episode(Record, Sequence[Trajectory]):
    """A sequence of steps: by `step_index` (steps without one come last), then timestamp, then insertion.

    Attributes:
        id: The name that the steps carry as `episode_id`.
        trajectories: The steps.
        total_reward: The sum of their rewards.
        success: What `set_episode` said, else whether the last step succeeded.
        metadata: What `set_episode` was given.
    """

    id: str
    trajectories: tuple[Trajectory, ...]
    total_reward: float
    success: bool
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trajectories", tuple(self.trajectories))

    def __len__(self) -> int:
        return len(self.trajectories)

    @overload
    def __getitem__(self, at: int) -> Trajectory: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Trajectory, ...]: ...
    def __getitem__(self, at: int | slice) -> Trajectory | tuple[Trajectory, ...]:
        return self.trajectories[at]

    @property
    def states(self) -> npt.NDArray[np.float32]:
        """State embeddings `[n, d]`."""
        return self._stacked(lambda step: step.state_embedding)

    @property
    def actions(self) -> npt.NDArray[np.float32]:
        """Action embeddings `[n, a]`."""
        return self._stacked(lambda step: step.action.embedding)

    @property
    def rewards(self) -> npt.NDArray[np.float64]:
        """Rewards `[n]`."""
        return _frozen([step.reward for step in self.trajectories])

    @property
    def returns(self) -> npt.NDArray[np.float64]:
        """Returns to go `[n]`; NaN = not computed."""
        returns = (step.return_to_go for step in self.trajectories)
        return _frozen([math.nan if value is None else value for value in returns])

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes, in snake_case or camelCase.

        Raises:
            ValidationError: See `Trajectory.from_dict`.
        """
        return cls(**read_keys(cls, mapping, {"trajectories": _steps}))

    def _stacked(self, of: Callable[[Trajectory], npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        if not self.trajectories:
            return np.empty((0, 0), np.float32)
        stacked = np.stack([of(step) for step in self.trajectories])
        stacked.flags.writeable = False
        return stacked


def _steps(steps: Sequence[Any]) -> tuple[Trajectory, ...]:
    return tuple(s if isinstance(s, Trajectory) else Trajectory.from_dict(s) for s in steps)


def _frozen(numbers: list[float]) -> npt.NDArray[np.float64]:
    array = np.array(numbers, np.float64)
    array.flags.writeable = False
    return array
