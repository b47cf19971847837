"""Statistics, verification, backup: what keeps a store trustworthy."""

import sqlite3

import numpy as np
import pytest

import precedent
from precedent.errors import CorruptionError
from worlds import EPOCH, STATE, batch, one_hot, refused, states, step, steps, succeeded


def test_statistics_of_an_empty_store_have_nothing_to_average(store):
    stats = store.get_stats()
    assert (stats.total_trajectories, stats.total_episodes, stats.task_types) == (0, 0, {})
    assert stats.avg_episode_length is None
    assert stats.avg_reward is None
    assert stats.avg_return is None
    assert stats.success_rate is None
    assert stats.oldest_timestamp is None
    assert stats.newest_timestamp is None
    assert (stats.unindexed, stats.index_state, stats.sidecar_size) == (0, "scan", 0)


def test_statistics_are_the_averages_of_what_is_there(store):
    given = steps(40)
    ids = store.insert_batch(given)
    store.delete(ids[30:])
    kept = given[:30]
    stats = store.get_stats()
    returns = [s.return_to_go for s in kept if s.return_to_go is not None]
    episodes = {s.metadata.episode_id for s in kept}
    assert (stats.total_trajectories, stats.total_episodes) == (30, len(episodes))
    assert stats.avg_episode_length == pytest.approx(30 / len(episodes))
    assert stats.avg_reward == pytest.approx(np.mean([s.reward for s in kept]))
    assert stats.avg_return == pytest.approx(np.mean(returns))
    assert stats.success_rate == pytest.approx(np.mean([succeeded(s) for s in kept]))
    types = [s.metadata.task_type for s in kept]
    assert stats.task_types == {name: types.count(name) for name in types}
    assert stats.oldest_timestamp == min(s.metadata.timestamp for s in kept)
    assert stats.newest_timestamp == max(s.metadata.timestamp for s in kept)


def test_average_return_is_over_computed_ones(store):
    store.insert_batch(batch(3))
    assert store.get_stats().avg_return is None


def test_sizes_grow_with_the_rows(store):
    small = store.get_stats()
    store.insert_batch(batch(5000))
    store.search(one_hot(0))
    large = store.get_stats()
    assert large.storage_size > small.storage_size + 5000 * 8 * 4
    assert large.index_size > small.index_size + 5000 * 8


def test_a_sound_store_verifies(store):
    store.insert_batch(steps(25))
    store.delete([r.id for r in store.search(one_hot(0), k=3, threshold=None)])
    for deep in (False, True):
        report = store.verify(deep=deep)
        assert report.ok
        assert tuple(report.problems) == ()
        assert report.rows == 22
        assert report.checked >= 22
        assert report.seconds >= 0.0


LAST = "WHERE id = (SELECT max(id) FROM trajectory)"
DAMAGE = {
    "a vector is missing": f"DELETE FROM vector {LAST}",
    "a row is missing": f"DELETE FROM trajectory {LAST}",
    "a vector is too short": f"UPDATE vector SET state = substr(state, 5) {LAST}",
    "a vector holds a NaN": f"UPDATE vector SET state = CAST(x'0000c07f' || substr(state, 5) AS BLOB) {LAST}",
    "an action vector is missing": "DELETE FROM action_vector",
    "an action vector is too long": "UPDATE action_vector SET embedding = zeroblob(16)",
    "an episode is missing": "DELETE FROM episode WHERE id = (SELECT min(id) FROM episode)",
    "a reward is infinite": f"UPDATE trajectory SET reward = 9e999 {LAST}",
    "a label is missing": "DELETE FROM label",
    "an action has the hash of another": "UPDATE action SET hash = hash + 1000",
    "an episode's total is another": "UPDATE episode SET total_reward = total_reward + 0.01",
    "an episode's total is infinite": "UPDATE episode SET total_reward = 9e999",
    "a pattern's successes are others": "UPDATE pattern SET successes = 99",
    "a pattern's rewards are others": "UPDATE pattern SET reward_sum = 1e9",
    "the next key is one that is taken": "UPDATE meta SET value = 1 WHERE key = 'next_row'",
    "an id does not carry its key": f"UPDATE trajectory SET uuid = randomblob(16) {LAST}",
    "a quality is out of range": f"UPDATE trajectory SET quality = 7 {LAST}",
    "a flag is out of range": f"UPDATE trajectory SET ended = 9 {LAST}",
    "metadata is no JSON": f"UPDATE trajectory SET extra = '{{' {LAST}",
    "a priority belongs to nothing": "INSERT INTO priority VALUES (77, 1.0)",
    "a description belongs to nothing": "INSERT INTO pattern_entry VALUES (77, NULL, NULL, NULL)",
    "a payload is no JSON": "INSERT INTO pattern_entry VALUES (1, NULL, '[', NULL)",
    "a described embedding is too short": "INSERT INTO pattern_entry VALUES (1, NULL, NULL, x'00')",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("deep", [False, True])
def test_verification_finds_damage_that_was_done_behind_the_store_s_back(opened, path, damage, deep):
    store = opened()
    store.insert_batch(steps(10))
    assert store.verify().ok
    store.close()
    with sqlite3.connect(path) as file:
        assert file.execute(damage).rowcount > 0
    file.close()
    report = opened().verify(deep=deep)
    assert not report.ok
    assert report.problems
    assert all(" " in problem for problem in report.problems)


def test_a_json_column_that_is_no_json_is_corruption(opened, path):
    store = opened()
    (id_,) = store.insert_batch([step(extra={"a": 1})])
    store.close()
    with sqlite3.connect(path) as file:
        assert file.execute("UPDATE trajectory SET extra = '{'").rowcount == 1
    file.close()
    store = opened()
    for read in (
        lambda: store.get(id_),
        lambda: store.search(one_hot(0)),
        lambda: list(store.iter_batches()),
        lambda: store.get_episode("e0"),
    ):
        with pytest.raises(CorruptionError, match="no JSON"):
            read()


@pytest.mark.parametrize("end", [0.5, 0.9])
def test_a_file_that_was_cut_short_is_never_believed(opened, path, end):
    store = opened()
    store.insert_batch(steps(400))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * end)])

    def use():
        damaged = opened()
        report = damaged.verify(deep=True)
        damaged.close()
        if report.ok:
            pytest.fail("a file that was cut short passed as sound")
        raise precedent.errors.CorruptionError("; ".join(report.problems))

    with pytest.raises((precedent.errors.CorruptionError, precedent.errors.FormatError)):
        use()


