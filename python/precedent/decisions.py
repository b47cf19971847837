"""What a decision says of itself: the action, which tier of the cascade gave it, and why."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from enum import IntEnum
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.values import Nested, Record, embedding, frozen_array, record

__all__ = [
    "ActionMetadata",
    "ActionResult",
    "Log",
    "SelectorStats",
    "Tally",
    "Tier",
    "decided",
]

_LATENCIES_KEPT = 10_000


class Tier(IntEnum):
    """The steps of the cascade, in the order in which they are asked."""

    EXACT = 1
    INTERPOLATED = 2
    GENERATED = 3
    PATTERN = 4


@record
class ActionMetadata(Record):
    """What a decision rests on. What does not apply to its tier is None.

    Attributes:
        similarity: Tier 1: the precedent's; tier 2: the mean of the neighbours'; tier 4: the pattern's.
        neighbor_count: Precedents that entered.
        agreement: Tier 2: the length of the mean of the neighbours' unit actions, in [0, 1]; 1 = they all did
            the same.
        neural_score: The network's confidence, where it was asked and is calibrated.
        interval: (low, high) around the confidence: tier 3 from calibration, tier 4 of the pattern's success
            rate.
        return_used: The number that "return >= desired" was about: the desired return itself, or the quantile
            it stands for. None where no return was known.
        trajectory_ids: The precedents, nearest first: why this action.
    """

    similarity: float | None = None
    neighbor_count: int | None = None
    agreement: float | None = None
    neural_score: float | None = None
    interval: tuple[float, float] | None = None
    return_used: float | None = None
    trajectory_ids: tuple[str, ...] = ()
    _nested: ClassVar[Nested] = {"interval": tuple, "trajectory_ids": tuple}


@record
class ActionResult(Record):
    """A decision.

    Attributes:
        action: `[a]` float32, read-only.
        pattern_id: The pattern the action belongs to; None where tier 3 has no library to look it up in.
        tier: Who answered.
        confidence: Tier 1: the precedent's similarity; tier 2: the mean similarity; both as the metric has
            them, beyond 1 under "dot". Tier 3: the calibrated expectation of the cosine to the right action,
            in [0, 1], 0 while uncalibrated; tier 4: the lower bound of the pattern's success rate, in [0, 1].
        latency: What the decision took, in ms.
        metadata: What it rests on.
    """

    action: npt.NDArray[np.float32]
    pattern_id: str | None
    tier: Tier
    confidence: float
    latency: float
    metadata: ActionMetadata
    _nested: ClassVar[Nested] = {"action": embedding, "tier": Tier, "metadata": ActionMetadata}


@record
class SelectorStats(Record):
    """What a selector did so far.

    Attributes:
        count: Decisions made.
        tiers: Decisions a tier.
        rates: The same as shares of `count`; 0 where there were none.
        no_action: Times that no tier had an answer; not in `count`.
        p50: Median latency in ms of the last 10,000 decisions; None before the first.
        p99: Their 99th percentile.
    """

    count: int
    tiers: Mapping[Tier, int]
    rates: Mapping[Tier, float]
    no_action: int
    p50: float | None
    p99: float | None


Log = Callable[[ActionResult], object]


class Tally:
    """Counts decisions, keeps the last latencies and passes each on to a log. Threads may share one.

    Args:
        log: As the selector's.

    Raises:
        AccessError: The file cannot be written to.
        ValidationError: It is neither a callable nor a path.
    """

    __slots__ = ("_lacked", "_latencies", "_lock", "_log", "_tiers")

    def __init__(self, log: Log | str | os.PathLike[str] | None) -> None:
        self._log = _as_log(log)
        self._lock = threading.Lock()
        self._tiers: Counter[Tier] = Counter()
        self._lacked = 0
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    def add(self, result: ActionResult) -> None:
        """Count a decision, and tell it to the log."""
        with self._lock:
            self._tiers[result.tier] += 1
            self._latencies.append(result.latency)
        if self._log is not None:
            self._log(result)

    def lack(self) -> None:
        """Count a time that no tier had an answer."""
        with self._lock:
            self._lacked += 1

    def stats(self) -> SelectorStats:
        """Return what was counted so far."""
        with self._lock:
            tiers = {tier: self._tiers[tier] for tier in Tier}
            lacked, latencies = self._lacked, list(self._latencies)
        count = sum(tiers.values())
        p50, p99 = (float(q) for q in np.percentile(latencies, [50, 99])) if latencies else (None, None)
        return SelectorStats(
            count=count,
            tiers=tiers,
            rates={tier: hits / count if count else 0.0 for tier, hits in tiers.items()},
            no_action=lacked,
            p50=p50,
            p99=p99,
        )


def _as_log(log: Log | str | os.PathLike[str] | None) -> Log | None:
    """Return what takes each result: the callable given, or one that adds a line of JSON to a file."""
    if log is None or callable(log):
        return log
    if not isinstance(log, (str, os.PathLike)):
        raise checks.refuse("log", "a callable or a path", log)
    from precedent.lines import JsonLines

    lines = JsonLines("log", log)
    return lambda result: lines.add(result.to_dict())


def decided(
    action: Any, pattern_id: str | None, tier: Tier, confidence: float, metadata: ActionMetadata, began: float
) -> ActionResult:
    """Return a decision that began at this reading of `perf_counter` and was just made."""
    return ActionResult(
        action=frozen_array(action),
        pattern_id=pattern_id,
        tier=tier,
        confidence=confidence,
        latency=(perf_counter() - began) * 1e3,
        metadata=metadata,
    )
