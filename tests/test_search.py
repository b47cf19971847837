"""Search against brute force in numpy, and what else is promised of an answer."""

import numpy as np
import pytest

import precedent
from worlds import EPOCH, STATE, batch, distances, one_hot, similarity, states, step, steps, succeeded

METRICS = ("cosine", "euclidean", "dot")


def brute(metric, query, rows, k):
    """Positions of the k nearest rows, ties to the row inserted first."""
    return np.argsort(distances(metric, query, rows), kind="stable")[:k]


@pytest.fixture(params=["file", "memory"])
def filled(request, opened, path):
    store = opened(path if request.param == "file" else ":memory:")
    given = steps(300)
    return store, given, store.insert_batch(given)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("k", [1, 5, 310])
def test_an_answer_is_that_of_brute_force(filled, metric, exact, k):
    store, given, ids = filled
    rows = np.stack([s.state_embedding for s in given])
    for query in states(8, seed=99):
        found = store.search(query, k=k, metric=metric, threshold=None, exact=exact)
        expected = brute(metric, query, rows, k)
        assert [r.id for r in found] == [ids[i] for i in expected]
        away = distances(metric, query, rows)[expected]
        np.testing.assert_allclose([r.distance for r in found], away, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            [r.similarity for r in found], [similarity(metric, d) for d in away], rtol=1e-6, atol=1e-7
        )


FILTERS = {
    "task_type": ({"task_type": "code"}, lambda s, _: s.metadata.task_type == "code"),
    "task_types": (
        {"task_type": ["code", "search", "unheard of"]},
        lambda s, _: s.metadata.task_type in ("code", "search"),
    ),
    "min_return": (
        {"min_return": 0.0},
        lambda s, _: s.return_to_go is not None and s.return_to_go >= 0.0,
    ),
    "min_reward": ({"min_reward": 0.25}, lambda s, _: s.reward >= 0.25),
    "min_episode_reward": ({"min_episode_reward": 0.5}, lambda s, total: total[s.metadata.episode_id] >= 0.5),
    "episode_id": ({"episode_id": "e7"}, lambda s, _: s.metadata.episode_id == "e7"),
    "episode_ids": ({"episode_id": ("e7", "e8")}, lambda s, _: s.metadata.episode_id in ("e7", "e8")),
    "after_timestamp": ({"after_timestamp": EPOCH + 500}, lambda s, _: s.metadata.timestamp >= EPOCH + 500),
    "before_timestamp": ({"before_timestamp": EPOCH + 500}, lambda s, _: s.metadata.timestamp < EPOCH + 500),
    "pattern_id": ({"pattern_id": "ask"}, lambda s, _: s.action.pattern_id == "ask"),
    "pattern_ids": ({"pattern_id": {"ask", "retry"}}, lambda s, _: s.action.pattern_id != "escalate"),
    "agent_type": ({"agent_type": "coder"}, lambda s, _: s.metadata.agent_type == "coder"),
    "success": ({"success": True}, lambda s, _: succeeded(s)),
    "no success": ({"success": False}, lambda s, _: not succeeded(s)),
    "several": (
        {"task_type": "code", "min_reward": 0.0, "success": False},
        lambda s, _: s.metadata.task_type == "code" and s.reward >= 0.0 and not succeeded(s),
    ),
    "nobody": ({"agent_type": "nobody"}, lambda *_: False),
    "none of none": ({"task_type": []}, lambda *_: False),
    "nothing asked": ({}, lambda *_: True),
    "as a record": (
        precedent.SearchFilter(agent_type="tester"),
        lambda s, _: s.metadata.agent_type == "tester",
    ),
}


