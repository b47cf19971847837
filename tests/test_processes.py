"""Several processes on one file: what they see of each other, and what the death of one leaves."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

import precedent
from worlds import ACTION, STATE, batch, one_hot, states, step

PROLOGUE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import precedent
from worlds import ACTION, STATE, batch, one_hot, states, step

def opened(path=sys.argv[2], **options):
    return precedent.TrajectoryStore(path, **options)

def say(*words):
    print(*words, flush=True)

def wait():
    assert sys.stdin.readline() == "go on\\n"

"""


class Other:
    """A second process that runs a script, speaks by lines, and goes on when it is told to."""

    def __init__(self, root, path, script):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + textwrap.dedent(script), str(root / "tests"), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self):
        line = self.process.stdout.readline()
        assert line, f"the other process ended with {self.process.wait()}"
        return line.split()

    def go_on(self):
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def end(self):
        rest = self.process.stdout.read()
        assert self.process.wait() == 0
        return rest.split()


@pytest.fixture
def other(pytestconfig, path):
    started = []

    def start(script):
        started.append(Other(pytestconfig.rootpath, path, script))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        each.process.stdin.close()
        each.process.stdout.close()


def ids(results):
    return [r.id for r in results]


def test_a_write_of_another_process_is_seen_at_the_next_search(opened, other):
    store = opened()
    store.insert(step(one_hot(1)))
    store.search(one_hot(0), threshold=None)
    writer = other(
        """
        store = opened()
        say(store.insert(step(one_hot(0), episode_id="theirs")))
        wait()
        store.delete([store.search(one_hot(0), k=1)[0].id])
        say("deleted")
        wait()
        store.compute_returns("e0")
        say("computed")
        """
    )
    (theirs,) = writer.hear()
    assert ids(store.search(one_hot(0))) == [theirs]
    assert list(store.episodes()) == ["e0", "theirs"]
    assert store.get_stats().total_trajectories == 2
    writer.go_on()
    writer.hear()
    assert store.search(one_hot(0)) == []
    with pytest.raises(precedent.NotFoundError):
        store.get(theirs)
    assert list(store.episodes()) == ["e0"]
    assert store.search(one_hot(1), filter={"min_return": 0.0}) == []
    writer.go_on()
    writer.hear()
    assert len(store.search(one_hot(1), filter={"min_return": 0.5})) == 1
    writer.end()


def test_both_write_at_once_and_nothing_is_lost(opened, other):
    store = opened()
    store.insert(step())
    writer = other(
        """
        store = opened()
        say("ready")
        wait()
        for i in range(150):
            store.insert(step(states(150, seed=1)[i], episode_id=f"theirs-{i % 5}"))
            store.search(states(150)[i], k=1)
        say(store.get_stats().total_trajectories)
        """
    )
    writer.hear()
    writer.go_on()
    for i, state in enumerate(states(150)):
        mine = store.insert(step(state, episode_id=f"mine-{i % 5}"))
        assert store.search(state, k=1)[0].id == mine
    writer.end()
    stats = store.get_stats()
    assert (stats.total_trajectories, stats.total_episodes) == (301, 11)
    assert len(store.search(one_hot(0), k=400, threshold=None)) == 301
    for state in states(150, seed=1):
        assert store.search(state, k=1)[0].distance == pytest.approx(0.0, abs=1e-6)
    library = precedent.PatternLibrary(store)
    assert library.get("retry").uses == 301
    assert store.verify(deep=True).ok


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_returned_id_is_a_durable_row_even_if_the_process_is_killed(opened, other):
    writer = other(
        """
        store = opened(dimension=STATE, action_dimension=ACTION)
        for i, state in enumerate(states(10_000)):
            say(store.insert(step(state, episode_id=f"e{i % 7}")))
            if i % 10 == 9:
                say(*store.insert_batch(batch(5, seed=i)))
        """
    )
    told = []
    for _ in range(60):
        told += writer.hear()
    writer.process.send_signal(signal.SIGKILL)
    writer.process.wait()
    rest = writer.process.stdout.read()
    told += rest[: rest.rfind("\n") + 1].split()  # a line that was cut off told nobody anything
    store = opened()
    assert ids(store.get_many(told)) == told
    assert store.verify(deep=True).ok
    whole = store.get_stats().total_trajectories
    assert len(store.search(one_hot(0), k=20_000, threshold=None)) == whole >= len(told)
    assert store.insert(step()) > max(told)


