"""What a decision layer gives and takes as a whole: an answer, a step's metrics, its weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.values import Record, record

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Gradients", "NetworkWeights", "Prediction", "TrainingMetrics"]

Floats = npt.NDArray[np.float32]

# Shards weigh no more together: times the largest float32 it still is a float64.
_HEAVIEST = 1e269


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


@record
class Gradients(Record):
    """The gradient of a batch, or of a shard of one, in one flat buffer.

    Attributes:
        flat: By W1, b1, W2 and b2, row after row, one after the other, before clipping: float32 `[p]`.
        loss: Of these samples: mean squared error, averaged by their weights.
        weight: What these samples count beside those of other shards: the sum of their weights, their number
            where they had none.
    """

    flat: Floats
    loss: float
    weight: float

    @classmethod
    def mean(cls, shards: Iterable[Self]) -> Self:
        """Return the gradient of all shards together: their mean by weight, summed in float64 in their order.

        It is the gradient that one batch of all their samples has, but for rounding: shards are sums in
        float32 that are rounded one by one, so that the two are some 1e-7 of their norm apart. The same
        shards in the same order give the same bits, wherever each was computed; a single one is itself.

        Args:
            shards: Of one layer.

        Raises:
            DimensionError: One is longer than another.
            ValidationError: There are none, or one is not `Gradients` of finite numbers and a weight
                above 0; or together they weigh more than 1e269 or have a loss that float64 cannot sum.
        """
        given = checks.listed("shards", shards, "an iterable of Gradients")
        if not given:
            raise checks.refuse("shards", "at least one", given)
        total, loss, weight = np.zeros(0), 0.0, 0.0
        for at, shard in enumerate(given):
            place = f"shards[{at}]"
            if not isinstance(shard, Gradients):
                raise checks.refuse(place, "Gradients", shard)
            flat = checks.vector(f"{place}.flat", shard.flat, len(total) if at else None)
            checks.finite(f"{place}.flat", flat)
            share = checks.number(f"{place}.weight", shard.weight)
            if not share > 0.0:
                raise checks.refuse(f"{place}.weight", "more than 0", share)
            if not at:
                total = np.zeros(len(flat))
            weight += share
            if weight > _HEAVIEST:
                raise checks.refuse(f"{place}.weight", f"weights that sum to at most {_HEAVIEST:g}", share)
            total += share * flat.astype(np.float64)
            mean_loss = checks.number(f"{place}.loss", shard.loss)
            loss += share * mean_loss
            if not math.isfinite(loss):
                raise checks.refuse(f"{place}.loss", "losses whose weighted sum float64 holds", mean_loss)
        return cls(flat=(total / weight).astype(np.float32), loss=loss / weight, weight=weight)
