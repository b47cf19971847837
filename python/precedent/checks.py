"""Arguments checked for kind and range, each failure a sentence: which field, what was expected, what came.

The core checks ranges again, and what only it knows; here it is made sure that a value is of the right kind
at all.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from precedent.errors import DimensionError, ValidationError

__all__ = [
    "choice",
    "column",
    "finite",
    "flag",
    "integer",
    "is_masked",
    "json_text",
    "json_value",
    "listed",
    "matrix",
    "number",
    "path",
    "refuse",
    "shown",
    "text",
    "unmasked",
    "vector",
]

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]
Real = TypeVar("Real", np.float32, np.float64)

# The core counts in 64 bits, and no store has more rows than this.
LARGEST = 2**40 - 1
_SHOWN = 60
# Beyond so many bits Python may refuse to write a whole number (see `sys.set_int_max_str_digits`).
_WRITABLE = 1024
# What has a `__float__`, or behaves as if, and still is no number.
_NO_NUMBERS = (bool, str, bytes, np.bool_, np.character, np.complexfloating, np.timedelta64, np.datetime64)


def shown(value: object) -> str:
    """Return a value as an error message shows it: short, with its kind where the value would not tell."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, (str, int, float, bool, type(None), np.generic)):
        if isinstance(value, int) and value.bit_length() > _WRITABLE:
            return f"a whole number of {value.bit_length()} bits"
        said = repr(value.item() if isinstance(value, np.generic) else value)
        return said if len(said) <= _SHOWN else said[: _SHOWN - 3] + "..."
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"


def refuse(field: str, expected: str, got: object) -> ValidationError:
    """Return the error for a field that holds something else than expected."""
    return ValidationError(f"{field}: expected {expected}, got {shown(got)}")


def integer(field: str, value: Any, *, low: int = 0, high: int = LARGEST, clamp: bool = False) -> int:
    """Return a whole number between `low` and `high`. With `clamp`, more than `high` counts as `high`.

    Raises:
        ValidationError: It is not one; a bool is not a number.
    """
    if type(value) is int and low <= value <= high:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise refuse(field, "a whole number", value)
    unmasked(field, value)
    try:
        whole = operator.index(value)
    except TypeError:
        raise refuse(field, "a whole number", value) from None
    if whole < low:
        raise refuse(field, f"at least {low}", whole)
    if whole > high:
        if clamp:
            return high
        raise refuse(field, f"at most {high}", whole)
    return whole


def number(
    field: str, value: Any, *, low: float = -math.inf, high: float = math.inf, finite: bool = True
) -> float:
    """Return a number between `low` and `high`, never NaN.

    Raises:
        ValidationError: It is not one; neither a bool nor text is a number.
    """
    if type(value) is not float:
        if isinstance(value, _NO_NUMBERS) or not hasattr(type(value), "__float__") or np.ndim(value):
            raise refuse(field, "a number", value)
        if isinstance(value, np.ndarray):
            unmasked(field, value)
            if value.dtype.kind not in "fiu":
                raise refuse(field, "a number", value)
        try:
            value = float(value)
        except (TypeError, ValueError, OverflowError):
            raise refuse(field, "a number", value) from None
    if math.isnan(value) or (finite and math.isinf(value)):
        raise refuse(field, "a finite number" if finite else "a number", value)
    if not low <= value <= high:
        raise refuse(field, _between(low, high), value)
    return float(value)


def _between(low: float, high: float) -> str:
    """Return a range in words; a bound beside 0 or 1 is one that is itself left out."""
    least = "more than 0" if low == math.nextafter(0.0, 1.0) else f"at least {low:g}"
    if math.isinf(high):
        return least
    if high == math.nextafter(1.0, 0.0):
        return f"{least} and below 1"
    return f"a number between {low:g} and {high:g}"


