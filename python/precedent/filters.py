"""Which steps a search, a scan or a training run may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from precedent import checks
from precedent.errors import ValidationError
from precedent.values import Record, alias_of, record

__all__ = ["Filter", "SearchFilter", "normalised"]


@record
class SearchFilter(Record):
    """Conditions joined by "and"; None asks nothing.

    A mapping with these keys, in snake_case or the seed's camelCase, does as well. Conditions that take
    several are kept as tuples.

    Attributes:
        task_type: One task type or several, any of which will do.
        min_return: A computed return of at least this; steps without one never match.
        min_reward: A reward of at least this.
        min_episode_reward: An episode whose total reward is at least this.
        episode_id: One episode or several.
        after_timestamp: At this time (ms since 1970) or later.
        before_timestamp: Before this time.
        pattern_id: One pattern or several.
        agent_type: This agent type.
        success: Whether the step succeeded: its own `success` if it says, else reward > 0.5.

    Example:
        >>> SearchFilter(task_type=["build", "test"], min_return=0.5) == SearchFilter.from_dict(
        ...     {"taskType": ["build", "test"], "minReturn": 0.5}
        ... )
        True
    """

    task_type: str | Sequence[str] | None = None
    min_return: float | None = None
    min_reward: float | None = None
    min_episode_reward: float | None = None
    episode_id: str | Sequence[str] | None = None
    after_timestamp: int | None = None
    before_timestamp: int | None = None
    pattern_id: str | Sequence[str] | None = None
    agent_type: str | None = None
    success: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (normalised(self) or {}).items():
            # An iterator is used up by now, and a list of the caller's could still change.
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read a filter in snake_case or camelCase.

        Raises:
            ValidationError: An unknown key, or a value of another kind; the message names it.
        """
        return cls(**(normalised(mapping) or {}))


# What is accepted wherever a filter is.
Filter = SearchFilter | Mapping[str, Any]


def normalised(filter: object) -> dict[str, Any] | None:
    """Return a filter as the core reads it, checked; None if it asks nothing.

    Raises:
        ValidationError: It is no filter, has an unknown key, or a value of another kind; the message names
            it.
    """
    if filter is None:
        return None
    if isinstance(filter, SearchFilter):
        pairs = [(name, getattr(filter, name)) for name in _READERS]
    elif isinstance(filter, Mapping):
        pairs = list(filter.items())
    else:
        raise checks.refuse("filter", "a SearchFilter or a mapping", filter)
    conditions: dict[str, Any] = {}
    for key, value in pairs:
        name = _SPELLINGS.get(key)
        if name is None:
            raise ValidationError(f"filter: expected keys among {', '.join(_READERS)}, got {key!r}")
        if value is None:
            continue
        if name in conditions:
            raise ValidationError(f"filter.{name}: expected one spelling of it, got two")
        conditions[name] = _READERS[name](f"filter.{name}", value)
    return conditions or None


def _labels(field: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [checks.text(field, value)]
    several = checks.listed(field, value, "text, or several texts")
    return [checks.text(f"{field}[{i}]", item) for i, item in enumerate(several)]


def _moment(field: str, value: Any) -> int:
    return checks.integer(field, value, low=-(2**63), high=2**63 - 1)


def _bound(field: str, value: Any) -> float:
    return checks.number(field, value, finite=False)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "task_type": _labels,
    "min_return": _bound,
    "min_reward": _bound,
    "min_episode_reward": _bound,
    "episode_id": _labels,
    "after_timestamp": _moment,
    "before_timestamp": _moment,
    "pattern_id": _labels,
    "agent_type": checks.text,
    "success": checks.flag,
}

# The seed's trainer says `taskTypes`; the plural is understood for each condition that takes several.
_SPELLINGS = {name: name for name in _READERS}
_SPELLINGS |= {alias_of(name): name for name in _READERS}
_SPELLINGS |= {
    spelling: name
    for name in ("task_type", "episode_id", "pattern_id")
    for spelling in (name + "s", alias_of(name) + "s")
}
