"""One prediction, beside PyTorch and numpy with the same weights and inputs."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from data import clustered
from peers import peer
from rounds import Contender, Work

from works.network import DIMENSION, make_layer, make_torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLS = 200


@contextmanager
def predict(folder: Path) -> Iterator[Work]:
    """Predict one action for one state; another state and another return each time."""
    del folder
    layer, states = make_layer(), clustered(64, DIMENSION)
    returns = np.linspace(0.5, 0.95, 7)
    asked = list(zip(states, np.resize(returns, len(states)).tolist(), strict=True))
    # The peers are given the finished input, which ours has to build from state and return.
    inputs = layer.inputs(states, np.array([desired for _, desired in asked]))
    weights = layer.get_weights()
    right = np.stack([layer.predict(state, desired) for state, desired in asked])

    def many(call, things):
        turn = cycle(things)
        return lambda: [call(next(turn)) for _ in range(CALLS)]

    def plain(x):
        return np.maximum(x @ weights.W1 + weights.b1, 0) @ weights.W2 + weights.b2

    peers = [
        Contender(
            "numpy",
            many(plain, inputs),
            units=CALLS,
            quality=_gap(np.stack([plain(x) for x in inputs]), right),
        )
    ]
    missing = []
    torch = peer("torch")
    if torch is None:
        missing.append("PyTorch")
    else:
        net = make_torch(torch, weights).eval()
        tensors = [torch.from_numpy(x[None].copy()) for x in inputs]
        with torch.inference_mode():
            answers = np.concatenate([net(x).numpy() for x in tensors])

        def predicted(x):
            with torch.inference_mode():
                return net(x)

        peers.append(
            Contender("PyTorch", many(predicted, tensors), units=CALLS, quality=_gap(answers, right))
        )
    yield Work(
        "`predict`, batch 1, 768 x 3 -> 256 -> 768",
        Contender(
            "precedent",
            many(lambda pair: layer.predict(*pair), asked),
            units=CALLS,
            quality=f"within {layer.inference_error:.1e} of float32",
        ),
        peers,
        unit="prediction",
        targets={"PyTorch": 0.5} if torch else {"numpy": 0.5},
        missing=missing,
        rounds=15,
    )


def _gap(answers, right) -> str:
    return f"within {np.linalg.norm(answers - right) / np.linalg.norm(right):.1e} of ours"


WORKS = {"predict, batch 1": predict}
