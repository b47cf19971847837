"""Settings of a whole workspace, as nested frozen records.

::

    GlobalConfig
    ├── rl: RLConfig
    │   ├── enabled
    │   ├── trajectory_store: TrajectoryStoreConfig   (hnsw: HnswConfig, cache: CacheConfig)
    │   ├── decision_layer: DecisionLayerConfig
    │   ├── action_selector: ActionSelectorConfig
    │   └── trainer: OfflineTrainerConfig             (curriculum: Curriculum | None)
    └── reasoningbank: ReasoningBankConfig

Names, defaults and nesting are the seed's. What a class says of an option holds for the setting of that name.
"""

from __future__ import annotations

import math
import os
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from precedent import checks
from precedent.errors import AccessError, ValidationError
from precedent.filters import SearchFilter
from precedent.settings import (
    OptionalSection,
    Readers,
    Section,
    file_path,
    interval,
    one_of,
    optional,
    read,
    read_environment,
    real,
    whole,
)
from precedent.values import record

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "METRICS",
    "ActionSelectorConfig",
    "CacheConfig",
    "Curriculum",
    "DecisionLayerConfig",
    "GlobalConfig",
    "HnswConfig",
    "OfflineTrainerConfig",
    "RLConfig",
    "ReasoningBankConfig",
    "SearchFilter",
    "TrajectoryStoreConfig",
]

# How two states can be compared.
METRICS = ("cosine", "euclidean", "dot")
_SCALES = ("raw", "quantile", "episode")
_DIMENSION = whole(1, 16_384)
_SIZE = whole(1, 65_536)
_COUNT = whole(1)
_SHARE = real(0.0, 1.0)
_SEED = whole(0, 2**64 - 1)
# The bounds of open intervals.
_ABOVE_ZERO = real(math.nextafter(0.0, 1.0))
_BELOW_ONE = real(0.0, math.nextafter(1.0, 0.0))


@record
class HnswConfig(Section):
    """Settings of the graph index. None = the file's own; where the file has none, the value in brackets.

    What is named is kept in the file from then on; a store that is opened read-only keeps nothing.

    Attributes:
        enabled: Whether there is a graph at all [True]; False always scans.
        m: Links a node keeps in each layer above the lowest, 2 to 128 [16]. M in Malkov and Yashunin 2016.
        ef_construction: Candidates kept while a row is linked [200].
        ef_search: Candidates kept while searching [50].
        metric: `"cosine"`, `"euclidean"` or `"dot"` [cosine]: what the graph serves, the default of searches.
        quantization: Codes of the graph: `"none"`, `"int8"` or `"binary"` [int8].
        build_above: Rows from which a graph is built; 0 = always [None: by measured cost].
    """

    enabled: bool | None = None
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int | None = None
    metric: str | None = None
    quantization: str | None = None
    build_above: int | None = None

    readers: ClassVar[Readers] = {
        "enabled": optional(checks.flag),
        "m": optional(whole(2, 128)),
        "ef_construction": optional(_COUNT),
        "ef_search": optional(_COUNT),
        "metric": optional(one_of(*METRICS)),
        "quantization": optional(one_of("none", "int8", "binary")),
        "build_above": optional(whole()),
    }


@record
class CacheConfig(Section):
    """Settings of the query cache.

    Attributes:
        enabled: Whether answers are kept.
        max_size: How many.
        ttl: For how long, in ms.
    """

    enabled: bool = True
    max_size: int = 1000
    ttl: int = 3_600_000

    readers: ClassVar[Readers] = {"enabled": checks.flag, "max_size": whole(), "ttl": whole()}


