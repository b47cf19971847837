"""A layer that several threads use: answers do not wait for answers, and none sees half a step."""

import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import precedent
from network import STATE, arrays, data, layer, same_bits, trained


def in_thread(work):
    """Starts `work` and gives the thread and the list that gets what it raised."""
    failures = []

    def run():
        try:
            work()
        except BaseException as err:
            failures.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_a_prediction_does_not_wait_for_a_longer_one():
    d = 256
    made = precedent.DecisionLayer(d, 64, hidden_size=1024)
    made.set_weights(made.get_weights())
    many = np.random.default_rng(0).normal(size=(60_000, d)).astype(np.float32)
    thread, failures = in_thread(lambda: made.predict_many(many, 0.5))
    moments = [time.perf_counter()]
    while thread.is_alive():
        made.predict(many[0], 0.5)
        moments.append(time.perf_counter())
    thread.join()
    assert failures == []
    # Were they one after the other, the one that waited would take nearly all of the time.
    assert np.diff(moments).max() < (moments[-1] - moments[0]) / 2


def test_threads_that_ask_at_once_get_the_answers_that_each_gets_alone():
    made = trained()
    states, _, _ = data(n=200)
    returns = np.linspace(0, 1, 40)  # more than are kept: some are computed meanwhile
    alone = [[made.predict(state, r) for r in returns] for state in states[:5]]

    def ask(part):
        for _ in range(20):
            for j in np.random.default_rng(part).permutation(len(returns)):
                for i in range(5):
                    np.testing.assert_array_equal(made.predict(states[i], returns[j]), alone[i][j])

    for thread, failures in [in_thread(lambda part=part: ask(part)) for part in range(4)]:
        thread.join()
        assert failures == []


def test_an_answer_is_of_the_weights_between_two_steps_never_of_half_a_step():
    made, twin = layer(hidden_size=64), layer(hidden_size=64)
    states, actions, returns = data(n=64)
    between = set()
    for _ in range(60):
        twin.train(states, actions, returns)
        between.add(twin.predict_many(states[:8], 0.5).tobytes())
    made.train(states, actions, returns)
    seen = set()

    def learn():
        for _ in range(59):
            made.train(states, actions, returns)

    thread, failures = in_thread(learn)
    while thread.is_alive():
        seen.add(made.predict_many(states[:8], 0.5).tobytes())
    seen.add(made.predict_many(states[:8], 0.5).tobytes())
    thread.join()
    assert failures == []
    assert seen <= between
    assert same_bits(made.get_weights(), twin.get_weights())


def test_threads_that_train_at_once_take_whole_steps():
    made = layer()
    states, actions, returns = data(n=STATE)

    def learn():
        for _ in range(200):
            made.train(states, actions, returns)

    for thread, failures in [in_thread(learn) for _ in range(4)]:
        thread.join()
        assert failures == []
    twin = layer()
    for _ in range(800):
        twin.train(states, actions, returns)
    for one, other in zip(arrays(made.get_weights()), arrays(twin.get_weights()), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor has no pool to share work with")
@pytest.mark.parametrize("work", ["predict_many", "calibrate", "train", "gradients"])
def test_much_work_is_handed_to_the_pool_and_little_is_not(work):
    made = precedent.DecisionLayer(256, 64, hidden_size=512)
    made.set_weights(made.get_weights())
    columns = data(4000, d=256, a=64)
    states, _, returns = columns

    def own_share(rows, times):
        asked = [column[:rows] for column in ((states, returns) if work == "predict_many" else columns)]
        getattr(made, work)(*asked)
        own, all_threads = time.thread_time(), time.process_time()
        for _ in range(times):
            getattr(made, work)(*asked)
        return (time.thread_time() - own) / (time.process_time() - all_threads)

    assert own_share(4000, 3) < 0.5
    assert own_share(20, 200) > 0.5


def test_answers_by_the_pool_have_the_bits_of_answers_in_small_parts():
    made = precedent.DecisionLayer(256, 64, hidden_size=512)
    made.set_weights(made.get_weights())
    states, _, returns = data(1000, d=256, a=64)
    parts = [made.predict_many(states[i : i + 50], returns[i : i + 50]) for i in range(0, 1000, 50)]
    np.testing.assert_array_equal(made.predict_many(states, returns), np.concatenate(parts))


def test_a_layer_keeps_the_threads_of_a_large_batch_and_no_longer_than_it_lives(threads):
    before, layer = threads(), precedent.DecisionLayer(64, 64)
    states, actions, returns = data(n=512, d=64, a=64)
    layer.train(states[:8], actions[:8], returns[:8])
    assert threads() <= before
    layer.train(states, actions, returns)
    begun = threads() - before
    assert begun
    layer.train(states, actions, returns)
    assert threads() - before == begun
    del layer
    assert any(threads() <= before for _ in range(100_000))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_trains_on_to_the_same_bits(pytestconfig):
    script = """
    import os, sys, warnings
    sys.path.insert(0, sys.argv[1])
    from network import data
    from precedent import DecisionLayer
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, which is the point
    layer, (states, actions, returns) = DecisionLayer(64, 64), data(n=512, d=64, a=64)
    layer.train(states, actions, returns)
    reader, writer = os.pipe()
    child = os.fork()
    told = repr(layer.train(states, actions, returns)).encode()
    if child == 0:
        os.write(writer, told)
        os._exit(0)
    print(os.read(reader, 1000) == told, os.waitpid(child, 0)[1])
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(pytestconfig.rootpath / "tests")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == ["True", "0"]
