"""What it means to be a record: compared by value, pickled whole, read from and written to plain mappings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
import numpy.typing as npt

from precedent.checks import is_masked, refuse
from precedent.errors import ValidationError

__all__ = [
    "Nested",
    "Record",
    "alias_of",
    "each",
    "each_named",
    "embedding",
    "frozen_array",
    "frozen_mapping",
    "read_keys",
    "record",
    "same",
]


class Record:
    """The base of every record; `record` decorates its subclasses.

    Two records are equal if they are of one class and all their fields are equal; arrays are equal if shape
    and every number are, NaN beside NaN included. Records are not hashable, since their arrays and mappings
    are not.
    """

    __slots__ = ()
    # What reads the fields that are more than plain values.
    _nested: ClassVar[Nested] = {}
    # Every subclass is a dataclass, which `dataclasses.fields` needs to know.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same(getattr(self, name), getattr(other, name)) for name in _names(type(self)))

    def __repr__(self) -> str:
        told = (f"{name}={_shown(getattr(self, name))}" for name in _names(type(self)))
        return f"{type(self).__name__}({', '.join(told)})"

    def __copy__(self) -> Self:
        return _filled(type(self), [getattr(self, name) for name in _names(type(self))])

    def __reduce__(self) -> tuple[object, ...]:
        values = [getattr(self, name) for name in _names(type(self))]
        # A read-only mapping does not pickle.
        read_only = tuple(at for at, value in enumerate(values) if isinstance(value, MappingProxyType))
        for at in read_only:
            values[at] = dict(values[at])
        return _restored, (type(self), tuple(values), read_only)

    def to_dict(self, *, by_alias: bool = False) -> dict[str, Any]:
        """Return the fields as plain Python: mappings, lists, numbers and text.

        Args:
            by_alias: Name the fields as the seed does, in camelCase (`stateEmbedding`), instead of
                snake_case.
        """
        name_of = alias_of if by_alias else str
        return {
            name_of(field.name): plain(getattr(self, field.name), by_alias=by_alias) for field in fields(self)
        }

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes, in either spelling.

        Raises:
            ValidationError: A key names no field, a field is named twice, or one that must be there is
                missing.
        """
        return cls(**read_keys(cls, mapping, cls._nested))


R = TypeVar("R", bound=Record)
# Makes a field's value of what `to_dict` wrote for it: a record class of its mapping, a callable of anything.
Reader = type[Record] | Callable[[Any], Any]
# Readers by the names of fields.
Nested = Mapping[str, Reader]


@dataclass_transform(eq_default=False, kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def record(cls: type[R]) -> type[R]:
    """Make a subclass of `Record` a frozen, keyword-only dataclass with slots."""
    made = dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)(cls)
    # Those that `dataclass` made stumble over names that are no fields (python/cpython#90055).
    made.__setattr__ = _refuse_to_set  # type: ignore[method-assign, assignment]
    made.__delattr__ = _refuse_to_delete  # type: ignore[method-assign, assignment]
    return made


def _refuse_to_set(self: Record, name: str, _: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}: a {type(self).__name__} is frozen")


def _refuse_to_delete(self: Record, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}: a {type(self).__name__} is frozen")


def _shown(value: object) -> str:
    """Return a field's value, an array by its type and shape: hundreds of numbers tell a reader nothing."""
    return f"<{value.dtype} {list(value.shape)}>" if isinstance(value, np.ndarray) else repr(value)


def _filled(record: type[R], values: Iterable[object]) -> R:
    """Make a record from its fields as they are."""
    filled = object.__new__(record)
    for name, value in zip(_names(record), values, strict=True):
        object.__setattr__(filled, name, value)
    return filled


def _restored(record: type[Record], values: tuple[Any, ...], read_only: tuple[int, ...]) -> Record:
    """Make a record of what was pickled, which forgets that arrays and mappings are read-only."""
    for value in values:
        if isinstance(value, np.ndarray):
            _sealed(value)
    kept = (MappingProxyType(value) if at in read_only else value for at, value in enumerate(values))
    return _filled(record, kept)


# The seed spells the letter of the HNSW paper as the paper does.
_SEED_NAMES = {"m": "M"}


