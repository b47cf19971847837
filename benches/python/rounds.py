"""One piece of work, done by us and by peers in alternating rounds.

The machines are shared, so a time alone says little: what counts is the ratio of two contenders who took
turns within seconds. It is computed round by round, and the table shows its median and its range.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Asked = TypeVar("Asked")

# "cpu" counts what every thread of the process spends, and the system for it, so that work handed to another
# thread is not free; "wall" is for what waits for the disk.
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Contender:
    """Someone who does the work.

    Attributes:
        name: What the table calls it.
        call: One round.
        units: How much of the work a round is: queries, rows, predictions.
        prepare: Done before each round, not timed.
        quality: What stands beside the time, for example the recall.
        each: Whether `call` returns the CPU seconds that each unit took, as `each_timed` does: these count,
            and their percentiles stand beside.
    """

    name: str
    call: Callable[[], Any]
    units: int = 1
    prepare: Callable[[], object] = _nothing
    quality: str = ""
    each: bool = False


@dataclass(frozen=True)
class Work:
    """Something to be done, and who does it.

    Attributes:
        title: What it is, on what data.
        ours: Our way.
        peers: The others.
        clock: "cpu" or "wall".
        unit: What one unit is, for example "query".
        targets: For a peer's name, the share of its time that ours may take.
        missing: Peers that are not installed, by name.
        rounds: Alternating rounds; the first one warms up and is not counted.
    """

    title: str
    ours: Contender
    peers: Sequence[Contender]
    clock: str = "cpu"
    unit: str = "query"
    targets: dict[str, float] = field(default_factory=dict)
    missing: Sequence[str] = ()
    rounds: int = 7

    @property
    def contenders(self) -> list[Contender]:
        """All, ours first."""
        return [self.ours, *self.peers]


@dataclass(frozen=True)
class Spread:
    """The middle of some rounds and how far they were apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise; the range is the whole one."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Measured:
    """A work after its rounds. Times are seconds a unit; `tails` are p50 and p99 where units were timed."""

    work: Work
    times: dict[str, Spread]
    ratios: dict[str, Spread]
    tails: dict[str, tuple[float, float]]

    def met(self, peer: str) -> bool | None:
        """Tell whether the target against a peer was met; None without a target."""
        target = self.work.targets.get(peer)
        return None if target is None else self.ratios[peer].median <= target


def each_timed(ask: Callable[[Asked], object], asked: Iterable[Asked]) -> list[float]:
    """Ask one after the other; return the CPU seconds of each."""
    clock, times = CLOCKS["cpu"], []
    for one in asked:
        began = clock()
        ask(one)
        times.append(clock() - began)
    return times


def measure(work: Work) -> Measured:
    """Let the contenders take turns."""
    clock = CLOCKS[work.clock]
    times: dict[str, list[float]] = {contender.name: [] for contender in work.contenders}
    single: dict[str, list[float]] = {contender.name: [] for contender in work.contenders if contender.each}
    for turn in range(work.rounds + 1):
        # Every other round goes backwards, so that nobody always runs after the same one.
        for contender in work.contenders[:: 1 if turn % 2 else -1]:
            contender.prepare()
            began = clock()
            returned = contender.call()
            spent = clock() - began
            if contender.each:
                spent = sum(returned)
                single[contender.name] += returned if turn else []
            if turn:
                times[contender.name].append(spent / contender.units)
    ours = times[work.ours.name]
    ratios = {
        peer.name: Spread.of([mine / theirs for mine, theirs in zip(ours, times[peer.name], strict=True)])
        for peer in work.peers
    }
    tails = {name: _tails(values) for name, values in single.items()}
    return Measured(work, {name: Spread.of(values) for name, values in times.items()}, ratios, tails)


def _tails(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100)
    return cuts[49], cuts[98]
