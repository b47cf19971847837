"""Records: frozen, compared by value, read and written in both spellings."""

import copy
import dataclasses
import json
import math
import pickle
import typing

import numpy as np
import pytest

import precedent
from precedent import (
    Action,
    Episode,
    Trajectory,
    TrajectoryBatch,
    TrajectoryMetadata,
    ValidationError,
)
from precedent.values import Record

EXPORTED = [getattr(precedent, name) for name in precedent.__all__]
RECORDS = [cls for cls in EXPORTED if isinstance(cls, type) and issubclass(cls, Record)]


def step(**changes):
    whole = {
        "state_embedding": [0.25, -1.0, 0.5],
        "action": Action(pattern_id="greet", embedding=[1.0, 0.0], metadata={"tool": "mail", "n": [1, 2]}),
        "reward": 0.75,
        "return_to_go": 1.5,
        "metadata": TrajectoryMetadata(
            task_type="chat",
            episode_id="monday",
            timestamp=1_763_689_000_000,
            success=True,
            extra={"a": None},
        ),
    }
    return Trajectory(**whole | changes)


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_records_are_frozen_keyword_only_and_have_slots(cls):
    assert cls.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert not hasattr(object.__new__(cls), "__dict__")
    with pytest.raises(TypeError):
        cls("positional")


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_types_of_records_can_be_looked_up(cls):
    assert typing.get_type_hints(cls)


def test_a_field_cannot_be_set():
    with pytest.raises(dataclasses.FrozenInstanceError):
        step().reward = 2.0


def test_equality_looks_into_arrays():
    assert step() == step()
    assert step() != step(state_embedding=[0.25, -1.0, 0.75])
    assert step() != step(state_embedding=[0.25, -1.0])
    assert step() != step(action=Action(pattern_id="greet", embedding=[1.0, 0.5]))
    assert step() != step(reward=0.5)
    assert step() != "a step"


def test_nan_equals_nan_at_the_same_place():
    batch = {"states": np.zeros((2, 1)), "actions": np.zeros((2, 1)), "rewards": np.zeros(2)}
    names = {"pattern_ids": "p", "episode_ids": "e", "task_types": "t"}
    one = TrajectoryBatch(**batch, **names, returns_to_go=np.array([math.nan, 1.0]))
    assert one == TrajectoryBatch(**batch, **names, returns_to_go=np.array([math.nan, 1.0]))
    assert one != TrajectoryBatch(**batch, **names, returns_to_go=np.array([1.0, math.nan]))
    assert len(one) == 2


def test_records_have_no_hash_since_their_arrays_have_none():
    with pytest.raises(TypeError, match="unhashable"):
        hash(step())


@pytest.mark.parametrize(
    "state",
    [
        [1.0, 2.0, 3.0],
        (1, 2, 3),
        np.array([1.0, 2.0, 3.0]),
        np.array([1, 2, 3], np.int16),
        np.arange(1.0, 7.0, dtype=np.float32)[::1][:3],
        np.array([1.0, 0, 2, 0, 3, 0], np.float32)[::2],
    ],
    ids=["list", "tuple", "float64", "int16", "float32", "strided"],
)
def test_any_vector_becomes_a_read_only_float32_array(state):
    kept = step(state_embedding=state).state_embedding
    assert kept.dtype == np.float32
    assert kept.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 9.0


def test_a_record_does_not_follow_its_callers_buffer():
    buffer = np.ones(3, np.float32)
    kept = step(state_embedding=buffer)
    buffer[:] = 0.0
    assert kept.state_embedding.tolist() == [1.0, 1.0, 1.0]


def test_a_record_does_not_follow_the_buffer_behind_a_read_only_view():
    buffer = np.ones(3, np.float32)
    view = buffer.view()
    view.flags.writeable = False
    kept = step(state_embedding=view)
    buffer[:] = 0.0
    assert kept.state_embedding.tolist() == [1.0, 1.0, 1.0]
    assert dataclasses.replace(kept).state_embedding is not view
    assert np.shares_memory(dataclasses.replace(kept).state_embedding, kept.state_embedding), (
        "what is the record's own is not copied again"
    )


def test_what_is_no_vector_is_kept_for_the_store_to_judge():
    assert step(state_embedding="a task").state_embedding == "a task"
    assert step(state_embedding=[[1.0], [1.0, 2.0]]).state_embedding == [[1.0], [1.0, 2.0]]
    assert step(state_embedding=[1e300, 0, 0]).state_embedding[0] == 1e300


@pytest.mark.parametrize("by_alias", [False, True])
def test_a_step_goes_to_json_and_back(by_alias):
    text = json.dumps(step().to_dict(by_alias=by_alias))
    assert Trajectory.from_dict(json.loads(text)) == step()