def test_a_batch_is_there_whole_or_not_at_all_after_a_kill(opened, other):
    opened().close()
    writer = other(
        """
        store = opened()
        say("ready")
        while True:
            store.insert_batch(batch(400))
        """
    )
    writer.hear()
    reader = opened()
    while reader.get_stats().total_trajectories < 2000:
        pass
    writer.process.kill()
    writer.process.wait()
    assert reader.get_stats().total_trajectories % 400 == 0
    assert reader.verify(deep=True).ok
    assert len(reader.search(one_hot(0), k=10**6, threshold=None)) % 400 == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("rows", [1, 1500], ids=["one row", "a graph"])
@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_a_forked_child_reopens_the_store_or_refuses_clearly(path, pytestconfig, where, rows):
    script = PROLOGUE + textwrap.dedent(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, which is the point
        rows, width = int(sys.argv[4]), 16
        hnsw = {"build_above": 0} if rows > 1 else {}
        store = opened(sys.argv[3], dimension=width, action_dimension=ACTION, hnsw=hnsw)
        here = one_hot(0, width)
        id_ = store.insert(step(here))
        if rows > 1:
            store.insert_batch(batch(rows - 1, d=width))
            store.flush()
            assert store.get_stats().index_state == "graph"
        found = store.search(here, k=9, threshold=None)
        assert found[0].id == id_
        child = os.fork()
        if child == 0:
            for name, asked in (("get", id_), ("search", here), ("insert", step(here))):
                try:
                    answer = getattr(store, name)(asked)
                except precedent.errors.ClosedError as err:
                    if "fork" not in str(err):
                        os._exit(2)
                else:
                    if name == "search" and answer[0].id != id_:
                        os._exit(3)
            del store
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        say(os.waitstatus_to_exitcode(status), store.get(id_).id == id_)
        # The child may have written one row more, where it could open the store again.
        again = store.search(here, k=10, threshold=None)
        say({r.id for r in found} <= {r.id for r in again}, store.verify(deep=True).ok)
        """
    )
    where = path if where == "file" else where
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, (pytestconfig.rootpath / "tests", path, where, rows))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == ["0", "True", "True", "True"]


def test_a_lock_that_is_held_too_long_is_a_busy_error(opened, other):
    store = opened()
    id_ = store.insert(step())
    holder = other(
        """
        import sqlite3
        file = sqlite3.connect(sys.argv[2], isolation_level=None)
        file.execute("BEGIN IMMEDIATE")
        say("held")
        wait()
        file.execute("ROLLBACK")
        say("released")
        """
    )
    holder.hear()
    with pytest.raises(precedent.errors.BusyError, match="lock"):
        store.insert(step())
    assert store.get(id_).id == id_
    assert ids(store.search(one_hot(0))) == [id_]
    holder.go_on()
    holder.hear()
    assert store.insert(step()) > id_


def test_several_processes_may_create_one_file_at_the_same_time(opened, other):
    makers = [
        other(
            """
            say("ready")
            wait()
            store = opened(dimension=STATE, action_dimension=ACTION)
            for i in range(10):
                store.insert(step(episode_id=f"{os.getpid()}-{i}"))
            store.close()
            """
        )
        for _ in range(4)
    ]
    for maker in makers:
        maker.hear()
    for maker in makers:
        maker.go_on()
    for maker in makers:
        maker.end()
    store = opened()
    assert (store.get_stats().total_trajectories, store.get_stats().total_episodes) == (40, 40)
    assert store.verify(deep=True).ok


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on the size of files")
def test_a_write_that_finds_no_room_is_as_if_it_had_never_begun(opened, other):
    opened().close()
    writer = other(
        """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = opened()
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, unlimited[1]))
        written = []
        try:
            while True:
                written += store.insert_batch(batch(1000, seed=len(written)))
        except precedent.StorageError:
            pass
        whole = [store.get_stats().total_trajectories == len(written) > 0]
        whole.append(len(store.search(one_hot(0), k=10**6, threshold=None)) == len(written))
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        written += store.insert_batch(batch(1000))
        whole.append([t.id for t in store.get_many(written)] == written)
        whole.append(store.verify(deep=True).ok)
        say(*whole)
        """
    )
    assert writer.hear() == ["True"] * 4
    assert opened().verify(deep=True).ok


def test_several_stores_may_be_open_on_one_file_in_one_process(opened):
    stores = [opened() for _ in range(4)]
    for i, store in enumerate(stores):
        store.insert_batch(batch(5, seed=i))
        assert all(each.get_stats().total_trajectories == 5 * (i + 1) for each in stores)
        assert all(len(each.search(one_hot(0), k=99, threshold=None)) == 5 * (i + 1) for each in stores)
    stores[0].close()
    assert len(stores[1].search(one_hot(0), k=99, threshold=None)) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks that a process shares are POSIX'")
@pytest.mark.parametrize("attempt", ["opens", "is refused"])
def test_a_second_store_of_a_process_takes_no_lock_from_the_first(opened, other, attempt):
    # Any close of a file drops the locks that its process has on it. Without the first store's, another
    # program that leaves takes itself for the last one, and deletes a log that rows are in.
    first = opened()
    first.insert(step())
    if attempt == "opens":
        opened().close()
    else:
        with pytest.raises(precedent.PrecedentError):
            opened(dimension=STATE + 1)
    helper = other("""
        import fcntl
        shared_bytes = 510, 0x40000002  # sqlite.org/src/file/src/os.h
        with open(sys.argv[2], "r+b") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *shared_bytes)
                say("alone")
            except OSError:
                say("in company")
    """)
    assert helper.end() == ["in", "company"]
    first.close()


def test_a_reader_follows_a_writer_through_deletes_and_prunes(opened, path):
    writer = opened()
    given = writer.insert_batch(batch(30))
    with precedent.TrajectoryStore(path, read_only=True) as reader:
        assert len(reader.search(one_hot(0), k=99, threshold=None)) == 30
        writer.delete(given[:10])
        assert len(reader.search(one_hot(0), k=99, threshold=None)) == 20
        writer.prune(keep_days=None, max_size=7)
        assert len(reader.search(one_hot(0), k=99, threshold=None)) == 7
        new = writer.insert(step(one_hot(0)))
        assert reader.search(one_hot(0), k=1)[0].id == new
        assert (reader.dimension, reader.action_dimension) == (STATE, ACTION)


def test_graphs_of_two_processes_follow_each_other(opened, other):
    graph = {"build_above": 0}
    store = opened(hnsw=graph)
    mine = store.insert_batch(batch(1000))
    store.flush()
    writer = other(
        """
        graph = {"build_above": 0}
        store = opened(hnsw=graph)
        theirs = store.insert_batch(batch(400, seed=3))
        store.flush()
        say(theirs[7], store.get_stats().index_state)
        wait()
        store.delete(theirs[:200])
        store.flush()
        say("deleted")
        wait()
        store.close()
        say("closed")
        """
    )
    theirs, state = writer.hear()
    assert state == "graph"
    query = states(400, seed=3)[7]
    assert store.search(query, k=1)[0].id == theirs
    store.delete(mine[:300])
    writer.go_on()
    writer.hear()
    assert store.search(query, k=1, threshold=None)[0].id != theirs
    store.flush()
    assert (store.get_stats().index_state, store.get_stats().unindexed) == ("graph", 0)
    writer.go_on()
    writer.hear()
    writer.end()
    store.close()
    with opened(hnsw=graph) as again:
        assert again.verify(deep=True).ok
        assert again.get_stats().total_trajectories == 900
        assert again.search(states(1000)[700], k=1)[0].id == mine[700]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_process_that_is_killed_while_it_links_and_saves_loses_nothing(opened, other):
    opened(hnsw={"build_above": 0}).close()
    told = []
    for round_ in range(4):
        writer = other(
            f"""
            store = opened(hnsw={{"build_above": 0}})
            seed = {round_}
            while True:
                ids = store.insert_batch(batch(300, seed=seed))
                say(ids[0], seed)
                store.flush()
                seed += 10
            """
        )
        told += [tuple(writer.hear()) for _ in range(3)]
        writer.process.kill()
        writer.process.wait()
    with opened(hnsw={"build_above": 0}) as store:
        for id_, seed in told:
            assert store.search(states(300, seed=int(seed))[0], k=1)[0].id == id_
        store.flush()
        assert store.get_stats().index_state == "graph"
        assert store.verify(deep=True).ok
