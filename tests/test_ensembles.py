"""Several networks in one layer: each what it is alone, wherever it was trained."""

import os
import shutil
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import precedent
from network import data, same_bits
from training import figures, layer, marked, trainer

SETTINGS = {"ensemble": 3, "epochs": 3, "min_trajectories": 1, "batch_size": 8}


@pytest.fixture
def store(opened, tmp_path):
    made = opened(tmp_path / "steps.db")
    marked(made)
    return made


def alone(store, seed):
    made = layer(seed=seed)
    report = trainer(store, made, **(SETTINGS | {"ensemble": 1})).train()
    return made, report


def equal(one, other):
    pairs = zip(one.members, other.members, strict=True)
    return all(same_bits(a.get_weights(), b.get_weights()) for a, b in pairs)


def test_members_are_what_they_are_alone_and_the_layer_is_their_mean(store):
    together = layer(seed=5)
    report = trainer(store, together, **SETTINGS).train()
    singles = [alone(store, 5 + i) for i in range(3)]
    assert len(together.members) == 3
    for member, (single, _) in zip(together.members, singles, strict=True):
        assert same_bits(member.get_weights(), single.get_weights())
        assert not member.calibrated
    assert same_bits(together.get_weights(), singles[0][0].get_weights())
    states = np.stack([p.true_action for p in trainer(store, together).evaluate().predictions])
    states = np.resize(states, (len(states), together.state_size))
    answers = np.mean([single.predict_many(states, 0.5) for single, _ in singles], axis=0)
    np.testing.assert_allclose(together.predict_many(states, 0.5), answers, atol=1e-6)
    np.testing.assert_array_equal(together.predict(states[0], 0.5), together.predict_many(states, 0.5)[0])
    for epoch, *members in zip(
        report.epoch_metrics, *(single.epoch_metrics for _, single in singles), strict=False
    ):
        assert epoch.train_loss == pytest.approx(np.mean([m.train_loss for m in members]))


def test_a_file_holds_all_members(store, tmp_path):
    together = layer()
    trainer(store, together, **SETTINGS).train()
    together.save(tmp_path / "ensemble.layer")
    loaded = precedent.DecisionLayer.load(tmp_path / "ensemble.layer")
    assert equal(loaded, together)
    state = np.ones(together.state_size) / 3
    told = together.predict_with_confidence(state, 0.5)
    assert told.confidence is not None
    assert loaded.predict_with_confidence(state, 0.5) == told


def test_an_ensemble_is_not_exported_as_the_one_network_that_it_is_not(store, tmp_path):
    together = layer()
    trainer(store, together, **SETTINGS).train()
    with pytest.raises(precedent.ValidationError, match="ensemble of 3"):
        together.export_safetensors(tmp_path / "whole")
    together.members[2].export_safetensors(tmp_path / "third")
    third = precedent.DecisionLayer.from_safetensors(tmp_path / "third")
    assert same_bits(third.get_weights(), together.members[2].get_weights())


def test_an_epoch_s_members_are_in_the_layer_while_it_is_yielded(store):
    made = layer()
    epochs = trainer(store, made, **SETTINGS).fitter()
    next(epochs)
    first = made.members
    assert len(first) == 3
    next(epochs)
    assert not any(
        same_bits(a.get_weights(), b.get_weights()) for a, b in zip(first, made.members, strict=True)
    )


def test_an_interrupted_ensemble_is_resumed_to_the_same_bits(store, tmp_path):
    whole = layer()
    trainer(store, whole, **SETTINGS, save_path=tmp_path / "a").train()
    next(trainer(store, layer(), **SETTINGS, save_path=tmp_path / "b").fitter())
    resumed = layer()
    trainer(store, resumed, **SETTINGS, save_path=tmp_path / "b").train(resume=True)
    assert equal(resumed, whole)
    assert equal(precedent.DecisionLayer.load(tmp_path / "b" / "best.weights"), whole)


