"""One episode of decisions: what the network needs to know of the steps before is kept here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.filters import Filter, normalised

if TYPE_CHECKING:
    from precedent.decisions import ActionResult
    from precedent.selector import ActionSelector

__all__ = ["Rollout"]

# A raw target is kept within what the matching steps reached, but for their extremes.
_RANGE = (0.01, 0.99)


class Rollout:
    """An episode under way, from `ActionSelector.start_episode`.

    Call `select` with each state and `observe` with the reward that followed.

    Attributes:
        desired_return: What is asked for at the next step.
        timestep: The number of the next step, from 0.

    Example:
        >>> import numpy as np
        >>> from precedent import ActionSelector, TrajectoryBatch, TrajectoryStore
        >>> store = TrajectoryStore(":memory:", dimension=3)
        >>> batch = TrajectoryBatch(
        ...     states=np.eye(3),
        ...     actions=np.eye(3),
        ...     rewards=[1.0, 1.0, 1.0],
        ...     pattern_ids=["open", "write", "close"],
        ...     episode_ids="monday",
        ...     task_types="file",
        ...     step_indices=[0, 1, 2],
        ... )
        >>> _ = store.insert_batch(batch)
        >>> store.compute_returns("monday", gamma=1.0).tolist()
        [3.0, 2.0, 1.0]
        >>> rollout = ActionSelector(store).start_episode(desired_return=3.0, gamma=1.0)
        >>> rollout.select([1.0, 0.0, 0.0]).pattern_id
        'open'
        >>> rollout.observe(1.0)  # one of three is had: from here on two are asked for
        >>> rollout.desired_return, rollout.select([0.0, 1.0, 0.0]).pattern_id
        (2.0, 'write')
        >>> store.close()
    """

    def __init__(
        self,
        selector: ActionSelector,
        desired_return: float,
        gamma: float,
        filter: Filter | None,
    ) -> None:
        self.desired_return = desired_return
        self.timestep = 0
        self._selector = selector
        self._gamma = gamma
        self._filter = normalised(filter)
        self._states: list[npt.NDArray[np.float32]] = []
        self._actions: list[npt.NDArray[np.float32]] = []

    def select(self, state: Any) -> ActionResult:
        """Choose the action of the next step.

        Args:
            state: An embedding `[d]`, or text or a task for a store with an encoder.

        Raises:
            NoActionError: See `ActionSelector.select_action`; the step then has not happened.
        """
        selector = self._selector
        vector = selector.store._query_vector(state).copy()  # the caller's array may be the next state's too
        layer = selector.layer
        result = selector.select_action(
            vector,
            self.desired_return,
            filter=self._filter,
            context=self._context(vector),
            timestep=self.timestep if layer is not None and layer.timesteps else None,
        )
        self._remember(vector, result.action)
        return result

    def observe(self, reward: float) -> None:
        """Take note of the reward that the last action brought.

        A raw target R becomes (R - reward) / gamma, within the 1 % to 99 % range of the matching steps'
        returns. With gamma 0, and on the scales "quantile" and "episode", it stays; so it does where no
        matching step has a stored return to bound it and the quotient is more than a number holds.

        Raises:
            ValidationError: The reward is not a finite number.
        """
        reward = checks.number("reward", reward)
        if self._selector.return_scale != "raw" or self._gamma == 0.0:
            return
        target = (self.desired_return - reward) / self._gamma
        low, high = self._selector.store._core.quantiles("return", list(_RANGE), self._filter)
        if low is not None and high is not None:
            target = min(max(target, low), high)
        if math.isfinite(target):
            self.desired_return = target

    def _context(self, vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        layer = self._selector.layer
        if layer is None or layer.context == "none" or not self._states:
            return None
        # The action of this step is not known yet, and the context of a step never looks at it.
        unknown = np.zeros_like(self._actions[-1])
        contexts = layer.context_of(np.stack([*self._states, vector]), np.stack([*self._actions, unknown]))
        context: npt.NDArray[np.float32] = contexts[-1]
        return context

    def _remember(self, state: npt.NDArray[np.float32], action: npt.NDArray[np.float32]) -> None:
        self.timestep += 1
        layer = self._selector.layer
        if layer is None or layer.context == "none":
            return
        self._states.append(state)
        self._actions.append(action)
        del self._states[: -layer.history_length], self._actions[: -layer.history_length]
