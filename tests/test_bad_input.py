"""Every clause of "bad input": refused with a sentence, and nothing written; also on an empty store."""

import numpy as np
import pytest

import precedent
from worlds import ACTION, STATE, batch, changed, one_hot, refused, states, step, unchanged

NAN, INF = float("nan"), float("inf")


def spoiled(value, width=STATE):
    vector = [1.0] * width
    vector[1] = value
    return vector


ZEROS = [0.0] * STATE
# What is no state: value, and the error it gets.
BAD_STATES = {
    "too short": ([1.0] * (STATE - 1), precedent.DimensionError),
    "too long": ([1.0] * (STATE + 1), precedent.DimensionError),
    "empty": ([], precedent.DimensionError),
    "three axes": (np.ones((1, 1, STATE)), precedent.ValidationError),
    "a number": (1.0, precedent.ValidationError),
    "text": ("hello", precedent.ValidationError),
    "texts": (["a"] * STATE, precedent.ValidationError),
    "bytes": (b"12345678", precedent.ValidationError),
    "objects": ([object()] * STATE, precedent.ValidationError),
    "complex numbers": ([1j] * STATE, precedent.ValidationError),
    "none": (None, precedent.ValidationError),
    "a mapping": ({"task": "x"}, precedent.ValidationError),
    "ragged": ([[1.0], [1.0, 2.0]], precedent.ValidationError),
    "NaN": (spoiled(NAN), precedent.ValidationError),
    "infinity": (spoiled(-INF), precedent.ValidationError),
    "beyond float32": (spoiled(1e39), precedent.ValidationError),
    "zeros": (ZEROS, precedent.ValidationError),
    "masked": (np.ma.array(np.ones(STATE), mask=[True] + (STATE - 1) * [False]), precedent.ValidationError),
}
A_MATRIX = {"a matrix": (np.ones((2, STATE)), precedent.ValidationError)}
ONE = BAD_STATES | A_MATRIX


@pytest.mark.parametrize(("state", "error"), ONE.values(), ids=ONE)
@pytest.mark.parametrize("method", ["search", "get_by_state"])
def test_what_is_no_state_cannot_be_asked_for(target, method, state, error):
    if method == "get_by_state" and state is ZEROS:
        assert target.get_by_state(state) == []  # an address like any other, only nobody lives there
        return
    with refused("state", error):
        getattr(target, method)(state)


@pytest.mark.parametrize(("state", "error"), ONE.values(), ids=ONE)
@pytest.mark.parametrize("many", [False, True])
def test_what_is_no_state_cannot_be_stored(target, state, error, many):
    before = target.get_stats()
    bad = changed(step(episode_id="bad"), state_embedding=state)
    with refused("[1].state_embedding" if many else "state_embedding", error):
        target.insert_batch([step(episode_id="new"), bad]) if many else target.insert(bad)
    unchanged(target, before)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ones((2, STATE + 1)), precedent.DimensionError),
        (np.ones((2, 2, STATE)), precedent.ValidationError),
        ([spoiled(1.0), spoiled(NAN)], precedent.ValidationError),
        ([spoiled(1.0), spoiled(1e39)], precedent.ValidationError),
        ([spoiled(1.0), [0.0] * STATE], precedent.ValidationError),
        ([[1.0] * STATE, [1.0]], precedent.ValidationError),
        (["some", "text"], precedent.ValidationError),
        ("text", precedent.ValidationError),
        (None, precedent.ValidationError),
    ],
    ids=["wide", "three axes", "NaN", "float64", "zeros", "ragged", "texts", "text", "none"],
)
@pytest.mark.parametrize("method", ["search_many", "search_ids"])
def test_what_is_no_matrix_of_states_cannot_be_asked_for(target, method, value, error):
    with pytest.raises(error, match=r"states.*expected .+, got .+"):
        getattr(target, method)(value)


def test_one_vector_is_no_matrix_for_search_many(target):
    with refused("states"):
        target.search_many(one_hot(0))


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ([1.0] * (ACTION + 1), precedent.DimensionError),
        (np.ones((1, ACTION)), precedent.ValidationError),
        (spoiled(NAN, ACTION), precedent.ValidationError),
        (spoiled(INF, ACTION), precedent.ValidationError),
        (spoiled(-1e39, ACTION), precedent.ValidationError),
        ("jump", precedent.ValidationError),
        (None, precedent.ValidationError),
    ],
    ids=["long", "matrix", "NaN", "infinity", "float64", "text", "none"],
)
def test_what_is_no_action_cannot_be_stored(target, action, error):
    before = target.get_stats()
    bad = changed(step(), action=precedent.Action(pattern_id="p", embedding=action))
    with refused("action.embedding", error):
        target.insert(bad)
    with refused("[0].action.embedding", error):
        target.insert_batch([bad])
    unchanged(target, before)


def test_a_zero_action_is_fine(memory):
    id_ = memory.insert(step(action=np.zeros(ACTION)))
    np.testing.assert_array_equal(memory.get(id_).action.embedding, np.zeros(ACTION))


