"""Members of an ensemble that are trained elsewhere: on the threads or in the processes of an executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from precedent import _core
from precedent.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from precedent.handle import StoreFile

__all__ = ["Executor", "Promise", "elsewhere"]


class Promise(Protocol):
    """What an executor gives for a task: a `concurrent.futures.Future`, or what acts like one."""

    def result(self) -> Any:
        """Wait for what the task returns, or raise what it raised."""

    def cancel(self) -> object:
        """Take the task back, if it has not begun."""


class Executor(Protocol):
    """Where members are trained: `concurrent.futures.ThreadPoolExecutor`, `ProcessPoolExecutor`, or alike."""

    def submit(self, task: Callable[[], Any], /) -> Promise:
        """Call `task()` some time and somewhere."""


class _Source:
    """A store on its way to a task: within a process itself, to another one its path, to be opened there."""

    __slots__ = ("_opened", "_store")

    def __init__(self, store: StoreFile, *, opened: bool = False) -> None:
        self._store, self._opened = store, opened

    def __reduce__(self) -> tuple[Callable[[str], _Source], tuple[str]]:
        from pathlib import Path

        path = self._store.path
        if path == ":memory:":
            raise ValidationError(
                "executor: expected one of this process, got one of another: it cannot read a store in memory"
            )
        return _reopened, (str(Path(path).absolute()),)

    def __enter__(self) -> _core.Store:
        self._store.require_open()
        return self._store.core

    def __exit__(self, *raised: object) -> None:
        if self._opened:
            self._store.close()


def _reopened(path: str) -> _Source:
    from precedent.store import TrajectoryStore

    return _Source(TrajectoryStore(path, read_only=True), opened=True)


@dataclass(frozen=True, slots=True)
class _Task:
    """One member's run, to its end."""

    source: _Source
    layer: bytes
    settings: dict[str, Any]
    conditions: dict[str, Any] | None
    resume: bool

    def __call__(self) -> tuple[list[dict[str, Any]], bytes]:
        """Train; return the epochs, and the layer of the best of them as bytes."""
        with self.source as store:
            layer = _core.Layer.from_bytes(self.layer)
            run = _core.TrainingRun(store, layer, self.settings, 1, self.conditions, self.resume)
            while run.next_epoch() is not None:
                pass
            return run.outcome()


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
    whole = _core.TrainingRun(store.core, layer, settings, members, conditions, resume=False)
    promises = []
    try:
        for at, member in enumerate(layer.members_for(members)):
            own = dict(settings)
            if members > 1 and settings["save_path"] is not None:
                own["save_path"] = str(Path(settings["save_path"]) / f"member-{at}")
            task = _Task(_Source(store), member.to_bytes(), own, conditions, resume)
            promises.append(executor.submit(task))
        for at, promise in enumerate(promises):
            whole.adopt(at, *promise.result())
    except BaseException:
        for promise in promises:
            promise.cancel()
        raise
    return whole.finish()
