"""Importing: numpy is all it needs, nothing heavy comes along, and nothing happens."""

import ast
import subprocess
import sys

import pytest

import precedent

# What would make the import slow, or belongs to an extra.
UNWANTED = {
    "asyncio",
    "concurrent.futures",
    "email",
    "http",
    "importlib.metadata",
    "json",
    "logging",
    "matplotlib",
    "multiprocessing",
    "pandas",
    "pathlib",
    "pydantic",
    "sqlite3",
    "tomllib",
    "torch",
    "tqdm",
    "urllib.request",
    "uuid",
}


def outcome(script):
    return subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )


def test_importing_brings_nothing_but_numpy_and_itself():
    script = (
        "import sys, numpy\nbefore = set(sys.modules)\nimport precedent\n"
        "print(sorted(set(sys.modules) - before))"
    )
    brought = set(ast.literal_eval(outcome(script).stdout))
    outside = {name.split(".")[0] for name in brought} - set(sys.stdlib_module_names) - {"precedent", "numpy"}
    assert outside == set()
    assert brought & UNWANTED == set()


def test_without_the_extras_everything_but_the_bar_works():
    script = """
import sys
for name in ("tqdm", "matplotlib", "gymnasium", "pydantic"):
    sys.modules[name] = None
import precedent
with precedent.open(":memory:", rl={"trajectory_store": {"dimension": 2}}) as workspace:
    assert workspace.trajectories.search([1.0, 0.0]) == []
print("works")
"""
    assert outcome(script).stdout == "works\n"


def test_importing_says_nothing_starts_nothing_and_opens_nothing(tmp_path):
    script = f"""
import os, threading
os.chdir({str(tmp_path)!r})
import numpy

def here():
    count = lambda folder: len(os.listdir(folder)) if os.path.isdir(folder) else 0
    return threading.active_count(), count("/proc/self/fd"), count("/proc/self/task"), os.listdir(".")

before = here()
import precedent
assert here() == before, (before, here())
"""
    ran = outcome(script)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_no_thread_outlives_the_last_close():
    script = """
import os
import numpy as np
import precedent
def tasks():
    return set(os.listdir("/proc/self/task"))
before = tasks()
stores = [precedent.TrajectoryStore(":memory:", dimension=4) for _ in range(2)]
for store in stores:
    store.insert_batch(precedent.TrajectoryBatch(
        states=np.random.default_rng(0).normal(size=(3000, 4)),
        actions=np.ones((3000, 4)),
        rewards=np.zeros(3000),
        pattern_ids="p",
        episode_ids=[f"e{i // 10}" for i in range(3000)],
        task_types="t",
    ))
    store.search_many(np.ones((200, 4)))
layer = precedent.DecisionLayer(4, 4, hidden_size=64)
precedent.OfflineTrainer(stores[0], layer, epochs=1, progress=False).train()
for store in stores:
    store.close()
del layer
for _ in range(100_000):  # a joined thread is listed until the system has cleared it away
    left = tasks() - before
    if not left:
        break
assert not left, left
print("none")
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("counts threads in /proc")
    assert outcome(script).stdout == "none\n"


def test_every_name_that_is_exported_is_there_and_sorted():
    names = list(precedent.__all__)
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(precedent, name) is not None
    assert all(getattr(precedent, name).__doc__ for name in names if name != "__version__")


def test_the_version_is_the_distribution_s():
    from importlib.metadata import version

    assert precedent.__version__ == version("precedent-rl")