def test_a_layer_that_learned_alone_does_not_become_an_ensemble(store):
    single, _ = alone(store, 0)
    with pytest.raises(precedent.ValidationError, match=r"ensemble: expected 1, .*got 3"):
        trainer(store, single, **SETTINGS).train()
    made = layer()
    made.set_weights(made.get_weights())
    with pytest.raises(precedent.ValidationError, match="ensemble"):
        trainer(store, made, **SETTINGS).train()


def test_a_store_that_is_closed_ends_the_runs_of_all_members_and_keeps_the_last_epoch(opened, tmp_path):
    store = opened(tmp_path / "closing.db")
    marked(store)
    made = layer()
    epochs = trainer(store, made, **SETTINGS).fitter()
    next(epochs)
    after = made.members
    store.close()
    with pytest.raises(precedent.errors.ClosedError):
        next(epochs)
    assert all(same_bits(a.get_weights(), b.get_weights()) for a, b in zip(after, made.members, strict=True))


def test_a_store_closed_in_the_middle_of_an_epoch_ends_all_members_there(memory):
    marked(memory, episodes=400)
    settings = SETTINGS | {"epochs": 10_000, "early_stopping_patience": 10_000}
    training = trainer(memory, layer(hidden_size=512), **settings)
    begun = threading.Event()

    def train():
        for _ in training.fitter():
            begun.set()

    with ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(train)
        assert begun.wait(60)
        memory.close()
        assert isinstance(outcome.exception(60), precedent.errors.ClosedError)


def test_paused_members_leave_no_threads_behind_a_closed_store(memory, threads):
    marked(memory)
    before = threads()
    epochs = trainer(memory, **SETTINGS).fitter()
    next(epochs)
    memory.close()
    assert any(threads() <= before for _ in range(100_000))
    epochs.close()


def test_threads_that_ask_an_ensemble_at_once_get_the_answers_that_each_gets_alone(store):
    together = layer()
    trainer(store, together, **SETTINGS).train()
    states, _, _ = data(d=together.state_size, a=together.action_size)
    returns = np.linspace(0, 1, 40)  # more than are kept: some are computed meanwhile
    alone = [[together.predict(state, r) for r in returns] for state in states[:3]]

    def ask(part):
        for _ in range(10):
            for j in np.random.default_rng(part).permutation(len(returns)):
                for i in range(3):
                    np.testing.assert_array_equal(together.predict(states[i], returns[j]), alone[i][j])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))


def test_weights_that_are_set_are_those_of_one_network(store):
    together = layer()
    trainer(store, together, **SETTINGS).train()
    together.set_weights(together.get_weights())
    assert len(together.members) == 1


def test_a_step_on_a_batch_is_one_of_every_member(store):
    together = layer()
    trainer(store, together, **SETTINGS).train()
    members = together.members
    states, actions, returns = data(d=together.state_size, a=together.action_size)
    told = together.train(states, actions, returns)
    losses = [member.train(states, actions, returns).loss for member in members]
    assert told.loss == pytest.approx(np.mean(losses))
    for after, member in zip(together.members, members, strict=True):
        assert same_bits(after.get_weights(), member.get_weights())


@pytest.mark.parametrize("ensemble", [1, 3])
def test_an_executor_makes_the_bits_and_the_report_that_this_process_makes(
    store, executor, ensemble, tmp_path
):
    settings = SETTINGS | {"ensemble": ensemble}
    here, there, seen = layer(), layer(), []
    expected = trainer(store, here, **settings).train({"task_types": ["walk"]})
    report = trainer(
        store, there, **settings, executor=executor, callbacks=[seen.append], save_path=tmp_path / "runs"
    ).train({"task_types": ["walk"]})
    assert equal(there, here)
    assert there.calibrated
    assert figures(report) == figures(expected)
    assert tuple(seen) == report.epoch_metrics
    assert equal(precedent.DecisionLayer.load(tmp_path / "runs" / "best.weights"), here)


def test_an_executor_resumes_what_this_process_began(store, executor, tmp_path):
    whole = layer()
    trainer(store, whole, **SETTINGS).train()
    next(trainer(store, layer(), **SETTINGS, save_path=tmp_path / "runs").fitter())
    resumed = layer()
    trainer(store, resumed, **SETTINGS, save_path=tmp_path / "runs", executor=executor).train(resume=True)
    assert equal(resumed, whole)


