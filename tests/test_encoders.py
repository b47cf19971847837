"""Encoders: adapting what people have, refusing what is no encoder, features of observations, task texts."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from precedent import (
    Action,
    ActionSelector,
    EncoderMismatchError,
    PatternLibrary,
    Trajectory,
    TrajectoryBatch,
    TrajectoryMetadata,
    TrajectoryStore,
    ValidationError,
)
from precedent.encoders import Encoder, FourierEncoder, HashingEncoder, as_encoder, task_text
from worlds import refused

TASK = {
    "description": "Implement JWT authentication",
    "type": "code_generation",
    "context": {"framework": "Express", "versions": [4, 5]},
    "requirements": ["tests", "no new dependency"],
}


def lengths(texts):
    """A callable encoder: two numbers that tell texts apart."""
    return [[float(len(text)), float(text.count("e")) + 1.0] for text in texts]


class SentenceModel:
    def encode(self, texts):
        return np.array(lengths(texts), np.float64)


class RoleModel(SentenceModel):
    def encode_document(self, texts):
        return self.encode(texts)

    def encode_query(self, texts):
        return self.encode(texts) + 1.0


class LangChain:
    def embed_documents(self, texts):
        return lengths(texts)

    def embed_query(self, text):
        return [value + 1.0 for value in lengths([text])[0]]


class OpenAI:
    """An OpenAI client that answers out of order, as the interface allows."""

    def __init__(self):
        self.models = []
        self.embeddings = self

    def create(self, model, input):  # noqa: A002 - OpenAI's name
        self.models.append(model)
        items = [SimpleNamespace(index=i, embedding=v) for i, v in enumerate(lengths(input))]
        return SimpleNamespace(data=items[::-1])


@pytest.mark.parametrize(
    ("obj", "options"),
    [
        (lengths, {}),
        (SentenceModel(), {}),
        (RoleModel(), {}),
        (LangChain(), {}),
        (OpenAI(), {"model": "small"}),
    ],
    ids=["callable", "sentence-transformers", "with roles", "LangChain", "OpenAI"],
)
def test_every_known_kind_becomes_an_encoder(obj, options):
    encoder = as_encoder(obj, **options)
    assert isinstance(encoder, Encoder)
    assert encoder.dimension == 2
    made = encoder.encode(["abc", "eee"])
    assert made.dtype == np.float32
    assert made.tolist() == [[3.0, 1.0], [3.0, 4.0]]
    assert encoder.encode("abc").tolist() == [3.0, 1.0]
    assert encoder.encode([]).shape == (0, 2)


@pytest.mark.parametrize("obj", [LangChain(), RoleModel()], ids=["LangChain", "with roles"])
def test_queries_go_the_way_of_queries(obj):
    encoder = as_encoder(obj)
    assert encoder.encode("abc", role="query").tolist() == [4.0, 2.0]
    assert encoder.encode("abc", role="document").tolist() == [3.0, 1.0]
    with pytest.raises(ValidationError, match="role"):
        encoder.encode("abc", role="question")


def test_the_openai_client_is_asked_for_the_named_model():
    client = OpenAI()
    as_encoder(client, model="small").encode(["abc"])
    assert set(client.models) == {"small"}
    with pytest.raises(ValidationError, match="model"):
        as_encoder(OpenAI())
    with pytest.raises(ValidationError, match="model"):
        as_encoder(lengths, model="small")


def test_the_fingerprint_is_the_name_or_tells_encoders_apart():
    assert as_encoder(lengths, name="lengths-1").fingerprint == "lengths-1"
    assert as_encoder(lengths).fingerprint == as_encoder(SentenceModel()).fingerprint
    other = as_encoder(lambda texts: [[2.0 * a, b] for a, b in lengths(texts)])
    assert other.fingerprint != as_encoder(lengths).fingerprint


def test_a_zero_has_no_sign_in_the_fingerprint():
    def embed(zero):
        return lambda texts: [[len(text), zero, 1.0] for text in texts]

    assert as_encoder(embed(-0.0)).fingerprint == as_encoder(embed(0.0)).fingerprint
    assert as_encoder(embed(-1e-5)).fingerprint == as_encoder(embed(1e-5)).fingerprint


def test_an_encoder_stays_as_it_is_unless_it_is_named():
    encoder = HashingEncoder(8)
    assert as_encoder(encoder) is encoder
    assert as_encoder(encoder, name="mine").fingerprint == "mine"
    assert as_encoder(encoder, name="mine").encode("a b").tolist() == encoder.encode("a b").tolist()


def unstable():
    calls = iter(range(100))
    return lambda texts: [[float(next(calls)), 1.0] for _ in texts]


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (lambda texts: [[0.0, 0.0] for _ in texts], "zero"),
        (lambda texts: [[math.nan, 1.0] for _ in texts], "NaN"),
        (lambda texts: [[math.inf, 1.0] for _ in texts], "infinity"),
        (lambda texts: [[float(len(texts)), 2.0]], "2 rows"),
        (lambda texts: [1.0 for _ in texts], "matrix"),
        (lambda texts: [["a", "b"] for _ in texts], "numbers"),
        (lambda texts: [[1.0, 2.0] for _ in texts], "different vectors"),
        (unstable(), "second time"),
        (3, "encoder"),
    ],
    ids=["zero", "nan", "inf", "miscounted", "flat", "text", "constant", "unstable", "no callable"],
)
def test_what_is_no_encoder_is_refused_when_it_is_made(broken, named):
    with pytest.raises(ValidationError, match=named):
        as_encoder(broken)


def test_a_task_is_the_seeds_prompt():
    assert task_text(TASK) == (
        "Task: Implement JWT authentication\n"
        "Type: code_generation\n"
        'Context: {"framework":"Express","versions":[4,5]}\n'
        "Requirements: tests, no new dependency"
    )
    assert task_text({"description": "x"}) == "Task: x"
    assert task_text("as it is") == "as it is"


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ({}, "description"),
        ({"title": "x"}, "'title'"),
        ({"description": 3}, "task.description"),
        ({"description": "x", "context": {"a": math.nan}}, r"task.context\['a'\]"),
        ({"description": "x", "requirements": [1]}, r"task.requirements\[0\]"),
        (["x"], "task"),
    ],
)
def test_what_is_no_task_is_refused_by_name(task, named):
    with pytest.raises(ValidationError, match=named):
        task_text(task)


@given(st.text(), st.integers(1, 64))
def test_hashing_gives_unit_vectors_for_any_text(text, dimension):
    encoder = HashingEncoder(dimension)
    text = text.encode("utf-8", "ignore").decode()
    vector = encoder.encode(text)
    assert vector.shape == (dimension,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    assert vector.tolist() == encoder.encode([text, "other"])[0].tolist()


def test_hashing_puts_texts_that_share_words_near():
    encoder = HashingEncoder(256)
    asked, near, far = encoder.encode(["fix the parser test", "the parser test fails", "deploy to staging"])
    assert asked @ near > asked @ far + 0.2


def test_hashing_names_what_it_is():
    assert HashingEncoder(8).fingerprint != HashingEncoder(16).fingerprint
    with pytest.raises(ValidationError, match="dimension"):
        HashingEncoder(0)
    with pytest.raises(ValidationError, match=r"texts\[1\]"):
        HashingEncoder(8).encode(["a", 3])


def test_the_cosine_of_fourier_features_is_a_gaussian_kernel():
    rng = np.random.default_rng(0)
    low, high = np.array([-2.0, 0.0, 5.0]), np.array([2.0, 10.0, 6.0])
    encode = FourierEncoder(low, high, 4096, 0.4)
    scaled = rng.random((20, 3))
    features = encode(low + scaled * (high - low))
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    kernel = np.exp(-(distances**2) / (2 * 0.4**2))
    assert np.abs(features @ features.T - kernel).max() < 0.08
    assert np.linalg.norm(features, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_fourier_features_depend_on_the_seed_only():
    made = FourierEncoder([0.0], [1.0], 8, 0.5, seed=3)
    same = FourierEncoder([0.0], [1.0], 8, 0.5, seed=3)
    other = FourierEncoder([0.0], [1.0], 8, 0.5, seed=4)
    assert made([0.3]).tolist() == same([0.3]).tolist()
    assert made.fingerprint == same.fingerprint
    assert made([0.3]).tolist() != other([0.3]).tolist()
    assert made.fingerprint != other.fingerprint


def test_one_observation_gives_one_vector():
    encode = FourierEncoder([0.0, 0.0], [1.0, 1.0], 16, 0.5)
    many = encode([[0.1, 0.2], [0.3, 0.4]])
    assert many.shape == (2, 16)
    assert encode([0.1, 0.2]) == pytest.approx(many[0])
    assert many.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([0.0, -math.inf], [1.0, 1.0], 8, 0.5), r"low\[1\]"),
        (([0.0, 0.0], [1.0, math.inf], 8, 0.5), r"high\[1\]"),
        (([0.0, 0.0], [1.0, np.finfo(np.float32).max], 8, 0.5), r"high\[1\]"),
        (([0.0, 0.0], [1.0, math.nan], 8, 0.5), r"high\[1\]"),
        (([0.0, 2.0], [1.0, 2.0], 8, 0.5), r"high\[1\]"),
        (([0.0], [1.0, 2.0], 8, 0.5), "high"),
        (([], [], 8, 0.5), "low"),
        ((["a"], [1.0], 8, 0.5), "low"),
        (([0.0], [1.0], 7, 0.5), "dimension"),
        (([0.0], [1.0], 0, 0.5), "dimension"),
        (([0.0], [1.0], 8, 0.0), "bandwidth"),
        (([0.0], [1.0], 8, math.nan), "bandwidth"),
    ],
)
def test_bad_settings_of_fourier_features_are_named(arguments, named):
    with pytest.raises(ValidationError, match=named):
        FourierEncoder(*arguments)


@pytest.mark.parametrize("observation", [[0.1], [[[0.1, 0.2]]], [0.1, math.nan], ["a", "b"]])
def test_bad_observations_are_refused(observation):
    encode = FourierEncoder([0.0, 0.0], [1.0, 1.0], 8, 0.5)
    with pytest.raises(ValidationError, match="observations"):
        encode(observation)


def test_a_file_remembers_its_encoder_and_refuses_another(tmp_path):
    path = tmp_path / "agent.db"
    with TrajectoryStore(path, encoder=as_encoder(lengths, name="lengths-1")) as store:
        assert store.dimension == 2
    with pytest.raises(EncoderMismatchError, match="lengths-1") as caught:
        TrajectoryStore(path, encoder=HashingEncoder(16))
    assert caught.value.stored == "lengths-1"
    assert caught.value.given == HashingEncoder(16).fingerprint
    TrajectoryStore(path).close()
    with pytest.raises(ValidationError, match="dimension"):
        TrajectoryStore(tmp_path / "other.db", dimension=3, encoder=as_encoder(lengths))


@pytest.fixture
def store():
    with TrajectoryStore(":memory:", encoder=as_encoder(LangChain()), action_dimension=2) as opened:
        yield opened


def step(state, episode="monday"):
    return Trajectory(
        state_embedding=state,
        action=Action(pattern_id="greet", embedding=[1.0, 0.0]),
        reward=1.0,
        return_to_go=1.0,
        metadata=TrajectoryMetadata(task_type="chat", episode_id=episode),
    )


def test_a_state_may_be_text_a_task_or_an_embedding(store):
    ids = store.insert_batch([step("abc"), step([3.0, 1.0]), step({"description": "abc"})])
    ids.append(store.insert(step("abc")))
    states = [found.state_embedding.tolist() for found in store.get_many(ids)]
    assert states == [[3.0, 1.0], [3.0, 1.0], [9.0, 1.0], [3.0, 1.0]]


def test_a_batch_may_hold_texts_and_embeddings(store):
    columns = {"actions": np.ones((3, 2)), "rewards": np.ones(3), "pattern_ids": "p", "task_types": "t"}
    states = ["abc", np.array([7.0, 8.0]), {"description": "eee"}]
    store.insert_batch(TrajectoryBatch(states=states, episode_ids="e", **columns))
    assert store.get_episode("e").states.tolist() == [[3.0, 1.0], [7.0, 8.0], [9.0, 4.0]]


def test_what_is_asked_is_encoded_as_a_query_and_what_is_looked_up_as_a_document(store):
    store.insert(step("abc"))
    assert len(store.get_by_state("abc")) == 1
    assert store.get_by_state([4.0, 2.0]) == []
    near = store.search("abc", k=1, metric="euclidean", threshold=None)[0]
    assert near.distance == pytest.approx(math.hypot(1, 1))
    assert store.search_ids("abc")[0].shape == (5,)
    assert store.search_ids(["abc", "eee"], k=1)[0].tolist() == [[1], [1]]
    assert [len(found) for found in store.search_many(["abc", {"type": "x"}], threshold=None)] == [1, 1]
    assert PatternLibrary(store).match("abc")[0].pattern_id == "greet"
    assert ActionSelector(store, exact_threshold=0.9).select_action("abc").pattern_id == "greet"


@pytest.mark.parametrize(
    ("bad", "inside"), [("\ud800", ""), ({"colour": 1}, ""), ({"requirements": [1]}, ".requirements[0]")]
)
def test_a_text_or_task_that_cannot_be_encoded_is_named_by_its_field_and_position(store, bad, inside):
    columns = {"actions": np.ones((3, 2)), "rewards": np.ones(3), "pattern_ids": "p", "task_types": "t"}
    mixed = [[1.0, 0.0], "ok", bad]
    for field, call in {
        "state_embedding": lambda: store.insert(step(bad)),
        "trajectories[2].state_embedding": lambda: store.insert_batch([step(state) for state in mixed]),
        "states[2]": lambda: store.insert_batch(TrajectoryBatch(states=mixed, episode_ids="e", **columns)),
        "states[1]": lambda: store.search_many(["ok", bad]),
        "state": lambda: store.search(bad),
    }.items():
        with pytest.raises(ValidationError, match=rf"^{re.escape(field + inside)}: expected .+, got .+"):
            call()
    assert len(store) == 0


def test_without_an_encoder_text_is_refused_by_name():
    with TrajectoryStore(":memory:", dimension=2, action_dimension=2) as store:
        with pytest.raises(ValidationError, match=r"^state_embedding: .*encoder"):
            store.insert(step("abc"))
        with pytest.raises(ValidationError, match=r"^trajectories\[1\]\.state_embedding: .*encoder"):
            store.insert_batch([step([1.0, 2.0]), step("abc")])
        with pytest.raises(ValidationError, match=r"^state: .*encoder"):
            store.search("abc")
        with pytest.raises(ValidationError, match=r"^states\[0\]: .*encoder"):
            store.search_many(["abc"])
        assert len(store) == 0


def test_what_the_encoder_breaks_later_is_not_stored():
    broken = as_encoder(lambda texts: [[float(len(t)), math.nan if "e" in t[:3] else 1.0] for t in texts])
    with TrajectoryStore(":memory:", encoder=broken, action_dimension=2) as other:
        with pytest.raises(ValidationError, match="NaN"):
            other.insert_batch([step("abc"), step("eee")])
        assert len(other) == 0


def test_a_bandwidth_below_what_numbers_can_tell_is_refused():
    with refused("bandwidth"):
        FourierEncoder([0.0, 0.0], [1.0, 1.0], 8, 1e-320)


class Lying:
    """An encoder of a user's own that does not do what it says."""

    dimension = 4
    fingerprint = "lying"

    def __init__(self, told):
        self.told = told

    def encode(self, texts, *, role="document"):
        assert role in {"document", "query"}
        return self.told(len(texts))


@pytest.mark.parametrize(
    "told",
    [
        lambda n: np.ones((n + 1, 4), np.float32),
        lambda n: np.ones((n, 3), np.float32),
        lambda _: None,
        lambda n: [["x"] * 4] * n,
    ],
    ids=["one row too many", "another width", "nothing", "text"],
)
def test_an_encoder_that_answers_otherwise_than_asked_is_refused_wherever_it_is_used(told):
    with TrajectoryStore(":memory:", action_dimension=2, encoder=Lying(told)) as store:
        made = Trajectory(
            state_embedding="a text",
            action=Action(pattern_id="p", embedding=[1.0, 0.0]),
            reward=1.0,
            metadata=TrajectoryMetadata(task_type="t", episode_id="e"),
        )
        for use in (
            lambda: store.insert(made),
            lambda: store.insert_batch([made, made]),
            lambda: store.search("a text"),
            lambda: store.search_many(["a text"]),
        ):
            with pytest.raises(ValidationError, match="encoder"):
                use()
        assert len(store) == 0
