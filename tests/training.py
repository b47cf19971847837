"""Trainers and worlds to train in, small enough to look into."""

import numpy as np

import precedent
from worlds import ACTION, EPOCH, STATE, discounted


def layer(**settings):
    return precedent.DecisionLayer(STATE, ACTION, **({"hidden_size": 16} | settings))


def trainer(store, made=None, **options):
    return precedent.OfflineTrainer(
        store, layer() if made is None else made, **({"progress": False} | options)
    )


def marked(store, *, episodes=20, length=5, order=None):
    """Steps whose actions are all different, so that a prediction tells its step; returns them by action."""
    rng = np.random.default_rng(11)
    rows = episodes * length
    seen = rng.normal(size=(rows, STATE)).astype(np.float32)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    actions = rng.normal(size=(rows, ACTION)).astype(np.float32)
    rewards = rng.uniform(-1, 1, rows)
    known = {}
    for e in range(episodes) if order is None else order:
        at = slice(e * length, (e + 1) * length)
        store.insert_batch(
            precedent.TrajectoryBatch(
                states=seen[at],
                actions=actions[at],
                rewards=rewards[at],
                pattern_ids=[f"p{i % 3}" for i in range(length)],
                episode_ids=f"episode-{e}",
                task_types=["walk", "run"][e % 2],
                timestamps=EPOCH + np.arange(at.start, at.stop),
                step_indices=np.arange(length),
            )
        )
        returns = discounted(rewards[at], 0.99)
        for i in range(length):
            step = at.start + i
            known[actions[step].tobytes()] = (f"episode-{e}", seen[step], actions[step], returns[i])
    return known


def validated(training, known, filter=None):
    """The steps that the trainer holds out, by asking for its evaluation."""
    return [known[p.true_action.tobytes()] for p in training.evaluate(filter).predictions]


def trained_on(store, made, filter=None, **options):
    training = trainer(store, made, **({"epochs": 1, "min_trajectories": 1} | options))
    training.train(filter)
    return training


def figures(report):
    """All of a training report but its times."""
    epochs = [(m.epoch, m.train_loss, m.val_loss, m.gradient_norm) for m in report.epoch_metrics]
    return epochs, report.final_metrics, report.data_stats, report.baseline


class Broken:
    """An executor whose workers are gone; its tasks are kept."""

    def __init__(self):
        self.tasks, self.cancelled = [], 0

    def submit(self, task):
        self.tasks.append(task)
        return self

    def result(self):
        raise OSError("the worker is gone")

    def cancel(self):
        self.cancelled += 1
