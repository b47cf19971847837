"""Sweeps: one training run for each of several settings, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from precedent import _core, checks
from precedent.config import DecisionLayerConfig, OfflineTrainerConfig
from precedent.errors import DimensionError, EncoderMismatchError, ValidationError
from precedent.executors import Executor, Halt, Source, finished, gather
from precedent.fit import check_fit
from precedent.layer import DecisionLayer
from precedent.reports import TrainingReport, training_report
from precedent.settings import read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from precedent.store import TrajectoryStore

__all__ = ["Sweep", "Trial", "core_settings", "swept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a sweep.

    Attributes:
        settings: What was given for it.
        layer: What learned: the weights of its best epoch, calibrated.
        report: What its training says.

    Example:
        >>> def hidden(trial: Trial) -> int:  # what one run differs in
        ...     return trial.layer.hidden_size
    """

    settings: Mapping[str, Any]
    layer: DecisionLayer
    report: TrainingReport


@dataclass(frozen=True, slots=True)
class Sweep(Sequence[Trial]):
    """The runs of a sweep, in the order of their settings.

    Attributes:
        trials: All of them.

    Example:
        >>> import numpy as np
        >>> from precedent import DecisionLayer, OfflineTrainer, TrajectoryBatch, TrajectoryStore
        >>> store = TrajectoryStore(":memory:", dimension=2)
        >>> states = np.random.default_rng(0).normal(size=(200, 2))
        >>> right = (states[:, 0] > 0).astype(int)
        >>> _ = store.insert_batch(
        ...     TrajectoryBatch(
        ...         states=states,
        ...         actions=np.eye(2)[right],
        ...         rewards=np.ones(200),
        ...         pattern_ids=[("left", "right")[i] for i in right],
        ...         episode_ids=[f"episode-{i // 10}" for i in range(200)],
        ...         task_types="walk",
        ...     )
        ... )
        >>> trainer = OfflineTrainer(store, DecisionLayer(2, 2, hidden_size=8), progress=False)
        >>> sweep = trainer.sweep([{"layer": {"learning_rate": rate}} for rate in (1e-6, 1e-2)])
        >>> sweep.best.settings
        {'layer': {'learning_rate': 0.01}}
        >>> store.close()
    """

    trials: tuple[Trial, ...]

    def __len__(self) -> int:
        return len(self.trials)

    @overload
    def __getitem__(self, at: int) -> Trial: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Trial, ...]: ...
    def __getitem__(self, at: int | slice) -> Trial | tuple[Trial, ...]:
        return self.trials[at]

    def ranked(self) -> tuple[Trial, ...]:
        """Return the runs, that of the lowest validation loss first, and of equals the earlier.

        Where one of them did not validate, the train losses decide.
        """
        losses = [trial.report.final_metrics for trial in self.trials]
        validated = [loss.val_loss for loss in losses if loss.val_loss is not None]
        scores = validated if len(validated) == len(losses) else [loss.train_loss for loss in losses]
        return tuple(self.trials[at] for at in sorted(range(len(scores)), key=scores.__getitem__))

    @property
    def best(self) -> Trial:
        """The first of `ranked`."""
        return self.ranked()[0]


@dataclass(frozen=True, slots=True)
class _Task:
    """One run, to its end."""

    source: Source
    layer: bytes
    settings: dict[str, Any]
    conditions: dict[str, Any] | None
    halt: Halt

    def __call__(self) -> tuple[dict[str, Any], bytes]:
        """Train; return the report of the core, and the layer as bytes."""
        with self.halt, self.source as store:
            layer = _core.Layer.from_bytes(self.layer)
            members = self.settings["ensemble"]
            run = _core.TrainingRun(store, layer, self.settings, members, self.conditions, resume=False)
            return finished(run, self.halt).finish(), layer.to_bytes()


def swept(
    executor: Executor | None,
    store: TrajectoryStore,
    base: tuple[DecisionLayerConfig, OfflineTrainerConfig],
    settings: Iterable[Mapping[str, Any]],
    conditions: dict[str, Any] | None,
) -> Sweep:
    """Train once for each of `settings`, which change what `base` says; see `OfflineTrainer.sweep`."""
    several = checks.listed("settings", settings, "several mappings")
    given, halt = [_copied(setting) for setting in several], Halt()
    if not given:
        raise checks.refuse("settings", "at least one mapping", given)
    # All of them first: what cannot be is refused before any run begins.
    tasks = list(_tasks(store, base, given, conditions, halt))
    outcomes = gather(executor, tasks, halt)
    return Sweep(
        tuple(
            Trial(
                settings=setting,
                layer=DecisionLayer._of(_core.Layer.from_bytes(learned)),
                report=training_report(told),
            )
            for setting, (told, learned) in zip(given, outcomes, strict=True)
        )
    )


def _copied(value: Any) -> Any:
    """Return settings that do not follow what the caller does to theirs."""
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _tasks(
    store: TrajectoryStore,
    base: tuple[DecisionLayerConfig, OfflineTrainerConfig],
    given: list[Mapping[str, Any]],
    conditions: dict[str, Any] | None,
    halt: Halt,
) -> Iterator[_Task]:
    from pathlib import Path

    for at, setting in enumerate(given):
        place = f"settings[{at}]"
        if not isinstance(setting, Mapping):
            raise checks.refuse(place, "a mapping", setting)
        own = dict(setting)
        changed = own.pop("layer", {})
        if not isinstance(changed, Mapping):
            raise checks.refuse(f"{place}.layer", "a mapping", changed)
        try:
            layer = DecisionLayer(**_network(base[0], changed).to_dict())
            check_fit(store, layer)
            trained = read(OfflineTrainerConfig, own, "")
            options = core_settings(OfflineTrainerConfig.from_dict(base[1].to_dict() | trained))
        except DimensionError as why:
            raise DimensionError(f"{place}: {why}", why.expected, why.got) from None
        except EncoderMismatchError as why:
            raise EncoderMismatchError(f"{place}: {why}", why.stored, why.given) from None
        except ValidationError as why:
            raise ValidationError(f"{place}: {why}") from None
        if options["save_path"] is not None:
            options["save_path"] = str(Path(options["save_path"]) / f"trial-{at}")
        yield _Task(Source(store), layer._core.to_bytes(), options, conditions, halt)


def _network(base: DecisionLayerConfig, changed: Mapping[str, Any]) -> DecisionLayerConfig:
    """Return the settings of a layer with some of them changed, in either spelling."""
    changes = read(DecisionLayerConfig, changed, "")
    settings = base.to_dict() | changes
    if "return_range" not in changes and settings["return_scale"] != base.return_scale:
        settings["return_range"] = None  # which says nothing on another scale
    return DecisionLayerConfig(**settings)


def core_settings(settings: OfflineTrainerConfig) -> dict[str, Any]:
    """Return the settings of a trainer as the core reads them, wherever the process that asks it stands."""
    from pathlib import Path

    told = {name: getattr(settings, name) for name in settings.readers}
    if settings.save_path is not None:
        told["save_path"] = str(Path(settings.save_path).absolute())
    easy = settings.curriculum
    told["curriculum"] = None if easy is None else (easy.easy_epochs, easy.max_duration)
    return told