def test_a_store_in_memory_is_trained_from_by_threads_and_refused_to_processes(memory):
    marked(memory)
    here, there = layer(), layer()
    trainer(memory, here, **SETTINGS).train()
    with ThreadPoolExecutor(3) as threads:
        trainer(memory, there, **SETTINGS, executor=threads).train()
    assert equal(there, here)
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes,
        pytest.raises(precedent.ValidationError, match="store in memory"),
    ):
        trainer(memory, layer(), **SETTINGS, executor=processes).train()


class Failing:
    """An executor whose second task fails."""

    def __init__(self):
        self.tasks, self.cancelled = 0, 0

    def submit(self, task, /, *arguments):
        self.tasks += 1
        return _Told(self, task, arguments, self.tasks == 2)


class _Told:
    def __init__(self, owner, task, arguments, fails):
        self.owner, self.task, self.arguments, self.fails = owner, task, arguments, fails

    def result(self):
        if self.fails:
            raise OSError("the worker is gone")
        return self.task(*self.arguments)

    def cancel(self):
        self.owner.cancelled += 1


def test_a_task_that_fails_leaves_the_layer_as_it_was_and_takes_the_others_back(store):
    made, executor = layer(), Failing()
    with pytest.raises(OSError, match="worker is gone"):
        trainer(store, made, **SETTINGS, executor=executor).train()
    assert not made.trained
    assert (executor.tasks, executor.cancelled) == (3, 3)


ENDLESS = {"ensemble": 2, "epochs": 1_000_000, "early_stopping_patience": 1_000_000, "batch_size": 8}


class Together(ThreadPoolExecutor):
    """Threads whose tasks begin at the same time as who waits for them; what each came to is kept."""

    def __init__(self, members):
        super().__init__(members)
        self.begun, self.submitted = threading.Barrier(members + 1), threading.Event()
        self.promises = []

    def submit(self, task, /):
        def begin():
            self.begun.wait(60)
            return task()

        self.promises.append(super().submit(begin))
        self.submitted.set()
        return self.promises[-1]


def test_ctrl_c_ends_the_members_on_the_threads_of_an_executor(memory):
    marked(memory)
    executor = Together(2)

    left = threading.Event()

    def interrupt():
        executor.begun.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        while not left.wait(3):  # Python overlooks a signal that comes just before its main thread blocks
            os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=interrupt)
    presser.start()
    made = layer()
    with pytest.raises(KeyboardInterrupt):
        trainer(memory, made, **ENDLESS, executor=executor).train()
    left.set()
    presser.join()
    outcomes = [promise.exception(60) for promise in executor.promises]
    assert {type(outcome) for outcome in outcomes} == {KeyboardInterrupt}
    assert not made.trained
    executor.shutdown()  # waits for both


def test_a_member_that_fails_ends_the_others_on_the_threads_of_an_executor(memory, tmp_path):
    marked(memory)
    executor = Together(2)

    def spoil():  # tasks wait for this, and the folders are there before any is submitted
        executor.submitted.wait(60)
        shutil.rmtree(tmp_path / "member-1")
        (tmp_path / "member-1").write_text("no folder")
        executor.begun.wait(60)

    spoiler = threading.Thread(target=spoil)
    spoiler.start()
    with pytest.raises(precedent.StorageError, match="member-1"):
        trainer(memory, **ENDLESS, executor=executor, save_path=tmp_path).train()
    spoiler.join()
    assert isinstance(executor.promises[0].exception(60), KeyboardInterrupt)
    executor.shutdown()  # waits for both


def test_what_does_not_fit_is_refused_before_a_task_is_submitted(store):
    executor = Failing()
    with pytest.raises(precedent.InsufficientDataError):
        trainer(store, layer(), **(SETTINGS | {"min_trajectories": 10_000}), executor=executor).train()
    assert executor.tasks == 0