def test_a_wrong_dimension_says_both_numbers(target):
    for ask in (target.search, target.get_by_state):
        with pytest.raises(precedent.DimensionError, match=rf"{STATE}\D+2") as caught:
            ask([1.0, 2.0])
        assert (caught.value.expected, caught.value.got) == (STATE, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reward", NAN),
        ("reward", INF),
        ("reward", "1.0"),
        ("reward", None),
        ("reward", True),
        ("return_to_go", NAN),
        ("return_to_go", -INF),
        ("return_to_go", "high"),
        ("pattern_id", ""),
        ("pattern_id", None),
        ("pattern_id", 7),
        ("episode_id", ""),
        ("episode_id", None),
        ("task_type", ""),
        ("task_type", 7),
        ("timestamp", "now"),
        ("timestamp", 1.5),
        ("timestamp", 2**63),
        ("duration", "long"),
        ("duration", NAN),
        ("tokens_used", 1.5),
        ("context_length", 2**70),
        ("step_index", "first"),
        ("step_index", True),
        ("success", "yes"),
        ("success", 1),
        ("quality", 1.01),
        ("quality", -0.01),
        ("quality", NAN),
        ("terminated", None),
        ("truncated", "no"),
        ("agent_type", 7),
        ("task_id", 7),
        ("task_id", "\ud800"),
        ("extra", {"x": object()}),
        ("extra", {"x": NAN}),
        ("extra", "text"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_bad_fact_is_refused_by_name(target, field, value, many):
    before = target.get_stats()
    bad = changed(step(episode_id="bad"), **{field: value})
    with refused(field):
        target.insert_batch([step(episode_id="new"), bad]) if many else target.insert(bad)
    unchanged(target, before)


@pytest.mark.parametrize("value", [None, 7, {"state": 1}, "step"])
def test_what_is_no_record_cannot_be_stored(target, value):
    with pytest.raises(precedent.ValidationError, match=r"expected .+, got .+"):
        target.insert(value)
    with pytest.raises(precedent.ValidationError, match=r"\[1\].*expected .+, got .+"):
        target.insert_batch([step(), value])
    with pytest.raises(precedent.ValidationError, match=r"expected .+, got .+"):
        target.insert_batch(value)


COLUMNS = {
    "states": [
        states(4, STATE + 1),
        np.full((4, STATE), NAN),
        np.zeros((4, STATE)),
        np.ones(STATE),
        np.full((4, STATE), 1e39),
        "text",
    ],
    "actions": [np.ones((4, ACTION + 1)), np.full((4, ACTION), INF), np.ones((3, ACTION)), np.ones(ACTION)],
    "rewards": [np.ones(3), np.ones((4, 1)), [0.0, NAN, 0.0, 0.0], ["a"] * 4, 1.0, None],
    "returns_to_go": [np.ones(3), [0.0, INF, 0.0, 0.0], ["a"] * 4, 1.0],
    "pattern_ids": ["", ["p"] * 3, ["p", "", "p", "p"], ["p", None, "p", "p"], 7, None],
    "episode_ids": ["", ["e"] * 5, ["e", "", "e", "e"], None],
    "task_types": ["", ["t"] * 3, [1, 2, 3, 4], None],
    "agent_types": [["a"] * 3, [1] * 4, 7],
    "timestamps": [[1] * 3, [1.5] * 4, ["x"] * 4],
    "step_indices": [[1] * 5, [0.5] * 4],
    "durations": [[1] * 3, ["x"] * 4],
    "terminated": [[True] * 3, ["no"] * 4],
    "successes": [[True] * 3, ["yes"] * 4],
    "qualities": [[0.5] * 3, [0.5, 2.0, 0.5, 0.5], [0.5, NAN, 0.5, 0.5]],
    "extras": [[{}] * 3, ["x"] * 4, [{"x": object()}] * 4],
    "action_metadata": [[{}] * 3, [{"x": NAN}] * 4],
    "task_ids": [["x"] * 3, [1] * 4],
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in COLUMNS.items() for v in values], ids=lambda x: str(x)[:20]
)
def test_a_bad_column_is_refused_by_name(target, name, value):
    before = target.get_stats()
    with pytest.raises(precedent.ValidationError, match=rf"{name}.*expected .+, got .+"):
        target.insert_batch(batch(4, **{name: value}))
    unchanged(target, before)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("k", {"k": 0}),
        ("k", {"k": -1}),
        ("k", {"k": 1.5}),
        ("k", {"k": True}),
        ("k", {"k": "5"}),
        ("k", {"k": None}),
        ("ef_search", {"k": 10, "ef_search": 9}),
        ("ef_search", {"ef_search": 0}),
        ("ef_search", {"ef_search": "many"}),
        ("threshold", {"threshold": NAN}),
        ("threshold", {"threshold": "high"}),
        ("metric", {"metric": "manhattan"}),
        ("metric", {"metric": 1}),
        ("exact", {"exact": "yes"}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["search", "search_many", "search_ids"])
def test_a_bad_option_of_a_search_is_refused_by_name(target, method, field, options):
    with refused(field):
        getattr(target, method)(one_hot(0) if method == "search" else [one_hot(0)], **options)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task_type", 7),
        ("task_type", ["code", 7]),
        ("task_type", ""),
        ("min_return", "high"),
        ("min_return", NAN),
        ("min_return", True),
        ("min_reward", [0.5]),
        ("min_episode_reward", NAN),
        ("episode_id", {"e": 1}),
        ("after_timestamp", 1.5),
        ("before_timestamp", "now"),
        ("pattern_id", b"p"),
        ("agent_type", ["coder"]),
        ("success", "yes"),
        ("success", 1),
        ("colour", "red"),
        ("taskType", 7),
    ],
)
@pytest.mark.parametrize(
    "method", ["search", "search_many", "search_ids", "get_by_state", "iter_batches", "episodes"]
)
def test_a_bad_filter_is_refused_by_its_key(target, method, key, value):
    names = {"taskType": "task_type"}
    with pytest.raises(precedent.ValidationError, match=rf"{names.get(key, key)}|{key}"):
        ask(target, method, {key: value})


