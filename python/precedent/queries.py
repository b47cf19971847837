"""What a caller gives a store, checked for kind and shape: options of a search, ids, states, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from precedent import checks
from precedent.config import METRICS
from precedent.errors import DimensionError
from precedent.filters import normalised

if TYPE_CHECKING:
    from precedent.seam import Columns

__all__ = [
    "dimensions",
    "encoded_dimension",
    "has_text",
    "id_texts",
    "is_vector",
    "no_rows",
    "search_options",
]


def search_options(
    k: Any,
    metric: Any,
    threshold: Any,
    filter: Any,
    exact: Any,
    ef_search: Any,
) -> tuple[int, str | None, float | None, dict[str, Any] | None, bool, int | None]:
    """Return the options of a search in the core's order, each of the right kind; ranges are the core's."""
    return (
        checks.integer("k", k, low=1, clamp=True),
        metric if metric is None else checks.choice("metric", metric, METRICS),
        threshold if threshold is None else checks.number("threshold", threshold, finite=False),
        None if filter is None else normalised(filter),
        exact if exact is True or exact is False else checks.flag("exact", exact),
        ef_search if ef_search is None else checks.integer("ef_search", ef_search, low=1),
    )


def encoded_dimension(encoder: Any, dimension: int | None) -> int:
    """Return the encoder's dimension, which must be the one that is named beside it."""
    if not (hasattr(encoder, "encode") and hasattr(encoder, "dimension") and hasattr(encoder, "fingerprint")):
        raise checks.refuse("encoder", "an Encoder (precedent.encoders.as_encoder makes one)", encoder)
    made = checks.integer("encoder.dimension", encoder.dimension, low=1)
    checks.text("encoder.fingerprint", encoder.fingerprint)
    if dimension is not None and dimension != made:
        raise DimensionError(f"encoder: expected {dimension} dimensions, got {made}", dimension, made)
    return made


def dimensions(field: str, value: Any) -> int | None:
    """Return a number of dimensions, or None for the file's own."""
    return None if value is None else checks.integer(field, value, low=1, high=16_384)


def id_texts(listed: list[Any]) -> list[str]:
    """Return ids, each of which is text."""
    return [checks.text(f"ids[{i}]", id_, empty=True) for i, id_ in enumerate(listed)]


def is_vector(states: Any) -> bool:
    """Whether this is one state rather than several."""
    if type(states) is np.ndarray:  # the usual case: asking whether it is a mapping takes longer
        return states.ndim == 1
    if isinstance(states, (list, tuple)):
        return (
            bool(states) and not isinstance(states[0], (str, Mapping)) and not hasattr(states[0], "__len__")
        )
    return isinstance(states, (str, Mapping)) or getattr(states, "ndim", 1) == 1


def has_text(values: Any) -> bool:
    """Whether a list of states has texts or tasks among them."""
    return isinstance(values, (list, tuple)) and any(isinstance(value, (str, Mapping)) for value in values)


def no_rows(dimension: int, action_dimension: int) -> Columns:
    """Return the columns of no rows."""
    none: list[str] = []
    return {
        "states": np.empty((0, dimension), np.float32),
        "actions": np.empty((0, action_dimension), np.float32),
        "rewards": np.empty(0),
        "pattern_ids": none,
        "episode_ids": none,
        "task_types": none,
    }