def flag(field: str, value: Any) -> bool:
    """Return a bool.

    Raises:
        ValidationError: It is something else.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise refuse(field, "True or False", value)


def text(field: str, value: Any, *, empty: bool = False) -> str:
    """Return text that a file can hold.

    Raises:
        ValidationError: It is not a string, it is empty, or it has half a surrogate pair.
    """
    if not isinstance(value, str):
        raise refuse(field, "text", value)
    if not value and not empty:
        raise refuse(field, "text that is not empty", value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise refuse(field, "text that is valid Unicode", ascii(value)) from None
    return value


def path(field: str, value: Any) -> str:
    """Return a path as text.

    Raises:
        ValidationError: It is neither text nor an `os.PathLike` of text, is empty, or has a NUL in it.
    """
    try:
        name: Any = os.fspath(value)
    except TypeError:
        raise refuse(field, "a path (text or os.PathLike)", value) from None
    checked = text(field, name)
    if "\0" in checked:
        raise refuse(field, "a path without a NUL character", checked)
    return checked


def choice(field: str, value: Any, choices: Iterable[str]) -> str:
    """Return one of the named values.

    Raises:
        ValidationError: It is another one; all are listed.
    """
    names = list(choices)
    if isinstance(value, str) and value in names:
        return value
    raise refuse(field, "one of " + ", ".join(f'"{name}"' for name in names), value)


def listed(field: str, value: Any, expected: str) -> list[Any]:
    """Return several values as a list; one text, and one mapping, is not several.

    Args:
        field: What they are called in an error.
        value: Any iterable.
        expected: What they are, in an error.

    Raises:
        ValidationError: It is none, such as an array without axes.
    """
    alone = isinstance(value, (str, bytes, Mapping)) or (isinstance(value, np.ndarray) and not value.ndim)
    if alone or not hasattr(type(value), "__iter__"):
        raise refuse(field, expected, value)
    return list(value)


def unmasked(field: str, value: Any) -> None:
    """Refuse what has a mask.

    Raises:
        ValidationError: It `is_masked`.
    """
    if is_masked(value):
        raise ValidationError(f"{field}: expected numbers without a mask (fill it), got a masked array")


def is_masked(value: Any) -> bool:
    """Whether this is an array with a mask, or a list with one in it: what lies under a mask is not there."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
        return any(map(is_masked, value))
    return isinstance(value, np.ndarray) and hasattr(value, "mask")


def json_text(field: str, value: Any) -> str:
    """Return a mapping as JSON text that reads back equal.

    Raises:
        ValidationError: It is no mapping, a key is not text, or something in it has no JSON form (NaN, an
            object).
    """
    if not isinstance(value, Mapping):
        raise refuse(field, "a mapping", value)
    return json_value(field, value)


