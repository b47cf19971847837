"""The rivals of d3rlpy, each with its own defaults; what is not installed is left out and named."""

from __future__ import annotations

from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from worlds import Policy, Recording

try:
    import d3rlpy
    import torch
    from d3rlpy.logging import NoopAdapterFactory

    torch.set_num_threads(1)
except ModuleNotFoundError:
    d3rlpy = None

ON_BEST = "DiscreteBC, best tenth"
TRANSFORMER = "DiscreteDecisionTransformer"
NAMES = ("DiscreteBC", ON_BEST, "DiscreteCQL", TRANSFORMER)
CONTEXT = 10  # steps the transformer sees


def available() -> bool:
    """Return whether d3rlpy is installed."""
    return d3rlpy is not None


def learn(name: str, recording: Recording, seed: int, updates: int) -> tuple[Policy, float]:
    """Return a policy and the seconds of a processor that it took to train."""
    d3rlpy.seed(seed)
    began = process_time()
    data = _data(recording.best() if name == ON_BEST else recording)
    if name == TRANSFORMER:
        return _transformer(data, recording, updates // 2), process_time() - began
    config = (
        d3rlpy.algos.DiscreteCQLConfig(target_update_interval=500)
        if name == "DiscreteCQL"
        else (d3rlpy.algos.DiscreteBCConfig())
    )
    learner = config.create(device="cpu:0")
    learner.fit(data, n_steps=updates, n_steps_per_epoch=updates, **_quiet())
    return lambda seen, *_: learner.predict(seen), process_time() - began


def _quiet() -> dict[str, Any]:
    return {"show_progress": False, "logger_adapter": NoopAdapterFactory(), "save_interval": 10**9}


def _data(recording: Recording) -> Any:
    return d3rlpy.dataset.MDPDataset(
        observations=recording.observations,
        actions=recording.actions,
        rewards=recording.rewards.astype(np.float32),
        terminals=recording.terminated.astype(np.float32),
        timeouts=(recording.truncated & ~recording.terminated).astype(np.float32),
    )


def _transformer(data: Any, recording: Recording, updates: int) -> Policy:
    """Train on sequences and act with the 90 % quantile of the returns in the data as the target."""
    config = d3rlpy.algos.DiscreteDecisionTransformerConfig(
        batch_size=64, context_size=CONTEXT, num_layers=2, num_heads=2, max_timestep=1_001
    )
    learner = config.create(device="cpu:0")
    learner.fit(data, n_steps=updates, n_steps_per_epoch=updates, **_quiet())
    actors: dict[int, Any] = {}

    def act(seen: np.ndarray, going: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        chosen = []
        for state, episode, reward in zip(seen, going.tolist(), rewards.tolist(), strict=True):
            if episode not in actors:
                actors[episode] = learner.as_stateful_wrapper(target_return=recording.bar)
            chosen.append(int(actors[episode].predict(state, reward)))
        return np.array(chosen)

    return act
