"""Members of an ensemble that are trained elsewhere: on the threads or in the processes of an executor."""

from __future__ import annotations

import threading
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


class _Halt:
    """The end of all runs of this process once one of them, or who waits for them, cannot go on.

    In another process it reaches nothing: a pool of processes gets Ctrl-C from the terminal by itself.
    """

    __slots__ = ("_lock", "_runs", "why")

    # What came first.
    why: BaseException | None

    def __init__(self) -> None:
        self._lock, self._runs, self.why = threading.Lock(), list[_core.TrainingRun](), None

    def __reduce__(self) -> tuple[type[_Halt], tuple[()]]:
        return _Halt, ()

    def watch(self, run: _core.TrainingRun) -> None:
        """Stop a run too, when the time comes; at once, if it has."""
        with self._lock:
            self._runs.append(run)
            if self.why is not None:
                run.stop()

    def now(self, why: BaseException) -> None:
        """Stop all runs, and those that are still to come."""
        with self._lock:
            if self.why is None:
                self.why = why
            for run in self._runs:
                run.stop()


@dataclass(frozen=True, slots=True)
class _Task:
    """One member's run, to its end."""

    source: _Source
    layer: bytes
    settings: dict[str, Any]
    conditions: dict[str, Any] | None
    resume: bool
    halt: _Halt

    def __call__(self) -> tuple[list[dict[str, Any]], bytes]:
        """Train; return the epochs, and the layer of the best of them as bytes."""
        try:
            with self.source as store:
                layer = _core.Layer.from_bytes(self.layer)
                run = _core.TrainingRun(store, layer, self.settings, 1, self.conditions, self.resume)
                self.halt.watch(run)
                while run.next_epoch() is not None:
                    pass
                return run.outcome()
        except BaseException as why:
            self.halt.now(why)
            raise


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
    promises, halt = [], _Halt()
    try:
        for at, member in enumerate(layer.members_for(members)):
            own = dict(settings)
            if members > 1 and settings["save_path"] is not None:
                own["save_path"] = str(Path(settings["save_path"]) / f"member-{at}")
            task = _Task(_Source(store), member.to_bytes(), own, conditions, resume, halt)
            promises.append(executor.submit(task))
        for at, promise in enumerate(promises):
            whole.adopt(at, *promise.result())
    except BaseException as raised:
        halt.now(raised)
        for promise in promises:
            promise.cancel()
        if isinstance(raised, Exception) or halt.why is None or halt.why is raised:
            raise
        # What ended this member is only that another one failed.
        raise halt.why from None
    return whole.finish()
