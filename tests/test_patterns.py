"""The pattern library: what an action means, how often it was taken, how well it went."""

import numpy as np
import pytest

import precedent
from worlds import ACTION, batch, one_hot, refused, states, step


@pytest.fixture
def library(store):
    return precedent.PatternLibrary(store)


def names(library):
    return [pattern.pattern_id for pattern in library]


def test_what_was_upserted_comes_back(library):
    library.upsert("p", [0.1, 0.2, 0.3], name="Retry", payload={"tool": "curl", "args": [1, None]})
    got = library.get("p")
    assert (got.pattern_id, got.name, got.payload) == ("p", "Retry", {"tool": "curl", "args": [1, None]})
    np.testing.assert_array_equal(got.embedding, np.float32([0.1, 0.2, 0.3]))
    assert (got.uses, got.successes, got.mean_reward) == (0, 0, None)


@pytest.mark.parametrize("payload", ["text", 17, [1, 2], True, {"a": {"b": None}}, None], ids=repr)
def test_a_payload_is_anything_that_has_a_json_form(library, payload):
    library.upsert("p", payload=payload)
    assert library.get("p").payload == payload


def test_a_pattern_outlives_the_store_object(opened):
    store = opened()
    precedent.PatternLibrary(store).upsert("p", [1.0, 0.0, 0.0], name="x")
    store.close()
    assert precedent.PatternLibrary(opened()).get("p").name == "x"


def test_an_upsert_replaces_what_the_last_one_gave(library):
    library.upsert("p", [1.0, 0.0, 0.0], name="old", payload=1)
    library.upsert("p", [0.0, 1.0, 0.0], name="new", payload=2)
    got = library.get("p")
    assert (got.name, got.payload) == ("new", 2)
    np.testing.assert_array_equal(got.embedding, [0.0, 1.0, 0.0])
    assert len(library) == 1


def test_uses_successes_and_rewards_follow_every_insert_and_delete(store, library):
    ids = [store.insert(step(pattern="p", reward=r)) for r in (0.6, 0.2, 1.0, -1.0)]
    store.insert(step(pattern="q", reward=0.0, success=True))
    p, q = library.get("p"), library.get("q")
    assert (p.uses, p.successes) == (4, 2)
    assert p.mean_reward == pytest.approx(0.2)
    assert (q.uses, q.successes, q.mean_reward) == (1, 1, 0.0)
    store.delete(ids[2:])
    p = library.get("p")
    assert (p.uses, p.successes) == (2, 1)
    assert p.mean_reward == pytest.approx(0.4)


def test_without_an_embedding_of_its_own_a_pattern_is_the_centroid_of_its_actions(store, library):
    actions = states(5, ACTION)
    ids = [store.insert(step(pattern="p", action=a)) for a in actions]
    store.insert(step(pattern="p", action=actions[0]))
    np.testing.assert_allclose(
        library.get("p").embedding, np.vstack([actions, actions[:1]]).mean(0), rtol=1e-5
    )
    store.delete(ids[1:3])
    rest = actions[[0, 0, 3, 4]].mean(0)
    np.testing.assert_allclose(library.get("p").embedding, rest, rtol=1e-5)
    library.upsert("p", [9.0, 0.0, 0.0])
    np.testing.assert_array_equal(library.get("p").embedding, [9.0, 0.0, 0.0])
    library.upsert("p", name="without an embedding again")
    library.delete("p")
    np.testing.assert_allclose(library.get("p").embedding, rest, rtol=1e-5)


def test_delete_drops_what_upsert_gave_and_a_pattern_in_use_stays(store, library):
    library.upsert("unused", [1.0, 0.0, 0.0])
    library.upsert("used", [1.0, 0.0, 0.0], name="x", payload=1)
    store.insert(step(pattern="used", action=[0.0, 2.0, 0.0]))
    library.delete("unused")
    library.delete("used")
    assert names(library) == ["used"]
    got = library.get("used")
    assert (got.name, got.payload, got.uses) == (None, None, 1)
    np.testing.assert_array_equal(got.embedding, [0.0, 2.0, 0.0])
    with pytest.raises(precedent.NotFoundError, match="unused"):
        library.get("unused")


def test_a_pattern_in_use_goes_with_its_last_use_unless_it_was_upserted(store, library):
    library.upsert("kept", name="x")
    ids = [store.insert(step(pattern=name)) for name in ("kept", "gone")]
    store.delete(ids)
    assert names(library) == ["kept"]
    assert library.get("kept").uses == 0


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_unknown_pattern_is_not_found(library, method):
    with pytest.raises(precedent.NotFoundError, match="ghost"):
        getattr(library, method)("ghost")


def test_length_and_iteration_cover_given_and_used_patterns(store, library):
    assert (len(library), names(library)) == (0, [])
    library.upsert("a")
    store.insert(step(pattern="b"))
    store.insert(step(pattern="a"))
    assert len(library) == 2
    assert sorted(names(library)) == ["a", "b"]


def test_a_walk_leaves_out_what_goes_meanwhile(library):
    for name in ("first", "second", "third"):
        library.upsert(name)
    walk = iter(library)
    seen = [next(walk).pattern_id]
    library.delete("second")
    assert seen + [pattern.pattern_id for pattern in walk] == ["first", "third"]


@pytest.mark.parametrize("name", ["ghost", "", "\ud800", 7, None], ids=ascii)
def test_what_cannot_be_an_id_is_not_in_a_library(library, name):
    library.upsert("kept")
    assert name not in library
    assert "kept" in library


