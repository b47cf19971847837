"""Work that is done elsewhere: on the threads or in the processes of an executor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol, Self

from precedent.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from precedent import _core
    from precedent.handle import StoreFile

__all__ = ["Executor", "Halt", "Promise", "Source", "Stoppable", "finished", "gather"]


class Promise(Protocol):
    """What an executor gives for a task: a `concurrent.futures.Future`, or what acts like one."""

    def result(self) -> Any:
        """Wait for what the task returns, or raise what it raised."""

    def cancel(self) -> object:
        """Take the task back, if it has not begun."""


class Executor(Protocol):
    """Where tasks are done: `concurrent.futures.ThreadPoolExecutor`, `ProcessPoolExecutor`, or alike."""

    def submit(self, task: Callable[[], Any], /) -> Promise:
        """Call `task()` some time and somewhere."""


class Stoppable(Protocol):
    """What goes on for long, and ends soon once it is told to, from any thread."""

    def stop(self) -> None:
        """End it."""


class Source:
    """A store on its way to a task: within a process itself, to another one its path, to be opened there.

    It is opened when the task begins, and not when it arrives: what goes wrong in a task reaches who waits
    for it, and what goes wrong in unpickling breaks a whole pool.

    Args:
        store: An open one, or the absolute path of one that the task is to open.
    """

    __slots__ = ("_opened", "_store")

    # What a task opened by itself.
    _opened: StoreFile | None

    def __init__(self, store: StoreFile | str) -> None:
        self._store, self._opened = store, None

    def __reduce__(self) -> tuple[type[Source], tuple[str]]:
        path = self._store if isinstance(self._store, str) else self._store._absolute_path
        if path is None:
            raise ValidationError(
                "executor: expected one of this process, got one of another: it cannot read a store in memory"
            )
        return Source, (path,)

    def __enter__(self) -> _core.Store:
        if isinstance(self._store, str):
            from precedent.store import TrajectoryStore

            self._opened = TrajectoryStore(self._store, read_only=True)
            return self._opened._core
        self._store._require_open()
        return self._store._core

    def __exit__(self, *raised: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class Halt:
    """The end of all runs of this process once one of them, or who waits for them, cannot go on.

    What fails within it stops the others. In another process it reaches nothing: a pool of processes gets
    Ctrl-C from the terminal by itself.
    """

    __slots__ = ("_lock", "_runs", "why")

    # What came first.
    why: BaseException | None

    def __init__(self) -> None:
        self._lock, self._runs, self.why = threading.Lock(), list[Stoppable](), None

    def __reduce__(self) -> tuple[type[Halt], tuple[()]]:
        return Halt, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, why: BaseException | None, trace: object) -> None:
        if why is not None:
            self.now(why)

    def watch(self, run: Stoppable) -> None:
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


def finished(run: _core.TrainingRun, halt: Halt) -> _core.TrainingRun:
    """Return a run at its end."""
    halt.watch(run)
    while run.next_epoch() is not None:
        pass
    return run


def gather(executor: Executor | None, tasks: Iterable[Callable[[], Any]], halt: Halt) -> list[Any]:
    """Return what the tasks return, in their order.

    Args:
        executor: Where they are done; None = here, one after the other.
        tasks: They stop on `halt`, and fail within it.
        halt: Called here, when waiting ends before they do; those that have not begun are then taken back.

    Raises:
        BaseException: What ended the first of them, or the waiting.
    """
    if executor is None:
        return [task() for task in tasks]
    promises = []
    try:
        for task in tasks:
            promises.append(executor.submit(task))  # noqa: PERF401 - those before one that fails are taken back
        return [promise.result() for promise in promises]
    except BaseException as raised:
        halt.now(raised)
        for promise in promises:
            promise.cancel()
        if isinstance(raised, Exception) or halt.why is None or halt.why is raised:
            raise
        # What ended this task is only that another one failed.
        raise halt.why from None
