"""Records from what the compiled core answers, without checking again what it has checked.

A search answers with five of these, and the whole of it takes some tens of microseconds. So they are filled
as objects of a class that has the same slots and is not frozen, and then change to the class of the record,
which Python allows between such classes: a fifth of the time that the constructors take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from precedent import checks
from precedent.errors import CorruptionError
from precedent.records.batch import TrajectoryBatch
from precedent.records.results import SearchResult
from precedent.records.step import Action, Trajectory, TrajectoryMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from precedent.seam import Columns, Records
    from precedent.values import Record

__all__ = ["batch", "search_results", "trajectories"]


def _settable(record: type[Record]) -> Any:
    """Return a class whose objects lie in memory as records do, and whose fields can be set."""
    return type(record.__name__, record.__bases__, {"__slots__": record.__slots__})


_Action, _Metadata, _Trajectory, _Result = map(
    _settable, (Action, TrajectoryMetadata, Trajectory, SearchResult)
)


def trajectories(records: Records) -> list[Trajectory]:
    """Return the rows of an answer as records, in its order."""
    made = []
    for state, embedding, row in zip(*records, strict=True):
        (
            id_,
            pattern_id,
            action_metadata,
            reward,
            return_to_go,
            task_type,
            episode_id,
            timestamp,
            task_id,
            duration,
            tokens_used,
            agent_type,
            context_length,
            step_index,
            success,
            quality,
            terminated,
            truncated,
            extra,
        ) = row

        action = _Action()
        action.pattern_id = pattern_id
        action.embedding = embedding
        action.metadata = None if action_metadata is None else parsed(action_metadata)
        action.__class__ = Action

        metadata = _Metadata()
        metadata.task_type = task_type
        metadata.episode_id = episode_id
        metadata.timestamp = timestamp
        metadata.task_id = task_id
        metadata.duration = duration
        metadata.tokens_used = tokens_used
        metadata.agent_type = agent_type
        metadata.context_length = context_length
        metadata.step_index = step_index
        metadata.success = success
        metadata.quality = quality
        metadata.terminated = terminated
        metadata.truncated = truncated
        metadata.extra = {} if extra is None else parsed(extra)
        metadata.__class__ = TrajectoryMetadata

        step = _Trajectory()
        step.state_embedding = state
        step.action = action
        step.reward = reward
        step.return_to_go = return_to_go
        step.metadata = metadata
        step.id = id_
        step.__class__ = Trajectory
        made.append(step)
    return made


def search_results(
    similarities: Iterable[float], distances: Iterable[float], records: Records
) -> list[SearchResult]:
    """Return an answer to a search as records, nearest first."""
    made = []
    steps = trajectories(records)
    for similarity, distance, step in zip(similarities, distances, steps, strict=True):
        result = _Result()
        result.id = step.id
        result.similarity = similarity
        result.distance = distance
        result.trajectory = step
        result.__class__ = SearchResult
        made.append(result)
    return made


def batch(columns: Columns) -> TrajectoryBatch:
    """Return columns of the core as a record."""
    given: dict[str, Any] = dict(columns)
    del given["keys"]
    for name in ("extras", "action_metadata"):
        texts = given[name]
        if texts is not None:
            given[name] = [None if text is None else parsed(text) for text in texts]
    return TrajectoryBatch(**given)


def parsed(text: str) -> Any:
    """Return what a JSON text of the file says.

    Raises:
        CorruptionError: It is no JSON: something else than this package wrote it.
    """
    from json import loads  # at its first need: most rows have none, and importing it takes milliseconds

    try:
        return loads(text)
    except ValueError as err:
        raise CorruptionError(f"the file contradicts itself: {checks.shown(text)} is no JSON") from err
