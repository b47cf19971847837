"""Rows in, rows out: inserting, reading back, deleting, scanning."""

import re
import time
import uuid
from collections.abc import Iterator

import numpy as np
import pytest

import precedent
from worlds import ACTION, EPOCH, STATE, batch, changed, one_hot, refused, states, step, steps

FULL = {
    "task_id": "t-17",
    "duration": 1200,
    "tokens_used": 345,
    "agent_type": "coder",
    "context_length": 4096,
    "step_index": 3,
    "success": False,
    "quality": 0.75,
    "terminated": True,
    "truncated": True,
    "extra": {"nested": {"list": [1, 2.5, None, "ü"]}},
}


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_a_step_comes_back_with_every_field_it_was_given(opened, path, where):
    store = opened(path if where == "file" else where)
    given = step(states(1)[0], reward=0.1, returns=-1.7, **FULL)
    given = changed(given, action=changed(given.action, metadata={"tool": "grep"}))
    id_ = store.insert(given)
    assert store.get(id_) == changed(given, id=id_)


def test_a_step_with_only_what_must_be_there_comes_back_with_the_defaults(store):
    got = store.get(store.insert(step()))
    facts = got.metadata
    assert got.return_to_go is None
    assert got.action.metadata is None
    for name in (
        "task_id",
        "duration",
        "tokens_used",
        "agent_type",
        "context_length",
        "step_index",
        "success",
    ):
        assert getattr(facts, name) is None, name
    assert (facts.quality, facts.terminated, facts.truncated, facts.extra) == (None, False, False, {})


def test_a_step_without_a_timestamp_gets_the_moment_of_its_insert(store):
    before = time.time_ns() // 1_000_000
    id_ = store.insert(step(timestamp=None))
    assert before <= store.get(id_).metadata.timestamp <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    "form",
    [list, lambda x: x.astype(np.float64), lambda x: np.repeat(x, 2)[::2], tuple],
    ids=["list", "float64", "strided", "tuple"],
)
def test_an_embedding_may_come_in_any_form_of_numbers(store, form):
    state, action = states(1)[0], states(1, ACTION, seed=1)[0]
    got = store.get(store.insert(step(form(state), action=form(action))))
    np.testing.assert_array_equal(got.state_embedding, state)
    np.testing.assert_array_equal(got.action.embedding, action)
    assert got.state_embedding.dtype == got.action.embedding.dtype == np.float32


def test_an_id_is_a_uuid7_in_32_lower_case_hex_digits(store):
    id_ = store.insert(step())
    assert re.fullmatch(r"[0-9a-f]{32}", id_)
    assert uuid.UUID(id_).version == 7
    assert uuid.UUID(id_).variant == uuid.RFC_4122


def test_ids_increase_within_a_process_across_stores_and_methods(opened, tmp_path):
    one, other = opened(), opened(tmp_path / "other.db")
    ids = []
    for store in (one, other, one):
        ids.append(store.insert(step()))
        ids += store.insert_batch(batch(50))
        ids += store.insert_batch(steps(5))
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("insert_one_by_one", [True, False])
def test_records_and_columns_are_two_ways_to_say_the_same(opened, insert_one_by_one):
    given = steps(20)
    by_records, by_columns = opened(":memory:"), opened(":memory:")
    first = [by_records.insert(s) for s in given] if insert_one_by_one else by_records.insert_batch(given)
    (columns,) = by_records.iter_batches()
    second = by_columns.insert_batch(columns)
    for one, other, original in zip(
        by_records.get_many(first), by_columns.get_many(second), given, strict=True
    ):
        assert changed(one, id=None) == changed(other, id=None) == original


def test_one_value_for_all_rows_is_written_to_every_row(store):
    ids = store.insert_batch(
        batch(3, pattern_ids="p", episode_ids="e", task_types="t", agent_types="a", timestamps=None)
    )
    for got in store.get_many(ids):
        facts = got.metadata
        assert (got.action.pattern_id, facts.episode_id, facts.task_type, facts.agent_type) == (
            "p",
            "e",
            "t",
            "a",
        )


