"""Where an action embedding becomes something to execute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from precedent import _core, checks
from precedent.errors import NotFoundError
from precedent.filters import Filter, normalised
from precedent.fit import check_store
from precedent.records.build import parsed
from precedent.values import Record, embedding, read_keys, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from precedent import seam
    from precedent.store import TrajectoryStore

__all__ = ["Pattern", "PatternLibrary", "PatternMatch"]


@record
class Pattern(Record):
    """A way to act, and how it did.

    Attributes:
        pattern_id: What steps name it by.
        name: For people.
        payload: What to execute: anything that has a JSON form.
        embedding: `[a]`: what `upsert` gave, else the mean of the actions that name it; None if there is
            neither.
        uses: Steps that name it.
        successes: Those among them that succeeded.
        mean_reward: Over its uses; None without any.
    """

    pattern_id: str
    name: str | None = None
    payload: Any = None
    embedding: npt.NDArray[np.float32] | None = None
    uses: int = 0
    successes: int = 0
    mean_reward: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "embedding", embedding(self.embedding))


@record
class PatternMatch(Record):
    """A pattern that fits.

    Attributes:
        pattern_id: Its id.
        similarity: Of `search`: the cosine to the pattern's embedding. Of `match`: how near the states are in
            which it was taken.
        score: What the patterns are ranked by. Of `match`: `low`. Of `search`: the similarity.
        low: Of `match`: the 5 % quantile of the rate of success in such states, by a Beta posterior in which
            near states count more. Of `search`: the similarity.
        high: Of `match`: the 95 % quantile. Of `search`: the similarity.
        pattern: The pattern.
    """

    pattern_id: str
    similarity: float
    score: float
    low: float
    high: float
    pattern: Pattern

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes, in snake_case or camelCase.

        Raises:
            ValidationError: See `Trajectory.from_dict`.
        """
        return cls(**read_keys(cls, mapping, {"pattern": Pattern.from_dict}))


class PatternLibrary:
    """The patterns of a store: those that steps name, and those that `upsert` put there.

    Example:
        >>> from precedent import PatternLibrary, TrajectoryStore
        >>> with TrajectoryStore(":memory:", dimension=2) as store:
        ...     library = PatternLibrary(store)
        ...     library.upsert("retry", [0.0, 1.0], payload={"command": "make again"})
        ...     library.search([0.1, 0.9])[0].pattern.payload
        {'command': 'make again'}

    Args:
        store: An open `TrajectoryStore`, which stays its owner; the library is open as long as the store is.
    """

    __slots__ = ("_core", "_store")

    def __init__(self, store: TrajectoryStore) -> None:
        check_store(store)
        self._store = store
        self._core = _core.Patterns(store._core)

    @property
    def store(self) -> TrajectoryStore:
        """The store."""
        return self._store

    def upsert(
        self, pattern_id: str, embedding: Any = None, *, name: str | None = None, payload: Any = None
    ) -> None:
        """Add a pattern, or change what is given of one.

        Args:
            pattern_id: What steps name it by.
            embedding: `[a]`; None = the mean of the actions that name it.
            name: For people.
            payload: What to execute: anything that has a JSON form.

        Raises:
            ValidationError: An empty id, an embedding of another length, a payload without a JSON form.
            ReadOnlyError: The store is read-only.
        """
        self._core.upsert(
            checks.text("pattern_id", pattern_id),
            None if embedding is None else checks.vector("embedding", embedding),
            None if name is None else checks.text("name", name),
            None if payload is None else checks.json_value("payload", payload),
        )

    def get(self, pattern_id: str) -> Pattern:
        """Return a pattern.

        Raises:
            NotFoundError: Nothing has this id.
        """
        return _pattern(self._core.get(checks.text("pattern_id", pattern_id, empty=True)))

    def delete(self, pattern_id: str) -> None:
        """Drop what `upsert` gave. A pattern that steps name stays, with the mean of their actions.

        Raises:
            NotFoundError: Nothing has this id.
            ReadOnlyError: The store is read-only.
        """
        self._core.delete(checks.text("pattern_id", pattern_id, empty=True))

    def search(self, embedding: Any, *, k: int = 1) -> list[PatternMatch]:
        """Return the patterns whose embeddings are nearest to an action embedding, by cosine, nearest first.

        Args:
            embedding: `[a]`.
            k: How many at most.

        Raises:
            ValidationError: Not a vector of the store's action dimensions, zero, or k below 1.
        """
        k = checks.integer("k", k, low=1, clamp=True)
        found = self._core.search(checks.vector("embedding", embedding), k)
        return [
            PatternMatch(
                pattern_id=row[0],
                similarity=similarity,
                score=similarity,
                low=similarity,
                high=similarity,
                pattern=_pattern(row),
            )
            for similarity, row in found
        ]

    def match(
        self,
        state: Any,
        *,
        k: int = 1,
        neighbors: int = 32,
        min_similarity: float = 0.0,
        filter: Filter | None = None,
    ) -> list[PatternMatch]:
        """Return the patterns that did best in similar states.

        Each of the nearest states votes for the pattern taken there, by its similarity; patterns are ranked
        by the lower bound of a Beta posterior of their success, so that one lucky use does not win over many
        good ones.

        Args:
            state: `[d]`; text or a task where the store has an encoder.
            k: How many patterns at most.
            neighbors: How many states vote.
            min_similarity: States below this similarity do not.
            filter: Which states may.

        Raises:
            ValidationError: Not a state of this store, or an option out of its range.
        """
        return [
            PatternMatch(
                pattern_id=row[0],
                similarity=similarity,
                score=score,
                low=low,
                high=high,
                pattern=_pattern(row),
            )
            for similarity, score, low, high, row in self._core.matching(
                self._store._query_vector(state),
                checks.integer("k", k, low=1, clamp=True),
                checks.integer("neighbors", neighbors, low=1, clamp=True),
                checks.number("min_similarity", min_similarity),
                normalised(filter),
            )
        ]

    def __len__(self) -> int:
        return self._core.count()

    def __bool__(self) -> bool:
        return True  # an empty library is still one

    def __iter__(self) -> Iterator[Pattern]:
        """Walk the patterns that are there now, in the order in which they first appeared.

        Those that go meanwhile are left out.
        """
        return self._walk(self._core.ids())

    def _walk(self, ids: list[str]) -> Iterator[Pattern]:
        for pattern_id in ids:
            try:
                row = self._core.get(pattern_id)
            except NotFoundError:
                continue
            yield _pattern(row)

    def __contains__(self, pattern_id: object) -> bool:
        if not isinstance(pattern_id, str):
            return False
        try:
            self._core.get(pattern_id)
        except (NotFoundError, UnicodeEncodeError):  # half a surrogate pair is no id of anything
            return False
        return True

    def __repr__(self) -> str:
        return f"PatternLibrary({self._store!r})"


def _pattern(row: seam.Pattern) -> Pattern:
    pattern_id, name, payload, embedding, uses, successes, mean_reward = row
    return Pattern(
        pattern_id=pattern_id,
        name=name,
        payload=None if payload is None else parsed(payload),
        embedding=embedding,
        uses=uses,
        successes=successes,
        mean_reward=mean_reward,
    )
