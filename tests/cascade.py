"""Situations for the selector: precedents at chosen angles from the state that is asked about."""

import numpy as np

import precedent
from network import random_weights
from worlds import ACTION, STATE, one_hot, step

HERE = one_hot(0)


def at(cosine, direction=1):
    """A unit state whose cosine to HERE is this."""
    return (cosine * one_hot(0) + np.sqrt(1.0 - cosine**2) * one_hot(direction)).astype(np.float32)


def precedent_at(store, cosine, *, direction=1, **facts):
    """Stores a step at that angle, a good one unless something else is said, and returns its id."""
    plain = {"action": (1.0, 0.0, 0.0), "returns": 1.0}
    return store.insert(step(at(cosine, direction), **(plain | facts)))


def network(**settings):
    """A trained, uncalibrated layer of the suite's dimensions."""
    made = precedent.DecisionLayer(STATE, ACTION, **({"hidden_size": 16} | settings))
    made.set_weights(random_weights(made.get_weights(), seed=1))
    return made


def calibrated(**settings):
    """A trained layer that has been calibrated on answers near its own."""
    made = network(**settings)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(200, STATE))
    asked = rng.uniform(0, 1, 200)
    answers = made.predict_many(seen, asked)
    made.calibrate(seen, answers + rng.normal(size=answers.shape, scale=0.5), asked)
    return made
