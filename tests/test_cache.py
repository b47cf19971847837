"""The query cache: when it answers, and that nobody can tell except by its counters."""

import numpy as np
import pytest

import precedent
from worlds import batch, one_hot, states, step


def counts(store):
    stats = store.get_stats()
    return stats.cache_hits, stats.cache_misses


@pytest.fixture
def filled(store):
    store.insert_batch(batch(30, agent_types="coder"))
    return store


def test_the_same_query_is_answered_from_the_cache(filled):
    first = filled.search(states(30)[0])
    assert counts(filled) == (0, 1)
    assert filled.search(states(30)[0]) == first
    assert counts(filled) == (1, 1)


def nudged(state):
    near = state.copy()
    near[-1] = np.nextafter(near[-1], np.float32(9))
    return near


@pytest.mark.parametrize(
    "other",
    [
        {"state": nudged(states(30)[0])},
        {"k": 6},
        {"metric": "dot"},
        {"threshold": 0.8000001},
        {"threshold": None},
        {"filter": {"agent_type": "coder"}},
        {"exact": True},
        {"ef_search": 77},
    ],
    ids=lambda other: next(iter(other)),
)
def test_every_bit_of_the_query_and_every_option_is_part_of_the_question(filled, other):
    filled.search(states(30)[0])
    options = {"state": states(30)[0]} | other
    filled.search(options.pop("state"), **options)
    assert counts(filled) == (0, 2)


def test_different_filters_are_different_questions(filled):
    for condition in ({"task_type": "support"}, {"task_type": "code"}, {"episode_id": "support"}):
        filled.search(states(30)[0], filter=condition)
    assert counts(filled)[0] == 0


WRITES = {
    "insert": lambda s, _: s.insert(step(one_hot(2))),
    "insert_batch": lambda s, _: s.insert_batch(batch(2, seed=5)),
    "delete": lambda s, ids: s.delete(ids[:1]),
    "compute_returns": lambda s, _: s.compute_returns("e0"),
    "compute_all_returns": lambda s, _: s.compute_all_returns(),
    "set_episode": lambda s, _: s.set_episode("e0", success=True),
    "prune": lambda s, _: s.prune(max_size=20),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_any_write_empties_the_cache_from_here_or_from_elsewhere(opened, write, elsewhere):
    store = opened()
    ids = store.insert_batch(batch(30))
    writer = opened() if elsewhere else store
    for _ in range(2):
        store.search(states(30)[0], k=30, threshold=None)
    assert counts(store) == (1, 1)
    write(writer, ids)
    fresh = store.search(states(30)[0], k=30, threshold=None)
    assert counts(store) == (1, 2)
    uncached = opened(cache={"enabled": False})
    assert fresh == uncached.search(states(30)[0], k=30, threshold=None)


def test_what_a_caller_does_to_an_answer_never_reaches_the_cache(opened):
    store = opened()
    store.insert(step(extra={"list": [1]}))
    first = store.search(one_hot(0))
    first[0].trajectory.metadata.extra["list"].append(2)
    first[0].trajectory.metadata.extra["new"] = True
    first.clear()
    (again,) = store.search(one_hot(0))
    assert again.trajectory.metadata.extra == {"list": [1]}
    assert counts(store) == (1, 1)


def test_the_oldest_answer_makes_room_for_the_newest(opened):
    store = opened(cache={"max_size": 2})
    store.insert_batch(batch(5))
    a, b, c = states(3, seed=9)
    for query in (a, b, a, c, a):  # b is the one that was longest not asked for
        store.search(query)
    assert counts(store) == (2, 3)
    store.search(b)
    assert counts(store) == (2, 4)


@pytest.mark.parametrize("cache", [{"enabled": False}, {"max_size": 0}, {"ttl": 0}], ids=repr)
def test_a_cache_that_is_off_full_or_stale_never_answers(opened, cache):
    store = opened(cache=precedent.CacheConfig(**cache))
    store.insert_batch(batch(5))
    answers = [store.search(one_hot(0), threshold=None) for _ in range(50)]
    assert answers[1:] == answers[:-1]
    assert counts(store)[0] == 0


def test_a_cached_answer_survives_a_search_for_something_else(filled):
    first = filled.search(states(30)[0])
    filled.search_many(states(30))
    filled.get_by_state(states(30)[3])
    assert filled.search(states(30)[0]) == first
    assert counts(filled)[0] >= 1