def json_value(field: str, value: Any, *, ascii_only: bool = True) -> str:
    """Return any JSON value as JSON text that reads back equal (tuples as lists).

    Raises:
        ValidationError: See `json_text`.
    """
    import json

    try:
        checked = _json_checked(field, value)
        return json.dumps(checked, ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise ValidationError(f"{field}: expected JSON, got something that is nested too deeply") from None


def _json_checked(field: str, value: Any) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        whole = int(value)
        if whole.bit_length() > _WRITABLE:
            try:
                str(whole)
            except ValueError:
                raise refuse(field, "JSON, whose whole numbers are short enough to write", whole) from None
        return whole
    if isinstance(value, float):
        if not math.isfinite(value):
            raise refuse(field, "JSON, which has finite numbers only", value)
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise refuse(field, "JSON, whose keys are text", key)
        return {key: _json_checked(f"{field}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_checked(f"{field}[{i}]", item) for i, item in enumerate(value)]
    raise refuse(field, "JSON (text, numbers, True, False, None, lists and mappings)", value)


def vector(field: str, value: Any, dimension: int | None = None) -> Vector:
    """Return an embedding as a contiguous float32 vector.

    Args:
        field: What the vector is called in an error.
        value: An array of any numeric type and stride, or a list of numbers.
        dimension: Its length, where that is known here.

    Raises:
        DimensionError: It has another length.
        ValidationError: It is not a vector of numbers, or holds a number beyond float32.
    """
    array = _numbers(field, value, 1, "a vector of numbers")
    if dimension is not None and len(array) != dimension:
        raise DimensionError(
            f"{field}: expected {dimension} dimensions, got {len(array)}", dimension, len(array)
        )
    return array


def matrix(field: str, value: Any, width: int | None = None, rows: int | None = None) -> Matrix:
    """Return embeddings as a C-contiguous float32 matrix `[rows, width]`.

    Raises:
        DimensionError: Its rows have another width.
        ValidationError: It is not a matrix of numbers, has another number of rows, or holds a number beyond
            float32.
    """
    if isinstance(value, (list, tuple)) and not value and width is not None:
        value = np.empty((0, width), np.float32)
    array = _numbers(field, value, 2, "a matrix of numbers, one row each")
    if width is not None and array.shape[1] != width:
        raise DimensionError(
            f"{field}: expected {width} dimensions, got {array.shape[1]}", width, array.shape[1]
        )
    if rows is not None and len(array) != rows:
        raise ValidationError(f"{field}: expected {rows} rows, got {len(array)}")
    return array


def column(field: str, value: Any, rows: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Return `rows` numbers of one kind.

    Raises:
        ValidationError: They are of another kind, another number of them, masked, or one is beyond `kind`.
    """
    unmasked(field, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise refuse(field, f"{rows} numbers", value) from None
    if array.shape != (rows,):
        raise ValidationError(f"{field}: expected {rows} numbers, got an array of shape {array.shape}")
    if rows and array.dtype.kind not in ("iu" if kind is np.int64 else "fiu"):
        raise refuse(field, "whole numbers" if kind is np.int64 else "numbers", array)
    if kind is np.int64 and array.dtype == np.uint64 and rows:
        integer(field, array.max())  # which int64 may not hold
    return _narrowed(field, array, kind)


def finite(field: str, array: npt.NDArray[Real]) -> npt.NDArray[Real]:
    """Return an array without NaN and infinity.

    Raises:
        ValidationError: It has one of them; the first is named.
    """
    sound = np.isfinite(array)
    if not sound.all():
        at = np.argwhere(~sound)[0]
        place = ", ".join(map(str, at))
        raise refuse(f"{field}[{place}]", "a finite number", array[tuple(at)])
    return array


def _numbers(field: str, value: Any, dimensions: int, expected: str) -> npt.NDArray[np.float32]:
    if type(value) is np.ndarray and value.dtype == np.float32 and value.ndim == dimensions:
        return value if value.flags.c_contiguous else np.ascontiguousarray(value)
    if isinstance(value, (str, bytes, Mapping)):
        raise refuse(field, expected, value)
    unmasked(field, value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise refuse(field, expected, value) from None
    if array.dtype.kind not in "fiu" and array.size:
        raise refuse(field, expected, value if isinstance(value, np.ndarray) else array)
    if array.ndim != dimensions:
        raise ValidationError(f"{field}: expected {expected}, got an array of shape {array.shape}")
    return _narrowed(field, array, np.float32)


def _narrowed(field: str, array: npt.NDArray[Any], kind: type[np.generic]) -> npt.NDArray[Any]:
    """Return numbers as another type, whose range they must not leave."""
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(array, dtype=kind)
    if narrow.dtype.kind == "f" and array.dtype.itemsize > narrow.dtype.itemsize:
        beyond = np.isinf(narrow) & np.isfinite(array)
        if beyond.any():
            at = np.argwhere(beyond)[0]
            place = ", ".join(map(str, at))
            raise refuse(f"{field}[{place}]", f"numbers that {narrow.dtype} can hold", array[tuple(at)])
    return narrow
