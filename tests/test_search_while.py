"""Searches while something else happens to the store: writes, other threads, the end."""

import threading

import numpy as np
import pytest

import precedent
from worlds import ACTION, batch, one_hot, states, step


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_a_row_is_found_the_instant_its_insert_returned(opened, path, where):
    store = opened(path if where == "file" else where)
    for state in states(40):
        id_ = store.insert(step(state))
        assert store.search(state, k=1)[0].id == id_
        assert store.search_ids(state, k=1)[0][0] > 0
        assert [t.id for t in store.get_by_state(state)] == [id_]


def test_a_row_is_not_found_the_instant_its_delete_returned(store):
    rows = states(40)
    ids = store.insert_batch(batch(40))
    for state, id_ in zip(rows, ids, strict=True):
        store.delete([id_])
        assert id_ not in [r.id for r in store.search(state, k=40, threshold=None)]
    assert store.search(rows[0], threshold=None) == []


def test_most_rows_deleted_leaves_the_others_findable(store):
    rows = states(500)
    ids = store.insert_batch(batch(500))
    store.delete([id_ for i, id_ in enumerate(ids) if i % 10])
    for i in range(0, 500, 10):
        assert store.search(rows[i], k=1)[0].id == ids[i]
    assert len(store.search(rows[0], k=500, threshold=None)) == 50


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_searching_while_another_thread_inserts_never_loses_what_was_committed(opened, path, where):
    store = opened(path if where == "file" else where)
    rows = states(600)
    written, failures = [], []

    def write():
        try:
            for i in range(0, 600, 6):
                store.insert_batch(batch(6, states=rows[i : i + 6]))
                written.append(i)
        except BaseException as err:
            failures.append(err)
            raise

    writer = threading.Thread(target=write)
    writer.start()
    checked = 0
    while writer.is_alive() or checked == 0:
        before = list(written)
        found = store.search(one_hot(0), k=1000, threshold=None)
        assert len(found) >= 6 * len(before)
        assert len(found) % 6 == 0, "half a batch was seen"
        for start in before[-1:]:
            assert store.search(rows[start + 5], k=1)[0].distance == pytest.approx(0.0, abs=1e-6)
        checked += bool(before)
    writer.join()
    assert failures == []
    assert len(store.search(one_hot(0), k=1000, threshold=None)) == 600


def test_several_threads_may_search_and_write_at_once(store):
    rows = states(400)
    failures = []

    def work(part):
        try:
            for i in range(part, 400, 4):
                id_ = store.insert(step(rows[i], episode_id=f"e{part}"))
                assert store.search(rows[i], k=1)[0].id == id_
                store.search_many(rows[:3])
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.get_stats().total_trajectories == 400
    assert [len(store.get_episode(f"e{part}")) for part in range(4)] == [100] * 4
    assert store.verify(deep=True).ok


@pytest.mark.parametrize("where", ["file", ":memory:"])
def test_a_store_closed_under_a_running_search_ends_it_with_a_closed_error(opened, path, where):
    store = opened(path if where == "file" else where, dimension=64)
    store.insert_batch(batch(20_000, d=64))
    queries = states(500, 64, seed=1)
    started, outcome = threading.Event(), []

    def search():
        try:
            while True:
                started.set()
                store.search_many(queries, k=10, threshold=None)
        except BaseException as err:
            outcome.append(err)

    searcher = threading.Thread(target=search)
    searcher.start()
    started.wait()
    store.close()
    searcher.join()
    (error,) = outcome
    assert isinstance(error, precedent.errors.ClosedError)


def test_a_query_that_is_changed_after_the_call_does_not_reach_the_answer(store):
    store.insert_batch(batch(30))
    query = states(30)[4].copy()
    first = store.search(query, threshold=None)
    query[:] = one_hot(0)
    assert store.search(states(30)[4], threshold=None) == first


def test_a_record_does_not_follow_the_array_it_was_made_from(store):
    state, action = states(1)[0].copy(), np.ones(ACTION, np.float32)
    given = step(state, action=action)
    state[:], action[:] = 0.0, 0.0
    got = store.get(store.insert(given))
    np.testing.assert_array_equal(got.state_embedding, states(1)[0])
    np.testing.assert_array_equal(got.action.embedding, np.ones(ACTION))
