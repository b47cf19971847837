"""What goes into a store and what comes out of it: steps, episodes, columns, answers, statistics.

Records are frozen, keyword-only and compared by value. Embeddings are float32 and read-only; rewards and
returns are float64; timestamps are milliseconds since 1970, UTC.
"""

from __future__ import annotations

from precedent.records.batch import TrajectoryBatch
from precedent.records.episode import Episode
from precedent.records.results import SearchResult, TrajectoryStats, VerifyReport
from precedent.records.step import Action, Trajectory, TrajectoryMetadata

__all__ = [
    "Action",
    "Episode",
    "SearchResult",
    "Trajectory",
    "TrajectoryBatch",
    "TrajectoryMetadata",
    "TrajectoryStats",
    "VerifyReport",
]
