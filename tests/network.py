"""The decision layer in numpy and float64, straight from its description."""

import numpy as np

import precedent

STATE, ACTION, HIDDEN = 6, 4, 5


def layer(**settings):
    sizes = {"state_size": STATE, "action_size": ACTION, "hidden_size": HIDDEN}
    return precedent.DecisionLayer(**(sizes | settings))


def trained(**settings):
    """A layer with weights that give outputs of a plain size."""
    made = layer(**settings)
    made.set_weights(random_weights(made.get_weights(), seed=1))
    return made


def random_weights(like, seed):
    rng = np.random.default_rng(seed)
    return precedent.NetworkWeights(
        **{n: rng.normal(size=getattr(like, n).shape, scale=0.5).astype(np.float32) for n in NAMES}
    )


NAMES = ("W1", "b1", "W2", "b2")


def arrays(weights):
    return [np.asarray(getattr(weights, name), np.float64) for name in NAMES]


def same_bits(one, other):
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in NAMES)


def data(n=12, seed=0, d=STATE, a=ACTION):
    """States, actions and returns to learn from."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, d)).astype(np.float32),
        rng.normal(size=(n, a)).astype(np.float32),
        rng.uniform(0, 1, n),
    )


def interleaved(frequencies, position, d):
    code = np.zeros(d)
    code[0 : 2 * len(frequencies) : 2] = np.sin(frequencies * position)
    code[1 : 2 * len(frequencies) : 2] = np.cos(frequencies * position)
    return code / np.sqrt(d / 2 if d % 2 == 0 else d // 2)


def compact_code(u, d):
    return interleaved(8.0 * 100.0 ** (-2.0 * np.arange(d // 2) / d), u, d)


def seed_code(u, d):
    i = np.arange(d)
    angles = u * 10_000 * np.exp(-i * np.log(10_000) / d)
    return np.where(i % 2 == 0, np.sin(angles), np.cos(angles))


def timestep_code(t, d):
    return 0.1 * interleaved(10_000.0 ** (-2.0 * np.arange(d // 2) / d), t, d)


def forward(weights, inputs):
    w1, b1, w2, b2 = arrays(weights)
    hidden = np.maximum(np.asarray(inputs, np.float64) @ w1 + b1, 0.0)
    return hidden @ w2 + b2, hidden


def loss(weights, inputs, actions, shares):
    """Mean over dimensions of the squared error, averaged by shares that sum to 1."""
    output, _ = forward(weights, inputs)
    return float(shares @ np.mean((output - actions) ** 2, axis=1))


def gradient(weights, inputs, actions, shares):
    _, _, w2, _ = arrays(weights)
    inputs = np.asarray(inputs, np.float64)
    output, hidden = forward(weights, inputs)
    at_output = 2.0 * shares[:, None] * (output - actions) / actions.shape[1]
    at_hidden = (at_output @ w2.T) * (hidden > 0)
    return [inputs.T @ at_hidden, at_hidden.sum(0), hidden.T @ at_output, at_output.sum(0)]


class Reference:
    """The three optimizers as their papers and the documents have them, in float64."""

    def __init__(self, weights, *, optimizer, rate=1e-3, momentum=0.9, decay=1e-4, clip=1.0):
        self.values = arrays(weights)
        self.first = [np.zeros_like(v) for v in self.values]
        self.second = [np.zeros_like(v) for v in self.values]
        self.optimizer, self.rate, self.momentum, self.decay, self.clip = (
            optimizer,
            rate,
            momentum,
            decay,
            clip,
        )
        self.steps = 0

    @property
    def weights(self):
        return precedent.NetworkWeights(**dict(zip(NAMES, self.values, strict=True)))

    def train(self, inputs, actions, shares):
        """One step; the gradient's norm before clipping."""
        gradients = gradient(self.weights, inputs, np.asarray(actions, np.float64), shares)
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        scale = min(1.0, self.clip / norm) if self.clip is not None else 1.0
        self.steps += 1
        for i, raw in enumerate(gradients):
            w = self.values[i]
            decayed = self.decay * w
            if self.optimizer == "adamw":
                spared = w if w.ndim == 1 else w - self.rate * decayed
                self.values[i] = spared - self.rate * self.direction(i, raw * scale)
            else:
                self.values[i] = w - self.rate * self.direction(i, raw * scale + decayed)
        return norm

    def direction(self, i, g):
        if self.optimizer == "sgd":
            self.first[i] = self.momentum * self.first[i] + g
            return self.first[i]
        self.first[i] = 0.9 * self.first[i] + 0.1 * g
        self.second[i] = 0.999 * self.second[i] + 0.001 * g**2
        mean = self.first[i] / (1 - 0.9**self.steps)
        square = self.second[i] / (1 - 0.999**self.steps)
        return mean / (np.sqrt(square) + 1e-8)
