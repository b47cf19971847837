"""Evaluation: accuracy, similarity, calibration, and the baseline beside the layer."""

import os
import pickle

import numpy as np
import pytest

import precedent
from training import Broken, layer, marked, trained_on, trainer, validated
from worlds import ACTION, LEFT, RIGHT, STATE, learnable


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture
def learned(memory):
    learnable(memory, episodes=200)
    made = precedent.DecisionLayer(STATE, ACTION, hidden_size=32, learning_rate=0.01)
    training = trainer(memory, made, epochs=8)
    return training, training.train()


def test_accuracy_is_the_share_whose_nearest_pattern_is_the_one_taken(learned):
    training, _ = learned
    report = training.evaluate()
    assert len(report.predictions) == 160
    right = [
        (p.predicted_action @ LEFT > p.predicted_action @ RIGHT) == np.array_equal(p.true_action, LEFT)
        for p in report.predictions
    ]
    assert report.accuracy == pytest.approx(np.mean(right))
    assert 0.6 < report.accuracy < 1.0
    similarities = [cosine(p.true_action, p.predicted_action) for p in report.predictions]
    np.testing.assert_allclose([p.similarity for p in report.predictions], similarities, atol=1e-5)
    assert report.avg_similarity == pytest.approx(np.mean(similarities), abs=1e-5)


def test_each_task_type_has_its_own_line_and_they_add_up(learned):
    training, _ = learned
    report = training.evaluate()
    assert sorted(report.per_task_type) == ["run", "walk"]
    parts = report.per_task_type.values()
    assert sum(p.count for p in parts) == len(report.predictions)
    for name in ("accuracy", "avg_similarity"):
        weighted = sum(getattr(p, name) * p.count for p in parts) / len(report.predictions)
        assert getattr(report, name) == pytest.approx(weighted)


def test_a_filter_chooses_what_is_evaluated(learned):
    training, _ = learned
    whole = training.evaluate()
    walking = training.evaluate({"task_type": "walk"})
    assert list(walking.per_task_type) == ["walk"]
    assert walking.per_task_type["walk"] == whole.per_task_type["walk"]
    assert len(walking.predictions) == whole.per_task_type["walk"].count


@pytest.mark.parametrize("seed", range(5))
def test_a_filter_never_shows_what_a_run_on_everything_learned_from(memory, seed):
    known = marked(memory, episodes=60)
    training = trained_on(memory, layer(), seed=seed)
    held_out = {episode for episode, *_ in validated(training, known)}
    for kind, parity in (("walk", 0), ("run", 1)):
        found = training.evaluate({"task_type": kind})
        names = {known[p.true_action.tobytes()][0] for p in found.predictions}
        assert names == {name for name in held_out if int(name.split("-")[1]) % 2 == parity}


def test_what_none_of_several_runs_learned_from_is_what_is_evaluated(memory):
    known = marked(memory, episodes=60)
    training = trained_on(memory, layer(), filter={"task_type": "walk"})
    runs = {f"episode-{i}" for i in range(1, 60, 2)}
    assert {episode for episode, *_ in validated(training, known, {"task_type": "run"})} == runs
    training.train()
    held_out = {episode for episode, *_ in validated(training, known)}
    assert {episode for episode, *_ in validated(training, known, {"task_type": "run"})} == runs & held_out


def test_of_a_layer_that_was_trained_elsewhere_no_episode_is_shown_that_either_run_would_learn_from(memory):
    known = marked(memory, episodes=60)
    made = layer()
    whole = trained_on(memory, made)
    partly = trained_on(memory, layer(), filter={"task_type": "walk"})
    expected = {e for e, *_ in validated(whole, known)} & {
        e for e, *_ in validated(partly, known, {"task_type": "walk"})
    }
    fresh = trainer(memory, made)
    assert {e for e, *_ in validated(fresh, known, {"task_type": "walk"})} == expected


def test_predictions_may_be_left_out_and_training_steps_included(learned):
    training, _ = learned
    with_all = training.evaluate(include_training=True)
    assert len(with_all.predictions) == 800
    without = training.evaluate(include_training=True, keep_predictions=False)
    assert len(without.predictions) == 0
    assert (without.accuracy, without.avg_similarity) == (with_all.accuracy, with_all.avg_similarity)


def test_calibration_is_reported_by_bins_and_by_coverage(learned):
    training, _ = learned
    report = training.evaluate()
    assert sum(b.count for b in report.reliability) == len(report.predictions)
    for each in report.reliability:
        assert 0.0 <= each.confidence <= 1.0
        assert -1.0 <= each.similarity <= 1.0
    gaps = sum(abs(b.confidence - b.similarity) * b.count for b in report.reliability)
    assert report.calibration_error == pytest.approx(gaps / len(report.predictions), abs=1e-6)
    assert report.calibration_error < 0.1
    coverages = [coverage for coverage, _ in report.risk_coverage]
    assert coverages == sorted(coverages)
    assert coverages[0] > 0.0
    assert coverages[-1] == pytest.approx(1.0)
    assert report.risk_coverage[-1][1] == pytest.approx(1.0 - report.avg_similarity, abs=1e-5)


