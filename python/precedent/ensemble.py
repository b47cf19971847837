"""Members of an ensemble that are trained elsewhere: on the threads or in the processes of an executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from precedent import _core
from precedent.executors import Executor, Halt, Source, finished, gather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from precedent.handle import StoreFile

__all__ = ["elsewhere"]


@dataclass(frozen=True, slots=True)
class _Task:
    """One member's run, to its end."""

    source: Source
    layer: bytes
    settings: dict[str, Any]
    conditions: dict[str, Any] | None
    resume: bool
    halt: Halt

    def __call__(self) -> tuple[list[dict[str, Any]], bytes]:
        """Train; return the epochs, and the layer of the best of them as bytes."""
        with self.halt, self.source as store:
            layer = _core.Layer.from_bytes(self.layer)
            run = _core.TrainingRun(store, layer, self.settings, 1, self.conditions, self.resume)
            return finished(run, self.halt).outcome()


def elsewhere(
    executor: Executor,
    store: StoreFile,
    layer: _core.Layer,
    settings: dict[str, Any],
    conditions: dict[str, Any] | None,
    *,
    resume: bool,
) -> dict[str, Any]:
    """Train the `settings["ensemble"]` members of a layer by an executor, then join and calibrate them here.

    Args:
        executor: Where each member becomes one task.
        store: What they learn from.
        layer: What they become; it stays as it is until all are there.
        settings: Those of the trainer.
        conditions: Which steps are samples.
        resume: Whether each goes on from its checkpoint.

    Returns:
        What `_core.TrainingRun.finish` tells.
    """
    from pathlib import Path

    members: int = settings["ensemble"]
    # Made first: what does not fit is refused here, and not in another process.
    whole = _core.TrainingRun(store._core, layer, settings, members, conditions, resume=False)
    halt = Halt()

    def tasks() -> Iterator[_Task]:
        for at, member in enumerate(layer.members_for(members)):
            own = dict(settings)
            if members > 1 and settings["save_path"] is not None:
                own["save_path"] = str(Path(settings["save_path"]) / f"member-{at}")
            yield _Task(Source(store), member.to_bytes(), own, conditions, resume, halt)

    for at, outcome in enumerate(gather(executor, tasks(), halt)):
        whole.adopt(at, *outcome)
    return whole.finish()
