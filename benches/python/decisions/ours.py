"""Precedent's side: one setting for all worlds."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from precedent import (
    ActionSelector,
    DecisionLayer,
    InsufficientDataError,
    OfflineTrainer,
    TrajectoryBatch,
    TrajectoryStore,
)
from precedent.encoders import FourierEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worlds import Floats, Policy, Recording, World

    Encode = Callable[[Floats], Floats]

DIMENSION = 512
# Learning and precedents come from the best tenth of the episodes, where that is ten at least. Where it is
# fewer they come from the ten best, each weighted by what share of all is better: exp(-EMPHASIS share).
FEWEST = 10
EMPHASIS = 10.0
LAYER: dict[str, Any] = {"hidden_size": 256, "return_scale": "episode"}
BATCH = 64
EPOCHS = 100
UPDATES = (2_000, 12_000)  # at least and at most, however many epochs that is
NETWORKS = 3
HELD_OUT = 0.2
# Episodes on which confidence is judged, by their best tenth: episodes differ, and of ten good ones even a
# curve that was fitted to a hundred others is off by up to 0.09.
LATER = 500
_ASKED = 200  # decisions that are timed


@dataclass(frozen=True)
class Aim:
    """What is learned from a recording, and what is asked for.

    Attributes:
        episodes: Whether each episode of the recording counts.
        filter: The same, as the store is asked.
        emphasis: How much the better of them count, as the trainer takes it.
        desired: The quantile among them that the median of the recording's best tenth has: to ask for more
            would leave single episodes as precedents.
    """

    episodes: npt.NDArray[np.bool_]
    filter: dict[str, Any]
    emphasis: float
    desired: float

    @classmethod
    def of(cls, recording: Recording) -> Aim:
        """Choose by how many episodes there are."""
        totals = recording.totals
        best = totals >= recording.bar
        middle, episodes, emphasis = np.median(totals[best]), best, 0.0
        chosen: dict[str, Any] = {"min_episode_reward": recording.bar}
        if best.sum() < FEWEST:
            # exactly so many: where all others are equally bad, all of them would outweigh the good ones
            episodes = np.zeros(len(totals), bool)
            episodes[np.argsort(-totals, kind="stable")[:FEWEST]] = True
            emphasis = EMPHASIS * float(episodes.mean())
            chosen = {"episode_id": [_episode(number) for number in np.flatnonzero(episodes)]}
        counted = totals[episodes]
        return cls(
            episodes=episodes,
            filter=chosen,
            emphasis=emphasis,
            desired=float((counted < middle).mean() + (counted == middle).mean() / 2),
        )


@dataclass(frozen=True)
class Learned:
    """What came of a recording.

    Attributes:
        policies: By name.
        seconds: Of a processor: for encoding, storing, training and calibrating.
        decision: Median time of a single decision of the cascade, in seconds.
        calibration: What `selector.calibrate` measured; None where there was too little to measure on.
        trust: The expected calibration error of the network's confidence, on episodes recorded later.
        reliability: There, bin by bin: the mean confidence, the mean agreement and how many steps.
    """

    policies: dict[str, Policy]
    seconds: float
    decision: float
    calibration: dict[str, Any] | None
    trust: float | None
    reliability: list[tuple[float, float, int]]


def learn(world: World, recording: Recording, folder: Path, seed: int) -> Learned:
    """Store a recording, learn from it, find the thresholds."""
    began = process_time()
    aim = Aim.of(recording)
    encode = (
        _plain
        if world.name == "Text tasks"
        else FourierEncoder.fit(recording.of(aim.episodes).observations, DIMENSION, seed=seed)
    )
    store = TrajectoryStore(folder / "decisions.db", dimension=DIMENSION, action_dimension=world.actions)
    store.insert_batch(_batch(recording, encode, world.actions))
    store.compute_all_returns()
    trial = _trained(store, aim, seed, HELD_OUT)
    measured = None
    selector = ActionSelector(store, trial, exact_threshold=math.inf, interpolation_threshold=math.inf)
    with suppress(InsufficientDataError):  # too little to measure on: the network alone
        measured = selector.calibrate(
            aim.filter,
            trained_on=aim.filter,
            desired_return=aim.desired,
            validation_split=HELD_OUT,
            seed=seed,
        )
    thresholds = (selector.exact_threshold, selector.interpolation_threshold)
    layer = _trained(store, aim, seed, 0.0)
    cascade = ActionSelector(
        store, layer, exact_threshold=thresholds[0], interpolation_threshold=thresholds[1]
    )
    seconds = process_time() - began

    best = {"min_episode_reward": recording.bar}
    exact = ActionSelector(store, exact_threshold=-1.0, return_scale="episode")
    several = ActionSelector(
        store,
        exact_threshold=math.inf,
        interpolation_threshold=-1.0,
        min_interpolation_samples=1,
        return_scale="episode",
    )
    asked = encode(recording.observations[:: max(1, len(recording.rewards) // _ASKED)])[:_ASKED]
    times = []
    for state in asked:
        start = perf_counter()
        cascade.select_action(state, aim.desired, filter=aim.filter)
        times.append(perf_counter() - start)
    everything = encode(recording.observations)
    trust, reliability = _trust(trial, world.record(LATER, LATER + seed).best(), encode)
    return Learned(
        policies={
            "cascade": lambda seen, *_: _chosen(cascade, encode(seen), aim.desired, aim.filter),
            "network alone": lambda seen, *_: layer.predict_many(encode(seen), aim.desired).argmax(1),
            "exact tier alone": lambda seen, *_: _chosen(exact, encode(seen), 0.0, best),
            "interpolation alone": lambda seen, *_: _chosen(several, encode(seen), 0.0, best),
            "1-nearest-neighbour": lambda seen, *_: recording.actions[
                (encode(seen) @ everything.T).argmax(1)
            ],
        },
        seconds=seconds,
        decision=float(np.median(times)),
        calibration=None if measured is None else _short(measured),
        trust=trust,
        reliability=reliability,
    )


def _trained(store: TrajectoryStore, aim: Aim, seed: int, split: float) -> DecisionLayer:
    steps = sum(len(batch) for batch in store.iter_batches(aim.filter))
    layer = DecisionLayer(store.dimension, store.action_dimension, seed=seed, **LAYER)
    batches = math.ceil(steps * (1.0 - split) / BATCH)
    epochs = math.ceil(min(max(EPOCHS * batches, UPDATES[0]), UPDATES[1]) / batches)
    trainer = OfflineTrainer(
        store,
        layer,
        batch_size=BATCH,
        epochs=epochs,
        ensemble=NETWORKS,
        early_stopping_patience=epochs,
        min_trajectories=1,
        validation_split=split,
        emphasis=aim.emphasis,
        seed=seed,
        progress=False,
    )
    trainer.train(aim.filter)
    return layer


def _trust(
    layer: DecisionLayer, later: Recording, encode: Encode
) -> tuple[float | None, list[tuple[float, float, int]]]:
    """Return the calibration error on a recording that nobody has seen, and its bins.

    None and no bins for an uncalibrated layer.
    """
    with TrajectoryStore(":memory:", dimension=layer.state_size, action_dimension=layer.action_size) as store:
        store.insert_batch(_batch(later, encode, layer.action_size))
        trainer = OfflineTrainer(store, layer, progress=False)
        told = trainer.evaluate(include_training=True, keep_predictions=False)
    bins = [(bin_.confidence, bin_.similarity, bin_.count) for bin_ in told.reliability]
    return told.calibration_error, bins


def _batch(recording: Recording, encode: Encode, actions: int) -> TrajectoryBatch:
    return TrajectoryBatch(
        states=encode(recording.observations),
        actions=np.eye(actions, dtype=np.float32)[recording.actions],
        rewards=recording.rewards,
        pattern_ids=[f"action-{action}" for action in recording.actions],
        episode_ids=[_episode(number) for number in recording.episodes],
        task_types="world",
        terminated=recording.terminated,
        truncated=recording.truncated,
    )


def _episode(number: int) -> str:
    return f"episode-{number}"


def _plain(states: Floats) -> Floats:
    return states


def _chosen(selector: ActionSelector, states: Floats, desired: float, best: dict[str, Any]) -> np.ndarray:
    results = selector.select_many(states, desired, filter=best)
    return np.array([result.action.argmax() for result in results])


def _short(measured: Any) -> dict[str, Any]:
    told = measured.to_dict()
    return {key: value for key, value in told.items() if key not in {"exact", "interpolation"}}
