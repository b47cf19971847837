"""Opening and closing: what a file remembers, what it refuses, and what is refused after the end."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import precedent
from worlds import ACTION, STATE, batch, one_hot, refused, states, step


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_new_file_has_the_defaults_of_the_documents(path):
    with precedent.TrajectoryStore(path) as store:
        assert (store.dimension, store.action_dimension) == (768, 768)
        assert store.storage == "f32"
        expected = precedent.HnswConfig(
            enabled=True, m=16, ef_construction=200, ef_search=50, metric="cosine", quantization="int8"
        )
        assert store.hnsw == expected


def test_actions_are_as_wide_as_states_unless_something_else_is_said(path):
    with precedent.TrajectoryStore(path, dimension=5) as store:
        assert (store.dimension, store.action_dimension) == (5, 5)


@pytest.mark.parametrize("form", [str, Path])
def test_a_path_is_text_or_path_like_and_missing_folders_are_made(opened, tmp_path, form):
    where = tmp_path / "not" / "yet" / "agent.db"
    id_ = opened(form(where)).insert(step())
    assert where.is_file()
    assert opened(form(where)).get(id_).id == id_


def test_a_file_remembers_what_it_was_made_with(opened, path):
    id_ = opened(storage="f16", hnsw={"metric": "dot", "m": 20}).insert(step())
    with precedent.TrajectoryStore(path) as again:
        assert (again.dimension, again.action_dimension, again.storage) == (STATE, ACTION, "f16")
        assert (again.hnsw.metric, again.hnsw.m) == ("dot", 20)
        assert again.get(id_).id == id_


@pytest.mark.parametrize(("name", "own"), [("dimension", STATE), ("action_dimension", ACTION)])
def test_another_dimension_than_the_file_s_is_refused_with_both_numbers(opened, name, own):
    opened().close()
    with pytest.raises(precedent.DimensionError, match=rf"{own}\D+11") as caught:
        opened(**{name: 11})
    assert (caught.value.expected, caught.value.got) == (own, 11)


@pytest.mark.parametrize("other", [{"storage": "f16"}, {"hnsw": {"metric": "euclidean"}}])
def test_another_storage_or_metric_than_the_file_s_is_refused(opened, other):
    opened().close()
    with pytest.raises(precedent.ValidationError, match=r"storage|metric"):
        opened(**other)
    opened(storage="f32", hnsw={"metric": "cosine"}).close()


def test_other_graph_settings_are_kept_in_the_file_from_then_on(opened):
    opened().close()
    opened(hnsw={"m": 24, "ef_search": 80}).close()
    opened(hnsw=precedent.HnswConfig(ef_construction=150)).close()
    kept = opened().hnsw
    assert (kept.m, kept.ef_search, kept.ef_construction, kept.metric) == (24, 80, 150, "cosine")


def test_changed_graph_settings_leave_a_line_in_the_log(opened, caplog):
    opened().insert(step())
    with caplog.at_level("INFO", logger="precedent"):
        opened(hnsw={"m": 16})
        assert not caplog.records
        opened(hnsw={"m": 24})
    assert any("hnsw" in record.getMessage() or "index" in record.getMessage() for record in caplog.records)


def test_hnsw_switched_off_gives_the_same_answers(opened):
    opened().insert_batch(batch(50))
    plain = opened().search(states(50)[3], k=7, threshold=None)
    assert opened(hnsw={"enabled": False}).search(states(50)[3], k=7, threshold=None) == plain


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("dimension", {"dimension": 0}),
        ("dimension", {"dimension": 16_385}),
        ("dimension", {"dimension": -1}),
        ("dimension", {"dimension": 2.5}),
        ("dimension", {"dimension": True}),
        ("dimension", {"dimension": "8"}),
        ("action_dimension", {"action_dimension": 0}),
        ("action_dimension", {"action_dimension": 16_385}),
        ("storage", {"storage": "f64"}),
        ("storage", {"storage": 32}),
        ("durability", {"durability": "some"}),
        ("durability", {"durability": None}),
        ("read_only", {"read_only": "yes"}),
        ("m", {"hnsw": {"m": 1}}),
        ("m", {"hnsw": {"m": 129}}),
        ("metric", {"hnsw": {"metric": "manhattan"}}),
        ("quantization", {"hnsw": {"quantization": "int4"}}),
        ("quantization", {"hnsw": {"quantization": "Int8"}}),
        ("build_above", {"hnsw": {"build_above": -1}}),
        ("ef_search", {"hnsw": {"ef_search": 0}}),
        ("ef_construction", {"hnsw": {"ef_construction": 0}}),
        ("enabled", {"hnsw": {"enabled": 1}}),
        ("hnsw", {"hnsw": 16}),
        ("max_size", {"cache": {"max_size": -1}}),
        ("ttl", {"cache": {"ttl": -1}}),
        ("ttl", {"cache": {"ttl": float("nan")}}),
        ("enabled", {"cache": {"enabled": "on"}}),
        ("cache", {"cache": 1000}),
    ],
    ids=repr,
)
def test_an_option_out_of_its_range_is_refused_and_makes_no_file(path, field, options):
    with refused(field):
        precedent.TrajectoryStore(path, **options)
    assert not path.exists()


@pytest.mark.parametrize(("field", "key"), [("hnsw", "M_max"), ("cache", "size")])
def test_an_unknown_graph_or_cache_setting_is_named(opened, field, key):
    with pytest.raises(precedent.ValidationError, match=key):
        opened(**{field: {key: 1}})


@pytest.mark.parametrize("bad", ["", 17, None, b"bytes.db", "nul\0.db"])
def test_a_path_that_is_none_is_refused(bad):
    with refused("path"):
        precedent.TrajectoryStore(bad)


def test_graph_metrics_other_than_cosine_serve_searches_by_default(opened):
    store = opened(":memory:", hnsw={"metric": "euclidean"})
    store.insert(step(one_hot(0)))
    (found,) = store.search(one_hot(1), threshold=None)
    assert found.distance == pytest.approx(np.sqrt(2))


def test_half_precision_rounds_states_and_actions_before_anything_else(opened):
    store = opened(storage="f16")
    state, action = states(1)[0], states(1, ACTION, seed=1)[0]
    id_ = store.insert(step(state, action=action))
    rounded = state.astype(np.float16).astype(np.float32)
    got = store.get(id_)
    np.testing.assert_array_equal(got.state_embedding, rounded)
    np.testing.assert_array_equal(got.action.embedding, action.astype(np.float16).astype(np.float32))
    assert [t.id for t in store.get_by_state(state)] == [t.id for t in store.get_by_state(rounded)] == [id_]
    (found,) = store.search(rounded, k=1)
    assert found.distance == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("field", ["state_embedding", "embedding"])
def test_half_precision_refuses_what_it_cannot_hold_and_what_it_rounds_to_zero(opened, field):
    store = opened(storage="f16")
    with refused(field):
        store.insert(
            step(
                **{
                    "state" if field == "state_embedding" else "action": [70_000.0]
                    + [0.0] * (7 if field == "state_embedding" else 2)
                }
            )
        )
    with refused("state_embedding"):
        store.insert(step([1e-9] + [0.0] * 7))
    assert store.get_stats().total_trajectories == 0
    assert store.insert(step([65_504.0] + [0.0] * 7))


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_rows_survive_reopening_at_either_durability(opened, durability):
    store = opened(durability=durability)
    ids = store.insert_batch(batch(20))
    store.close()
    again = opened(durability=durability)
    assert again.durability == durability
    assert [t.id for t in again.get_many(ids)] == ids
    assert again.search(states(20)[7], k=1)[0].id == ids[7]


def test_two_stores_in_memory_share_nothing(opened):
    one, other = opened(":memory:"), opened(":memory:")
    one.insert(step())
    assert other.get_stats().total_trajectories == 0


def test_a_folder_in_the_file_s_place_is_an_access_error(tmp_path):
    with pytest.raises(precedent.errors.AccessError, match=tmp_path.name):
        precedent.TrajectoryStore(tmp_path)


def test_a_file_in_the_folder_s_place_is_an_access_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(precedent.errors.AccessError):
        precedent.TrajectoryStore(tmp_path / "file" / "agent.db")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", ["text", "a letter", "zeros", "sqlite"])
def test_a_file_of_another_program_is_refused_and_left_as_it_is(path, kind, read_only):
    if kind == "sqlite":
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE diary (text)")
        other.close()
    else:
        path.write_bytes({"text": b"Dear diary, " * 1000, "a letter": b"x", "zeros": bytes(4096)}[kind])
        for name in ("journal", "wal"):  # names that SQLite would take for its own
            path.with_name(f"{path.name}-{name}").write_text("of a journey")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(precedent.errors.FormatError, match=path.name):
        precedent.TrajectoryStore(path, read_only=read_only)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_is_no_file_to_wait_for(path, read_only):
    os.mkfifo(path)
    with pytest.raises(precedent.errors.AccessError, match="no regular file"):
        precedent.TrajectoryStore(path, read_only=read_only)


def test_a_file_of_a_newer_version_is_refused_with_both_versions(opened, path):
    opened().close()
    with sqlite3.connect(path) as file:
        own = file.execute("PRAGMA user_version").fetchone()[0]
        file.execute("PRAGMA user_version = 9999")
    file.close()
    with pytest.raises(precedent.errors.VersionError, match=rf"9999\D+{own}"):
        opened()


def test_read_only_needs_a_file_that_is_there(opened, path):
    with pytest.raises(precedent.StorageError, match=path.name):
        opened(read_only=True)
    assert not path.exists()


def test_read_only_reads_and_writes_nothing(opened, path, tmp_path):
    store = opened()
    ids = store.insert_batch(batch(5))
    store.compute_all_returns()
    store.close()
    before = contents(tmp_path)
    with precedent.TrajectoryStore(path, read_only=True) as reader:
        assert reader.search(states(5)[2], k=1)[0].id == ids[2]
        assert len(reader.get_episode("e0")) == 5
        assert reader.get_stats().total_trajectories == 5
        assert reader.verify(deep=True).ok
    after = contents(tmp_path)
    assert after[path.name] == before[path.name]


WRITES = {
    "insert": lambda s, _: s.insert(step()),
    "insert_batch": lambda s, _: s.insert_batch(batch(2)),
    "delete": lambda s, ids: s.delete(ids),
    "set_episode": lambda s, _: s.set_episode("e0", success=True),
    "compute_returns": lambda s, _: s.compute_returns("e0"),
    "compute_all_returns": lambda s, _: s.compute_all_returns(missing_only=False),
    "prune": lambda s, _: s.prune(max_size=0),
    "upsert": lambda s, _: precedent.PatternLibrary(s).upsert("p", [1.0, 0.0, 0.0]),
    "delete pattern": lambda s, _: precedent.PatternLibrary(s).delete("retry"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_to_a_read_only_store_is_refused(opened, path, write):
    store = opened()
    ids = store.insert_batch(batch(3))
    store.close()
    with precedent.TrajectoryStore(path, read_only=True) as reader:
        with pytest.raises(precedent.errors.ReadOnlyError):
            write(reader, ids)
        assert reader.get_stats().total_trajectories == 3


USES = WRITES | {
    "search": lambda s, _: s.search(one_hot(0)),
    "search_many": lambda s, _: s.search_many([one_hot(0)]),
    "search_ids": lambda s, _: s.search_ids(one_hot(0)),
    "get_by_state": lambda s, _: s.get_by_state(one_hot(0)),
    "get": lambda s, ids: s.get(ids[0]),
    "get_many": lambda s, ids: s.get_many(ids),
    "get_episode": lambda s, _: s.get_episode("e0"),
    "episodes": lambda s, _: list(s.episodes()),
    "iter_batches": lambda s, _: list(s.iter_batches()),
    "get_stats": lambda s, _: s.get_stats(),
    "verify": lambda s, _: s.verify(),
    "flush": lambda s, _: s.flush(),
    "rebuild_index": lambda s, _: s.rebuild_index(),
    "backup": lambda s, _: s.backup("never.db"),
    "empty delete": lambda s, _: s.delete([]),
    "empty insert": lambda s, _: s.insert_batch([]),
    "enter": lambda s, _: s.__enter__(),
    "patterns": lambda s, _: list(precedent.PatternLibrary(s)),
    "match": lambda s, _: precedent.PatternLibrary(s).match(one_hot(0)),
}


@pytest.mark.parametrize("where", ["file", ":memory:"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_after_close_is_refused(opened, path, use, where):
    store = opened(path if where == "file" else where)
    ids = store.insert_batch(batch(3))
    store.close()
    with pytest.raises(precedent.errors.ClosedError):
        use(store, ids)


def test_close_may_be_called_again_and_the_with_block_calls_it(path):
    with precedent.TrajectoryStore(path, dimension=STATE) as store:
        store.close()
    store.close()
    with pytest.raises(precedent.errors.ClosedError):
        store.get_stats()


def test_a_walk_through_batches_ends_with_the_store(opened):
    store = opened()
    store.insert_batch(batch(5))
    walk = store.iter_batches(size=1)
    next(walk)
    store.close()
    with pytest.raises(precedent.errors.ClosedError):
        next(walk)


def test_the_log_beside_the_file_is_gone_after_the_last_close(opened, path, tmp_path):
    one, other = opened(), opened()
    one.insert(step())
    one.close()
    other.close()
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith("-wal")] == []
    assert path.stat().st_size > 0