def test_an_id_that_a_record_already_has_is_not_taken_over(store):
    again = store.get(store.insert(step()))
    assert store.insert(again) != again.id
    assert store.get_stats().total_trajectories == 2


def test_an_empty_batch_writes_nothing(store):
    assert store.insert_batch([]) == []
    assert store.get_stats().total_trajectories == 0


@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_batch_of_records_with_one_bad_row_is_refused_whole_and_names_the_row(store, position):
    store.insert(step(episode_id="before"))
    rows = [step(pattern="new", episode_id="new") for _ in range(5)]
    rows[position] = changed(rows[position], reward=float("nan"))
    with refused(f"[{position}].reward"):
        store.insert_batch(rows)
    assert store.get_stats().total_trajectories == 1
    assert list(store.episodes()) == ["before"]
    assert [p.pattern_id for p in precedent.PatternLibrary(store)] == ["retry"]


def test_a_batch_of_columns_with_one_bad_row_is_refused_whole_and_names_the_row(store):
    rewards = np.zeros(5)
    rewards[3] = np.inf
    with refused("rewards[3]"):
        store.insert_batch(batch(5, rewards=rewards))
    assert store.get_stats().total_trajectories == 0


def test_a_column_of_another_length_is_refused(store):
    with pytest.raises(precedent.ValidationError, match=r"rewards.*expected.*6.*got.*5"):
        store.insert_batch(batch(6, rewards=np.zeros(5)))
    assert store.get_stats().total_trajectories == 0


def test_many_are_read_in_the_order_they_were_asked_for(store):
    ids = store.insert_batch(steps(6))
    wanted = [ids[i] for i in (4, 0, 5)]
    assert [t.id for t in store.get_many(wanted)] == wanted
    assert store.get_many([]) == []


def test_keys_of_the_index_are_read_like_ids(store):
    ids = store.insert_batch(batch(6))
    keys, _ = store.search_ids(states(6), k=1)
    assert [t.id for t in store.get_many(keys[:, 0])] == ids
    assert [t.id for t in store.get_many(keys[::-1, 0].tolist())] == ids[::-1]


def test_what_is_not_there_is_not_found_and_named_in_a_sentence(store):
    gone = store.insert(step())
    store.delete([gone])
    with pytest.raises(precedent.NotFoundError, match=gone) as caught:
        store.get(gone)
    assert isinstance(caught.value, KeyError)
    assert " " in str(caught.value)
    assert not str(caught.value).startswith(("'", '"'))
    with pytest.raises(precedent.NotFoundError):
        store.get("0" * 32)
    with pytest.raises(precedent.NotFoundError):
        store.get_many([store.insert(step()), gone])
    with pytest.raises(precedent.NotFoundError, match="nobody"):
        store.get_episode("nobody")


@pytest.mark.parametrize("key", [-1, 0, 10**9])
def test_a_key_that_names_no_row_is_not_found(store, key):
    store.insert(step())
    with pytest.raises(precedent.NotFoundError):
        store.get_many([key])


def test_a_key_is_never_used_again_for_another_row(opened):
    store = opened()
    store.insert(step(one_hot(1)))
    last = store.insert(step(one_hot(2)))
    keys, _ = store.search_ids(one_hot(2), k=1)
    store.delete([last])
    store.close()
    again = opened()
    again.insert(step(one_hot(2)))
    with pytest.raises(precedent.NotFoundError):
        again.get_many(keys)
    new, _ = again.search_ids(one_hot(2), k=1)
    assert new[0] > keys[0]


