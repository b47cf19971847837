"""What a training run and an evaluation tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np
import numpy.typing as npt

from precedent.values import Nested, Record, each, each_named, embedding, frozen_mapping, record

if TYPE_CHECKING:
    import os

__all__ = [
    "Baseline",
    "DataStats",
    "EpochMetrics",
    "EvaluatedPrediction",
    "EvaluationReport",
    "FinalMetrics",
    "Predictions",
    "ReliabilityBin",
    "TaskTypeMetrics",
    "TrainingReport",
]


@record
class EpochMetrics(Record):
    """One pass over the data.

    Attributes:
        epoch: From 1.
        train_loss: Mean over the training samples, each before the step that learned from it. Under
            prioritized replay what was drawn more often counts less, so that it stays a mean over samples; an
            emphasis weights it.
        val_loss: Mean over the steps of the validation episodes, after the epoch, weighted by an emphasis
            too; None without any.
        gradient_norm: Mean over the batches, before clipping.
        duration: In seconds.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    gradient_norm: float
    duration: float


@record
class FinalMetrics(Record):
    """The best epoch, whose weights the layer now has.

    Attributes:
        train_loss: Its train loss.
        val_loss: Its validation loss; None without validation episodes.
        best_epoch: Its number.
    """

    train_loss: float
    val_loss: float | None
    best_epoch: int


@record
class DataStats(Record):
    """What was trained on.

    Attributes:
        total_trajectories: Steps: those trained on and those validated on.
        train_size: Steps trained on.
        val_size: Steps validated on.
        avg_return: The mean of their returns.
    """

    total_trajectories: int
    train_size: int
    val_size: int
    avg_return: float


@record
class Baseline(Record):
    """The layer beside the nearest neighbour, on the same validation steps.

    Attributes:
        neighbor_similarity: Mean cosine of the nearest training step's action to the right one.
        layer_similarity: Mean cosine of the layer's action to the right one.
        train_size: Training steps the neighbour was sought among, at most 20,000.
        val_size: Validation steps asked, at most 2,000.
    """

    neighbor_similarity: float
    layer_similarity: float
    train_size: int
    val_size: int


@record
class TrainingReport(Record):
    """A training run.

    Attributes:
        epoch_metrics: One record an epoch.
        final_metrics: The best epoch.
        data_stats: The data.
        baseline: The nearest neighbour beside the layer; None without validation episodes.
    """

    epoch_metrics: tuple[EpochMetrics, ...]
    final_metrics: FinalMetrics
    data_stats: DataStats
    baseline: Baseline | None

    _nested: ClassVar[Nested] = {
        "epoch_metrics": each(EpochMetrics),
        "final_metrics": FinalMetrics,
        "data_stats": DataStats,
        "baseline": Baseline,
    }

    @property
    def worse_than_baseline(self) -> bool:
        """Whether the nearest neighbour would have done better on the validation steps."""
        return self.baseline is not None and (
            self.baseline.layer_similarity < self.baseline.neighbor_similarity
        )

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return a matplotlib figure of losses and gradient norms: `pip install precedent-rl[plot]`.

        Args:
            path: Where to save it, too; the format is by its ending.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from precedent.pictures import training_figure

        return training_figure(self, path)

    def __str__(self) -> str:
        from precedent.pictures import training_text

        return training_text(self)

    def _repr_html_(self) -> str:
        from precedent.pictures import training_html

        return training_html(self)


@record
class TaskTypeMetrics(Record):
    """How the layer does on one task type.

    Attributes:
        accuracy: The share of steps whose nearest pattern to the predicted action is the pattern taken.
        avg_similarity: Mean cosine to the actions taken.
        count: Steps.
    """

    accuracy: float
    avg_similarity: float
    count: int


@record
class EvaluatedPrediction(Record):
    """One step of an evaluation.

    Attributes:
        true_action: The action taken, `[a]`.
        predicted_action: The layer's, `[a]`.
        similarity: Their cosine.
    """

    true_action: npt.NDArray[np.float32]
    predicted_action: npt.NDArray[np.float32]
    similarity: float


