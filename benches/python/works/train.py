"""Training, beside PyTorch and numpy with the same weights and inputs."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
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


def numpy_step(weights) -> Callable[[np.ndarray, np.ndarray], float]:
    """Return the same step in numpy, its products by OpenBLAS and its memory used again."""
    shapes = [part.shape for part in (weights.W1, weights.b1, weights.W2, weights.b2)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])

    def parts(flat: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    params = np.concatenate([part.ravel() for part in (weights.W1, weights.b1, weights.W2, weights.b2)])
    gradient, mean, square, moved = (np.zeros_like(params) for _ in range(4))
    (w1, b1, w2, b2), (d_w1, d_b1, d_w2, d_b2) = parts(params), parts(gradient)
    taken = 0

    def step(inputs, targets) -> float:
        nonlocal taken, gradient, mean, square, moved, params, w1, w2
        taken += 1
        hidden = np.maximum(inputs @ w1 + b1, 0)
        off = hidden @ w2 + b2 - targets
        by_output = off * np.float32(2 / off.size)
        by_hidden = (by_output @ w2.T) * (hidden > 0)
        np.matmul(inputs.T, by_hidden, out=d_w1)
        np.matmul(hidden.T, by_output, out=d_w2)
        np.sum(by_hidden, axis=0, out=d_b1)
        np.sum(by_output, axis=0, out=d_b2)
        norm = float(np.sqrt(np.vdot(gradient, gradient)))
        if norm > 1:
            gradient *= np.float32(1 / norm)
        mean *= np.float32(0.9)
        mean += np.multiply(gradient, np.float32(0.1), out=moved)
        square *= np.float32(0.999)
        np.multiply(gradient, gradient, out=moved)
        square += np.multiply(moved, np.float32(0.001), out=moved)
        np.sqrt(square, out=moved)
        moved *= np.float32(1 / np.sqrt(1 - 0.999**taken))
        moved += np.float32(1e-8)
        np.divide(mean, moved, out=moved)
        moved *= np.float32(1e-3 / (1 - 0.9**taken))
        w1 *= np.float32(1 - 1e-3 * 1e-4)
        w2 *= np.float32(1 - 1e-3 * 1e-4)
        params -= moved
        return float(np.mean(np.square(off)))

    return step


@contextmanager
def one_processor() -> Iterator[None]:
    """Hold this thread, and those that it starts, to one processor, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def train_step(folder: Path) -> Iterator[Work]:
    """One AdamW step on a batch of 32, clipping included: what it costs on one processor."""
    del folder
    peer("torch")  # when it is loaded it looks how many processors there are
    with one_processor(), _step("cpu") as work:
        yield work


@contextmanager
def train_step_on_all(folder: Path) -> Iterator[Work]:
    """One such step by wall clock, on all processors; PyTorch at one thread and at two."""
    del folder
    with _step("wall") as work:
        yield work


@contextmanager
def _step(clock: str) -> Iterator[Work]:
    layer, states = make_layer(), clustered(BATCH, DIMENSION)
    actions, returns = clustered(BATCH, DIMENSION, seed=1), np.linspace(0, 1, BATCH)
    weights, inputs = layer.get_weights(), layer.inputs(states, returns).copy()

    def contender(name: str, step: Callable[[], float], prepare: Callable[[], object] = int) -> Contender:
        # All start from the same weights on the same batch: after fifty steps the losses must agree.
        prepare()
        loss = [step() for _ in range(50)][-1]
        return Contender(
            name,
            lambda: [step() for _ in range(STEPS)],
            units=BATCH * STEPS,
            prepare=prepare,
            quality=f"loss after 50 steps {loss:.3e}",
        )

    plain = numpy_step(weights)
    peers, missing = [contender("numpy", lambda: plain(inputs, actions))], []
    torch = peer("torch")
    if torch is None:
        missing.append("PyTorch")
    else:
        given = torch.from_numpy(inputs), torch.from_numpy(actions)
        for threads in (1, 2) if clock == "wall" else (1,):
            step = torch_step(torch, make_torch(torch, weights))
            peers.append(
                contender(
                    "PyTorch" if threads == 1 else f"PyTorch, {threads} threads",
                    partial(step, *given),
                    partial(torch.set_num_threads, threads),
                )
            )
    told = "wall clock" if clock == "wall" else "CPU time, on one processor"
    yield Work(
        f"training step, batch 32, AdamW ({told})",
        contender("precedent", lambda: layer.train(states, actions, returns).loss),
        peers,
        clock=clock,
        unit="sample",
        targets={made.name: 0.5 for made in peers if made.name != "numpy" or not torch},
        missing=missing,
    )
    if torch is not None:
        torch.set_num_threads(1)


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
            peers += [
                Contender(
                    f"PyTorch, data in memory{'' if threads == 1 else f', {threads} threads'}",
                    theirs,
                    units=ROWS * EPOCHS,
                    prepare=partial(torch.set_num_threads, threads),
                    quality=f"train loss of the last epoch {losses['theirs']:.2e}",
                )
                for threads in (1, 2)
            ]
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
            targets={peer.name: 1 / 1.5 for peer in peers},
            missing=missing,
            rounds=3,
        )
        if torch is not None:
            torch.set_num_threads(1)


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


WORKS = {
    "training step": train_step,
    "training step, wall clock": train_step_on_all,
    "training offline": offline,
    "training an ensemble": ensemble,
}
