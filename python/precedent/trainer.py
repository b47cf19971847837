"""Offline training: the network learns from what the store remembers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from precedent import _core, checks
from precedent.config import Curriculum, DecisionLayerConfig, OfflineTrainerConfig
from precedent.ensemble import elsewhere
from precedent.errors import ValidationError
from precedent.evaluation import assess
from precedent.filters import Filter, normalised
from precedent.fit import check_fit
from precedent.progress import Progress, reporter
from precedent.reports import (
    EpochMetrics,
    EvaluationReport,
    TrainingReport,
    evaluation_report,
    training_report,
)
from precedent.sweep import Sweep, core_settings, swept

if TYPE_CHECKING:
    import os

    from precedent.executors import Executor
    from precedent.layer import DecisionLayer
    from precedent.store import TrajectoryStore

__all__ = ["Curriculum", "OfflineTrainer"]

Callback = Callable[[EpochMetrics], object]


class OfflineTrainer:
    """Trains a `DecisionLayer` from a `TrajectoryStore`.

    The data is split by episode: the same episodes validate in every run with one seed. States and actions
    stream from the store, and at most 256 MB of them are kept; beside them a run holds some 70 bytes a step
    (keys, returns, places), 70 MB for a million steps. Steps without a stored return get one in memory;
    nothing but weights is written.

    Args:
        store: What to learn from.
        layer: What learns; its sizes are the store's dimensions.
        batch_size: Samples in an optimizer step.
        epochs: Passes over the data, at most.
        validation_split: The share of the episodes that validate, in [0, 1); 0 = train on all.
        early_stopping_patience: Stop after this many epochs in a row without a better validation loss.
        min_trajectories: Refuse to train on fewer matching steps.
        save_interval: Keep a checkpoint of its own every so many epochs.
        save_path: The folder for `epoch-0005.ckpt`, `last.ckpt` and `best.weights`; None = keep none.
        gamma: The discount of returns that are not stored, in [0, 1].
        curriculum: Easy episodes first: a `Curriculum` or a mapping of its fields.
        replay: `"uniform"`: each sample once an epoch. `"prioritized"`: by the last loss of each sample, with
            importance weights (the sampler of `precedent.replay`). `"diverse"`: rare patterns more often.
        diversity_weight: Of `diverse`, in [0, 1]: 0 = uniform, 1 = all patterns equally.
        emphasis: How much the steps of good episodes count, in [0, 500]: each sample, of training and of
            validation, is weighted by exp(emphasis (q - 1)), q the quantile of its episode's total reward.
            0 = all alike; 10 is a good value for mixed data.
        convergence_threshold: Stop once an epoch's train loss is below it.
        schedule: What becomes of the layer's learning rate: `"constant"`, or `"cosine"`: at step t, from 0,
            of the run's T, after W steps of warm-up, (1 + cos(pi (t - W) / (T - W))) / 2 of it. T counts all
            `epochs`, so a run with a cosine is only resumed with as many.
        warmup_steps: W: over so many optimizer steps the rate rises, (t + 1) / W of it at step t. 0 = none.
        timesteps: Tell the layer each step's position in its episode.
        ensemble: How many networks learn side by side, 1 to 64: a layer that never learned, and others drawn
            by the seeds after its own. Each stops at its own best epoch, with the bits it would have alone;
            the layer then answers with their mean. In `save_path` each has a folder, `member-0` and so on.
        executor: Where the members learn, one task each, the runs of a `sweep`, and the parts of an
            evaluation: an object with `submit`, such as a `concurrent.futures.ThreadPoolExecutor` or
            `ProcessPoolExecutor`; None = here. Weights and reports are the same bits. Epochs are told once
            all members have ended. Ctrl-C, and a task that fails, end those on threads within a batch; in
            processes, those that have not begun.
        seed: Keys the split and the order of the samples.
        progress: None = a bar on a terminal (tqdm) and a log line an epoch elsewhere; True = the bar; False =
            nothing; a callable gets each `EpochMetrics`.
        callbacks: Each gets each `EpochMetrics`.

    Example:
        >>> import numpy as np
        >>> from precedent import DecisionLayer, OfflineTrainer, TrajectoryBatch, TrajectoryStore
        >>> store = TrajectoryStore(":memory:", dimension=2)
        >>> states = np.random.default_rng(0).normal(size=(200, 2))
        >>> right = (states[:, 0] > 0).astype(int)  # what was right depends on a sign
        >>> _ = store.insert_batch(
        ...     TrajectoryBatch(
        ...         states=states,
        ...         actions=np.eye(2)[right],
        ...         rewards=np.ones(200),
        ...         pattern_ids=[("left", "right")[i] for i in right],
        ...         episode_ids=[f"episode-{i}" for i in range(200)],
        ...         task_types="walk",
        ...     )
        ... )
        >>> layer = DecisionLayer(state_size=2, action_size=2, learning_rate=0.01)
        >>> report = OfflineTrainer(store, layer, progress=False).train()
        >>> report.data_stats.train_size + report.data_stats.val_size
        200
        >>> int(layer.predict([2.0, 0.0], desired_return=1.0).argmax())
        1
        >>> store.close()

    Raises:
        ValidationError: An option of the wrong kind or range.
        DimensionError: The layer's sizes are not the store's dimensions.
        EncoderMismatchError: The layer was trained on another encoder's states.
    """

    __slots__ = ("_callbacks", "_executor", "_layer", "_learned", "_progress", "_settings", "_store")

    # The conditions of the runs so far: evaluation hides what they learned from.
    _learned: list[dict[str, Any] | None]

    def __init__(
        self,
        store: TrajectoryStore,
        layer: DecisionLayer,
        *,
        batch_size: int = 32,
        epochs: int = 10,
        validation_split: float = 0.2,
        early_stopping_patience: int = 3,
        min_trajectories: int = 100,
        save_interval: int = 5,
        save_path: str | os.PathLike[str] | None = None,
        gamma: float = 0.99,
        curriculum: Curriculum | Mapping[str, Any] | None = None,
        replay: Literal["uniform", "prioritized", "diverse"] = "uniform",
        diversity_weight: float = 0.3,
        emphasis: float = 0.0,
        convergence_threshold: float | None = None,
        schedule: Literal["constant", "cosine"] = "constant",
        warmup_steps: int = 0,
        timesteps: bool = False,
        ensemble: int = 1,
        executor: Executor | None = None,
        seed: int = 0,
        progress: Progress = None,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        check_fit(store, layer)
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise checks.refuse("executor", "None or an object with submit", executor)
        self._store, self._layer, self._executor = store, layer, executor
        self._learned = []
        self._settings = OfflineTrainerConfig(
            batch_size=batch_size,
            epochs=epochs,
            validation_split=validation_split,
            early_stopping_patience=early_stopping_patience,
            min_trajectories=min_trajectories,
            save_interval=save_interval,
            save_path=save_path,  # type: ignore[arg-type]
            gamma=gamma,
            curriculum=curriculum,  # type: ignore[arg-type]
            replay=replay,
            diversity_weight=diversity_weight,
            emphasis=emphasis,
            convergence_threshold=convergence_threshold,
            schedule=schedule,
            warmup_steps=warmup_steps,
            timesteps=timesteps,
            ensemble=ensemble,
            seed=seed,
        )
        if progress is not None and not isinstance(progress, bool) and not callable(progress):
            raise checks.refuse("progress", "None, True, False or a callable", progress)
        self._progress = progress
        try:
            self._callbacks = tuple(callbacks)
        except TypeError:
            raise checks.refuse("callbacks", "several callables", callbacks) from None
        for i, callback in enumerate(self._callbacks):
            if not callable(callback):
                raise checks.refuse(f"callbacks[{i}]", "a callable", callback)

    @property
    def store(self) -> TrajectoryStore:
        """What it learns from."""
        return self._store

    @property
    def layer(self) -> DecisionLayer:
        """What learns."""
        return self._layer

    @property
    def settings(self) -> OfflineTrainerConfig:
        """The settings it was made with."""
        return self._settings

    def train(self, filter: Filter | None = None, *, resume: bool = False) -> TrainingReport:
        """Train, and leave the best epoch's weights, calibrated, in the layer.

        Args:
            filter: Which steps are samples; contexts and returns come from their whole episodes.
            resume: Go on from `last.ckpt` in `save_path`, to the same bits as an uninterrupted run.

        Raises:
            ValidationError: The layer learned with another number of networks than `ensemble`.
            InsufficientDataError: Fewer steps match than `min_trajectories`.
            TrainingError: The loss is not finite; the layer has the weights of the last good epoch.
            StorageError: There is no checkpoint to resume from.
            KeyboardInterrupt: Ctrl-C; the layer has the weights of the last finished epoch.
        """
        epochs = self.fitter(filter, resume=resume)
        while True:
            try:
                next(epochs)
            except StopIteration as end:
                report: TrainingReport = end.value
                return report

    def fitter(
        self,
        filter: Filter | None = None,
        *,
        resume: bool = False,
    ) -> Generator[EpochMetrics, None, TrainingReport]:
        """Train epoch by epoch: an epoch's weights are in the layer while it is yielded, the best at the end.

        With an executor the best are there from the first epoch on.

        The report is the generator's return value. Closing it early keeps the weights of the last epoch.

        Args:
            filter: See `train`.
            resume: See `train`.

        Raises:
            InsufficientDataError: See `train`; so for the others.
        """
        resume = checks.flag("resume", resume)
        if resume and self._settings.save_path is None:
            raise ValidationError("resume: expected a trainer with a save_path to resume from, got None")
        conditions = normalised(filter)
        return self._epochs(conditions, resume=resume)

    def _epochs(
        self,
        conditions: dict[str, Any] | None,
        *,
        resume: bool,
    ) -> Generator[EpochMetrics, None, TrainingReport]:
        self._store._require_open()
        store, layer, settings = self._store, self._layer._core, core_settings(self._settings)
        if self._executor is not None:
            whole = elsewhere(self._executor, store, layer, settings, conditions, resume=resume)
            self._learned.append(conditions)
            yield from self._told(whole["epochs"])
            return _judged(training_report(whole))
        run = _core.TrainingRun(store._core, layer, settings, self._settings.ensemble, conditions, resume)
        self._learned.append(conditions)
        yield from self._told(iter(run.next_epoch, None))
        return _judged(training_report(run.finish()))

    def _told(self, epochs: Iterable[dict[str, Any]]) -> Generator[EpochMetrics, None, None]:
        with reporter(self._progress, self._settings.epochs) as report:
            for told in epochs:
                epoch = EpochMetrics(**told)
                report(epoch)
                for callback in self._callbacks:
                    callback(epoch)
                yield epoch

    def sweep(self, settings: Iterable[Mapping[str, Any]], filter: Filter | None = None) -> Sweep:
        """Train once for each of several settings, by the executor; this trainer's layer stays as it is.

        Every run begins with a new layer and ends in the bits that it would have alone. Validation losses
        compare runs of one split, `seed`, `emphasis` and `return_scale`; where settings differ in these, let
        `evaluate` compare.

        Args:
            settings: For each run a mapping of this trainer's options that it changes. In it, `layer` is a
                mapping of the options of `DecisionLayer` that it changes from this trainer's. A
                `return_range` of another `return_scale` than the run's is left to the run.
            filter: See `train`; so for every run.

        Returns:
            The runs in the order of their settings; `best` and `ranked` judge them. With a `save_path` each
            has a folder in it, `trial-0` and so on.

        Example:
            `trainer.sweep([{"batch_size": 64}, {"layer": {"hidden_size": 512}}]).best.layer`

        Raises:
            ValidationError: An option of the wrong kind or range, or one that does not exist; no run began.
            InsufficientDataError: See `train`; so for the others. It ends the other runs.
        """
        self._store._require_open()
        # Not `layer.settings`, whose return range may be one that a run of this trainer took from its data.
        base = (DecisionLayerConfig(**self._layer._settings), self._settings)
        return swept(self._executor, self._store, base, settings, normalised(filter))

    def evaluate(
        self,
        filter: Filter | None = None,
        *,
        include_training: bool = False,
        keep_predictions: bool = True,
    ) -> EvaluationReport:
        """Measure the layer on episodes it did not learn from, asked with the return that was achieved.

        These are the episodes that the trainer's runs held out or, under other filters, never saw. Of a layer
        that was trained elsewhere, what it saw is not known: then those that a run on everything and one with
        this `filter` both hold out, with this trainer's `validation_split` and `seed`.

        Args:
            filter: Which steps.
            include_training: Also on the episodes it learns from.
            keep_predictions: Whether the report has each step's actions.

        Raises:
            NotTrainedError: The layer never learned.
            InsufficientDataError: No step matches.
            TrainingError: With an executor of processes: the store was written to before all had begun.
        """
        self._store._require_open()
        conditions = normalised(filter)
        arguments = (
            core_settings(self._settings),
            conditions,
            self._learned or [conditions, None],
            checks.flag("include_training", include_training),
            checks.flag("keep_predictions", keep_predictions),
        )
        told = assess(self._executor, self._store, self._layer._core, arguments)
        return evaluation_report(told, self._layer.action_size)

    def __repr__(self) -> str:
        return f"OfflineTrainer({self._store!r}, {self._layer!r})"


def _judged(report: TrainingReport) -> TrainingReport:
    """Return a report; if the run was not worth it, the log says so."""
    if report.worse_than_baseline:
        from logging import getLogger

        from precedent.pictures import against_baseline

        getLogger("precedent.trainer").warning("%s", against_baseline(report))
    return report
