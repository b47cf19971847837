"""Training, beside PyTorch with the same weights and inputs on one thread: two are slower at this batch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from data import clustered, filled, trajectories
from peers import peer
from rounds import Contender, Work

from precedent import DecisionLayer, OfflineTrainer, TrajectoryStore
from works.network import DIMENSION, make_layer, make_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BATCH, STEPS, ROWS, EPOCHS, MEMBERS = 32, 20, 10_000, 10, 3


def torch_step(torch, net) -> Callable[[object, object], float]:
    """Return a step of AdamW as the layer makes it: biases do not decay, gradients are clipped at norm 1."""
    groups = [
        {"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": 1e-4},
        {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)

    def step(inputs, targets) -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(inputs), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step


@contextmanager
def train_step(folder: Path) -> Iterator[Work]:
    """One AdamW step on a batch of 32, clipping included."""
    del folder
    layer, states = make_layer(), clustered(BATCH, DIMENSION)
    actions, returns = clustered(BATCH, DIMENSION, seed=1), np.linspace(0, 1, BATCH)
    peers, missing, quality = [], [], ""
    torch = peer("torch")
    if torch is None:
        missing.append("PyTorch")
    else:
        net = make_torch(torch, layer.get_weights())
        one = torch_step(torch, net)
        inputs, targets = torch.from_numpy(layer.inputs(states, returns).copy()), torch.from_numpy(actions)

        def step() -> float:
            return one(inputs, targets)

        # Both start from the same weights on the same batch: after fifty steps the losses must agree.
        theirs = [step() for _ in range(50)][-1]
        mine = [layer.train(states, actions, returns).loss for _ in range(50)][-1]
        quality = f"loss after 50 steps {mine:.3e}"
        peers.append(
            Contender(
                "PyTorch",
                lambda: [step() for _ in range(STEPS)],
                units=BATCH * STEPS,
                quality=f"loss after 50 steps {theirs:.3e}",
            )
        )
    yield Work(
        "training step, batch 32, AdamW (CPU time of all threads)",
        Contender(
            "precedent",
            lambda: [layer.train(states, actions, returns) for _ in range(STEPS)],
            units=BATCH * STEPS,
            quality=quality,
        ),
        peers,
        unit="sample",
        targets={"PyTorch": 0.5} if torch else {},
        missing=missing,
    )


@contextmanager
def offline(folder: Path) -> Iterator[Work]:
    """Train for ten epochs on 10,000 steps from a store; the peer has them in memory, encoded."""
    states = clustered(ROWS, DIMENSION)
    path = folder / "train.db"
    filled(path, states, action_dimension=DIMENSION)
    losses: dict[str, float] = {}
    with TrajectoryStore(path) as store:

        def ours() -> None:
            layer = DecisionLayer(DIMENSION, DIMENSION)
            trainer = OfflineTrainer(
                store,
                layer,
                epochs=EPOCHS,
                validation_split=0,
                early_stopping_patience=EPOCHS,
                progress=False,
            )
            losses["ours"] = trainer.train().epoch_metrics[-1].train_loss

        ours()
        peers, missing = [], []
        torch = peer("torch")
        if torch is None:
            missing.append("PyTorch")
        else:
            batch = trajectories(states, action_dimension=DIMENSION)
            inputs = torch.from_numpy(make_layer().inputs(states, _returns(batch)).copy())
            actions = torch.from_numpy(batch.actions.copy())

            def theirs() -> None:
                step = torch_step(torch, make_torch(torch, DecisionLayer(DIMENSION, DIMENSION).get_weights()))
                for _ in range(EPOCHS):
                    order = torch.randperm(ROWS)
                    found = [step(inputs[rows], actions[rows]) for rows in order.split(BATCH)]
                losses["theirs"] = float(np.mean(found))

            theirs()
            quality = f"train loss of the last epoch {losses['theirs']:.2e}"
            peers.append(Contender("PyTorch, data in memory", theirs, units=ROWS * EPOCHS, quality=quality))
        yield Work(
            f"`OfflineTrainer.train`, {ROWS:,} steps x {EPOCHS} epochs from the store (wall clock)",
            Contender(
                "precedent",
                ours,
                units=ROWS * EPOCHS,
                quality=f"train loss of the last epoch {losses['ours']:.2e}",
            ),
            peers,
            clock="wall",
            unit="sample",
            targets={"PyTorch, data in memory": 1 / 1.5},
            missing=missing,
            rounds=3,
        )


@contextmanager
def ensemble(folder: Path) -> Iterator[Work]:
    """Train three members side by side, and the same three one after the other."""
    path = folder / "ensemble.db"
    filled(path, clustered(ROWS, DIMENSION), action_dimension=DIMENSION)
    settings = {
        "epochs": 3,
        "validation_split": 0.1,
        "early_stopping_patience": 3,
        "progress": False,
    }
    losses: dict[str, float] = {}
    with TrajectoryStore(path) as store:

        def together() -> None:
            report = OfflineTrainer(
                store, DecisionLayer(DIMENSION, DIMENSION), ensemble=MEMBERS, **settings
            ).train()
            losses["mean"] = report.final_metrics.val_loss or 0.0

        def apart() -> None:
            reports = [
                OfflineTrainer(store, DecisionLayer(DIMENSION, DIMENSION, seed=seed), **settings).train()
                for seed in range(MEMBERS)
            ]
            losses["apart"] = float(np.mean([report.final_metrics.val_loss for report in reports]))

        together()
        apart()
        yield Work(
            f"`OfflineTrainer(ensemble={MEMBERS}).train`, {ROWS:,} steps x 3 epochs (wall clock)",
            Contender(
                "precedent",
                together,
                units=ROWS * 3 * MEMBERS,
                quality=f"validation loss of the mean answer {losses['mean']:.3e}",
            ),
            [
                Contender(
                    "the members one after the other",
                    apart,
                    units=ROWS * 3 * MEMBERS,
                    quality=f"their mean validation loss {losses['apart']:.3e}",
                )
            ],
            clock="wall",
            unit="sample",
            rounds=3,
        )


def _returns(batch) -> np.ndarray:
    """Return the discounted returns of a batch, in order."""
    returns, following, episode = np.zeros(len(batch)), 0.0, None
    for row in reversed(range(len(batch))):
        following = batch.rewards[row] + 0.99 * (following if batch.episode_ids[row] == episode else 0.0)
        returns[row], episode = following, batch.episode_ids[row]
    return returns


WORKS = {"training step": train_step, "training offline": offline, "training an ensemble": ensemble}
