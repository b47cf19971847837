"""Fixtures and hypothesis profiles of the whole suite."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import precedent
from worlds import ACTION, STATE, batch

# In the background of a shell Ctrl-C is ignored, and tests that press it would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Fixtures that hypothesis reuses between examples hold no state of an example.
_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile(
    "fast",
    max_examples=25,
    stateful_step_count=20,
    derandomize=True,
    deadline=None,
    suppress_health_check=_CHECKS,
)
settings.register_profile(
    "slow",
    max_examples=1000,
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=_CHECKS,
)
settings.load_profile(os.environ.get("PRECEDENT_TESTS", "fast"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PRECEDENT_RL", "PRECEDENT_REASONING"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def threads():
    """What lists the threads of this process; a joined one is listed until the system has cleared it away."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("only Linux tells the threads of a process")
    return lambda: set(tasks.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "agent.db"


@pytest.fixture
def opened(path):
    """Opens stores of the suite's dimensions, by default one file, and closes them after the test."""
    stores = []

    def open_store(where=path, **options):
        options = {"dimension": STATE, "action_dimension": ACTION} | options
        stores.append(precedent.TrajectoryStore(where, **options))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def store(opened):
    return opened()


@pytest.fixture
def memory(opened):
    return opened(":memory:")


@pytest.fixture(params=["empty", "filled"])
def target(request, memory):
    """A store to be asked wrongly, with nothing in it and with something."""
    if request.param == "filled":
        memory.insert_batch(batch(3))
    return memory


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    """Two workers of each kind that the standard library has."""
    with workers(request.param) as made:
        yield made


@pytest.fixture(params=["here", "threads", "processes"])
def anywhere(request):
    """The same, and None: no executor at all."""
    if request.param == "here":
        yield None
        return
    with workers(request.param) as made:
        yield made


def workers(kind):
    if kind == "threads":
        return ThreadPoolExecutor(2)
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))
