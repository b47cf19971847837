"""What a store answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from precedent.records.step import Trajectory
from precedent.values import Record, read_keys, record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SearchResult", "TrajectoryStats", "VerifyReport"]


@record
class SearchResult(Record):
    """One step near the state that was asked for.

    Attributes:
        id: The step's id.
        similarity: cosine: in [0, 1]; euclidean: 1 / (1 + distance); dot: the dot product.
        distance: cosine: 1 - cos; euclidean: L2; dot: minus the dot product.
        trajectory: The step.
    """

    id: str
    similarity: float
    distance: float
    trajectory: Trajectory

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_dict` writes, in snake_case or camelCase.

        Raises:
            ValidationError: See `Trajectory.from_dict`.
        """
        return cls(**read_keys(cls, mapping, {"trajectory": Trajectory.from_dict}))


@record
class TrajectoryStats(Record):
    """What is in a store and what it takes. Averages and timestamps are None on an empty store.

    Attributes:
        total_trajectories: Steps.
        total_episodes: Episodes.
        avg_episode_length: Steps an episode.
        avg_reward: Over all steps.
        avg_return: Over the steps that have a computed return.
        success_rate: The share of steps that succeeded, in [0, 1].
        task_types: Steps for each task type.
        storage_size: Bytes of the database on disk, its log included.
        index_size: Bytes of anonymous memory that the index holds.
        oldest_timestamp: Milliseconds since 1970.
        newest_timestamp: Milliseconds since 1970.
        unindexed: Steps that the graph has not linked yet; they are found by scan.
        index_state: `"scan"`, `"building"` or `"graph"`.
        sidecar_size: Bytes of the index file on disk.
        cache_hits: Searches answered from the query cache since the store was opened.
        cache_misses: Searches that were not.
    """

    total_trajectories: int
    total_episodes: int
    avg_episode_length: float | None
    avg_reward: float | None
    avg_return: float | None
    success_rate: float | None
    task_types: dict[str, int]
    storage_size: int
    index_size: int
    oldest_timestamp: int | None
    newest_timestamp: int | None
    unindexed: int
    index_state: str
    sidecar_size: int
    cache_hits: int
    cache_misses: int


@record
class VerifyReport(Record):
    """What `verify` found.

    Attributes:
        ok: There are no problems.
        problems: One sentence each.
        rows: Steps in the store.
        checked: Embeddings that were looked at: one a step, and one for each distinct action.
        seconds: How long it took.
    """

    ok: bool
    problems: tuple[str, ...]
    rows: int
    checked: int
    seconds: float

    def __bool__(self) -> bool:
        return self.ok