@record
class Predictions(Record, Sequence[EvaluatedPrediction]):
    """Predictions as arrays underneath and records on iteration.

    Attributes:
        true_actions: `[n, a]`.
        predicted_actions: `[n, a]`.
        similarities: `[n]`.
    """

    true_actions: npt.NDArray[np.float32]
    predicted_actions: npt.NDArray[np.float32]
    similarities: npt.NDArray[np.float64]

    _nested: ClassVar[Nested] = {
        "true_actions": embedding,
        "predicted_actions": embedding,
        "similarities": lambda numbers: np.asarray(numbers, np.float64),
    }

    def __len__(self) -> int:
        return len(self.similarities)

    @overload
    def __getitem__(self, at: int) -> EvaluatedPrediction: ...
    @overload
    def __getitem__(self, at: slice) -> list[EvaluatedPrediction]: ...
    def __getitem__(self, at: int | slice) -> EvaluatedPrediction | list[EvaluatedPrediction]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        return EvaluatedPrediction(
            true_action=self.true_actions[at],
            predicted_action=self.predicted_actions[at],
            similarity=float(self.similarities[at]),
        )


@record
class ReliabilityBin(Record):
    """Steps of like confidence.

    Attributes:
        confidence: The mean that was promised.
        similarity: The mean that came, or 0 where that is negative.
        count: Steps.
    """

    confidence: float
    similarity: float
    count: int


@record
class EvaluationReport(Record):
    """How the layer does on steps it did not learn from, asked with the return that was achieved.

    Attributes:
        accuracy: The share of steps whose nearest pattern to the predicted action is the pattern taken.
        avg_similarity: Mean cosine to the actions taken.
        per_task_type: The same for each task type.
        predictions: Each step's true and predicted action; empty with `keep_predictions=False`.
        calibration_error: The mean gap between confidence and similarity over the bins, by their size; None
            while the layer is uncalibrated. Here and in what follows it is held out: a step that the trainer
            may have calibrated the layer on has the confidence that a calibration on the other half of such
            episodes gives it, any other step the layer's own.
        reliability: The bins.
        risk_coverage: (coverage, risk): among the share of steps with the highest confidence, the mean of 1 -
            similarity.
    """

    accuracy: float
    avg_similarity: float
    per_task_type: Mapping[str, TaskTypeMetrics]
    predictions: Predictions
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: tuple[tuple[float, float], ...]

    _nested: ClassVar[Nested] = {
        "per_task_type": each_named(TaskTypeMetrics),
        "predictions": Predictions,
        "reliability": each(ReliabilityBin),
        "risk_coverage": each(tuple),
    }

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_task_type", frozen_mapping(self.per_task_type))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Return a matplotlib figure of reliability and of risk against coverage.

        Args:
            path: Where to save it, too; the format is by its ending.

        Raises:
            ModuleNotFoundError: matplotlib is not installed; `pip install precedent-rl[plot]` does it.
        """
        from precedent.pictures import evaluation_figure

        return evaluation_figure(self, path)

    def __str__(self) -> str:
        from precedent.pictures import evaluation_text

        return evaluation_text(self)

    def _repr_html_(self) -> str:
        from precedent.pictures import evaluation_html

        return evaluation_html(self)


def training_report(told: Mapping[str, Any]) -> TrainingReport:
    """Return a report of the core as a record."""
    return TrainingReport(
        epoch_metrics=tuple(EpochMetrics(**epoch) for epoch in told["epochs"]),
        final_metrics=FinalMetrics(**told["final"]),
        data_stats=DataStats(**told["data"]),
        baseline=Baseline(**told["baseline"]) if told["baseline"] else None,
    )


def evaluation_report(told: Mapping[str, Any], action_size: int) -> EvaluationReport:
    """Return an evaluation of the core as a record."""
    none = np.empty((0, action_size), np.float32)
    true, predicted, similarities = told["predictions"] or (none, none, np.empty(0))
    return EvaluationReport(
        accuracy=told["accuracy"],
        avg_similarity=told["avg_similarity"],
        per_task_type={
            name: TaskTypeMetrics(accuracy=accuracy, avg_similarity=similarity, count=count)
            for name, (accuracy, similarity, count) in told["per_task_type"].items()
        },
        predictions=Predictions(
            true_actions=true, predicted_actions=predicted, similarities=np.asarray(similarities, np.float64)
        ),
        calibration_error=told["calibration_error"],
        reliability=tuple(
            ReliabilityBin(confidence=confidence, similarity=similarity, count=count)
            for confidence, similarity, count in told["reliability"] or ()
        ),
        risk_coverage=tuple((coverage, risk) for coverage, risk in told["risk_coverage"] or ()),
    )
