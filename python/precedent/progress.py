"""How a training run shows that it goes on."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from precedent.reports import EpochMetrics

__all__ = ["Progress", "reporter"]

# None = a bar on a terminal, log lines elsewhere; True = the bar; False = nothing; or what gets each epoch.
Progress: TypeAlias = "bool | Callable[[EpochMetrics], object] | None"


@contextmanager
def reporter(progress: object, epochs: int) -> Iterator[Callable[[EpochMetrics], object]]:
    """Give what is called with each epoch.

    Args:
        progress: See `Progress`.
        epochs: How many there are at most.

    Raises:
        ModuleNotFoundError: `progress=True` without tqdm.
    """
    if callable(progress):
        yield progress
    elif progress is False:
        yield _silent
    elif progress is True or _on_terminal():
        bar = _bar(epochs, needed=progress is True)
        if bar is None:
            yield _logged
            return
        try:
            yield bar.show
        finally:
            bar.close()
    else:
        yield _logged


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


class _Bar:
    """A tqdm bar with the losses beside it."""

    def __init__(self, bar: object) -> None:
        self._bar: Any = bar

    def show(self, epoch: EpochMetrics) -> None:
        losses = {"train": f"{epoch.train_loss:.4f}"}
        if epoch.val_loss is not None:
            losses["val"] = f"{epoch.val_loss:.4f}"
        self._bar.set_postfix(losses, refresh=False)
        self._bar.update()

    def close(self) -> None:
        self._bar.close()


def _bar(epochs: int, *, needed: bool) -> _Bar | None:
    try:
        from tqdm import tqdm
    except ModuleNotFoundError as err:
        if needed:
            message = "progress=True needs tqdm: install it with `pip install precedent-rl[progress]`"
            raise ModuleNotFoundError(message, name="tqdm") from err
        return None
    return _Bar(tqdm(total=epochs, desc="training", unit="epoch"))


def _silent(_: EpochMetrics) -> None:
    """Say nothing."""


def _logged(epoch: EpochMetrics) -> None:
    from logging import getLogger

    validated = "" if epoch.val_loss is None else f", validation loss {epoch.val_loss:.6f}"
    getLogger("precedent.trainer").info(
        "epoch %d: train loss %.6f%s, gradient norm %.4f, %.2f s",
        epoch.epoch,
        epoch.train_loss,
        validated,
        epoch.gradient_norm,
        epoch.duration,
    )
