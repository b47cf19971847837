"""One file and one configuration: store, patterns, network, trainer and selector that belong together."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Self

from precedent import checks
from precedent.config import DecisionLayerConfig, GlobalConfig, environment_settings, toml_settings
from precedent.errors import ClosedError, DimensionError, ValidationError
from precedent.layer import DecisionLayer
from precedent.patterns import PatternLibrary
from precedent.selector import ActionSelector
from precedent.settings import merged, read
from precedent.store import TrajectoryStore
from precedent.trainer import OfflineTrainer

if TYPE_CHECKING:
    from precedent.encoders import Encoder
    from precedent.reports import EpochMetrics, TrainingReport

__all__ = ["Workspace", "open"]

# The name of the layer's weights in the file's table of models.
_LAYER = "decision_layer"
_NEVER = float("inf")


def open(  # noqa: A001 - `precedent.open` is how it reads
    path_or_config: str | os.PathLike[str] | Mapping[str, Any] | GlobalConfig | Workspace | None = None,
    *,
    encoder: Encoder | None = None,
    **overrides: Any,
) -> Workspace:
    """Open a file with everything that belongs to it.

    A later source wins: defaults, the TOML file, environment variables, then what is passed here. A
    `GlobalConfig` says everything, so that only `overrides` come after it.

    Args:
        path_or_config: The path of a database, the path of settings (it ends in `.toml`), a mapping of
            settings, a `GlobalConfig`, an open `Workspace` whose file and settings to share, or None for
            `./.rl/trajectories.db`, the seed's.
        encoder: What makes states of text and tasks.
        **overrides: Settings by group: `rl={"trainer": {"epochs": 3}}`.

    Example:
        >>> import precedent
        >>> with precedent.open(":memory:", rl={"trajectory_store": {"dimension": 16}}) as workspace:
        ...     workspace.layer.state_size, len(workspace.trajectories), workspace.config.rl.trainer.epochs
        (16, 0, 10)

    Raises:
        ValidationError: An unknown setting, or an unfit value, with its full path.
        StorageError: The file cannot be opened; see `TrajectoryStore`.
    """
    return Workspace(path_or_config, encoder=encoder, **overrides)


def _configured(given: Any, overrides: Mapping[str, Any]) -> GlobalConfig:
    passed = read(GlobalConfig, overrides, "")
    if isinstance(given, GlobalConfig):
        return GlobalConfig(**merged(read(GlobalConfig, given, ""), passed))
    tree: dict[str, Any] = {}
    if isinstance(given, (str, os.PathLike)):
        path = checks.path("path", given)
        if path.lower().endswith(".toml"):
            tree = toml_settings(path)
        else:
            passed = merged({"rl": {"trajectory_store": {"path": path}}}, passed)
    elif isinstance(given, Mapping):
        passed = merged(read(GlobalConfig, given, ""), passed)
    elif given is not None:
        raise checks.refuse("path_or_config", "a path, a mapping, a GlobalConfig, a Workspace or None", given)
    return GlobalConfig(**merged(merged(tree, environment_settings()), passed))


class Workspace:
    """What `precedent.open` gives, and by the same arguments. A context manager.

    The store is opened at once, everything else when it is asked for. What the workspace lends stays open
    until the workspace is closed; any use after that raises `ClosedError`.

    Args:
        path_or_config: See `precedent.open`.
        encoder: What makes states of text and tasks.
        **overrides: Settings by group.

    Example:
        >>> import precedent
        >>> with precedent.open("agent.db", rl={"trajectory_store": {"dimension": 2}}) as workspace:
        ...     workspace.layer.set_weights(workspace.layer.get_weights())  # training does this better
        ...     workspace.save()
        1
        >>> with precedent.open("agent.db") as workspace:
        ...     workspace.layer.trained
        True

    Raises:
        ValidationError: An unknown setting, or an unfit value, with its full path.
        StorageError: The file cannot be opened; see `TrajectoryStore`.
    """

    __slots__ = ("__weakref__", "_config", "_layer", "_lock", "_patterns", "_selector", "_store", "_trainer")

    def __init__(
        self,
        path_or_config: str | os.PathLike[str] | Mapping[str, Any] | GlobalConfig | Workspace | None = None,
        *,
        encoder: Encoder | None = None,
        **overrides: Any,
    ) -> None:
        if isinstance(path_or_config, Workspace):
            if encoder is not None or overrides:
                raise ValidationError(
                    "path_or_config: expected no settings beside a Workspace, whose file is already open"
                )
            self._config = path_or_config.config
            self._store = path_or_config.trajectories
        else:
            self._config = _configured(path_or_config, overrides)
            settings = self._config.rl.trajectory_store
            self._store = TrajectoryStore(
                settings.path,
                dimension=settings.dimension,
                action_dimension=settings.action_dimension,
                hnsw=settings.hnsw,
                cache=settings.cache,
                durability=settings.durability,  # type: ignore[arg-type]
                storage=settings.storage,  # type: ignore[arg-type]
                encoder=encoder,
                read_only=settings.read_only,
            )
        # Parts are made of each other, each once, whichever thread asks first.
        self._lock = threading.RLock()
        self._layer: DecisionLayer | None = None
        self._patterns: PatternLibrary | None = None
        self._trainer: OfflineTrainer | None = None
        self._selector: ActionSelector | None = None

    @property
    def config(self) -> GlobalConfig:
        """The settings in effect."""
        return self._config

    @property
    def path(self) -> str:
        """The file."""
        return self._store.path

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._store.closed

    @property
    def trajectories(self) -> TrajectoryStore:
        """The store; its `close` does nothing."""
        return TrajectoryStore._lend(self._opened())

    @property
    def patterns(self) -> PatternLibrary:
        """The patterns of the store."""
        store = self._opened()
        with self._lock:
            if self._patterns is None:
                self._patterns = PatternLibrary(TrajectoryStore._lend(store))
            return self._patterns

    @property
    def layer(self) -> DecisionLayer:
        """The network: the newest that the file holds, else a new one by the settings.

        Raises:
            DimensionError: The settings name other sizes than the store's dimensions.
            ValidationError: A setting was changed from its default, and the network that the file holds was
                made with another.
        """
        store = self._opened()
        with self._lock:
            if self._layer is None:
                options = self._layer_options(store)
                kept = store._core.load_model(_LAYER)
                layer = DecisionLayer(**options) if kept is None else DecisionLayer._of(kept)
                if kept is not None:
                    _check_kept(layer, options)
                self._layer = layer
            return self._layer

    @property
    def trainer(self) -> OfflineTrainer:
        """The trainer of the layer. A finished `train()` stores the layer as the newest model."""
        self._opened()
        with self._lock:
            if self._trainer is None:
                settings = self._config.rl.trainer
                options = {name: getattr(settings, name) for name in settings.readers}
                self._trainer = _StoringTrainer(self, self.trajectories, self.layer, options)
            return self._trainer

    @property
    def selector(self) -> ActionSelector:
        """The selector. With `rl.enabled=False` it answers from patterns only."""
        self._opened()
        with self._lock:
            if self._selector is None:
                settings, bank = self._config.rl.action_selector, self._config.reasoningbank
                options = {name: getattr(settings, name) for name in settings.readers}
                learning = self._config.rl.enabled
                if not learning:
                    options |= {
                        "exact_threshold": _NEVER,
                        "interpolation_threshold": _NEVER,
                        "fallback_to_neural": False,
                    }
                self._selector = ActionSelector(
                    self.trajectories,
                    self.layer,
                    patterns=self.patterns,
                    hybrid_mode=bank.hybrid_mode,
                    fallback_to_patterns=bank.fallback_to_patterns or not learning,
                    **options,
                )
            return self._selector

    def save(self) -> int:
        """Store the layer as the newest model of the file, and return its version.

        Raises:
            ReadOnlyError: The file was opened read-only.
        """
        return self._opened()._core.save_model(_LAYER, self.layer._core)

    def close(self) -> None:
        """Close the file. Again: nothing happens."""
        self._store.close()

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Workspace {self.path!r}{', closed' if self.closed else ''}>"

    def _opened(self) -> TrajectoryStore:
        if self._store.closed:
            raise ClosedError("the workspace is closed: open it again")
        return self._store

    def _layer_options(self, store: TrajectoryStore) -> dict[str, Any]:
        settings = self._config.rl.decision_layer
        options = {name: getattr(settings, name) for name in settings.readers}
        for name, dimension in (("state_size", store.dimension), ("action_size", store.action_dimension)):
            size = options[name]
            if size is not None and size != dimension:
                field = f"rl.decision_layer.{name}"
                raise DimensionError(
                    f"{field}: expected the store's {dimension}, got {size}", dimension, size
                )
            options[name] = dimension
        return options


def _check_kept(layer: DecisionLayer, options: Mapping[str, Any]) -> None:
    """Refuse settings that were named and are not those of a network that was made before."""
    usual, made = DecisionLayerConfig(), layer.settings
    for name, asked in options.items():
        kept = getattr(made, name)
        if asked != getattr(usual, name) and asked != kept:
            raise ValidationError(
                f"rl.decision_layer.{name}: expected {kept!r}, as the network in the file has, got {asked!r}"
            )


class _StoringTrainer(OfflineTrainer):
    """A trainer whose workspace keeps what it made."""

    __slots__ = ("_workspace",)

    def __init__(
        self, workspace: Workspace, store: TrajectoryStore, layer: DecisionLayer, options: dict[str, Any]
    ) -> None:
        super().__init__(store, layer, **options)
        self._workspace = workspace

    def _epochs(
        self,
        conditions: dict[str, Any] | None,
        *,
        resume: bool,
    ) -> Generator[EpochMetrics, None, TrainingReport]:
        report = yield from super()._epochs(conditions, resume=resume)
        if not self._workspace.trajectories.read_only:
            self._workspace.save()
        return report
