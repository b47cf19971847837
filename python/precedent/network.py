"""What a decision layer gives and takes as a whole: an answer, a step's metrics, its weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from precedent.values import Record, record

__all__ = ["NetworkWeights", "Prediction", "TrainingMetrics"]

Floats = npt.NDArray[np.float32]


@record
class Prediction(Record):
    """An action and how far to trust it.

    Attributes:
        action: `[a]`.
        confidence: The calibrated expectation of the cosine similarity to the right action, in [0, 1]; None
            before `calibrate`.
        low: The lower end of an interval that holds the similarity (0 where it is negative) with at least the
            coverage that was asked for; None before `calibrate`.
        high: The upper end.
    """

    action: Floats
    confidence: float | None
    low: float | None
    high: float | None


@record
class TrainingMetrics(Record):
    """One optimizer step.

    Attributes:
        loss: Mean squared error before the step.
        gradient_norm: Global norm of the gradient, before clipping.
        learning_rate: The step size.
        epoch: Of the trainer; 0 outside one.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    epoch: int


@record
class NetworkWeights(Record):
    """Copies of the weights: hidden = ReLU(input W1 + b1), action = hidden W2 + b2.

    Attributes:
        W1: `[3d, h]`.
        b1: `[h]`.
        W2: `[h, a]`.
        b2: `[a]`.
    """

    W1: Floats
    b1: Floats
    W2: Floats
    b2: Floats
