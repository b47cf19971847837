"""The trajectory store: one SQLite file of steps, found by nearness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from precedent import checks, columns
from precedent.filters import Filter, normalised
from precedent.handle import StoreFile
from precedent.quantizer import Quantizer, code_matrix
from precedent.queries import (
    id_texts,
    is_vector,
    no_rows,
    search_options,
)
from precedent.records import build
from precedent.records.batch import TrajectoryBatch
from precedent.records.episode import Episode
from precedent.records.results import SearchResult, TrajectoryStats, VerifyReport
from precedent.records.step import Trajectory

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["TrajectoryStore"]

Metric = Literal["cosine", "euclidean", "dot"]

# What `search_ids` answers in one call at most: its arrays have k columns, however few rows there are.
_MOST_ANSWERS = 2**28


class TrajectoryStore(StoreFile):
    """Steps in one SQLite file: recorded, found by the nearness of their states, filtered, pruned.

    What `insert` has returned is durable. Several stores may be open on one file, in one process or in many,
    and each sees what the others committed. It is a context manager; any use after `close` raises
    `ClosedError`.

    An open store maps its files: none may be cut short or copied over in place while any process has it open
    (the system ends such a process), so replace a store's file only while it is closed everywhere, best by
    renaming a new one into its place.

    Args:
        path: The file, made if it does not exist, with its parent folders; `":memory:"`; or an open
            `Workspace`, whose store it then is (and no other option may be given).
        dimension: Of a state, 1 to 16,384. None = the file's; for a new file the encoder's, else 768.
        action_dimension: Of an action. None = the file's; for a new file `dimension`.
        hnsw: The graph's settings, an `HnswConfig` or a mapping of its fields; what is None is the file's.
            What is named is kept in the file, but by a read-only store, for which it holds while it is open.
        cache: The query cache's settings, a `CacheConfig` or a mapping of its fields.
        durability: `"normal"`: what was returned survives the process; `"full"`: it survives power loss as
            well.
        storage: `"f32"`, or `"f16"`: embeddings are rounded and take half the room. None = the file's, for a
            new file f32.
        encoder: What makes states of text and tasks, an `Encoder` (see `precedent.encoders.as_encoder`).
        read_only: Open an existing file and write nothing.

    Example:
        >>> from precedent import Action, Trajectory, TrajectoryMetadata, TrajectoryStore
        >>> store = TrajectoryStore(":memory:", dimension=2)
        >>> for name, state in (("wait", [1.0, 0.0]), ("retry", [0.0, 1.0])):
        ...     _ = store.insert(
        ...         Trajectory(
        ...             state_embedding=state,
        ...             action=Action(pattern_id=name, embedding=state),
        ...             reward=1.0,
        ...             metadata=TrajectoryMetadata(task_type="build", episode_id="monday"),
        ...         )
        ...     )
        >>> store.compute_returns("monday", gamma=0.5).tolist()
        [1.5, 1.0]
        >>> [found] = store.search([0.1, 0.9], filter={"task_type": "build", "min_return": 0.5})
        >>> found.trajectory.action.pattern_id, round(found.similarity, 3)
        ('retry', 0.994)
        >>> store.close()

    Raises:
        DimensionError: The file has other dimensions.
        EncoderMismatchError: Another encoder made the file's states.
        ValidationError: An option out of its range, or another storage or graph metric than the file's.
        AccessError: No such file (read-only), no permission, or a folder in its place.
        FormatError: A file of another program.
        VersionError: A file of a newer version.
    """

    __slots__ = ()

    def insert(self, trajectory: Trajectory) -> str:
        """Record one step and return its id, 32 hex digits that rise with time. The row is durable.

        Raises:
            ValidationError: The step does not fit; the message names the field. Nothing was written.
            ReadOnlyError: The store is read-only.
        """
        if not isinstance(trajectory, Trajectory):
            raise checks.refuse("trajectory", "a Trajectory", trajectory)
        rows = columns.of_trajectories(
            [trajectory], self._core.dimension, self._core.action_dimension, self._encode, one=True
        )
        return self._core.insert(rows, "one")[0]

    def insert_batch(self, trajectories: Sequence[Trajectory] | TrajectoryBatch) -> list[str]:
        """Record steps in one transaction, all or none, and return their ids in order.

        Raises:
            ValidationError: A step does not fit; the message names the field and the position. Nothing was
                written.
            ReadOnlyError: The store is read-only.
        """
        size = self._core.dimension, self._core.action_dimension
        if isinstance(trajectories, TrajectoryBatch):
            rows = columns.of_batch(trajectories, *size, self._encode)
            return self._core.insert(rows, "columns")
        steps = checks.listed("trajectories", trajectories, "Trajectory records or a TrajectoryBatch")
        rows = columns.of_trajectories(steps, *size, self._encode) if steps else no_rows(*size)
        return self._core.insert(rows, "records")

    def search(
        self,
        state: Any,
        *,
        k: int = 5,
        metric: Metric | None = None,
        threshold: float | None = 0.8,
        filter: Filter | None = None,
        exact: bool = False,
        ef_search: int | None = None,
    ) -> list[SearchResult]:
        """Return the steps whose states are nearest, nearest first.

        Args:
            state: `[d]`; text or a task where the store has an encoder.
            k: How many at most.
            metric: None = the graph's.
            threshold: The least similarity, itself included; None = no cut.
            filter: Answer among the steps that match: a `SearchFilter` or a mapping.
            exact: Proven equal to brute force. Ties go to the row inserted first.
            ef_search: Candidates the graph keeps, at least k; None = the graph's own, or k + k / 8.

        Raises:
            ValidationError: Not a state of this store, or an option out of its range; also on an empty store.
        """
        found = self._core.search(
            self._query_vector(state), *search_options(k, metric, threshold, filter, exact, ef_search)
        )
        self._log_news()
        return build.search_results(*found)

    def search_many(
        self,
        states: Any,
        *,
        k: int = 5,
        metric: Metric | None = None,
        threshold: float | None = 0.8,
        filter: Filter | None = None,
        exact: bool = False,
        ef_search: int | None = None,
    ) -> list[list[SearchResult]]:
        """Search for each row of a matrix `[q, d]`, in parallel; the options are those of `search`.

        Raises:
            ValidationError: See `search`.
        """
        found = self._core.search_many(
            self._query_matrix(states), *search_options(k, metric, threshold, filter, exact, ef_search)
        )
        return [build.search_results(*answer) for answer in found]

    def search_ids(
        self,
        states: Any,
        *,
        k: int = 5,
        metric: Metric | None = None,
        filter: Filter | None = None,
        exact: bool = False,
        ef_search: int | None = None,
        threshold: float | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Ask the index alone, reading no records.

        Args:
            states: `[q, d]`, or one vector `[d]`.
            k: How many at most; `q k` answers must stay below 2^28.
            metric: See `search`.
            filter: See `search`.
            exact: See `search`.
            ef_search: See `search`.
            threshold: See `search`; here there is none by default.

        Returns:
            Row keys `[q, k]` (-1 where there are fewer) and distances `[q, k]`; `[k]` for one vector.
            `get_many` resolves keys; a key is never used again for another row.

        Raises:
            ValidationError: See `search`.
        """
        one = is_vector(states)
        queries = self._query_vector(states, "states")[np.newaxis] if one else self._query_matrix(states)
        options = search_options(k, metric, threshold, filter, exact, ef_search)
        if options[0] * len(queries) > _MOST_ANSWERS:
            raise checks.refuse("k", f"at most {_MOST_ANSWERS // len(queries)} for {len(queries)} queries", k)
        keys, distances = self._core.search_ids(queries, *options)
        self._log_news()
        return (keys[0], distances[0]) if one else (keys, distances)

    def search_quantized(
        self, codes: npt.NDArray[np.uint8], *, k: int = 5, filter: Filter | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Ask the index by codes only: nothing is measured again, so the distances are estimates.

        Args:
            codes: `[q, bytes]`, what `quantizer.encode(states, role="query")` gives.
            k: How many at most.
            filter: See `search`.

        Returns:
            Row keys `[q, k]` (-1 where there are fewer) and distances `[q, k]` under the graph's metric.

        Raises:
            ValidationError: Not codes of queries, or an option out of its range.
        """
        k = checks.integer("k", k, low=1)
        given = code_matrix(codes, self.quantizer.bytes_per_query)
        if k * len(given) > _MOST_ANSWERS:
            raise checks.refuse("k", f"at most {_MOST_ANSWERS // len(given)} for {len(given)} queries", k)
        return self._core.quantizer.search(given, k, normalised(filter))

    @property
    def quantizer(self) -> Quantizer:
        """The codes of this store's graph."""
        return Quantizer(self)

    def get_by_state(self, state: Any, *, filter: Filter | None = None) -> list[Trajectory]:
        """Return the steps whose state has the same bits, oldest first.

        Raises:
            ValidationError: Not a state of this store.
        """
        query = self._query_vector(state, role="document")
        return build.trajectories(self._core.by_state(query, normalised(filter)))

    def get(self, id: str | int) -> Trajectory:
        """Return one step by its id or row key.

        Raises:
            NotFoundError: No such step.
        """
        if isinstance(id, str):
            return self.get_many([id])[0]
        return self.get_many([checks.integer("id", id, low=-(2**63), high=2**63 - 1)])[0]

    def get_many(self, ids: Sequence[str] | Sequence[int] | npt.NDArray[np.int64]) -> list[Trajectory]:
        """Return steps by their ids, or by the row keys that `search_ids` gives, in that order.

        Raises:
            NotFoundError: No such step; -1 is none.
            ValidationError: Neither ids nor keys.
        """
        if isinstance(ids, np.ndarray) and ids.dtype.kind == "i" and ids.ndim == 1:
            return build.trajectories(self._core.get_keys(ids.astype(np.int64)))
        listed = checks.listed("ids", ids, "several ids")
        if listed and not isinstance(listed[0], str):
            keys = [
                checks.integer(f"ids[{i}]", key, low=-(2**63), high=2**63 - 1) for i, key in enumerate(listed)
            ]
            return build.trajectories(self._core.get_keys(np.array(keys, np.int64)))
        return build.trajectories(self._core.get(id_texts(listed)))

    def get_episode(self, id: str) -> Episode:
        """Return an episode with its steps in order. It is gone with its last step.

        Raises:
            NotFoundError: No such episode.
        """
        name, total_reward, success, metadata, steps = self._core.episode(checks.text("id", id))
        return Episode(
            id=name,
            trajectories=tuple(build.trajectories(steps)),
            total_reward=total_reward,
            success=success,
            metadata={} if metadata is None else build.parsed(metadata),
        )

    def episodes(self, filter: Filter | None = None) -> Iterator[str]:
        """Walk the ids of the episodes with at least one step that matches, in the order of their creation.

        Raises:
            ValidationError: Not a filter.
        """
        return iter(self._core.episode_names(normalised(filter)))

    def set_episode(
        self,
        id: str,
        *,
        success: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what only the caller knows of an episode. What is None stays as it was.

        Args:
            id: The episode.
            success: Whether it succeeded, whatever its last step says.
            metadata: Anything that has a JSON form; replaces what was there.

        Raises:
            NotFoundError: No such episode.
            ReadOnlyError: The store is read-only.
        """
        self._core.set_episode(
            checks.text("id", id),
            None if success is None else checks.flag("success", success),
            None if metadata is None else checks.json_text("metadata", metadata),
        )

    def delete(self, ids: Sequence[str]) -> int:
        """Delete steps, all or none, and return how many.

        Raises:
            NotFoundError: No such step.
            ValidationError: An id is given twice.
            ReadOnlyError: The store is read-only.
        """
        return self._core.delete(id_texts(checks.listed("ids", ids, "several ids")))

    def iter_batches(self, filter: Filter | None = None, size: int = 1024) -> Iterator[TrajectoryBatch]:
        """Walk the steps that are there now and match, in insertion order, `size` at a time.

        Steps that are deleted meanwhile are left out; memory stays bounded by `size`.

        Raises:
            ValidationError: Not a filter, or a size below 1.
        """
        size = checks.integer("size", size, low=1, clamp=True)
        keys = self._core.keys_matching(normalised(filter))
        return self._batches(keys, size)

    def _batches(self, keys: npt.NDArray[np.int64], size: int) -> Iterator[TrajectoryBatch]:
        for start in range(0, len(keys), size):
            batch = build.batch(self._core.columns_of(keys[start : start + size]))
            if len(batch):
                yield batch

    def compute_returns(
        self, episode_id: str, gamma: float = 0.99, *, tail: float | None = None
    ) -> npt.NDArray[np.float64]:
        """Write the returns of an episode, R_t = r_t + gamma R_(t+1) from its end, and return them.

        Args:
            episode_id: The episode.
            gamma: The discount, in [0, 1].
            tail: What comes after the last step. None = 0 (the seed's formula), unless that step is truncated
                and not terminated: an episode that was cut off goes on, at the mean reward of its last
                1/(1-gamma) steps.

        Raises:
            NotFoundError: No such episode.
            ReadOnlyError: The store is read-only.
        """
        return self._core.compute_returns(
            checks.text("episode_id", episode_id),
            checks.number("gamma", gamma, low=0.0, high=1.0),
            None if tail is None else checks.number("tail", tail),
        )

    def compute_all_returns(self, gamma: float = 0.99, *, missing_only: bool = True) -> int:
        """Write the returns of every episode, and return for how many.

        Args:
            gamma: The discount, in [0, 1].
            missing_only: Only episodes with a step that has none.

        Raises:
            ReadOnlyError: The store is read-only.
        """
        return self._core.compute_all_returns(
            checks.number("gamma", gamma, low=0.0, high=1.0), checks.flag("missing_only", missing_only)
        )

    def prune(
        self,
        keep_days: float | None = 30,
        min_return: float | None = None,
        max_size: int | None = None,
        keep_successful: bool = True,  # noqa: FBT001, FBT002
        unit: Literal["step", "episode"] = "step",
        dry_run: bool = False,  # noqa: FBT001, FBT002
    ) -> int:
        """Delete what is old, bad or too much, and return how many steps.

        A step goes if it is older than `keep_days` or its return is below `min_return`, unless
        `keep_successful` and it succeeded. If more than `max_size` remain, the worst go, successful ones too:
        kept are first successful steps (where `keep_successful`), then those of higher return (none is
        lowest), then newer ones.

        Args:
            keep_days: None = no limit.
            min_return: A step without a return is not below it. None = no limit.
            max_size: How many steps may remain. None = no limit.
            keep_successful: Whether success protects.
            unit: `"episode"`: an episode goes if all its steps would; then whole episodes go, ordered by
                success, mean return and newest step.
            dry_run: Count, and delete nothing.

        Raises:
            ValidationError: A negative or NaN limit, or an unknown unit.
            ReadOnlyError: The store is read-only.
        """
        return self._core.prune(
            None if keep_days is None else checks.number("keep_days", keep_days, low=0.0),
            None if min_return is None else checks.number("min_return", min_return, finite=False),
            None if max_size is None else checks.integer("max_size", max_size, clamp=True),
            checks.flag("keep_successful", keep_successful),
            checks.choice("unit", unit, ("step", "episode")),
            checks.flag("dry_run", dry_run),
        )

    def get_stats(self) -> TrajectoryStats:
        """Return what is in the store and what it takes."""
        self._log_news()
        return TrajectoryStats(**self._core.stats())

    def verify(self, deep: bool = False) -> VerifyReport:  # noqa: FBT001, FBT002
        """Check the file: SQLite's own check, a vector for each row, dimensions, finite values.

        Args:
            deep: Also compare what is derived with the rows, the saved index included.
        """
        ok, problems, rows, checked, seconds = self._core.verify(checks.flag("deep", deep))
        return VerifyReport(ok=ok, problems=tuple(problems), rows=rows, checked=checked, seconds=seconds)

    def flush(self) -> None:
        """Wait until every row is linked into the index, and save the index if much of it is new.

        Nothing needs this: rows that are not linked yet are found by scan.
        """
        self._core.flush()
        self._log_news()

    def rebuild_index(self) -> None:
        """Drop what is derived, build it again from the rows, and wait until that is done."""
        self._core.rebuild_index()
        self._log_news()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the database, while others read and write it; the copy is a whole store.

        To restore it, close the store everywhere and rename the copy into its place: an open store maps its
        files, and the system ends a process whose mapped file is cut short or copied over in place.

        Raises:
            AccessError: The copy cannot be written there.
        """
        self._core.backup(checks.path("path", path))