def test_a_backup_is_a_whole_store(opened, tmp_path):
    store = opened(hnsw={"m": 24})
    ids = store.insert_batch(steps(30))
    store.set_episode("e0", success=False, metadata={"x": 1})
    precedent.PatternLibrary(store).upsert("retry", name="Try again", payload={"n": 3})
    copy = tmp_path / "copies" / "backup.db"
    store.backup(copy)
    later = store.insert(step())
    store.close()
    with precedent.TrajectoryStore(copy) as backup:
        assert backup.verify(deep=True).ok
        assert [t.id for t in backup.get_many(ids)] == ids
        assert backup.hnsw.m == 24
        assert backup.get_episode("e0").metadata == {"x": 1}
        assert precedent.PatternLibrary(backup).get("retry").payload == {"n": 3}
        with pytest.raises(precedent.NotFoundError):
            backup.get(later)
        assert backup.insert(step()) > ids[-1]


def test_a_store_in_memory_can_be_backed_up_to_a_file(memory, tmp_path):
    ids = memory.insert_batch(batch(5))
    memory.backup(tmp_path / "saved.db")
    with precedent.TrajectoryStore(tmp_path / "saved.db") as saved:
        assert [t.id for t in saved.get_many(ids)] == ids


def test_a_backup_onto_the_store_s_own_file_is_refused_and_harms_nothing(store, path):
    id_ = store.insert(step())
    with pytest.raises(precedent.PrecedentError):
        store.backup(path)
    assert store.get(id_).id == id_
    assert store.verify(deep=True).ok


def test_flush_and_rebuilding_the_index_change_no_answer(store):
    store.insert_batch(batch(60))
    before = store.search(states(60)[5], k=10, threshold=None)
    store.flush()
    store.rebuild_index()
    assert store.search(states(60)[5], k=10, threshold=None) == before
    assert store.get_stats().unindexed == 0


def test_rebuilding_the_index_makes_the_graph_and_its_file_anew_and_changes_no_answer(opened, path):
    store = opened(hnsw={"build_above": 0})
    store.insert_batch(batch(1500))
    store.flush()
    index = path.with_name(path.name + "-index")
    old = index.stat()
    # Candidates enough that a graph misses nothing, however it was linked.
    options = {"k": 10, "threshold": None, "ef_search": 500}
    before = store.search_many(states(20, seed=4), **options)
    store.rebuild_index()
    new, stats = index.stat(), store.get_stats()
    assert (stats.index_state, stats.unindexed) == ("graph", 0)
    assert store.search_many(states(20, seed=4), **options) == before
    assert (new.st_ino, new.st_mtime_ns) != (old.st_ino, old.st_mtime_ns)
    assert new.st_size > 1500 * STATE
    assert store.verify(deep=True).ok


def test_the_newest_timestamp_follows_a_delete(store):
    ids = [store.insert(step(timestamp=EPOCH + i)) for i in range(3)]
    store.delete([ids[0], ids[2]])
    stats = store.get_stats()
    assert stats.oldest_timestamp == stats.newest_timestamp == EPOCH + 1


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_a_copy_is_not_named_as_if_it_were_in_memory(opened, path, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = opened(path if where == "file" else where)
    before = set(tmp_path.iterdir())
    with refused("path"):
        store.backup(":memory:")
    assert set(tmp_path.iterdir()) == before
