"""Where the metrics of a training run can go: callbacks of `OfflineTrainer`, called with every epoch.

>>> import tempfile
>>> from pathlib import Path
>>> from precedent.callbacks import JsonlLogger
>>> from precedent import EpochMetrics
>>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
>>> log = JsonlLogger(path)
>>> log(EpochMetrics(epoch=1, train_loss=0.5, val_loss=None, gradient_norm=1.0, duration=0.1))
>>> path.read_text().count("train_loss")
1
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from precedent import checks
from precedent.lines import JsonLines

if TYPE_CHECKING:
    import os

    from precedent.reports import EpochMetrics

__all__ = ["JsonlLogger", "TensorBoardLogger"]


class JsonlLogger:
    """Adds a line of JSON for every epoch to a file: the metrics and the time, in ms since 1970.

    A line is written and closed at once, so that what was finished survives whatever ends the run.

    Args:
        path: The file; it and its folders are made at once where they are missing. A file that is there
            grows.

    Raises:
        AccessError: The file cannot be written to.
        ValidationError: Not a path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lines = JsonLines("path", path)

    def __call__(self, epoch: EpochMetrics) -> None:
        """Write an epoch.

        Raises:
            AccessError: The file cannot be written to any more.
            DiskFullError: No room left.
        """
        self._lines.add(epoch.to_dict())

    def __repr__(self) -> str:
        return f"JsonlLogger({self._lines.path!r})"


class TensorBoardLogger:
    """Writes the metrics of every epoch as scalars for TensorBoard: `pip install precedent-rl[tensorboard]`.

    The scalars are `loss/train`, `loss/validation`, `gradient_norm` and `seconds`; the step is the epoch.

    Args:
        folder: The run's folder, to be shown by `tensorboard --logdir`.

    Raises:
        ModuleNotFoundError: tensorboardX is not installed.
        ValidationError: Not a path.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ModuleNotFoundError as err:
            message = (
                "TensorBoardLogger needs tensorboardX: `pip install precedent-rl[tensorboard]` installs it"
            )
            raise ModuleNotFoundError(message, name=err.name) from err
        self._writer: Any = SummaryWriter(checks.path("folder", folder))

    def __call__(self, epoch: EpochMetrics) -> None:
        """Write an epoch."""
        scalars = {
            "loss/train": epoch.train_loss,
            "loss/validation": epoch.val_loss,
            "gradient_norm": epoch.gradient_norm,
            "seconds": epoch.duration,
        }
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; leaving a `with` block does it, too."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
