"""Episodes: their order, what they sum to, what only the caller knows of them, and their end."""

import numpy as np
import pytest

import precedent
from worlds import ACTION, EPOCH, STATE, one_hot, refused, states, step


def test_steps_are_ordered_by_index_then_time_then_insertion(store):
    given = [
        ("none, early", {"step_index": None, "timestamp": EPOCH + 1}),
        ("two", {"step_index": 2, "timestamp": EPOCH}),
        ("none, late", {"step_index": None, "timestamp": EPOCH + 2}),
        ("one, late", {"step_index": 1, "timestamp": EPOCH + 9}),
        ("one, early", {"step_index": 1, "timestamp": EPOCH + 8}),
        ("none, early, inserted later", {"step_index": None, "timestamp": EPOCH + 1}),
        ("zero", {"step_index": 0, "timestamp": EPOCH + 99}),
    ]
    for name, facts in given:
        store.insert(step(task_id=name, **facts))
    assert [s.metadata.task_id for s in store.get_episode("e0")] == [
        "zero",
        "one, early",
        "one, late",
        "two",
        "none, early",
        "none, early, inserted later",
        "none, late",
    ]


def test_an_episode_is_a_sequence_of_steps_and_arrays_underneath(store):
    rewards, returns = [0.25, -1.0, 2.0], [1.0, None, 2.0]
    seen = states(3)
    ids = [
        store.insert(step(seen[i], reward=rewards[i], returns=returns[i], action=one_hot(i, ACTION)))
        for i in range(3)
    ]
    episode = store.get_episode("e0")
    assert (episode.id, len(episode), episode.total_reward) == ("e0", 3, 1.25)
    assert [s.id for s in episode] == [s.id for s in episode.trajectories] == ids
    assert episode[-1].id == ids[-1]
    assert store.get(ids[1]) in episode
    np.testing.assert_array_equal(episode.states, seen)
    np.testing.assert_array_equal(episode.actions, np.eye(ACTION))
    np.testing.assert_array_equal(episode.rewards, rewards)
    np.testing.assert_array_equal(episode.returns, [1.0, np.nan, 2.0])
    assert (episode.states.shape, episode.actions.shape) == ((3, STATE), (3, ACTION))
    assert (episode.states.dtype, episode.rewards.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize(
    ("last", "success"),
    [
        ({"success": True, "reward": -1.0}, True),
        ({"success": False, "reward": 1.0}, False),
        ({"reward": 0.51}, True),
        ({"reward": 0.5}, False),
    ],
)
def test_an_episode_succeeded_if_its_last_step_did(store, last, success):
    store.insert(step(step_index=1, **last))
    store.insert(step(step_index=0, success=not success))
    assert store.get_episode("e0").success is success


def test_what_the_caller_says_of_an_episode_overrules_its_last_step(store):
    store.insert(step(reward=1.0))
    store.set_episode("e0", success=False)
    assert store.get_episode("e0").success is False
    store.set_episode("e0", success=True)
    assert store.get_episode("e0").success is True


def test_what_is_set_stays_when_something_else_is_set_and_over_reopening(opened):
    store = opened()
    store.insert(step(reward=1.0))
    store.set_episode("e0", success=False)
    store.set_episode("e0", metadata={"customer": "ü", "tries": [1, 2]})
    store.insert(step(reward=1.0, step_index=1))
    store.close()
    episode = opened().get_episode("e0")
    assert episode.success is False
    assert episode.metadata == {"customer": "ü", "tries": [1, 2]}


def test_an_episode_without_metadata_has_an_empty_mapping(store):
    store.insert(step())
    assert store.get_episode("e0").metadata == {}


def test_an_unknown_episode_cannot_be_set(store):
    with pytest.raises(precedent.NotFoundError, match="ghost"):
        store.set_episode("ghost", success=True)


@pytest.mark.parametrize("bad", [{"success": "yes"}, {"metadata": "text"}, {"metadata": {"x": object()}}])
def test_what_an_episode_cannot_hold_is_refused(store, bad):
    store.insert(step())
    with refused(next(iter(bad))):
        store.set_episode("e0", **bad)


def test_an_episode_is_gone_with_its_last_step(store):
    ids = [store.insert(step(reward=r)) for r in (1.0, 2.0)]
    store.set_episode("e0", success=False, metadata={"old": True})
    store.delete(ids[:1])
    assert store.get_episode("e0").total_reward == 2.0
    store.delete(ids[1:])
    with pytest.raises(precedent.NotFoundError):
        store.get_episode("e0")
    assert list(store.episodes()) == []
    assert store.get_stats().total_episodes == 0


def test_an_episode_of_the_same_name_starts_afresh(store):
    old = store.insert(step(reward=5.0))
    store.set_episode("e0", success=False, metadata={"old": True})
    store.delete([old])
    store.insert(step(reward=1.0))
    episode = store.get_episode("e0")
    assert (episode.total_reward, episode.success, episode.metadata) == (1.0, True, {})


def test_total_reward_follows_every_insert_and_delete_over_many_rows(store):
    rng = np.random.default_rng(3)
    rewards = rng.normal(size=60)
    ids = [store.insert(step(reward=float(r), episode_id=f"e{i % 3}")) for i, r in enumerate(rewards)]
    gone = set(rng.choice(60, 25, replace=False).tolist())
    store.delete([ids[i] for i in gone])
    for e in range(3):
        kept = [rewards[i] for i in range(e, 60, 3) if i not in gone]
        assert store.get_episode(f"e{e}").total_reward == pytest.approx(sum(kept), abs=1e-9)
