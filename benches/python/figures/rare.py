"""Prioritized replay in the trainer: how many samples it takes to a held-out loss, beside uniform replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from report import Table
from rounds import Spread

from precedent import DecisionLayer, OfflineTrainer, TrajectoryBatch, TrajectoryStore

if TYPE_CHECKING:
    from pathlib import Path

STATE, ACTION, LENGTH, EPOCHS, SEEDS = 16, 4, 10, 60, 5
# Of the loss that an answer of zeros has on the episodes that validate.
TARGETS = (0.2, 0.1, 0.05)
WITHIN = 0.8


@dataclass(frozen=True)
class World:
    """Steps of which a share follows a rule of its own.

    Attributes:
        title: What the table calls it.
        episodes: Of ten steps each.
        rare: The share of the steps that are rare; the last number of their states says so.
        noise: Standard deviation of the noise on all actions.
        promised: Whether it is what prioritized replay is for.
    """

    title: str
    episodes: int
    rare: float
    noise: float = 0.0
    promised: bool = True

    def steps(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return states and actions: a linear rule for most, a bent one with larger actions for the rare."""
        rng, rules = np.random.default_rng(seed), np.random.default_rng(123)
        n = self.episodes * LENGTH
        states = rng.normal(size=(n, STATE))
        states /= np.linalg.norm(states, axis=1, keepdims=True)
        rare = rng.random(n) < self.rare
        states[:, -1] = rare
        common_rule, rare_rule = rules.normal(size=(2, STATE - 1, ACTION))
        seen = states[:, :-1]
        actions = np.where(rare[:, None], 1.5 * np.sin(seen @ rare_rule), 0.15 * seen @ common_rule)
        actions += self.noise * rng.normal(size=actions.shape)
        return states.astype(np.float32), actions.astype(np.float32)


WORLDS = (
    World("2 % of 10,000 steps rare and hard", episodes=1000, rare=0.02),
    World("1 % of 20,000 steps rare and hard", episodes=2000, rare=0.01),
    World("5 % of 10,000 steps rare and hard", episodes=1000, rare=0.05),
    World("nothing rare, noise on every action", episodes=1000, rare=1.0, noise=0.1, promised=False),
)


def _samples(store: TrajectoryStore, replay: str, seed: int, targets: list[float]) -> list[float]:
    """Return after how many samples the held-out loss was at each target; between epochs by interpolation."""
    layer = DecisionLayer(STATE, ACTION, hidden_size=64, learning_rate=3e-3, seed=seed)
    trainer = OfflineTrainer(
        store, layer, epochs=EPOCHS, early_stopping_patience=EPOCHS, replay=replay, seed=seed, progress=False
    )
    report = trainer.train()
    losses = np.array([metrics.val_loss for metrics in report.epoch_metrics])
    found = []
    for target in targets:
        below = np.flatnonzero(losses <= target)
        at = float("inf")
        if len(below):
            i = int(below[0])
            at = 1.0 if i == 0 else i + (losses[i - 1] - target) / (losses[i - 1] - losses[i])
        found.append(at * report.data_stats.train_size)
    return found


def rare(folder: Path) -> Table:
    """Measure it for every world, target and seed."""
    del folder
    table = Table(
        f"Samples `OfflineTrainer` needs to a held-out loss ({SEEDS} seeds, each its own data and network)",
        [
            "data",
            "held-out loss, of that of zeros",
            "uniform",
            "prioritized",
            "ratio, median (range)",
            f"within {WITHIN}",
        ],
    )
    for world in WORLDS:
        counts: dict[str, list[list[float]]] = {"uniform": [], "prioritized": []}
        for seed in range(SEEDS):
            states, actions = world.steps(seed)
            targets = [share * float(np.mean(actions.astype(np.float64) ** 2)) for share in TARGETS]
            with TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
                store.insert_batch(
                    TrajectoryBatch(
                        states=states,
                        actions=actions,
                        rewards=np.zeros(len(states)),
                        pattern_ids="step",
                        episode_ids=[f"e{i // LENGTH}" for i in range(len(states))],
                        task_types="bench",
                        step_indices=np.arange(len(states)) % LENGTH,
                    )
                )
                for replay, found in counts.items():
                    found.append(_samples(store, replay, seed, targets))
        for place, share in enumerate(TARGETS):
            uniform, prioritized = ([found[place] for found in counts[r]] for r in ("uniform", "prioritized"))
            if not np.isfinite([*uniform, *prioritized]).all():
                table.add(world.title, f"{share:.0%}", _shown(uniform), _shown(prioritized), "", "")
                continue
            ratio = Spread.of([p / u for u, p in zip(uniform, prioritized, strict=True)])
            met = "" if not world.promised else "yes" if ratio.median <= WITHIN else "**no**"
            table.add(
                world.title,
                f"{share:.0%}",
                _shown(uniform),
                _shown(prioritized),
                f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
                met,
            )
    return table


def _shown(samples: list[float]) -> str:
    """Return the median over seeds, or how many seeds never got there."""
    never = int(np.isinf(samples).sum())
    if never:
        return f"{never} of {len(samples)} not within {EPOCHS} epochs"
    return f"{np.median(samples):,.0f}"
