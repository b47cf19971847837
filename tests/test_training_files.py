"""Checkpoints, resuming, interruption: what training leaves on disk and after Ctrl-C."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import precedent
from network import same_bits
from worlds import ACTION, STATE, learnable

PLAIN = {"progress": False, "early_stopping_patience": 50, "min_trajectories": 1}


def layer(**settings):
    return precedent.DecisionLayer(STATE, ACTION, **({"hidden_size": 16, "learning_rate": 0.02} | settings))


@pytest.fixture
def world(memory):
    learnable(memory)
    return memory


def train(store, made, folder=None, **options):
    return precedent.OfflineTrainer(store, made, save_path=folder, **(PLAIN | options))


def names(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize(
    ("interval", "epochs", "expected"),
    [
        (5, 11, ["best.weights", "epoch-0005.ckpt", "epoch-0010.ckpt", "last.ckpt"]),
        (2, 4, ["best.weights", "epoch-0002.ckpt", "epoch-0004.ckpt", "last.ckpt"]),
        (5, 3, ["best.weights", "last.ckpt"]),
    ],
)
def test_a_folder_gets_a_checkpoint_every_so_many_epochs_and_nothing_else(
    world, tmp_path, interval, epochs, expected
):
    folder = tmp_path / "not" / "yet"
    train(world, layer(), folder, epochs=epochs, save_interval=interval).train()
    assert names(folder) == expected


def test_the_best_weights_are_a_layer_like_any_other(world, tmp_path):
    made = layer()
    train(world, made, tmp_path, epochs=6).train()
    loaded = precedent.DecisionLayer.load(tmp_path / "best.weights")
    assert same_bits(loaded.get_weights(), made.get_weights())
    assert loaded.settings.return_range == made.settings.return_range
    assert loaded.trained


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stopped", ["finished", "abandoned"])
@pytest.mark.parametrize("replay", ["uniform", "prioritized", "diverse"])
def test_resuming_ends_in_the_bits_of_an_uninterrupted_run(world, tmp_path, optimizer, stopped, replay):
    whole, first, second = (layer(optimizer=optimizer) for _ in range(3))
    options = {"replay": replay, "save_interval": 2}
    expected = train(world, whole, tmp_path / "whole", epochs=7, **options).train()
    if stopped == "finished":
        train(world, first, tmp_path / "parts", epochs=3, **options).train()
    else:
        epochs = train(world, first, tmp_path / "parts", epochs=7, **options).fitter()
        for _ in range(3):
            next(epochs)
        epochs.close()
    report = train(world, second, tmp_path / "parts", epochs=7, **options).train(resume=True)
    assert same_bits(second.get_weights(), whole.get_weights())
    assert report.final_metrics == expected.final_metrics
    assert [m.val_loss for m in report.epoch_metrics][-4:] == [m.val_loss for m in expected.epoch_metrics][
        -4:
    ]
    state = np.ones(STATE)
    assert second.predict_with_confidence(state, 0.5) == whole.predict_with_confidence(state, 0.5)


def test_resuming_a_finished_run_changes_nothing(world, tmp_path):
    made, again = layer(), layer()
    train(world, made, tmp_path, epochs=3).train()
    train(world, again, tmp_path, epochs=3).train(resume=True)
    assert same_bits(made.get_weights(), again.get_weights())


def test_there_is_nothing_to_resume_in_an_empty_folder(world, tmp_path):
    with pytest.raises(precedent.StorageError, match=r"last\.ckpt"):
        train(world, layer(), tmp_path).train(resume=True)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign"])
def test_a_damaged_checkpoint_is_never_believed(world, tmp_path, damage):
    train(world, layer(), tmp_path, epochs=2).train()
    file = tmp_path / "last.ckpt"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    file.write_bytes({"cut": whole[: len(whole) // 2], "flipped": flipped, "foreign": b"Dear diary"}[damage])
    made = layer()
    before = made.get_weights()
    with pytest.raises(precedent.StorageError, match=r"last\.ckpt"):
        train(world, made, tmp_path, epochs=4).train(resume=True)
    assert same_bits(made.get_weights(), before)


def test_a_checkpoint_of_a_layer_of_other_sizes_is_refused(world, tmp_path):
    train(world, layer(), tmp_path, epochs=1).train()
    with pytest.raises(precedent.PrecedentError):
        train(world, layer(hidden_size=17), tmp_path, epochs=2).train(resume=True)


def test_a_folder_that_cannot_be_made_is_a_storage_error(world, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(precedent.StorageError, match="file"):
        train(world, layer(), tmp_path / "file", epochs=1).train()


def run(script, *arguments, timeout=120):
    """Runs a script in a process of its own, beside this file, and returns what it printed."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    ).stdout