@pytest.mark.parametrize(("condition", "matches"), FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("exact", [False, True])
def test_a_filtered_search_answers_among_the_matches(filled, condition, matches, exact):
    store, given, ids = filled
    totals = {}
    for s in given:
        totals[s.metadata.episode_id] = totals.get(s.metadata.episode_id, 0.0) + s.reward
    among = [i for i, s in enumerate(given) if matches(s, totals)]
    rows = np.stack([s.state_embedding for s in given])[among]
    for query in states(3, seed=99):
        found = store.search(query, k=20, threshold=None, filter=condition, exact=exact)
        expected = [ids[among[i]] for i in brute("cosine", query, rows, 20)]
        assert [r.id for r in found] == expected
        assert len(found) == min(20, len(among))


@pytest.mark.parametrize("boundary", ["after_timestamp", "before_timestamp"])
def test_the_first_moment_counts_and_the_last_does_not(memory, boundary):
    memory.insert(step(timestamp=EPOCH))
    found = memory.search(one_hot(0), filter={boundary: EPOCH})
    assert len(found) == (1 if boundary == "after_timestamp" else 0)


def test_a_filter_follows_returns_and_episodes_as_they_change(memory):
    first = memory.insert(step(reward=1.0, step_index=0))
    assert memory.search(one_hot(0), filter={"min_return": -9.0}) == []
    memory.compute_returns("e0")
    assert [r.id for r in memory.search(one_hot(0), filter={"min_return": 1.0})] == [first]
    assert memory.search(one_hot(0), filter={"min_episode_reward": 1.5}) == []
    memory.insert(step(one_hot(1), reward=1.0, step_index=1))
    assert [r.id for r in memory.search(one_hot(0), filter={"min_episode_reward": 1.5})] == [first]


@pytest.mark.parametrize(
    ("metric", "state", "threshold"),
    [("cosine", [3, 4], 1.0), ("euclidean", [3, 5], 0.5), ("dot", [1, 1], 7.0)],
)
def test_a_threshold_is_a_similarity_and_counts_itself(opened, metric, state, threshold):
    store = opened(":memory:", dimension=2)
    id_ = store.insert(step(state))
    (found,) = store.search([3, 4], metric=metric, threshold=threshold)
    assert (found.id, found.similarity) == (id_, threshold)
    assert store.search([3, 4], metric=metric, threshold=np.nextafter(threshold, 9.0)) == []


def test_a_threshold_only_cuts_the_list(filled):
    store, _, _ = filled
    for query in states(5, seed=99):
        everything = store.search(query, k=40, threshold=None)
        for cut in (0.8, 0.3, 0.0, -1.0):
            assert store.search(query, k=40, threshold=cut) == [r for r in everything if r.similarity >= cut]
        assert store.search(query, k=40) == store.search(query, k=40, threshold=0.8)


@pytest.mark.parametrize("exact", [False, True])
def test_ties_go_to_the_row_inserted_first(memory, exact):
    ids = memory.insert_batch([step(one_hot(i % 2)) for i in range(20)])
    found = memory.search(one_hot(0), k=15, threshold=None, exact=exact)
    assert [r.id for r in found] == ids[::2] + ids[1:11:2]


def test_k_defaults_to_five_and_more_than_there_is_is_all_of_it(memory):
    memory.insert_batch(batch(7))
    assert len(memory.search(one_hot(0), threshold=None)) == 5
    assert len(memory.search(one_hot(0), k=10**12, threshold=None)) == 7


def test_an_empty_store_answers_with_an_empty_list(memory):
    assert memory.search(one_hot(0)) == []
    assert memory.search(one_hot(0), exact=True, filter={"task_type": "x"}) == []
    assert memory.search_many(states(3)) == [[], [], []]
    assert memory.get_by_state(one_hot(0)) == []
    keys, _ = memory.search_ids(states(3), k=2)
    np.testing.assert_array_equal(keys, np.full((3, 2), -1))


@pytest.mark.parametrize("metric", METRICS)
def test_many_searches_are_single_searches_in_parallel(filled, metric):
    store, _, _ = filled
    queries = states(25, seed=99)
    options = {"k": 6, "metric": metric, "threshold": None, "filter": {"task_type": "code"}, "exact": True}
    assert store.search_many(queries, **options) == [store.search(q, **options) for q in queries]
    assert store.search_many(queries) == [store.search(q) for q in queries]
    assert store.search_many(queries.tolist()) == store.search_many(queries)


def test_no_queries_have_no_answers(filled):
    store, _, _ = filled
    assert store.search_many(np.empty((0, STATE), np.float32)) == []
    keys, away = store.search_ids(np.empty((0, STATE), np.float32), k=3)
    assert keys.shape == away.shape == (0, 3)


@pytest.mark.parametrize("metric", METRICS)
def test_ids_alone_are_those_of_the_search(filled, metric):
    store, _, _ = filled
    queries = states(10, seed=99)
    keys, away = store.search_ids(queries, k=4, metric=metric, filter={"agent_type": "coder"})
    assert keys.shape == away.shape == (10, 4)
    assert (keys.dtype, away.dtype) == (np.int64, np.float32)
    full = store.search_many(queries, k=4, metric=metric, filter={"agent_type": "coder"}, threshold=None)
    for key_row, distance_row, results in zip(keys, away, full, strict=True):
        assert [t.id for t in store.get_many(key_row)] == [r.id for r in results]
        np.testing.assert_array_equal(distance_row, np.float32([r.distance for r in results]))


def test_ids_alone_are_padded_with_minus_one(memory):
    memory.insert_batch(batch(3))
    keys, away = memory.search_ids(states(2), k=5)
    assert (keys[:, :3] > 0).all()
    assert (keys[:, 3:] == -1).all()
    assert np.isfinite(away[:, :3]).all()
    cut, _ = memory.search_ids(states(3), k=3, threshold=0.999)
    assert (cut[:, 0] > 0).all()
    assert (cut[:, 1:] == -1).all()


def test_ids_for_one_vector_are_one_row(memory):
    memory.insert_batch(batch(3))
    keys, away = memory.search_ids(one_hot(0), k=2)
    assert keys.shape == away.shape == (2,)


@pytest.mark.parametrize("metric", METRICS)
def test_a_stored_zero_vector_is_alike_to_nothing(opened, metric):
    store = opened(":memory:", hnsw={"metric": "euclidean"})
    store.insert(step(np.zeros(STATE)))
    (found,) = store.search(one_hot(0), metric=metric, threshold=None)
    expected = {"cosine": (0.0, 1.0), "euclidean": (0.5, 1.0), "dot": (0.0, 0.0)}
    assert (found.similarity, found.distance) == expected[metric]


def test_opposite_states_have_similarity_zero_and_distance_two_under_cosine(memory):
    memory.insert(step(-one_hot(0)))
    (found,) = memory.search(one_hot(0), threshold=None)
    assert (found.similarity, found.distance) == (0.0, 2.0)


def test_numbers_at_the_edges_of_float32_are_measured_right(memory):
    large, small = 1e38 * one_hot(0), 1e-38 * one_hot(1)
    ids = memory.insert_batch([step(large), step(small)])
    assert [r.id for r in memory.search(large, threshold=None)] == ids
    (found, _) = memory.search(small, threshold=None)
    assert (found.id, found.similarity) == (ids[1], 1.0)
    (found, _) = memory.search(large, metric="dot", threshold=None)
    assert found.similarity == pytest.approx(1e76, rel=1e-6)


@pytest.mark.parametrize("d", [1, 2, 3, 31, 64, 65, 768])
def test_every_width_of_state_agrees_with_brute_force(opened, d):
    store = opened(":memory:", dimension=d)
    rows = states(40, d)
    ids = store.insert_batch(batch(40, d=d, states=rows))
    for metric in METRICS[1:]:
        query = states(1, d, seed=99)[0]
        found = store.search(query, k=5, metric=metric, threshold=None, exact=True)
        assert [r.id for r in found] == [ids[i] for i in brute(metric, query, rows, 5)]


def test_exact_state_is_found_by_its_bits_oldest_first(filled):
    store, given, _ = filled
    twins = [store.insert(step(given[9].state_embedding, task_type="twin")) for _ in range(3)]
    found = store.get_by_state(given[9].state_embedding)
    assert [t.id for t in found][1:] == twins
    assert [t.id for t in store.get_by_state(given[9].state_embedding, filter={"task_type": "twin"})] == twins
    nearly = given[9].state_embedding.copy()
    nearly[0] = np.nextafter(nearly[0], np.float32(9))
    assert store.get_by_state(nearly) == []


def test_minus_zero_has_other_bits_than_zero(memory):
    id_ = memory.insert(step([1.0, 0.0] + [0.0] * 6))
    assert [t.id for t in memory.get_by_state([1.0, 0.0] + [0.0] * 6)] == [id_]
    assert memory.get_by_state([1.0, -0.0] + [0.0] * 6) == []


def test_an_answer_s_records_cannot_be_written_to(filled):
    store, given, _ = filled
    (found, *_) = store.search(given[0].state_embedding, k=1)
    for array in (found.trajectory.state_embedding, found.trajectory.action.embedding):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0
    with pytest.raises(AttributeError):
        found.similarity = 0.0
    with pytest.raises(AttributeError):
        found.trajectory.reward = 0.0


def test_an_explicit_ef_search_changes_no_exact_answer(filled):
    store, given, _ = filled
    query = given[0].state_embedding
    assert store.search(query, k=5, ef_search=200) == store.search(query, k=5, ef_search=5)


def test_a_default_ef_search_below_k_is_raised_to_it(opened):
    store = opened(":memory:", hnsw={"ef_search": 2})
    store.insert_batch(batch(20))
    assert len(store.search(one_hot(0), k=10, threshold=None)) == 10
