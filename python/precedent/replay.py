"""Prioritized replay: what was surprising is drawn more often, and weighted so that learning stays right.

>>> import numpy as np
>>> from precedent.replay import PrioritizedReplay
>>> items = np.arange(100.0)  # the items are the caller's; the replay keeps their priorities
>>> replay = PrioritizedReplay(100)
>>> places = replay.add(100)
>>> batch = replay.sample(8, beta=0.5)
>>> td_errors = items[batch.indices] - 50.0  # whatever the learner was wrong by
>>> replay.update_priorities(batch.indices, td_errors)
>>> len(replay), batch.weights.dtype
(100, dtype('float32'))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from precedent import _core, checks
from precedent.values import Record, record

if TYPE_CHECKING:
    import os

__all__ = ["Batch", "PrioritizedReplay"]

# Sums of shares this small keep all of their digits; those of denormal numbers do not.
_LEAST_EPS = 1e-290


@record
class Batch(Record):
    """Items that were drawn, as three arrays of one length.

    Attributes:
        indices: Their places, `[n]` int64.
        weights: Importance weights over the greatest of the batch, in [0, 1], `[n]` float32.
        priorities: The magnitudes of their last TD errors, `[n]` float64.
    """

    indices: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    priorities: npt.NDArray[np.float64]


class PrioritizedReplay:
    """Priorities of items that the caller keeps, and draws by them (Schaul et al. 2016).

    Item i is drawn with probability P(i) proportional to (|td_i| + eps)^alpha. Its weight is (N P(i))^-beta
    over the greatest of the batch, where N is the number of items. Sums are kept in float64 and never drift.
    Draws are a function of the seed and of how many items were drawn before. Threads may share a replay.

    >>> replay = PrioritizedReplay(1_000)
    >>> replay.add(3).tolist()
    [0, 1, 2]
    >>> replay.update_priorities([0, 1, 2], [0.0, 0.5, 40.0])
    >>> bool((replay.sample(1_000, beta=1.0).indices == 2).mean() > 0.5)
    True

    Args:
        capacity: Items at most; one more overwrites the oldest.
        alpha: How much priorities matter, in [0, 1]: 0 = all items alike.
        eps: Added to every |td|, so that nothing starves. At least 1e-290: beside a smaller one rounding
            leaves some items no share of the sum.
        beta_steps: Over how many drawn items beta goes from 0.4 to 1, where `sample` is given none; None = it
            stays.
        seed: Keys the draws.

    Raises:
        ValidationError: A setting of the wrong kind or range.
    """

    __slots__ = ("_core",)

    # The compiled replay.
    _core: _core.Replay

    def __init__(
        self,
        capacity: int,
        *,
        alpha: float = 0.6,
        eps: float = 0.01,
        beta_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        self._core = _core.Replay(
            checks.integer("capacity", capacity, low=1),
            checks.number("alpha", alpha, low=0.0, high=1.0),
            checks.number("eps", eps, low=_LEAST_EPS),
            None if beta_steps is None else checks.integer("beta_steps", beta_steps, low=1),
            checks.integer("seed", seed, high=2**64 - 1),
        )

    @property
    def capacity(self) -> int:
        """Items at most."""
        return self._core.settings[0]

    @property
    def alpha(self) -> float:
        """How much priorities matter."""
        return self._core.settings[1]

    @property
    def eps(self) -> float:
        """What is added to every |td|."""
        return self._core.settings[2]

    @property
    def beta_steps(self) -> int | None:
        """Over how many drawn items beta is annealed; None = it is not."""
        return self._core.settings[3]

    @property
    def seed(self) -> int:
        """What keys the draws."""
        return self._core.settings[4]

    @property
    def beta(self) -> float:
        """What the next `sample` uses where it is given none."""
        return self._core.beta

    def add(self, n: int = 1, priorities: Any = None) -> npt.NDArray[np.int64]:
        """Add items and return their places, `[n]`; a full replay overwrites its oldest.

        Args:
            n: How many. Beyond the capacity places repeat, and the last item of a place counts.
            priorities: The magnitudes of their TD errors, `[n]`; None = the greatest there has been so far, 1
                at first, so that new items are seen soon.

        Raises:
            ValidationError: `n` is below 1, lengths differ, or a priority is negative, above 1e290 or not
                finite. Nothing was added.
        """
        given = None if priorities is None else _doubles("priorities", priorities)
        return self._core.add(checks.integer("n", n, low=1), given)

    def sample(self, n: int, beta: float | None = None, *, replace: bool = True) -> Batch:
        """Draw items.

        Args:
            n: How many.
            beta: How much the weights make up for the probabilities, in [0, 1]; None = 0.4, or on its way to
                1 over `beta_steps`.
            replace: True: one item from each of `n` equal shares of the sum, so that an item may come
                repeatedly. False: one after the other from those that are left (the law of the `n` smallest
                keys -ln(u) / (|td| + eps)^alpha).

        Raises:
            ValidationError: The replay is empty, `n` is below 1 or, without replacement, beyond its length,
                or `beta` is outside [0, 1].
        """
        n = checks.integer("n", n, low=1)
        if beta is not None:
            beta = checks.number("beta", beta, low=0.0, high=1.0)
        indices, weights, priorities = self._core.sample(n, beta, checks.flag("replace", replace))
        return Batch(indices=indices, weights=weights, priorities=priorities)

    def update_priorities(self, indices: Any, td_errors: Any) -> None:
        """Set the priorities of items to the magnitudes of their new TD errors.

        Args:
            indices: Places, `[n]`; the last of a repeated one counts.
            td_errors: `[n]`; the sign does not matter.

        Raises:
            ValidationError: Lengths differ, a place holds no item, or an error is beyond 1e290 either way or
                not finite. Nothing was changed.
        """
        self._core.update(_integers("indices", indices), _doubles("td_errors", td_errors))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write priorities, settings and the state of the draws, atomically.

        Raises:
            StorageError: The file cannot be written.
        """
        self._core.save(checks.path("path", path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; it draws on as the one that was saved.

        Raises:
            StorageError: No such file, or one that is damaged, truncated or of another program.
        """
        replay = object.__new__(cls)
        replay._core = _core.Replay.load(checks.path("path", path))
        return replay

    def __len__(self) -> int:
        return self._core.size

    def __bool__(self) -> bool:
        return True  # an empty replay is still one

    def __repr__(self) -> str:
        return f"<PrioritizedReplay, {len(self)} of {self.capacity} items, alpha {self.alpha:g}>"


def _doubles(field: str, value: Any) -> npt.NDArray[np.float64]:
    """Return numbers as a float64 vector."""
    if type(value) is np.ndarray and value.dtype == np.float64 and value.ndim == 1:
        return value
    return _vector(field, value, "fiu", "a vector of numbers").astype(np.float64)


def _integers(field: str, value: Any) -> npt.NDArray[np.int64]:
    """Return whole numbers as an int64 vector."""
    if type(value) is np.ndarray and value.dtype == np.int64 and value.ndim == 1:
        return value
    array = _vector(field, value, "iu", "a vector of whole numbers")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise checks.refuse(field, "places in the replay", array.max())
    return array.astype(np.int64)


def _vector(field: str, value: Any, kinds: str, expected: str) -> npt.NDArray[Any]:
    if isinstance(value, (str, bytes)):
        raise checks.refuse(field, expected, value)
    checks.unmasked(field, value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise checks.refuse(field, expected, value) from None
    if array.ndim != 1 or (array.dtype.kind not in kinds and array.size):
        raise checks.refuse(field, expected, array if array.ndim else value)
    return array
