"""What a layer or a selector is asked, checked on its way to the core."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.errors import ValidationError

__all__ = ["batch", "one", "searchable", "several", "too_large"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]


def one(
    size: int, state: Any, desired_return: Any, context: Any, timestep: Any
) -> tuple[Floats, float, Floats | None, int | None]:
    """Return one question to a layer whose states have `size` dimensions.

    Raises:
        DimensionError: A vector of another length.
        ValidationError: Something of another kind, or not finite.
    """
    return (
        checks.vector("state", state, size),
        checks.number("desired_return", desired_return),
        None if context is None else checks.vector("context", context, size),
        None if timestep is None else checks.integer("timestep", timestep),
    )


def several(
    size: int, states: Any, returns: Any, contexts: Any, timesteps: Any, name: str = "returns"
) -> tuple[Floats, Doubles, Floats | None, Steps | None]:
    """Return `n` questions to a layer whose states have `size` dimensions; the returns are called `name`.

    Raises:
        DimensionError: Rows of another width.
        ValidationError: Something of another kind or number, or not finite.
    """
    given = checks.matrix("states", states, size)
    rows = len(given)
    alike = not hasattr(returns, "__len__") or (isinstance(returns, np.ndarray) and returns.ndim == 0)
    return (
        given,
        # One for all stays one: its code is then summed once.
        np.array([checks.number(name, returns)]) if alike else checks.column(name, returns, rows, np.float64),
        None if contexts is None else checks.matrix("contexts", contexts, size, rows),
        None if timesteps is None else checks.column("timesteps", timesteps, rows, np.int64),
    )


def searchable(states: Floats, *, cosine: bool, many: bool) -> None:
    """Refuse the first of the states `[n, d]` that a search would refuse, where none is made or not of all.

    Args:
        states: As the core takes them.
        cosine: Whether a search would be by cosine, for which a state needs a direction.
        many: Whether the error says which of them it is.

    Raises:
        ValidationError: NaN, infinity, or zeros under the cosine.
    """
    fit = np.isfinite(states).all(axis=1)
    if cosine:
        fit &= states.any(axis=1)
    if fit.all():
        return
    at = int(fit.argmin())
    name = f"states[{at}]" if many else "state"
    checks.finite(name, states[at])
    raise ValidationError(f"{name}: expected a vector with a direction: the metric is the cosine, got zeros")


def too_large(asked: tuple[Floats, Any, Floats | None, Any], row: int | None = None) -> ValidationError:
    """Return the error for a question whose answer is not finite, as `one` or `several` returned it.

    Args:
        asked: The question, or several.
        row: Which of several.
    """
    ending = "" if row is None else f"s[{row}]"
    largest = {
        f"{name}{ending}": float(np.abs(given if row is None else given[row]).max())
        for name, given in (("state", asked[0]), ("context", asked[2]))
        if given is not None
    }
    field = max(largest, key=largest.__getitem__)
    return ValidationError(
        f"{field}: expected numbers small enough for an answer that float32 holds, got {largest[field]:g}"
    )


def batch(
    sizes: tuple[int, int],
    states: Any,
    actions: Any,
    returns: Any,
    contexts: Any,
    timesteps: Any,
    weights: Any,
) -> tuple[Floats, Floats, Doubles, Floats | None, Steps | None, Floats | None]:
    """Return `n` samples for a layer whose states and actions have these `sizes`.

    Raises:
        DimensionError: Rows of another width.
        ValidationError: Something of another kind or number, or not finite.
    """
    size, width = sizes
    asked = several(size, states, returns, contexts, timesteps)
    rows = len(asked[0])
    return (
        asked[0],
        checks.matrix("actions", actions, width, rows),
        *asked[1:],
        None if weights is None else checks.column("weights", weights, rows, np.float32),
    )
