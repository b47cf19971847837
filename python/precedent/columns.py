"""Steps as the core takes them: one column a field, every value of the kind that the column holds.

Kinds and shapes are checked here, where the position and the name of what is wrong are known; ranges (finite,
not zero, not empty) are the core's. Nothing is written before all rows are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.errors import ValidationError
from precedent.records.step import Action, Trajectory, TrajectoryMetadata

if TYPE_CHECKING:
    from precedent.records.batch import TrajectoryBatch
    from precedent.seam import Columns

__all__ = ["Encode", "of_batch", "of_trajectories"]

# Turns texts and task mappings into embeddings `[n, d]`; what each is called in an error comes first. Raises
# ValidationError where the store has no encoder.
Encode = Callable[[Sequence[str], Sequence[Any]], npt.NDArray[np.float32]]
# A reader of one value: field and value in, checked value out.
Reader = Callable[[str, Any], Any]

_INT64 = 2**63


def _integer(field: str, value: Any) -> int:
    return checks.integer(field, value, low=-_INT64, high=_INT64 - 1)


def _quality(field: str, value: Any) -> float:
    return checks.number(field, value, low=0.0, high=1.0)


def _not_negative(field: str, value: Any) -> int:
    return checks.integer(field, value, high=_INT64 - 1)


def _json(field: str, value: Any) -> str | None:
    return checks.json_text(field, value) if value else None


# Readers that take every int from 0 up to what the file holds.
_COUNTS = (_integer, _not_negative)

# Column, the field of the record's metadata, the reader of one value, the numpy type of a full column.
_OPTIONAL: tuple[tuple[str, str, Reader, type[np.generic] | None], ...] = (
    ("timestamps", "timestamp", _integer, np.int64),
    ("step_indices", "step_index", _integer, np.int64),
    ("durations", "duration", _not_negative, np.int64),
    ("tokens_used", "tokens_used", _not_negative, np.int64),
    ("agent_types", "agent_type", checks.text, None),
    ("context_lengths", "context_length", _not_negative, np.int64),
    ("task_ids", "task_id", checks.text, None),
    ("successes", "success", checks.flag, np.bool_),
    ("qualities", "quality", _quality, np.float64),
)


def of_trajectories(
    steps: Sequence[Trajectory], dimension: int, action_dimension: int, encode: Encode, *, one: bool = False
) -> Columns:
    """Return records as columns.

    Args:
        steps: The records.
        dimension: Of a state.
        action_dimension: Of an action.
        encode: What makes embeddings of texts and tasks.
        one: Errors name the fields of the only record, without a position.

    Raises:
        ValidationError: A record is none, or a field of one has another kind or shape; the first is named.
    """
    prefix = _unnumbered if one else _numbered
    for i, step in enumerate(steps):
        if not _is_record(step):
            _refuse_record(prefix(i), step)
    actions = [step.action for step in steps]
    metadata = [step.metadata for step in steps]
    columns: Columns = {
        "states": _states([step.state_embedding for step in steps], dimension, encode, prefix),
        "actions": _stacked(
            [action.embedding for action in actions], action_dimension, prefix, "action.embedding"
        ),
        "rewards": _floats([step.reward for step in steps], prefix, "reward"),
        "returns_to_go": _returns([step.return_to_go for step in steps], prefix),
        "pattern_ids": _texts([action.pattern_id for action in actions], prefix, "action.pattern_id"),
        "episode_ids": _texts([m.episode_id for m in metadata], prefix, "metadata.episode_id"),
        "task_types": _texts([m.task_type for m in metadata], prefix, "metadata.task_type"),
    }
    for column, field, read, _ in _OPTIONAL:
        values = [getattr(m, field) for m in metadata]
        columns[column] = _listed(values, read, prefix, f"metadata.{field}")
    for column in ("terminated", "truncated"):
        flags = [getattr(m, column) for m in metadata]
        columns[column] = _flags(flags, prefix, f"metadata.{column}")
    columns["extras"] = _listed([m.extra or None for m in metadata], _json, prefix, "metadata.extra")
    columns["action_metadata"] = _listed(
        [action.metadata for action in actions], checks.json_text, prefix, "action.metadata"
    )
    return columns


def of_batch(batch: TrajectoryBatch, dimension: int, action_dimension: int, encode: Encode) -> Columns:
    """Return a batch as columns.

    Raises:
        ValidationError: A column has another kind, shape or length; the column and its first bad row are
            named.
    """
    states = batch.states
    if not isinstance(states, np.ndarray) and _has_text(states):
        states = _encoded_among(states, dimension, encode, lambda i: f"states[{i}]")
    states = checks.matrix("states", states, dimension)
    rows = len(states)
    columns: Columns = {
        "states": states,
        "actions": checks.matrix("actions", batch.actions, action_dimension, rows),
        "rewards": _column("rewards", batch.rewards, rows, checks.number, np.float64),
        "returns_to_go": _batch_returns(batch.returns_to_go, rows),
    }
    for name in ("pattern_ids", "episode_ids", "task_types"):
        names = getattr(batch, name)
        columns[name] = checks.text(name, names) if isinstance(names, str) else _names(name, names, rows)
    for name, _, read, kind in _OPTIONAL:
        values = getattr(batch, name)
        if values is None or (name == "agent_types" and isinstance(values, str)):
            columns[name] = values if values is None else checks.text(name, values)
        else:
            columns[name] = _column(name, values, rows, read, kind, optional=True)
    for name in ("terminated", "truncated"):
        flags = getattr(batch, name)
        columns[name] = None if flags is None else _column(name, flags, rows, checks.flag, np.bool_)
    for name, write in (("extras", _json), ("action_metadata", checks.json_text)):
        mappings = getattr(batch, name)
        columns[name] = (
            None if mappings is None else _column(name, mappings, rows, write, None, optional=True)
        )
    return columns


def _numbered(i: int) -> str:
    return f"trajectories[{i}]."


def _unnumbered(_: int) -> str:
    return ""


def _is_record(step: Any) -> bool:
    if not isinstance(step, Trajectory):
        return False
    action: Any = step.action
    metadata: Any = step.metadata
    if not isinstance(action, Action) or not isinstance(metadata, TrajectoryMetadata):
        return False
    extra: Any = metadata.extra
    return type(extra) is dict or isinstance(extra, Mapping)


def _refuse_record(prefix: str, step: Any) -> NoReturn:
    if not isinstance(step, Trajectory):
        raise checks.refuse(prefix.removesuffix(".") or "trajectory", "a Trajectory", step)
    if not isinstance(step.action, Action):
        raise checks.refuse(f"{prefix}action", "an Action", step.action)
    if not isinstance(step.metadata, TrajectoryMetadata):
        raise checks.refuse(f"{prefix}metadata", "a TrajectoryMetadata", step.metadata)
    raise checks.refuse(f"{prefix}metadata.extra", "a mapping", step.metadata.extra)


def _states(
    given: list[Any], dimension: int, encode: Encode, prefix: Callable[[int], str]
) -> npt.NDArray[np.float32]:
    if _has_text(given):
        given = _encoded_among(given, dimension, encode, lambda i: f"{prefix(i)}state_embedding")
    return _stacked(given, dimension, prefix, "state_embedding")


def _has_text(values: Any) -> bool:
    return isinstance(values, Iterable) and any(isinstance(value, (str, Mapping)) for value in values)


def _encoded_among(
    given: Iterable[Any], dimension: int, encode: Encode, name: Callable[[int], str]
) -> list[Any]:
    """Return the values with texts and tasks replaced by their embeddings, all encoded in one call."""
    values = list(given)
    at = [i for i, value in enumerate(values) if isinstance(value, (str, Mapping))]
    for i, made in zip(at, encode([name(i) for i in at], [values[i] for i in at]), strict=True):
        values[i] = made
    return [checks.vector(name(i), value, dimension) for i, value in enumerate(values)]


def _stacked(
    vectors: list[Any], width: int, prefix: Callable[[int], str], field: str
) -> npt.NDArray[np.float32]:
    shape = (width,)
    if not all(type(v) is np.ndarray and v.shape == shape and v.dtype == np.float32 for v in vectors):
        vectors = [checks.vector(f"{prefix(i)}{field}", v, width) for i, v in enumerate(vectors)]
    return np.concatenate(vectors).reshape(len(vectors), width)


def _floats(values: list[Any], prefix: Callable[[int], str], field: str) -> npt.NDArray[np.float64]:
    if not set(map(type, values)) <= {float}:
        values = [checks.number(f"{prefix(i)}{field}", value) for i, value in enumerate(values)]
    return np.array(values, np.float64)


def _returns(values: list[Any], prefix: Callable[[int], str]) -> npt.NDArray[np.float64] | None:
    """Return the column in which NaN means "not computed", so that a NaN in a record must be refused here."""
    if all(value is None for value in values):
        return None
    return np.array(
        [
            np.nan if value is None else checks.number(f"{prefix(i)}return_to_go", value)
            for i, value in enumerate(values)
        ],
        np.float64,
    )


def _texts(values: list[Any], prefix: Callable[[int], str], field: str) -> list[str]:
    if set(map(type, values)) == {str} and all(values) and "".join(set(values)).isascii():
        return values
    return [checks.text(f"{prefix(i)}{field}", value) for i, value in enumerate(values)]


def _flags(values: list[Any], prefix: Callable[[int], str], field: str) -> npt.NDArray[np.bool_] | None:
    if set(map(type, values)) != {bool}:
        values = [checks.flag(f"{prefix(i)}{field}", value) for i, value in enumerate(values)]
    return np.array(values, np.bool_) if any(values) else None


def _listed(values: list[Any], read: Reader, prefix: Callable[[int], str], field: str) -> list[Any] | None:
    """Return a column of optional values, or None where no row has one."""
    kinds = set(map(type, values))
    if kinds == {type(None)}:
        return None
    if kinds == {int} and read in _COUNTS and min(values) >= 0 and max(values) < _INT64:
        return values
    return [None if value is None else read(f"{prefix(i)}{field}", value) for i, value in enumerate(values)]


def _names(name: str, values: Any, rows: int) -> list[str]:
    checks.unmasked(name, values)
    names = _of_length(name, values, rows)
    if set(map(type, names)) <= {str} and all(names) and "".join(set(names)).isascii():
        return names
    return [checks.text(f"{name}[{i}]", value) for i, value in enumerate(names)]


def _of_length(name: str, values: Any, rows: int) -> list[Any]:
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
        raise checks.refuse(name, f"{rows} values", values)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise checks.refuse(name, f"{rows} values", values)
    if len(values) != rows:
        raise ValidationError(f"{name}: expected {rows} values, got {len(values)}")
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


# Dates and spans count in a unit of their own, and a cast to whole numbers forgets which.
_TIMES = {
    "M": ("milliseconds since 1970 as whole numbers", "datetime64[ms]"),
    "m": ("milliseconds as whole numbers", "timedelta64[ms]"),
}
_KINDS: dict[type[np.generic] | None, str] = {np.float64: "fiu", np.int64: "iu", np.bool_: "b"}


def _column(
    name: str, values: Any, rows: int, read: Reader, kind: type[np.generic] | None, *, optional: bool = False
) -> npt.NDArray[Any] | list[Any]:
    """Return a column as an array, or as a list where values are missing or have no numpy type."""
    if isinstance(values, np.ndarray) and values.dtype.kind in _TIMES:
        expected, unit = _TIMES[values.dtype.kind]
        raise checks.refuse(name, f'{expected}, which .astype("{unit}").astype("int64") makes', values)
    checks.unmasked(name, values)
    if isinstance(values, np.ndarray) and kind and values.dtype.kind in _KINDS[kind] and values.ndim == 1:
        if len(values) != rows:
            raise ValidationError(f"{name}: expected {rows} values, got {len(values)}")
        fits = values.dtype != np.uint64 and values.dtype.itemsize <= np.dtype(kind).itemsize
        if fits and not (read is _not_negative and (values < 0).any()):
            return np.ascontiguousarray(values, dtype=kind)
    # Value by value, so that the bad one is named.
    listed = _of_length(name, values, rows)
    checked = [
        None if optional and value is None else read(f"{name}[{i}]", value) for i, value in enumerate(listed)
    ]
    return checked if kind is None or None in checked else np.array(checked, dtype=kind)


def _batch_returns(values: Any, rows: int) -> npt.NDArray[Any] | list[Any] | None:
    return None if values is None else _column("returns_to_go", values, rows, _return, np.float64)


def _return(field: str, value: Any) -> float:
    """Return a value of a column in which NaN, or None in a list, means "not computed"."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return np.nan
    return checks.number(field, value)