def test_search_is_by_cosine_to_the_pattern_s_embedding(store, library):
    vectors = {f"p{i}": v for i, v in enumerate(states(9, ACTION))}
    for name, vector in list(vectors.items())[:5]:
        library.upsert(name, vector)
    for name, vector in list(vectors.items())[5:]:
        store.insert(step(pattern=name, action=vector))
    query = states(1, ACTION, seed=8)[0]
    cosines = {n: float(v @ query / np.linalg.norm(v) / np.linalg.norm(query)) for n, v in vectors.items()}
    expected = sorted(cosines, key=cosines.get, reverse=True)
    found = library.search(query, k=9)
    assert [m.pattern_id for m in found] == expected
    for match in found:
        assert match.similarity == pytest.approx(max(0.0, cosines[match.pattern_id]), abs=1e-6)
        assert match.pattern == library.get(match.pattern_id)
    assert [m.pattern_id for m in library.search(query)] == expected[:1]


def test_a_pattern_without_an_embedding_is_not_searched(library):
    library.upsert("nothing", name="no vector, no use")
    assert library.search([1.0, 0.0, 0.0], k=3) == []


def taken(store, pattern, state, wins, losses):
    for i in range(wins + losses):
        store.insert(step(state, pattern=pattern, success=i < wins))


def test_a_match_ranks_patterns_by_the_lower_bound_of_their_success(store, library):
    taken(store, "mostly", one_hot(0), 8, 2)
    taken(store, "rarely", one_hot(0), 2, 8)
    taken(store, "always, twice", one_hot(0), 2, 0)
    found = library.match(one_hot(0), k=3)
    lows = [m.low for m in found]
    assert lows == sorted(lows, reverse=True)
    assert {m.pattern_id for m in found} == {"mostly", "rarely", "always, twice"}
    assert found[-1].pattern_id == "rarely"
    for match in found:
        assert 0.0 <= match.low <= match.high <= 1.0
        assert match.similarity == pytest.approx(1.0)
        assert match.pattern == library.get(match.pattern_id)
    assert library.match(one_hot(0)) == found[:1]


def test_more_evidence_of_the_same_success_ranks_higher_and_is_surer(store, library):
    taken(store, "little", one_hot(0), 3, 1)
    taken(store, "much", one_hot(0), 15, 5)
    much, little = library.match(one_hot(0), k=2)
    assert (much.pattern_id, little.pattern_id) == ("much", "little")
    assert much.high - much.low < little.high - little.low


def test_success_in_nearer_states_counts_more(store, library):
    near, far = [1.0, 0.2] + [0.0] * 6, [1.0, 3.0] + [0.0] * 6
    taken(store, "right here", near, 4, 0)
    taken(store, "right here", far, 0, 4)
    taken(store, "right there", far, 4, 0)
    taken(store, "right there", near, 0, 4)
    assert [m.pattern_id for m in library.match(one_hot(0), k=2)] == ["right here", "right there"]


def test_a_match_looks_at_the_nearest_neighbours_only_and_through_the_filter(store, library):
    taken(store, "near", one_hot(0), 2, 0)
    store.insert_batch(batch(20, states=np.tile(one_hot(1) + one_hot(0), (20, 1)), pattern_ids="far"))
    assert {m.pattern_id for m in library.match(one_hot(0), k=5, neighbors=2)} == {"near"}
    assert {m.pattern_id for m in library.match(one_hot(0), k=5)} == {"near", "far"}
    assert {m.pattern_id for m in library.match(one_hot(0), k=5, min_similarity=0.9)} == {"near"}
    found = library.match(one_hot(0), k=5, filter={"pattern_id": "far"})
    assert {m.pattern_id for m in found} == {"far"}


def test_an_empty_library_matches_nothing(library):
    assert library.match(one_hot(0)) == []
    assert library.search([1.0, 0.0, 0.0]) == []


@pytest.mark.parametrize(
    ("field", "act"),
    [
        ("pattern_id", lambda lib: lib.upsert("")),
        ("pattern_id", lambda lib: lib.upsert(7)),
        ("name", lambda lib: lib.upsert("p", name=7)),
        ("payload", lambda lib: lib.upsert("p", payload=object())),
        ("payload", lambda lib: lib.upsert("p", payload=float("nan"))),
        ("embedding", lambda lib: lib.upsert("p", [1.0, 2.0])),
        ("embedding", lambda lib: lib.upsert("p", [1.0, float("nan"), 0.0])),
        ("embedding", lambda lib: lib.upsert("p", "text")),
        ("embedding", lambda lib: lib.search([1.0])),
        ("embedding", lambda lib: lib.search([0.0, 0.0, 0.0])),
        ("k", lambda lib: lib.search([1.0, 0.0, 0.0], k=0)),
        ("state", lambda lib: lib.match([1.0])),
        ("state", lambda lib: lib.match(np.zeros(8))),
        ("k", lambda lib: lib.match(one_hot(0), k=0)),
        ("neighbors", lambda lib: lib.match(one_hot(0), neighbors=0)),
        ("min_similarity", lambda lib: lib.match(one_hot(0), min_similarity=float("nan"))),
        ("filter", lambda lib: lib.match(one_hot(0), filter="all")),
    ],
)
def test_bad_input_is_refused_by_name_and_writes_nothing(library, field, act):
    with refused(field):
        act(library)
    assert len(library) == 0