def alias_of(name: str) -> str:
    """Return the seed's camelCase for a snake_case name."""
    if name in _SEED_NAMES:
        return _SEED_NAMES[name]
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def read_keys(record: type[Record], mapping: object, readers: Nested | None = None) -> dict[str, Any]:
    """Return a mapping's entries by field name; `readers` turn nested mappings into records.

    Raises:
        ValidationError: See `Record.from_dict`.
    """
    if not isinstance(mapping, Mapping):
        raise ValidationError(f"{record.__name__}: expected a mapping, got {type(mapping).__name__}")
    names = {
        spelling: field.name for field in fields(record) for spelling in (field.name, alias_of(field.name))
    }
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        name = names.get(key)
        if name is None:
            raise ValidationError(
                f"{record.__name__}: expected one of {', '.join(_names(record))}, got {key!r}"
            )
        if name in found:
            raise ValidationError(f"{record.__name__}.{name}: expected one spelling of it, got two")
        read = readers.get(name) if readers else None
        found[name] = value if read is None or value is None else _entry(record, name, read, value)
    missing = [name for name in _required(record) if name not in found]
    if missing:
        raise ValidationError(f"{record.__name__}.{missing[0]}: expected a value, got none")
    return found


def _entry(record: type[Record], name: str, read: Reader, value: Any) -> Any:
    try:
        return _read(read, value)
    except ValidationError:
        raise
    except (TypeError, ValueError):
        raise refuse(f"{record.__name__}.{name}", "what to_dict writes", value) from None


def _read(read: Any, value: Any) -> Any:
    if isinstance(read, type) and issubclass(read, Record):
        return value if isinstance(value, read) else read.from_dict(value)
    return read(value)


def each(read: Reader) -> Reader:
    """Return a reader of a list, by the reader of one value of it; it makes a tuple."""

    def read_each(values: Any) -> tuple[Any, ...]:
        if isinstance(values, (str, bytes, Mapping)):
            raise TypeError  # which `read_keys` turns into a sentence
        return tuple(_read(read, value) for value in values)

    return read_each


def each_named(read: Reader) -> Reader:
    """Return a reader of a mapping, by the reader of one value of it."""
    return lambda values: {name: _read(read, value) for name, value in dict(values).items()}


def _names(record: type[Record]) -> Iterable[str]:
    # Not `__dataclass_fields__`, which has what belongs to the class as well.
    return (field.name for field in fields(record))


def _required(record: type[Record]) -> Iterable[str]:
    from dataclasses import MISSING

    return (f.name for f in fields(record) if f.default is MISSING and f.default_factory is MISSING)


def same(one: object, other: object) -> bool:
    """Whether two values of a field are equal, arrays and what holds arrays included."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same_arrays(one, other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


def _same_arrays(one: object, other: object) -> bool:
    try:
        a, b = np.asarray(one), np.asarray(other)
    except ValueError:  # a ragged list beside an array
        return False
    if a.shape != b.shape:
        return False
    floating = a.dtype.kind == "f" and b.dtype.kind == "f"
    return bool(np.array_equal(a, b, equal_nan=floating))


def plain(value: object, *, by_alias: bool = False) -> Any:
    """Return a value as mappings, lists, numbers and text."""
    if isinstance(value, Record):
        return value.to_dict(by_alias=by_alias)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {
            key.value if isinstance(key, Enum) else key: plain(item, by_alias=by_alias)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(item, by_alias=by_alias) for item in value]
    return value


def frozen_array(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a read-only view of an array."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def frozen_mapping(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a read-only copy of a mapping."""
    return MappingProxyType(dict(mapping))


def _sealed(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make a new array read-only, and return it."""
    array.flags.writeable = False
    return array


def embedding(value: Any, *, copy: bool = True) -> Any:
    """Return numbers as a read-only float32 array, and anything else as it is.

    A record holds what it was given; whether that is an embedding, which shape it must have and whether text
    stands for one is the business of the store that takes the record, which names field and position. So
    nothing is refused here, and numbers that float32 cannot hold stay as they came.

    Args:
        value: An array, a list of numbers, or text or a task mapping for a store with an encoder.
        copy: Whether to copy float32 arrays, so that later changes by the caller do not show.
    """
    if isinstance(value, (str, bytes, Mapping)) or value is None or is_masked(value):
        return value  # numbers under a mask are not there
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return value
    if array.dtype.kind not in "fiu":
        return value
    if array.dtype == np.float32:
        # A read-only view is copied too: whoever has what it is a view of can still write to that.
        own = array.flags.owndata and not array.flags.writeable
        return _sealed(array.copy()) if copy and not own else frozen_array(array)
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    if not np.array_equal(np.isfinite(narrow), np.isfinite(array)):
        return frozen_array(array)
    return frozen_array(narrow)
