"""Records from what the compiled core answers, without checking again what it has checked.

A search answers with five of these, and the whole of it takes some tens of microseconds, so fields are set
through their slots: a third of the time that the constructors take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from precedent import checks
from precedent.errors import CorruptionError
from precedent.records.batch import TrajectoryBatch
from precedent.records.results import SearchResult
from precedent.records.step import Action, Trajectory, TrajectoryMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from precedent.seam import Columns, Records
    from precedent.values import Record

__all__ = ["batch", "search_results", "trajectories"]


def _setters(record: type[Record], *names: str) -> list[Callable[[object, object], None]]:
    return [getattr(record, name).__set__ for name in names]


_new = object.__new__
_set_pattern, _set_embedding, _set_action_metadata = _setters(Action, "pattern_id", "embedding", "metadata")
_set_state, _set_action, _set_reward, _set_return, _set_metadata, _set_id = _setters(
    Trajectory, "state_embedding", "action", "reward", "return_to_go", "metadata", "id"
)
(
    _set_task_type,
    _set_episode,
    _set_timestamp,
    _set_task,
    _set_duration,
    _set_tokens,
    _set_agent,
    _set_context,
    _set_step,
    _set_success,
    _set_quality,
    _set_terminated,
    _set_truncated,
    _set_extra,
) = _setters(
    TrajectoryMetadata,
    "task_type",
    "episode_id",
    "timestamp",
    "task_id",
    "duration",
    "tokens_used",
    "agent_type",
    "context_length",
    "step_index",
    "success",
    "quality",
    "terminated",
    "truncated",
    "extra",
)
_set_result_id, _set_similarity, _set_distance, _set_trajectory = _setters(
    SearchResult, "id", "similarity", "distance", "trajectory"
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

        action = _new(Action)
        _set_pattern(action, pattern_id)
        _set_embedding(action, embedding)
        _set_action_metadata(action, None if action_metadata is None else parsed(action_metadata))

        metadata = _new(TrajectoryMetadata)
        _set_task_type(metadata, task_type)
        _set_episode(metadata, episode_id)
        _set_timestamp(metadata, timestamp)
        _set_task(metadata, task_id)
        _set_duration(metadata, duration)
        _set_tokens(metadata, tokens_used)
        _set_agent(metadata, agent_type)
        _set_context(metadata, context_length)
        _set_step(metadata, step_index)
        _set_success(metadata, success)
        _set_quality(metadata, quality)
        _set_terminated(metadata, terminated)
        _set_truncated(metadata, truncated)
        _set_extra(metadata, {} if extra is None else parsed(extra))

        step = _new(Trajectory)
        _set_state(step, state)
        _set_action(step, action)
        _set_reward(step, reward)
        _set_return(step, return_to_go)
        _set_metadata(step, metadata)
        _set_id(step, id_)
        made.append(step)
    return made


def search_results(
    similarities: Iterable[float], distances: Iterable[float], records: Records
) -> list[SearchResult]:
    """Return an answer to a search as records, nearest first."""
    made = []
    steps = trajectories(records)
    for similarity, distance, step in zip(similarities, distances, steps, strict=True):
        result = _new(SearchResult)
        _set_result_id(result, step.id)
        _set_similarity(result, similarity)
        _set_distance(result, distance)
        _set_trajectory(result, step)
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