def test_the_spelling_is_the_seeds_on_request():
    written = step().to_dict(by_alias=True)
    assert written["stateEmbedding"] == [0.25, -1.0, 0.5]
    assert written["returnToGo"] == 1.5
    assert written["action"]["patternId"] == "greet"
    assert written["metadata"]["episodeId"] == "monday"
    assert written["metadata"]["tokensUsed"] is None
    assert step().to_dict()["metadata"]["tokens_used"] is None


def decision(**changes):
    why = precedent.ActionMetadata(interval=(0.25, 0.5), trajectory_ids=("a", "b"))
    whole = {"action": np.ones(3, np.float32), "pattern_id": "p", "tier": precedent.Tier.GENERATED}
    return precedent.ActionResult(**whole | {"confidence": 0.5, "latency": 1.0, "metadata": why} | changes)


def calibration():
    agreement = {"count": 3, "agreement": 0.5, "network_agreement": 0.25}
    tier = (precedent.ThresholdAgreement(threshold=math.inf, **agreement),)
    counts = dict.fromkeys(("episodes", "steps", "exact_count", "interpolation_count"), 3)
    shares = dict.fromkeys(("network_agreement", "cascade_agreement"), 0.5)
    given = {"exact_threshold": math.inf, "interpolation_threshold": 0.9, "desired_return": 1.0}
    return precedent.Calibration(**given, **counts, **shares, measure="cosine", exact=tier, interpolation=())


@pytest.mark.parametrize("by_alias", [False, True])
@pytest.mark.parametrize("made", [decision(), decision(pattern_id=None), calibration()])
def test_what_a_selector_says_goes_to_json_and_back(made, by_alias):
    plain = made.to_dict(by_alias=by_alias)
    for mapping in (plain, json.loads(json.dumps(plain))):
        read = type(made).from_dict(mapping)
        assert read == made
        assert repr(read) == repr(made)
    assert type(plain.get("tier", 3)) is int


def test_a_tier_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValidationError, match=r"ActionResult\.tier: expected .+, got 9"):
        precedent.ActionResult.from_dict(decision().to_dict() | {"tier": 9})


def test_keys_that_a_caller_chose_keep_their_spelling():
    given = step(action=Action(pattern_id="p", embedding=[1.0, 0.0], metadata={"max_tokens": 3}))
    assert given.to_dict(by_alias=True)["action"]["metadata"] == {"max_tokens": 3}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("reward"), "Trajectory.reward"),
        (lambda d: d.update(rewards=1.0), "'rewards'"),
        (lambda d: d.update(returnToGo=1.0), "Trajectory.return_to_go"),
        (lambda d: d["metadata"].pop("task_type"), "TrajectoryMetadata.task_type"),
        (lambda d: d.update(action=[1.0]), "Action"),
    ],
)
def test_a_mapping_that_is_no_step_is_refused_by_name(change, named):
    mapping = step().to_dict()
    change(mapping)
    with pytest.raises(ValidationError, match=named):
        Trajectory.from_dict(mapping)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_are_equal_and_still_read_only(copied):
    twin = copied(step())
    assert twin == step()
    assert not twin.state_embedding.flags.writeable
    assert not twin.action.embedding.flags.writeable


def test_a_copy_leaves_the_arrays_of_the_original_as_they_were():
    weights = precedent.DecisionLayer(2, 2, hidden_size=2).get_weights()
    assert copy.copy(weights) == weights
    weights.W1[:] = 0.0
    assert not weights.W1.any()


def test_a_step_can_be_replaced_field_by_field():
    assert dataclasses.replace(step(), reward=-1.0) == step(reward=-1.0)


def test_an_episode_is_a_sequence_with_columns():
    steps = [step(reward=r, return_to_go=None if r else 2.0) for r in (1.0, 0.0, 0.5)]
    episode = Episode(id="monday", trajectories=steps, total_reward=1.5, success=True)
    assert len(episode) == 3
    assert episode[-1] == steps[-1]
    assert list(episode[1:]) == steps[1:]
    assert [s.reward for s in episode] == [1.0, 0.0, 0.5]
    assert steps[1] in episode
    assert episode.states.shape == (3, 3)
    assert episode.actions.shape == (3, 2)
    assert episode.rewards.tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(episode.returns[[0, 2]]).all()
    assert episode.returns[1] == 2.0
    for column in (episode.states, episode.actions, episode.rewards, episode.returns):
        assert not column.flags.writeable
    assert Episode.from_dict(json.loads(json.dumps(episode.to_dict(by_alias=True)))) == episode


def test_bulk_columns_are_not_copied():
    states = np.ones((4, 2), np.float32)
    batch = TrajectoryBatch(
        states=states, actions=states, rewards=np.ones(4), pattern_ids="p", episode_ids="e", task_types="t"
    )
    assert np.shares_memory(batch.states, states)
    assert not batch.states.flags.writeable
    assert states.flags.writeable


def test_a_record_shows_its_arrays_by_shape():
    shown = repr(step())
    assert shown.startswith("Trajectory(state_embedding=<float32 [3]>, action=Action(pattern_id='greet'")
    assert "reward=0.75" in shown