def test_delete_counts_what_it_deleted_and_nothing_finds_it_any_more(store):
    ids = store.insert_batch(batch(6))
    assert store.delete(ids[1:3]) == 2
    assert store.delete([]) == 0
    found = {r.id for r in store.search(states(6)[1], k=10, threshold=None)}
    assert found == {ids[0], *ids[3:]}
    assert store.get_by_state(states(6)[1]) == []
    assert store.get_stats().total_trajectories == 4
    assert len(store.get_episode("e0")) == 4


@pytest.mark.parametrize("bad", ["0" * 32, "twice"])
def test_a_delete_with_one_bad_id_deletes_nothing(store, bad):
    ids = store.insert_batch(batch(3))
    error = precedent.ValidationError if bad == "twice" else precedent.NotFoundError
    with pytest.raises(error):
        store.delete([*ids, ids[0] if bad == "twice" else bad])
    assert store.get_stats().total_trajectories == 3


@pytest.mark.parametrize("wanted", [None, "code", "nothing has this type"])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_batches_walk_the_matching_rows_in_insertion_order(store, size, wanted):
    given = steps(30)
    pairs = zip(store.insert_batch(given), given, strict=True)
    expected = [id_ for id_, s in pairs if wanted in (None, s.metadata.task_type)]
    batches = list(store.iter_batches(None if wanted is None else {"task_type": wanted}, size=size))
    assert [id_ for b in batches for id_ in b.ids] == expected
    assert all(len(b) == size for b in batches[:-1])
    assert all(0 < len(b) <= size for b in batches)


def test_batches_hold_the_rows_that_were_there_when_the_walk_began(store):
    ids = store.insert_batch(batch(5))
    walk = store.iter_batches(size=2)
    seen = list(next(walk).ids)
    store.insert_batch(batch(4, seed=1))
    seen += [id_ for b in walk for id_ in b.ids]
    assert seen == ids


def test_batches_are_columns_of_the_documented_kinds(store):
    store.insert_batch([step(states(1)[0], returns=1.5, **FULL), step(one_hot(1))])
    (got,) = store.iter_batches()
    assert got.states.shape == (2, STATE)
    assert got.actions.shape == (2, ACTION)
    assert (got.states.dtype, got.actions.dtype) == (np.float32, np.float32)
    assert (got.rewards.dtype, got.returns_to_go.dtype) == (np.float64, np.float64)
    assert np.asarray(got.timestamps).dtype == np.int64
    assert got.terminated.dtype == got.truncated.dtype == np.bool_
    np.testing.assert_array_equal(got.returns_to_go, [1.5, np.nan])
    assert list(got.successes) == [False, None]
    assert list(got.durations) == [1200, None]
    assert list(got.agent_types) == ["coder", None]
    for column in (got.states, got.actions, got.rewards, got.returns_to_go):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1.0


def test_an_optional_column_that_no_row_has_is_none(store):
    store.insert_batch(batch(2))
    (got,) = store.iter_batches()
    for name in (
        "durations",
        "tokens_used",
        "agent_types",
        "task_ids",
        "successes",
        "qualities",
        "step_indices",
    ):
        assert getattr(got, name) is None, name


def test_an_empty_store_has_no_batches_and_no_episodes(store):
    assert list(store.iter_batches()) == []
    assert list(store.episodes()) == []


@pytest.mark.parametrize("size", [0, -1, 1.5, "many"])
def test_a_batch_size_that_is_no_count_is_refused(store, size):
    with refused("size"):
        list(store.iter_batches(size=size))


def test_episodes_are_an_iterator_of_names_in_order_of_creation(store):
    for name in ("c", "a", "b", "a"):
        store.insert(step(episode_id=name, task_type=name))
    assert isinstance(store.episodes(), Iterator)
    assert list(store.episodes()) == ["c", "a", "b"]
    assert list(store.episodes({"task_type": ["b", "c"]})) == ["c", "b"]


def test_timestamps_before_1970_and_far_ahead_are_kept(store):
    for moment in (-EPOCH, 0, 2**53):
        assert store.get(store.insert(step(timestamp=moment))).metadata.timestamp == moment
