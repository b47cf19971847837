"""The network that predicting and training are measured on: the default sizes, in both libraries."""

from __future__ import annotations

import numpy as np

from precedent import DecisionLayer, NetworkWeights

DIMENSION, HIDDEN = 768, 256


def make_layer() -> DecisionLayer:
    """Return a layer with weights as of a trained one."""
    rng = np.random.default_rng(0)
    layer = DecisionLayer(DIMENSION, DIMENSION, hidden_size=HIDDEN)
    layer.set_weights(
        NetworkWeights(
            W1=rng.standard_normal((3 * DIMENSION, HIDDEN), dtype=np.float32) / np.float32(48),
            b1=np.zeros(HIDDEN, np.float32),
            W2=rng.standard_normal((HIDDEN, DIMENSION), dtype=np.float32) / np.float32(16),
            b2=np.zeros(DIMENSION, np.float32),
        )
    )
    return layer


def make_torch(torch, weights: NetworkWeights):
    net = torch.nn.Sequential(
        torch.nn.Linear(3 * DIMENSION, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, DIMENSION)
    )
    given = (weights.W1.T, weights.b1, weights.W2.T, weights.b2)
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), given, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return net
