"""Returns: the seed's formula, and what comes after the last step of an episode that was cut off."""

import numpy as np
import pytest

import precedent
from worlds import EPOCH, batch, discounted, states, step


def insert(store, rewards, *, episode_id="e0", last=None):
    facts = [{} for _ in rewards]
    facts[-1] = last or {}
    return store.insert_batch(
        [
            step(s, reward=r, episode_id=episode_id, step_index=i, **f)
            for i, (s, r, f) in enumerate(zip(states(len(rewards)), rewards, facts, strict=True))
        ]
    )


REWARDS = np.random.default_rng(7).normal(size=30).tolist()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize(
    "last", [{}, {"terminated": True}, {"terminated": True, "truncated": True}], ids=repr
)
def test_returns_are_summed_from_the_end(store, gamma, last):
    insert(store, REWARDS, last=last)
    returns = store.compute_returns("e0", gamma)
    np.testing.assert_allclose(returns, discounted(REWARDS, gamma), rtol=1e-12, atol=1e-12)
    assert returns.dtype == np.float64
    assert returns.shape == (30,)


def test_gamma_is_the_seed_s_by_default(store):
    insert(store, [0.2, 0.5, -0.1, 1.0])
    expected = [1.567289, 1.3811, 0.89, 1.0]
    np.testing.assert_allclose(store.compute_returns("e0"), expected, rtol=1e-12)


def test_what_was_computed_is_written(store):
    ids = insert(store, REWARDS)
    returns = store.compute_returns("e0", 0.9)
    assert [t.return_to_go for t in store.get_many(ids)] == returns.tolist()
    np.testing.assert_array_equal(store.get_episode("e0").returns, returns)
    assert store.get_stats().avg_return == pytest.approx(returns.mean())
    found = store.search(states(30)[3], k=1, filter={"min_return": returns[3]})
    assert [r.id for r in found] == [ids[3]]


def test_returns_follow_the_order_of_the_episode_not_of_the_inserts(store):
    for index in (2, 0, 1):
        store.insert(step(reward=float(index), step_index=index))
    np.testing.assert_allclose(store.compute_returns("e0", 0.5), discounted([0.0, 1.0, 2.0], 0.5))


@pytest.mark.parametrize(
    ("gamma", "window"),
    [(0.9, 10), (0.5, 2), (0.0, 1), (0.75, 4), (0.99, 30)],
    ids=["gamma 0.9", "gamma 0.5", "gamma 0", "gamma 0.75", "longer than the episode"],
)
def test_an_episode_that_was_cut_off_goes_on_at_its_recent_mean(store, gamma, window):
    insert(store, REWARDS, last={"truncated": True})
    tail = np.mean(REWARDS[-window:]) / (1.0 - gamma)
    np.testing.assert_allclose(
        store.compute_returns("e0", gamma), discounted(REWARDS, gamma, tail), rtol=1e-9
    )


def test_without_discount_a_cut_off_episode_ends_with_its_last_reward(store):
    insert(store, REWARDS, last={"truncated": True})
    np.testing.assert_allclose(store.compute_returns("e0", 1.0), discounted(REWARDS, 1.0), rtol=1e-12)


def test_only_the_last_step_can_cut_an_episode_off(store):
    store.insert(step(reward=1.0, step_index=0, truncated=True))
    store.insert(step(reward=2.0, step_index=1))
    np.testing.assert_allclose(store.compute_returns("e0", 0.5), [2.0, 2.0])


@pytest.mark.parametrize("last", [{}, {"terminated": True}, {"truncated": True}], ids=repr)
@pytest.mark.parametrize("tail", [0.0, -3.5, 100])
def test_a_number_forces_the_tail(store, last, tail):
    insert(store, REWARDS, last=last)
    expected = discounted(REWARDS, 0.9, tail)
    np.testing.assert_allclose(store.compute_returns("e0", 0.9, tail=tail), expected, rtol=1e-12)


def test_an_unknown_episode_has_no_returns(store):
    with pytest.raises(precedent.NotFoundError, match="ghost"):
        store.compute_returns("ghost")


def test_every_episode_gets_its_own_returns_and_its_own_tail(store):
    rng = np.random.default_rng(2)
    worlds = {f"e{i}": rng.normal(size=rng.integers(1, 9)).tolist() for i in range(12)}
    for i, (name, rewards) in enumerate(worlds.items()):
        insert(store, rewards, episode_id=name, last={"truncated": bool(i % 2)})
    assert store.compute_all_returns(0.8) == 12
    for i, (name, rewards) in enumerate(worlds.items()):
        tail = np.mean(rewards[-5:]) / 0.2 if i % 2 else 0.0
        np.testing.assert_allclose(store.get_episode(name).returns, discounted(rewards, 0.8, tail), rtol=1e-9)


def test_only_episodes_with_a_missing_return_are_done_unless_all_are_asked_for(store):
    insert(store, [1.0, 1.0], episode_id="done")
    store.compute_returns("done", 0.0)
    insert(store, [1.0, 1.0], episode_id="new")
    assert store.compute_all_returns(0.5) == 1
    np.testing.assert_array_equal(store.get_episode("done").returns, [1.0, 1.0])
    np.testing.assert_array_equal(store.get_episode("new").returns, [1.5, 1.0])
    assert store.compute_all_returns(0.5) == 0
    assert store.compute_all_returns(0.5, missing_only=False) == 2
    np.testing.assert_array_equal(store.get_episode("done").returns, [1.5, 1.0])


def test_an_episode_that_grew_is_done_again(store):
    insert(store, [1.0, 1.0])
    assert store.compute_all_returns(0.5) == 1
    store.insert(step(reward=4.0, step_index=2))
    assert store.compute_all_returns(0.5) == 1
    np.testing.assert_array_equal(store.get_episode("e0").returns, [2.5, 3.0, 4.0])


def test_no_episodes_have_no_returns(store):
    assert store.compute_all_returns() == 0


def test_rewards_whose_sum_leaves_float64_are_refused_and_nothing_is_written(store):
    store.insert_batch(
        batch(
            3,
            rewards=[1e308, 1e308, 0.0],
            episode_ids=["a", "b", "c"],
            pattern_ids=["a", "b", "c"],
            step_indices=[0, 0, 0],
        )
    )
    store.insert(step(reward=1e300, episode_id="a", timestamp=EPOCH - 1, step_index=1))
    with pytest.raises(precedent.ValidationError, match=r"expected .+, got .+"):
        store.compute_returns("a", 1.0, tail=1e308)
    assert np.isnan(store.get_episode("a").returns).all()
