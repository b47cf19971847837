"""Evaluations, here or in parts on the threads or in the processes of an executor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from precedent import _core
from precedent.executors import Executor, Halt, Source, gather

if TYPE_CHECKING:
    from collections.abc import Callable

    from precedent.handle import StoreFile
    from precedent.seam import Measured

__all__ = ["assess"]


class _Plan:
    """An evaluation on its way to a task: within a process itself, to another one what it is made of."""

    __slots__ = ("_arguments", "_layer", "_made", "_source")

    def __init__(
        self,
        source: Source,
        layer: _core.Layer,
        arguments: tuple[Any, ...],
        made: _core.Evaluation | None = None,
    ) -> None:
        self._source, self._layer, self._arguments, self._made = source, layer, arguments, made

    def __reduce__(self) -> tuple[Callable[..., _Plan], tuple[Any, ...]]:
        layer = self._layer
        return _planned, (self._source, layer.to_bytes(), layer.inference, self._arguments)

    def measure(self, start: int, end: int, halt: Halt) -> Measured:
        """Measure the steps from `start` up to `end`."""
        with self._source as store:
            made = self._made or _core.Evaluation(store, self._layer, *self._arguments)
            halt.watch(made)
            return made.measure(start, end)


def _planned(source: Source, layer: bytes, inference: str, arguments: tuple[Any, ...]) -> _Plan:
    made = _core.Layer.from_bytes(layer)
    made.set_inference(inference)  # what bytes do not say
    return _Plan(source, made, arguments)


@dataclass(frozen=True, slots=True)
class _Task:
    """Some of the episodes."""

    plan: _Plan
    start: int
    end: int
    halt: Halt

    def __call__(self) -> Measured:
        """Return what was found, by columns."""
        with self.halt:
            return self.plan.measure(self.start, self.end, self.halt)


def assess(
    executor: Executor | None, store: StoreFile, layer: _core.Layer, arguments: tuple[Any, ...]
) -> dict[str, Any]:
    """Evaluate a layer, in as many parts as this machine has processors where there is an executor.

    Args:
        executor: Where each part becomes one task; None = here, as one part.
        store: Whose steps the layer is asked about.
        layer: What is asked.
        arguments: What `_core.Evaluation` takes beside the two.

    Returns:
        What `_core.Evaluation.conclude` tells: the same bits however it was cut.
    """
    # Made first: what cannot be evaluated is refused here, and not in another process.
    whole, halt = _core.Evaluation(store._core, layer, *arguments), Halt()
    plan = _Plan(Source(store), layer, arguments, whole)
    parts = whole.parts(1 if executor is None else os.cpu_count() or 1)
    return whole.conclude(gather(executor, (_Task(plan, *part, halt) for part in parts), halt))