INTERRUPTED = """
    import os, signal, sys, threading
    sys.path.insert(0, sys.argv[1])
    import precedent
    from network import same_bits
    from worlds import ACTION, STATE, learnable

    store = precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION)
    learnable(store, episodes=2000)
    layer = precedent.DecisionLayer(STATE, ACTION)
    finished, go = [], threading.Event()

    def note(metrics):
        finished.append(layer.get_weights())
        if metrics.epoch == 2:
            go.set()

    def interrupt():
        go.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    trainer = precedent.OfflineTrainer(
        store,
        layer,
        epochs=10**6,
        early_stopping_patience=10**6,
        batch_size=1,
        progress=False,
        callbacks=[note],
    )
    try:
        trainer.train()
    except KeyboardInterrupt:
        print("interrupted after", len(finished) >= 2, same_bits(layer.get_weights(), finished[-1]))
"""


def test_ctrl_c_leaves_the_last_finished_epoch_s_weights(pytestconfig):
    assert run(INTERRUPTED, pytestconfig.rootpath / "tests") == "interrupted after True True\n"


STUBBORN = """
    import sys
    sys.path.insert(0, sys.argv[1])
    import precedent
    from worlds import ACTION, STATE, learnable

    store = precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION)
    learnable(store)
    precedent.OfflineTrainer(
        store,
        precedent.DecisionLayer(STATE, ACTION, hidden_size=2048),
        epochs=40,
        early_stopping_patience=40,
        replay="prioritized",
        save_interval=7,
        save_path=sys.argv[2],
        progress=False,
        callbacks=[lambda metrics: print(metrics.epoch, flush=True)],
    ).train(resume=sys.argv[3] == "resume")
"""


@pytest.mark.skipif(not hasattr(__import__("signal"), "SIGKILL"), reason="needs kill -9")
def test_a_training_killed_again_and_again_ends_in_the_same_files(pytestconfig, tmp_path):
    def start(folder, how):
        where = str(pytestconfig.rootpath / "tests")
        command = [sys.executable, "-c", textwrap.dedent(STUBBORN), where, str(folder), how]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    how = "new"
    for epochs in (1, 5, 8, 3):  # most of the time goes into saving: so do most of the kills
        killed = start(tmp_path / "parts", how)
        for _ in range(epochs):
            assert killed.stdout.readline()
        killed.kill()
        assert killed.wait() == -9
        killed.stdout.close()
        how = "resume"
    (tmp_path / "parts" / ".last.ckpt-a1b2c3.saving").write_bytes(b"half")  # and one certainly there
    for folder, how in (("parts", "resume"), ("whole", "new")):
        process = start(tmp_path / folder, how)
        process.communicate()
        assert process.returncode == 0
    assert names(tmp_path / "parts") == names(tmp_path / "whole")
    parts, whole = ((tmp_path / each / "best.weights").read_bytes() for each in ("parts", "whole"))
    assert parts == whole


THREADS = """
    import hashlib, os, sys
    sys.path.insert(0, sys.argv[1])
    replay = sys.argv[3]
    if sys.argv[2] == "one":
        os.sched_setaffinity(0, {next(iter(os.sched_getaffinity(0)))})
    import precedent
    from network import NAMES
    from worlds import ACTION, STATE, learnable

    store = precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION)
    learnable(store)
    layer = precedent.DecisionLayer(STATE, ACTION, hidden_size=128)
    precedent.OfflineTrainer(
        store, layer, epochs=3, batch_size=64, replay=replay, progress=False
    ).train()
    weights = layer.get_weights()
    print(hashlib.sha256(b"".join(getattr(weights, name).tobytes() for name in NAMES)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "sched_setaffinity"), reason="needs Linux to pin threads")
@pytest.mark.parametrize("replay", ["uniform", "prioritized"])
def test_any_number_of_threads_gives_the_same_bits(pytestconfig, replay):
    where = pytestconfig.rootpath / "tests"
    assert run(THREADS, where, "one", replay) == run(THREADS, where, "all", replay)


def test_a_file_in_the_place_of_the_checkpoints_folder_is_an_access_error(world, tmp_path):
    (tmp_path / "here").write_text("something else")
    with pytest.raises(precedent.errors.AccessError, match="here"):
        train(world, layer(), tmp_path / "here").train()
    assert (tmp_path / "here").read_text() == "something else"