@record
class TrajectoryStoreConfig(Section):
    """Settings of `TrajectoryStore`; `path` is the database."""

    path: str = "./.rl/trajectories.db"
    dimension: int | None = None
    action_dimension: int | None = None
    hnsw: HnswConfig = field(default_factory=HnswConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    durability: str = "normal"
    storage: str | None = None
    read_only: bool = False

    readers: ClassVar[Readers] = {
        "path": file_path,
        "dimension": optional(_DIMENSION),
        "action_dimension": optional(_DIMENSION),
        "hnsw": HnswConfig,
        "cache": CacheConfig,
        "durability": one_of("normal", "full"),
        "storage": optional(one_of("f32", "f16")),
        "read_only": checks.flag,
    }


@record
class DecisionLayerConfig(Section):
    """Settings of `DecisionLayer`. Sizes that are None are the store's dimensions."""

    state_size: int | None = None
    action_size: int | None = None
    hidden_size: int = 256
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    optimizer: str = "adamw"
    clip_norm: float | None = 1.0
    encoding: str = "compact"
    context: str = "none"
    history_length: int = 5
    return_scale: str = "raw"
    return_range: tuple[float, float] | None = None
    seed: int = 0

    readers: ClassVar[Readers] = {
        "state_size": optional(_SIZE),
        "action_size": optional(_SIZE),
        "hidden_size": _SIZE,
        "learning_rate": _ABOVE_ZERO,
        "momentum": _BELOW_ONE,
        "weight_decay": real(0.0),
        "optimizer": one_of("adamw", "adam", "sgd"),
        "clip_norm": optional(_ABOVE_ZERO),
        "encoding": one_of("compact", "seed"),
        "context": one_of("none", "history", "previous_action"),
        "history_length": _SIZE,
        "return_scale": one_of(*_SCALES),
        "return_range": optional(interval),
        "seed": _SEED,
    }


@record
class ActionSelectorConfig(Section):
    """Settings of `ActionSelector`."""

    exact_threshold: float = 0.99
    interpolation_threshold: float = 0.95
    interpolation_k: int = 5
    min_interpolation_samples: int = 3
    fallback_to_neural: bool = True
    return_scale: str | None = None
    metric: str | None = None
    min_agreement: float = 0.0
    min_confidence: float = 0.0
    log: str | None = None

    readers: ClassVar[Readers] = {
        "exact_threshold": real(finite=False),
        "interpolation_threshold": real(finite=False),
        "interpolation_k": _COUNT,
        "min_interpolation_samples": _COUNT,
        "fallback_to_neural": checks.flag,
        "return_scale": optional(one_of(*_SCALES)),
        "metric": optional(one_of(*METRICS)),
        "min_agreement": _SHARE,
        "min_confidence": _SHARE,
        "log": optional(file_path),
    }


@record
class Curriculum(Section):
    """First the easy episodes, then all.

    Attributes:
        easy_epochs: For how many epochs only the easy ones are seen.
        max_duration: An episode is easy if its steps took less than this together, in ms.
    """

    easy_epochs: int = 5
    max_duration: int = 30 * 60_000

    readers: ClassVar[Readers] = {"easy_epochs": _COUNT, "max_duration": _COUNT}


@record
class OfflineTrainerConfig(Section):
    """Settings of `OfflineTrainer`."""

    batch_size: int = 32
    epochs: int = 10
    validation_split: float = 0.2
    early_stopping_patience: int = 3
    min_trajectories: int = 100
    save_interval: int = 5
    save_path: str | None = None
    gamma: float = 0.99
    curriculum: Curriculum | None = None
    replay: str = "uniform"
    diversity_weight: float = 0.3
    emphasis: float = 0.0
    convergence_threshold: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    timesteps: bool = False
    ensemble: int = 1
    seed: int = 0
    progress: bool | None = None

    readers: ClassVar[Readers] = {
        "batch_size": _COUNT,
        "epochs": _COUNT,
        "validation_split": _BELOW_ONE,
        "early_stopping_patience": _COUNT,
        "min_trajectories": whole(),
        "save_interval": _COUNT,
        "save_path": optional(file_path),
        "gamma": _SHARE,
        "curriculum": OptionalSection(Curriculum),
        "replay": one_of("uniform", "prioritized", "diverse"),
        "diversity_weight": _SHARE,
        "emphasis": real(0.0, 500.0),
        "convergence_threshold": optional(real(0.0)),
        "schedule": one_of("constant", "cosine"),
        "warmup_steps": whole(),
        "timesteps": checks.flag,
        "ensemble": whole(1, 64),
        "seed": _SEED,
        "progress": optional(checks.flag),
    }


@record
class RLConfig(Section):
    """Everything that learns.

    Attributes:
        enabled: False = storing goes on, but the selector answers from patterns only.
        trajectory_store: The file.
        decision_layer: The network.
        action_selector: The cascade.
        trainer: Offline training.
    """

    enabled: bool = True
    trajectory_store: TrajectoryStoreConfig = field(default_factory=TrajectoryStoreConfig)
    decision_layer: DecisionLayerConfig = field(default_factory=DecisionLayerConfig)
    action_selector: ActionSelectorConfig = field(default_factory=ActionSelectorConfig)
    trainer: OfflineTrainerConfig = field(default_factory=OfflineTrainerConfig)

    readers: ClassVar[Readers] = {
        "enabled": checks.flag,
        "trajectory_store": TrajectoryStoreConfig,
        "decision_layer": DecisionLayerConfig,
        "action_selector": ActionSelectorConfig,
        "trainer": OfflineTrainerConfig,
    }


@record
class ReasoningBankConfig(Section):
    """How patterns take part.

    Attributes:
        fallback_to_patterns: A pattern answers where the cascade has no answer.
        hybrid_mode: A pattern also replaces the network where its lower bound is above the network's
            confidence.
    """

    fallback_to_patterns: bool = True
    hybrid_mode: bool = True

    readers: ClassVar[Readers] = {"fallback_to_patterns": checks.flag, "hybrid_mode": checks.flag}


@record
class GlobalConfig(Section):
    """The settings of a workspace.

    Example:
        >>> config = GlobalConfig.from_dict({"rl": {"trainer": {"epochs": 3}}})
        >>> config.rl.trainer.epochs, config.rl.trainer.batch_size
        (3, 32)
    """

    rl: RLConfig = field(default_factory=RLConfig)
    reasoningbank: ReasoningBankConfig = field(default_factory=ReasoningBankConfig)

    readers: ClassVar[Readers] = {"rl": RLConfig, "reasoningbank": ReasoningBankConfig}

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a TOML file. Relative paths in it are relative to the file.

        Raises:
            AccessError: The file cannot be read.
            ValidationError: It is not TOML, or holds an unknown key or an unfit value; the key's full path is
                named.
        """
        return cls(**toml_settings(path))

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read environment variables: `PRECEDENT_RL__TRAJECTORY_STORE__DIMENSION=384`.

        Args:
            environment: The variables; None = those of this process.

        Raises:
            ValidationError: A variable that begins with `PRECEDENT_RL__` or `PRECEDENT_REASONINGBANK__` names
                nothing, or its value does not fit.
        """
        return cls(**environment_settings(environment))


def toml_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a TOML file's settings as a tree; see `GlobalConfig.from_toml`."""
    import tomllib

    name = checks.path("path", path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - importing pathlib takes longer than all of this
            mapping = tomllib.load(file)
    except OSError as err:
        raise AccessError(f"cannot read the settings in {name}: {err.strerror}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ValidationError(f"{name}: expected TOML, got something else: {err}") from err
    return read(GlobalConfig, mapping, "", os.path.dirname(name))  # noqa: PTH120


def environment_settings(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the environment's settings as a tree; see `GlobalConfig.from_env`."""
    variables = os.environ if environment is None else environment
    return read_environment(GlobalConfig, variables, ("PRECEDENT_RL__", "PRECEDENT_REASONINGBANK__"))
