"""Settings as data: sections of checked values, read by one converter from mappings, files and variables."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from precedent import checks
from precedent.errors import ValidationError
from precedent.values import Record, alias_of

__all__ = [
    "OptionalSection",
    "Reader",
    "Readers",
    "Section",
    "file_path",
    "interval",
    "merged",
    "one_of",
    "optional",
    "read",
    "read_environment",
    "real",
    "whole",
]

# Turns a value that was given for a key (its full path comes first) into a checked one.
Reader = Callable[[str, Any], Any]


class Section(Record):
    """The base of a group of settings: a frozen dataclass that checks every value where it is made.

    A nested section may be given as a mapping.
    """

    __slots__ = ()
    # One reader, or one nested section, a field.
    readers: ClassVar[Readers]

    def __post_init__(self) -> None:
        for name, reader in self.readers.items():
            value = getattr(self, name)
            if isinstance(reader, type):
                if not isinstance(value, reader):
                    object.__setattr__(self, name, reader(**read(reader, value, name)))
            else:
                object.__setattr__(self, name, reader(name, value))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read settings in snake_case or the seed's camelCase; what is not named keeps its default.

        Raises:
            ValidationError: An unknown key, or a value of the wrong kind or range, with the key's full path.
        """
        return cls(**read(cls, mapping, ""))


class OptionalSection:
    """Reads a nested section that may be None as a whole."""

    def __init__(self, section: type[Section]) -> None:
        self.section = section

    def __call__(self, path: str, value: Any) -> Section | None:
        """Return the section that was given, or made of a mapping."""
        if value is None or isinstance(value, self.section):
            return value
        return self.section(**read(self.section, value, path))


Readers = Mapping[str, Reader | type[Section]]


def read(section: type[Section], mapping: Any, path: str, folder: str | None = None) -> dict[str, Any]:
    """Return a mapping's settings by their snake_case names, all checked, nested ones as mappings.

    Args:
        section: What the mapping describes.
        mapping: The settings, in either spelling.
        path: What the keys' paths in errors begin with.
        folder: Where relative paths start from; None = the working directory.

    Raises:
        ValidationError: See `Section.from_dict`.
    """
    if isinstance(mapping, section):
        return {name: getattr(mapping, name) for name in section.readers}
    if not isinstance(mapping, Mapping):
        raise checks.refuse(path or section.__name__, "a mapping of settings", mapping)
    names = {spelling: name for name in section.readers for spelling in (name, alias_of(name))}
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        full = f"{path}.{key}" if path else str(key)
        name = names.get(key)
        if name is None:
            raise ValidationError(f"{full}: unknown; expected one of {', '.join(section.readers)}")
        if name in found:
            raise ValidationError(f"{full}: expected one spelling of it, got two")
        reader = section.readers[name]
        if isinstance(reader, type):
            found[name] = read(reader, value, full, folder)
        elif isinstance(reader, OptionalSection) and isinstance(value, Mapping):
            found[name] = read(reader.section, value, full, folder)
        else:
            found[name] = reader(full, value)
            if reader in _PATHS and folder is not None and found[name] not in (None, ":memory:"):
                found[name] = os.path.join(folder, found[name])  # noqa: PTH118 - text in, text out
    return found


def read_environment(
    section: type[Section], environment: Mapping[str, str], prefixes: tuple[str, ...]
) -> dict[str, Any]:
    """Return the settings among environment variables; names nest by two underscores.

    Args:
        section: What they describe.
        environment: The variables.
        prefixes: What a variable's name begins with if it is a setting; the word before the first pair of
            underscores is then the first key, after `PRECEDENT_`.

    Raises:
        ValidationError: A variable with such a prefix names nothing, or its value does not fit.
    """
    settings: dict[str, Any] = {}
    for variable in sorted(environment):
        if not variable.startswith(prefixes):
            continue
        keys = variable.removeprefix("PRECEDENT_").lower().split("__")
        reader = _reader_at(section, keys, variable)
        value = _from_text(reader, variable, environment[variable])
        into = settings
        for key in keys[:-1]:
            if not isinstance(into.get(key), dict):
                into[key] = {}
            into = into[key]
        into[keys[-1]] = value
    return settings


def merged(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Return two trees of settings as one. Where both have a value, the later one wins."""
    result = dict(earlier)
    for key, value in later.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Section):
            before = {name: getattr(before, name) for name in before.readers}
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def _reader_at(section: type[Section], keys: list[str], variable: str) -> Reader:
    for depth, key in enumerate(keys):
        reader = section.readers.get(key)
        if reader is None:
            raise ValidationError(
                f"{variable}: names no setting; expected one of {', '.join(section.readers)} for {key!r}"
            )
        last = depth == len(keys) - 1
        if isinstance(reader, type):
            section = reader
        elif isinstance(reader, OptionalSection) and not last:
            section = reader.section
        elif last:
            return reader
        else:
            raise ValidationError(f"{variable}: {key!r} is a single setting and has nothing inside")
    raise ValidationError(
        f"{variable}: names a group of settings; expected one of {', '.join(section.readers)}"
    )


# What JSON has no word for, as `float` reads it and Python's reader of JSON spells it.
_SPELLINGS = {
    sign + word: sign.strip("+") + "Infinity" for sign in ("", "+", "-") for word in ("inf", "infinity")
} | {"nan": "NaN"}


def _from_text(reader: Reader, variable: str, value: str) -> Any:
    """Return a variable's value: as JSON says where that fits (numbers, true, null, lists), else as text."""
    import json

    try:
        meant = json.loads(value if value[:1] in '[{"' else _SPELLINGS.get(value.lower(), value.lower()))
    except ValueError:
        return reader(variable, value)
    except RecursionError:
        raise ValidationError(f"{variable}: expected a value, got JSON that is nested too deeply") from None
    try:
        return reader(variable, meant)
    except ValidationError:
        if isinstance(meant, str):
            raise
        try:
            return reader(variable, value)
        except ValidationError:
            pass
        raise


def optional(reader: Reader) -> Reader:
    """Return a reader that also takes None."""

    def read_optional(path: str, value: Any) -> Any:
        return None if value is None else reader(path, value)

    if reader in _PATHS:
        _PATHS.add(read_optional)
    return read_optional


def whole(low: int = 0, high: int = checks.LARGEST) -> Reader:
    """Return a reader of whole numbers."""
    return lambda path, value: checks.integer(path, value, low=low, high=high)


def real(low: float = -math.inf, high: float = math.inf, *, finite: bool = True) -> Reader:
    """Return a reader of numbers."""
    return lambda path, value: checks.number(path, value, low=low, high=high, finite=finite)


def one_of(*choices: str) -> Reader:
    """Return a reader of named values."""
    return lambda path, value: checks.choice(path, value, choices)


def file_path(path: str, value: Any) -> str:
    """Read a path, as text or an `os.PathLike` of text."""
    return checks.path(path, value)


def interval(path: str, value: Any) -> tuple[float, float]:
    """Read two numbers, the lower one first."""
    try:
        low, high = value
    except (TypeError, ValueError):
        raise checks.refuse(path, "two numbers (low, high)", value) from None
    low, high = checks.number(path, low), checks.number(path, high)
    if not low < high:
        raise ValidationError(f"{path}: expected low < high, got ({low:g}, {high:g})")
    return low, high


_PATHS: set[Reader] = {file_path}