@pytest.mark.parametrize("value", ["text", 7, [("task_type", "x")]])
@pytest.mark.parametrize("method", ["search", "iter_batches", "episodes", "get_by_state"])
def test_what_is_no_filter_is_refused(target, method, value):
    with refused("filter"):
        ask(target, method, value)


def ask(store, method, condition):
    if method in ("iter_batches", "episodes"):
        return list(getattr(store, method)(condition))
    state = one_hot(0) if method in ("search", "get_by_state") else [one_hot(0)]
    return getattr(store, method)(state, filter=condition)


@pytest.mark.parametrize("bad", ["", "xyz", "0" * 31, "G" * 32, 7.5, None])
def test_what_is_no_id_is_refused_or_not_found(target, bad):
    for ask_for in (target.get, lambda id_: target.get_many([id_]), lambda id_: target.delete([id_])):
        with pytest.raises((precedent.ValidationError, precedent.NotFoundError)):
            ask_for(bad)


def test_one_id_where_several_belong_is_refused(target):
    id_ = target.insert(step())
    with refused("ids"):
        target.delete(id_)
    assert target.get(id_).id == id_


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("keep_days", {"keep_days": -1}),
        ("keep_days", {"keep_days": NAN}),
        ("keep_days", {"keep_days": "month"}),
        ("min_return", {"min_return": NAN}),
        ("max_size", {"max_size": -1}),
        ("max_size", {"max_size": 1.5}),
        ("keep_successful", {"keep_successful": "yes"}),
        ("unit", {"unit": "day"}),
        ("dry_run", {"dry_run": 1}),
    ],
    ids=repr,
)
def test_a_bad_option_of_prune_is_refused_by_name(target, field, options):
    before = target.get_stats()
    with refused(field):
        target.prune(**options)
    unchanged(target, before)


@pytest.mark.parametrize("gamma", [-0.01, 1.01, NAN, "high", None])
def test_a_gamma_outside_zero_to_one_is_refused(target, gamma):
    target.insert(step())
    for compute in (lambda: target.compute_returns("e0", gamma), lambda: target.compute_all_returns(gamma)):
        with refused("gamma"):
            compute()
    assert target.get_stats().avg_return is None


@pytest.mark.parametrize("tail", [NAN, INF, "more"])
def test_a_tail_that_is_no_number_is_refused(target, tail):
    target.insert(step())
    with refused("tail"):
        target.compute_returns("e0", tail=tail)


@pytest.mark.parametrize("k", [2**28 + 1, 2**40, 2**63, 10**30])
@pytest.mark.parametrize("queries", [1, 3])
def test_more_answers_than_memory_are_refused_before_they_are_asked_for(target, queries, k):
    with refused("k"):
        target.search_ids(states(queries), k=k)
    with refused("k"):
        target.search_ids(states(1)[0], k=k)
    assert len(target.search(states(1)[0], k=k, threshold=None)) == len(target), (
        "a list is as long as what is found"
    )


def test_a_key_that_int64_cannot_hold_is_refused_and_not_taken_for_another(target):
    with refused("ids[0]"):
        target.get_many(np.array([2**64 - 1], np.uint64))
    if len(target):
        assert target.get_many(np.array([1], np.uint64)) == target.get_many([1])


@pytest.mark.parametrize("name", ["durations", "tokens_used", "context_lengths"])
def test_a_column_is_as_strict_as_a_record(target, name):
    before = target.get_stats()
    for bad in (np.array([3, -1, 2]), [3, -1, 2]):
        with refused(f"{name}[1]"):
            target.insert_batch(changed(batch(3), **{name: bad}))
    unchanged(target, before)


def test_a_number_of_more_bits_than_a_column_has_is_refused_without_a_warning(target):
    with refused("rewards[1]"):
        target.insert_batch(changed(batch(3), rewards=np.array([0, np.finfo(np.longdouble).max, 0])))


@pytest.mark.parametrize("threshold", [NAN, "high"])
def test_a_threshold_that_is_no_number_is_refused_in_words_that_allow_infinity(target, threshold):
    with pytest.raises(precedent.ValidationError, match="threshold: expected a number, got"):
        target.search(one_hot(0), threshold=threshold)
    assert target.search(one_hot(0), threshold=INF) == []
