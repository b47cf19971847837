"""Decisions by precedent: record what agents did, find what is similar, decide, learn. One file, on a CPU.

>>> import precedent
>>> with precedent.open(":memory:", rl={"trajectory_store": {"dimension": 2}}) as workspace:
...     _ = workspace.trajectories.insert(
...         precedent.Trajectory(
...             state_embedding=[1.0, 0.0],
...             action=precedent.Action(pattern_id="greet", embedding=[0.0, 1.0]),
...             reward=1.0,
...             return_to_go=1.0,
...             metadata=precedent.TrajectoryMetadata(task_type="chat", episode_id="monday"),
...         )
...     )
...     workspace.selector.select_action([1.0, 0.01]).pattern_id
'greet'
"""

from __future__ import annotations

from precedent.config import CacheConfig, Curriculum, GlobalConfig, HnswConfig
from precedent.decisions import ActionMetadata, ActionResult, SelectorStats, Tier
from precedent.errors import (
    AccessError,
    BusyError,
    ClosedError,
    CorruptionError,
    DimensionError,
    DiskFullError,
    EncoderMismatchError,
    FormatError,
    InsufficientDataError,
    NoActionError,
    NotFoundError,
    NotTrainedError,
    PrecedentError,
    ReadOnlyError,
    StorageError,
    TrainingError,
    ValidationError,
    VersionError,
)
from precedent.filters import SearchFilter
from precedent.layer import DecisionLayer
from precedent.network import Gradients, NetworkWeights, Prediction, TrainingMetrics
from precedent.patterns import Pattern, PatternLibrary, PatternMatch
from precedent.records import (
    Action,
    Episode,
    SearchResult,
    Trajectory,
    TrajectoryBatch,
    TrajectoryMetadata,
    TrajectoryStats,
    VerifyReport,
)
from precedent.replay import PrioritizedReplay
from precedent.reports import (
    Baseline,
    DataStats,
    EpochMetrics,
    EvaluatedPrediction,
    EvaluationReport,
    FinalMetrics,
    Predictions,
    ReliabilityBin,
    TaskTypeMetrics,
    TrainingReport,
)
from precedent.rollout import Rollout
from precedent.selector import ActionSelector
from precedent.store import TrajectoryStore
from precedent.sweep import Sweep, Trial
from precedent.thresholds import Calibration, ThresholdAgreement
from precedent.trainer import OfflineTrainer
from precedent.workspace import Workspace, open  # noqa: A004 - `precedent.open` is how it reads

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "Action",
    "ActionMetadata",
    "ActionResult",
    "ActionSelector",
    "Baseline",
    "BusyError",
    "CacheConfig",
    "Calibration",
    "ClosedError",
    "CorruptionError",
    "Curriculum",
    "DataStats",
    "DecisionLayer",
    "DimensionError",
    "DiskFullError",
    "EncoderMismatchError",
    "Episode",
    "EpochMetrics",
    "EvaluatedPrediction",
    "EvaluationReport",
    "FinalMetrics",
    "FormatError",
    "GlobalConfig",
    "Gradients",
    "HnswConfig",
    "InsufficientDataError",
    "NetworkWeights",
    "NoActionError",
    "NotFoundError",
    "NotTrainedError",
    "OfflineTrainer",
    "Pattern",
    "PatternLibrary",
    "PatternMatch",
    "PrecedentError",
    "Prediction",
    "Predictions",
    "PrioritizedReplay",
    "ReadOnlyError",
    "ReliabilityBin",
    "Rollout",
    "SearchFilter",
    "SearchResult",
    "SelectorStats",
    "StorageError",
    "Sweep",
    "TaskTypeMetrics",
    "ThresholdAgreement",
    "Tier",
    "TrainingError",
    "TrainingMetrics",
    "TrainingReport",
    "Trajectory",
    "TrajectoryBatch",
    "TrajectoryMetadata",
    "TrajectoryStats",
    "TrajectoryStore",
    "Trial",
    "ValidationError",
    "VerifyReport",
    "VersionError",
    "Workspace",
    "__version__",
    "open",
]