def test_a_confidence_is_judged_on_steps_that_it_was_not_fitted_to(memory):
    known = marked(memory, episodes=60)
    made = layer()
    training = trained_on(memory, made)

    def promised(report):
        return sum(b.confidence * b.count for b in report.reliability) / len(report.predictions)

    def own(report):
        steps = [known[p.true_action.tobytes()] for p in report.predictions]
        return np.mean([made.predict_with_confidence(s, r).confidence for _, s, _, r in steps])

    fresh, held_out = training.evaluate(include_training=True), training.evaluate()
    assert promised(fresh) == pytest.approx(own(fresh), abs=1e-4)
    assert promised(held_out) != pytest.approx(own(held_out), abs=1e-4)


def test_steps_are_asked_with_the_return_that_was_achieved(memory):
    known = marked(memory)
    made = precedent.DecisionLayer(STATE, ACTION, hidden_size=16)
    training = trainer(memory, made, epochs=2)
    training.train()
    for prediction in training.evaluate().predictions:
        _, state, _, returned = known[prediction.true_action.tobytes()]
        asked = made.predict(state, returned)
        assert np.linalg.norm(prediction.predicted_action - asked) <= 0.011 * np.linalg.norm(asked)


def test_the_baseline_is_the_nearest_training_step_s_action(memory):
    known = marked(memory)
    made = precedent.DecisionLayer(STATE, ACTION, hidden_size=16)
    training = trainer(memory, made, epochs=2)
    baseline = training.train().baseline
    held_out = validated(training, known)
    names = {episode for episode, *_ in held_out}
    others = [step for step in known.values() if step[0] not in names]
    states = np.stack([state for _, state, _, _ in others])
    nearest = [others[int(np.argmax(states @ state))] for _, state, _, _ in held_out]
    expected = np.mean([cosine(near[2], step[2]) for near, step in zip(nearest, held_out, strict=True)])
    assert baseline.neighbor_similarity == pytest.approx(expected, abs=1e-4)
    assert baseline.layer_similarity == pytest.approx(training.evaluate().avg_similarity, abs=0.01)
    assert (baseline.train_size, baseline.val_size) == (80, 20)


def test_a_layer_is_asked_with_step_numbers_if_it_learned_with_them_whatever_its_trainer_would_do(memory):
    marked(memory)
    made = layer()
    training = trained_on(memory, made, timesteps=True)
    plain = trainer(memory, made)
    assert plain.evaluate({}).avg_similarity == training.evaluate().avg_similarity


def test_a_layer_that_never_learned_cannot_be_evaluated(memory):
    marked(memory)
    with pytest.raises(precedent.NotTrainedError):
        trainer(memory).evaluate()


def test_nothing_to_evaluate_is_refused(learned):
    training, _ = learned
    with pytest.raises(precedent.InsufficientDataError):
        training.evaluate({"task_type": "fly"})


def test_a_report_is_a_frozen_record(learned):
    training, report = learned
    for record in (report, training.evaluate(), report.baseline, report.data_stats):
        for name in record.to_dict():
            with pytest.raises(AttributeError):
                setattr(record, name, 1.0)


class Seen:
    """An executor that counts what it is given."""

    def __init__(self, executor):
        self.executor, self.tasks = executor, 0

    def submit(self, task):
        self.tasks += 1
        return self.executor.submit(task)


@pytest.mark.parametrize(
    ("filter", "include_training"), [(None, False), (None, True), ({"task_type": "walk"}, True)]
)
def test_an_executor_s_evaluation_has_the_bits_of_this_process_s(
    opened, tmp_path, executor, monkeypatch, filter, include_training
):
    store = opened(tmp_path / "steps.db")
    marked(store, episodes=30)
    made = layer()
    trained_on(store, made, epochs=3)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    asked = {"include_training": include_training, "keep_predictions": include_training}
    expected, seen = trainer(store, made).evaluate(filter, **asked), Seen(executor)
    assert trainer(store, made, executor=seen).evaluate(filter, **asked) == expected
    assert expected.calibration_error is not None
    assert seen.tasks == 3


class Late:
    """An executor of another process, before whose tasks begin the store is written to."""

    def __init__(self, write, task=b""):
        self.write, self.task = write, task

    def submit(self, task):
        return Late(self.write, pickle.dumps(task))

    def result(self):
        self.write()
        return pickle.loads(self.task)()

    def cancel(self):
        pass


def test_parts_that_saw_other_steps_are_not_joined(opened, tmp_path):
    store = opened(tmp_path / "steps.db")
    marked(store, episodes=30)
    made = layer()
    trained_on(store, made)
    expected = trainer(store, made).evaluate(include_training=True)
    unchanged = trainer(store, made, executor=Late(lambda: None))
    assert unchanged.evaluate(include_training=True) == expected
    late = trainer(store, made, executor=Late(lambda: store.prune(max_size=100)))
    with pytest.raises(precedent.TrainingError, match="different steps"):
        late.evaluate(include_training=True)


def test_a_layer_that_cannot_be_evaluated_is_refused_before_a_task_is_submitted(memory, executor):
    marked(memory)
    seen = Seen(executor)
    with pytest.raises(precedent.NotTrainedError):
        trainer(memory, executor=seen).evaluate()
    assert seen.tasks == 0


def test_once_a_part_failed_those_that_still_come_end_at_once(memory, monkeypatch):
    marked(memory)
    made, executor = layer(), Broken()
    trained_on(memory, made)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(OSError, match="worker is gone"):
        trainer(memory, made, executor=executor).evaluate()
    assert executor.cancelled == len(executor.tasks) == 2
    for task in executor.tasks:
        with pytest.raises(KeyboardInterrupt):
            task()
