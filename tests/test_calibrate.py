"""Thresholds of the cascade, measured, in worlds where the right ones are known."""

import json
import math

import numpy as np
import pytest

import precedent
from precedent import _core, thresholds
from training import layer as small_layer
from training import trainer
from worlds import ACTION, EPOCH, LEFT, RIGHT, STATE, refused, step

ACTIONS = np.stack([LEFT, RIGHT])


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fill(store, states, went, good, *, length=5):
    """Episodes of `length` steps; those that are good have a total reward of `length`, the others of 0."""
    n = len(states)
    store.insert_batch(
        precedent.TrajectoryBatch(
            states=states,
            actions=ACTIONS[went],
            rewards=np.where(good, 1.0, 0.0),
            pattern_ids=[("left", "right")[i] for i in went],
            episode_ids=[f"episode-{i // length}" for i in range(n)],
            task_types="walk",
            timestamps=EPOCH + np.arange(n),
            step_indices=np.arange(n) % length,
        )
    )
    store.compute_all_returns()


def by_half(n=1500, *, seed=0, right=1.0):
    """Half of the episodes are good: they go left where the first number is positive; the others do the
    opposite."""
    rng = np.random.default_rng(seed)
    states = unit(rng.normal(size=(n, STATE)))
    good = np.repeat(rng.random(n // 5) < 0.5, 5)
    rightly = rng.random(n) < right
    went = np.where((states[:, 0] > 0) == (good == rightly), 0, 1)
    return states, went, good


def by_heart(n=1500, *, situations=60, seed=0):
    """Good episodes do in each situation what was drawn for it: no rule to learn, but they come again."""
    rng = np.random.default_rng(seed)
    known, answers = unit(rng.normal(size=(situations, STATE))), rng.integers(0, 2, situations)
    which = rng.integers(0, situations, n)
    return known[which], answers[which], np.ones(n, bool)


def selector_of(store, *, epochs=20, scale="episode", **options):
    made = small_layer(learning_rate=0.01, return_scale=scale)
    trainer(store, made, epochs=epochs, early_stopping_patience=epochs).train()
    return precedent.ActionSelector(store, made, **options)


def useless(selector):
    """Gives the network weights that know nothing: it always goes left."""
    weights = selector.layer.get_weights()
    zeros = [np.zeros_like(part) for part in (weights.W1, weights.b1, weights.W2)]
    selector.layer.set_weights(precedent.NetworkWeights(W1=zeros[0], b1=zeros[1], W2=zeros[2], b2=LEFT))


def known_by_heart(store):
    """Calibrates where the network knows nothing and precedents know all; what it finds, and the selector."""
    fill(store, *by_heart())
    selector = selector_of(store, epochs=1)
    useless(selector)
    found = selector.calibrate(desired_return=0.0)
    assert found.measure == "pattern"
    assert found.cascade_agreement == pytest.approx(1.0)
    assert 0.3 < found.network_agreement < 0.7
    return found, selector


def test_what_comes_again_is_answered_by_heart_when_the_network_knows_nothing(memory):
    found, selector = known_by_heart(memory)
    assert found.exact_count == found.steps
    assert found.exact_threshold == pytest.approx(1.0, abs=1e-5)
    assert selector.exact_threshold == found.exact_threshold
    assert selector.interpolation_threshold == found.interpolation_threshold


def test_neighbours_that_mislead_are_not_asked_when_the_network_knows_better(memory):
    states, went, good = by_half()
    fill(memory, states, went, good)
    selector = selector_of(memory)
    assert selector.calibrate(desired_return=0.75).network_agreement > 0.9
    # Neighbours in numbers that have nothing to do with the rule, which stands in the sign of the first.
    rng = np.random.default_rng(3)
    blind = unit(np.column_stack([np.sign(states[:, 0]) * 0.02, rng.normal(size=(len(states), STATE - 1))]))
    with precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as other:
        fill(other, blind, went, good)
        blindfolded = selector_of(other, epochs=1)
        weights = blindfolded.layer.get_weights()
        first, second = np.zeros_like(weights.W1), np.zeros_like(weights.W2)
        first[0, 0], first[0, 1] = 1.0, -1.0  # the sign of the first number, written by hand
        second[0], second[1] = LEFT, RIGHT
        blindfolded.layer.set_weights(
            precedent.NetworkWeights(
                W1=first, b1=np.zeros_like(weights.b1), W2=second, b2=np.zeros_like(weights.b2)
            )
        )
        found = blindfolded.calibrate(desired_return=0.75)
        assert (found.exact_threshold, found.interpolation_threshold) == (math.inf, math.inf)
        assert found.network_agreement == found.cascade_agreement == 1.0
        assert (found.exact_count, found.interpolation_count) == (0, 0)
        assert all(point.agreement < 1.0 for point in found.exact[-5:])
        result = blindfolded.select_action(blind[0], 0.75)
        assert result.tier is precedent.Tier.GENERATED


def test_several_neighbours_outvote_noise_that_one_repeats(memory):
    states, went, good = by_half(6000, right=0.75)
    states, went = states[good], went[good]
    fill(memory, states, went, np.ones(len(states), bool))
    selector = selector_of(memory, epochs=1, interpolation_k=15)
    useless(selector)
    found = selector.calibrate(desired_return=0.0)
    assert found.interpolation_count > found.exact_count
    best = max(point.agreement for point in found.interpolation if point.count > found.steps / 2)
    alone = max(point.agreement for point in found.exact if point.count > found.steps / 2)
    assert best > alone + 0.03
    assert found.cascade_agreement >= best - 0.02


def half_by_heart(store, *, seed=5, right=1.0, fewest=5):
    """Situations that come again are right, what is only near was drawn anew; the network is right half the
    time. Returns the selector, and one of the situations."""
    rng = np.random.default_rng(seed)
    again, answers, _ = by_heart(1000, situations=50)
    fresh = unit(rng.normal(size=(1000, STATE)))
    order = rng.permutation(2000)
    states = np.concatenate([again, fresh])[order]
    went = np.concatenate([answers, np.where(fresh[:, 0] > 0, 0, 1)])[order]
    fill(store, states, np.where(rng.random(2000) < right, went, 1 - went), np.ones(2000, bool))
    selector = selector_of(store, epochs=1, min_interpolation_samples=fewest)
    weights = selector.layer.get_weights()
    first, second = np.zeros_like(weights.W1), np.zeros_like(weights.W2)
    first[0, 0], first[0, 1] = 1.0, -1.0
    second[0], second[1] = LEFT, RIGHT
    zeros = np.zeros_like(weights.b1), np.zeros_like(weights.b2)
    selector.layer.set_weights(precedent.NetworkWeights(W1=first, b1=zeros[0], W2=second, b2=zeros[1]))
    return selector, again[0]


def test_a_precedent_is_trusted_only_as_near_as_it_was_right(memory):
    selector, known = half_by_heart(memory)
    rng = np.random.default_rng(6)
    found = selector.calibrate(desired_return=0.0)
    assert found.exact_threshold > 0.98
    assert found.steps * 0.4 < found.exact_count < found.steps * 0.6
    assert found.cascade_agreement > found.network_agreement + 0.15
    assert selector.select_action(known, 0.0).tier is precedent.Tier.EXACT
    assert selector.select_action(unit(rng.normal(size=(1, STATE)))[0], 0.0).tier is precedent.Tier.GENERATED


def test_no_tier_is_kept_that_agrees_less_than_the_network_where_it_answers():
    for seed, right in enumerate((0.6, 0.8, 1.0)):
        with precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
            fill(store, *by_half(900, seed=seed, right=right))
            found = selector_of(store, epochs=4).calibrate(desired_return=0.6, apply=False)
        assert found.cascade_agreement >= found.network_agreement


@pytest.mark.parametrize(("seed", "right"), [(5, 1.0), (7, 0.95), (8, 0.9)])
def test_a_tier_that_is_opened_gains_what_was_measured_for_its_threshold_alone(memory, seed, right):
    # Tier 2 needs more neighbours than are looked at: what the network does not know is left to tier 1.
    selector, _ = half_by_heart(memory, seed=seed, right=right, fewest=6)
    found = selector.calibrate(desired_return=0.0, apply=False)
    assert found.exact_count >= found.steps * 0.4
    assert found.interpolation_count == 0
    (alone,) = [point for point in found.exact if point.threshold == found.exact_threshold]
    assert alone.count == found.exact_count
    assert alone.agreement > alone.network_agreement
    gains = [(point.agreement - point.network_agreement) * point.count for point in found.exact]
    gained = (found.cascade_agreement - found.network_agreement) * found.steps
    assert gained == pytest.approx(max(gains))


def test_an_episode_is_never_its_own_precedent(memory):
    """Each episode repeats one state five times; nobody else has been near it."""
    rng = np.random.default_rng(1)
    states = np.repeat(unit(rng.normal(size=(300, STATE))), 5, axis=0)
    went = np.repeat(rng.integers(0, 2, 300), 5)
    fill(memory, states, went, np.ones(1500, bool))
    selector = selector_of(memory, epochs=1)
    found = selector.calibrate(desired_return=0.0, apply=False)
    assert max(point.threshold for point in found.exact) < 0.9999
    assert all(0.3 < point.agreement < 0.7 for point in found.exact if point.count > 150)


@pytest.mark.parametrize("length", [1, 3, 20])
def test_precedents_are_those_of_a_store_without_the_episode_that_asks(memory, length):
    """Reading an episode's own steps in vain and naming all others are two ways to leave them out."""
    states, went, good = by_half(300)
    fill(memory, states, went, good, length=length)
    names = list(memory.episodes())
    selector = precedent.ActionSelector(memory, interpolation_k=7)
    for own in names[:: len(names) // 5]:
        asked = memory.get_episode(own).states
        first, second = (thresholds._elsewhere(selector, asked, {}, names, own, n) for n in (length, 1000))
        without = {"episode_id": [name for name in names if name != own]}
        found = [memory.search(state, k=7, threshold=None, filter=without) for state in asked]
        for hits in (first, second):
            assert [list(each.ids(7)) for each in hits] == [[near.id for near in each] for each in found]
            assert [each.similarities for each in hits] == [[r.similarity for r in each] for each in found]
            actions = [[near.trajectory.action.embedding for near in each] for each in found]
            assert all(np.array_equal(each.actions, a) for each, a in zip(hits, actions, strict=True))


def test_a_single_episode_has_no_precedents_but_itself_and_none_of_its_steps_is_read(memory):
    states, went, good = by_half(300)
    fill(memory, states, went, good, length=300)
    selector = precedent.ActionSelector(memory)
    found = thresholds._elsewhere(selector, states, {}, ["episode-0"], "episode-0", 300)
    assert [hits.similarities for hits in found] == [[]] * 300
    assert all(hits.actions.shape == (0, ACTION) for hits in found)


def test_only_held_out_episodes_that_were_good_are_asked_about(memory):
    states, went, good = by_half()
    fill(memory, states, went, good)
    selector = selector_of(memory)
    found = selector.calibrate(desired_return=0.75, apply=False)
    names = precedent._core.held_out(list(memory.episodes()), 0.2, 0)
    out = [name for name, flag in zip(memory.episodes(), names, strict=True) if flag]
    good_out = [name for name in out if memory.get_episode(name).total_reward == 5.0]
    assert (found.episodes, found.steps) == (len(good_out), 5 * len(good_out))
    assert found.desired_return == 0.75


def test_a_filter_restricts_questions_and_precedents(memory):
    states, went, good = by_half()
    fill(memory, states, went, good)
    selector = selector_of(memory)
    some = [f"episode-{i}" for i in range(150)]
    whole, part = (
        selector.calibrate(wish, desired_return=0.5, apply=False) for wish in (None, {"episode_id": some})
    )
    assert 20 <= part.steps < whole.steps


@pytest.mark.parametrize("scale", ["raw", "quantile", "episode"])
def test_every_scale_can_be_calibrated(memory, scale):
    fill(memory, *by_half())
    found = selector_of(memory, scale=scale, epochs=3).calibrate(desired_return=0.6, apply=False)
    assert found.steps >= 20
    assert 0.0 <= found.network_agreement <= found.cascade_agreement <= 1.0


@pytest.mark.parametrize("settings", [{"context": "history"}, {"context": "none"}])
def test_the_network_is_asked_with_the_context_and_the_position_it_learned_with(memory, settings):
    fill(memory, *by_half())
    made = small_layer(return_scale="episode", **settings)
    trainer(memory, made, epochs=2, timesteps=True).train()
    selector = precedent.ActionSelector(memory, made)
    found = selector.calibrate(desired_return=0.75, apply=False)
    names = precedent._core.held_out(list(memory.episodes()), 0.2, 0)
    agreed, steps = 0, 0
    for name, out in zip(memory.episodes(), names, strict=True):
        episode = memory.get_episode(name)
        if not out or episode.total_reward < 5.0:
            continue
        contexts = made.context_of(episode.states, episode.actions)
        for i, walked in enumerate(episode):
            context = contexts[i] if settings["context"] == "history" else None
            action = made.predict(walked.state_embedding, 0.75, context=context, timestep=i)
            agreed += int((action @ LEFT > action @ RIGHT) == (walked.action.pattern_id == "left"))
            steps += 1
    assert found.network_agreement == pytest.approx(agreed / steps, abs=2 / steps)


def test_actions_of_one_pattern_are_compared_by_their_cosine(memory):
    rng = np.random.default_rng(2)
    states = unit(rng.normal(size=(1000, STATE)))
    memory.insert_batch(
        precedent.TrajectoryBatch(
            states=states,
            actions=states[:, :ACTION] + 0.1,
            rewards=np.ones(1000),
            pattern_ids="move",
            episode_ids=[f"episode-{i // 5}" for i in range(1000)],
            task_types="walk",
        )
    )
    memory.compute_all_returns()
    found = selector_of(memory, epochs=3).calibrate(desired_return=0.0)
    assert found.measure == "cosine"
    assert 0.0 < found.network_agreement < 1.0
    assert found.cascade_agreement >= found.network_agreement


def test_a_pattern_that_shares_its_embedding_with_an_older_one_is_still_the_one_taken(memory):
    precedent.PatternLibrary(memory).upsert("alias of left", LEFT)
    known_by_heart(memory)


def test_an_action_of_zeros_agrees_with_no_pattern(memory):
    fill(memory, *by_heart())
    selector = selector_of(memory, epochs=1)
    weights = selector.layer.get_weights()
    zeros = {name: np.zeros_like(getattr(weights, name)) for name in ("W1", "b1", "W2", "b2")}
    selector.layer.set_weights(precedent.NetworkWeights(**zeros))
    assert selector.calibrate(desired_return=0.0).network_agreement == 0.0


@pytest.mark.parametrize("settings", [{"context": "history"}, {"context": "none"}])
@pytest.mark.parametrize("meanwhile", ["inserted", "deleted"])
def test_a_writer_beside_a_calibration_does_not_end_it(memory, monkeypatch, meanwhile, settings):
    """Of two episodes, one gets a step after it was read, or is gone before."""
    fill(memory, *by_half())
    made = small_layer(return_scale="episode", **settings)
    trainer(memory, made, epochs=1, timesteps=True).train()
    selector = precedent.ActionSelector(memory, made)
    before = selector.calibrate(desired_return=0.75, apply=False)
    touched, get_episode = [], precedent.TrajectoryStore.get_episode

    def beside(store, name):
        if len(touched) == 2:
            return get_episode(store, name)
        touched.append(name)
        if meanwhile == "deleted":
            store.delete([step.id for step in get_episode(store, name)])
        found = get_episode(store, name)
        store.insert(step(action=LEFT, pattern="left", episode_id=name, step_index=9))
        return found

    monkeypatch.setattr(precedent.TrajectoryStore, "get_episode", beside)
    found = selector.calibrate(desired_return=0.75, apply=False)
    assert len(touched) == 2
    gone = 2 if meanwhile == "deleted" else 0
    assert (found.episodes, found.steps) == (before.episodes - gone, before.steps - 5 * gone)


def test_a_pattern_that_goes_during_a_calibration_is_known_by_what_was_taken(memory, monkeypatch):
    fill(memory, *by_heart())
    selector = selector_of(memory, epochs=1)
    before = selector.calibrate(desired_return=0.0, apply=False)
    ask = thresholds._ask

    def and_delete(*options):
        asked = ask(*options)
        memory.prune(max_size=0, keep_successful=False)
        return asked

    monkeypatch.setattr(thresholds, "_ask", and_delete)
    assert selector.calibrate(desired_return=0.0, apply=False) == before
    assert len(memory) == len(precedent.PatternLibrary(memory)) == 0


@pytest.mark.parametrize("k", [2**20, 2**40 - 1])
def test_more_neighbours_than_there_are_rows_take_no_more_memory_than_the_rows(memory, k):
    fill(memory, *by_half(300))
    selector = selector_of(memory, epochs=1, interpolation_k=300)
    same = selector.calibrate(desired_return=0.5, apply=False)
    selector.interpolation_k = k
    assert selector.calibrate(desired_return=0.5, apply=False) == same


def test_closing_both_tiers_agrees_exactly_as_often_as_the_network():
    from precedent.thresholds import _best, _Tier

    network = np.random.default_rng(0).random(700)
    closed = _Tier(np.full(700, -math.inf), {}, np.full((700, 1), -math.inf))
    agreed, opened, _ = _best(closed, closed, network, np.arange(700) // 5)
    assert (agreed, opened) == (float(network.mean()), (math.inf, math.inf))


def test_apply_false_leaves_the_selector_alone(memory):
    fill(memory, *by_half())
    selector = selector_of(memory, epochs=2)
    selector.calibrate(desired_return=0.75, apply=False)
    assert (selector.exact_threshold, selector.interpolation_threshold) == (0.99, 0.95)


def test_the_same_data_give_the_same_thresholds(memory):
    fill(memory, *by_half())
    selector = selector_of(memory, epochs=2)
    assert selector.calibrate(apply=False) == selector.calibrate(apply=False)


def test_a_calibration_is_a_frozen_record_that_json_takes(memory):
    fill(memory, *by_half())
    found = selector_of(memory, epochs=2).calibrate()
    with pytest.raises(AttributeError):
        found.steps = 1
    assert precedent.Calibration.from_dict(found.to_dict()).steps == found.steps
    assert "exact" in json.dumps(found.to_dict())


def test_what_cannot_be_compared_is_refused(memory):
    fill(memory, *by_half(100))
    with pytest.raises(precedent.NotTrainedError):
        precedent.ActionSelector(memory).calibrate()
    with pytest.raises(precedent.NotTrainedError):
        precedent.ActionSelector(memory, small_layer()).calibrate()
    selector = selector_of(memory, epochs=1)
    with pytest.raises(precedent.InsufficientDataError) as caught:
        selector.calibrate({"episode_id": "episode-0"})
    assert caught.value.required == 20
    with refused("desired_return"):
        selector.calibrate(desired_return=1.5)
    for split in (-0.1, 1.0, math.nan):
        with refused("validation_split"):
            selector.calibrate(validation_split=split)
    off = precedent.ActionSelector(memory, selector.layer, fallback_to_neural=False)
    with refused("fallback_to_neural"):
        off.calibrate()
    assert (selector.exact_threshold, selector.interpolation_threshold) == (0.99, 0.95)


def by_chance(seed, *, precedents, network):
    """Both tiers and a network, right by chance in these shares of 600 steps; episodes of five."""
    rng, steps = np.random.default_rng(seed), 600
    reach = np.sort(rng.random(steps))[::-1]
    tiers = [
        thresholds._Tier(reach, {1: (rng.random(steps) < precedents).astype(float)}, reach[:, None])
        for _ in range(2)
    ]
    return (*tiers, (rng.random(steps) < network).astype(float), np.arange(steps) // 5)


def at_most(trials, chance):
    """Successes of that chance each that are exceeded about once in a thousand times."""
    chances = [math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(trials)]
    return int(np.searchsorted(np.cumsum(chances), 0.999))


def test_of_all_thresholds_together_one_that_loses_two_steps_in_a_hundred_is_taken_once_in_twenty_times():
    """The precedents are right in 52 of 100 cases, the network in 54: as much as must not be lost."""
    trials, opened = 400, 0
    for seed in range(trials):
        exact, several, network, episodes = by_chance(seed, precedents=0.52, network=0.54)
        agreed, chosen, counts = thresholds._best(exact, several, network, episodes)
        opened += sum(counts) > 0
        assert agreed >= network.mean()
        assert (min(chosen) < math.inf) == (sum(counts) > 0)
    # at least one, else nothing is tested
    assert 0 < opened <= at_most(trials, 0.05)


def test_where_no_step_differs_it_takes_more_than_there_are_to_lose():
    for n, sure in ((273, False), (275, True)):
        assert thresholds._holds(np.zeros(n), np.arange(n) // 5) is sure


@pytest.mark.parametrize("border", [0.85, 0.5, 0.2])
def test_a_tier_that_is_surely_better_is_opened_as_far_as_it_is(border):
    """Right in 95 of 100 cases down to a similarity, in 20 below it; the network in 60."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        reach = np.sort(rng.random(2_000))[::-1]
        right = (rng.random(2_000) < np.where(reach > border, 0.95, 0.2)).astype(float)
        tier = thresholds._Tier(reach, {1: right}, reach[:, None])
        closed = thresholds._Tier(np.full(2_000, -math.inf), {}, np.full((2_000, 1), -math.inf))
        network = (rng.random(2_000) < 0.6).astype(float)
        for first, second in ((tier, closed), (closed, tier)):
            agreed, chosen, counts = thresholds._best(first, second, network, np.arange(2_000) // 10)
            assert abs(min(chosen) - border) < 0.1
            assert abs(max(counts) / 2_000 - (1 - border)) < 0.1
            assert agreed > network.mean() + 0.2 * (1 - border)


def test_a_filter_never_asks_about_episodes_that_were_learned_from(memory):
    fill(memory, *by_heart())
    selector = selector_of(memory, epochs=1)
    some = {"episode_id": [f"episode-{i}" for i in range(0, 300, 2)]}

    def held_out(conditions):
        names = list(memory.episodes(conditions))
        return {name for name, out in zip(names, _core.held_out(names, 0.2, 0), strict=True) if out}

    whole, part = held_out(None), held_out(some)
    assert not part <= whole  # as a run of its own the filter holds out what a run on everything learns from
    others = {"episode_id": [f"episode-{i}" for i in range(1, 300, 2)]}
    for given, expected in (
        ({}, whole & set(some["episode_id"])),
        ({"trained_on": {}}, whole & set(some["episode_id"])),
        ({"trained_on": some}, part),
        ({"trained_on": others}, set(some["episode_id"])),
    ):
        found = selector.calibrate(some, desired_return=0.0, apply=False, **given)
        assert found.episodes == len(expected & part if not given else expected)


def test_a_tier_that_is_better_by_chance_alone_is_mostly_closed():
    """Precedents and the network are right equally often, on other steps: many a threshold looks good."""
    opened, worlds = 0, 40
    for seed in range(worlds):
        with precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
            rng = np.random.default_rng(seed)
            fill(store, unit(rng.normal(size=(600, STATE))), rng.integers(0, 2, 600), np.ones(600, bool))
            found = selector_of(store, epochs=1).calibrate(desired_return=0.0, apply=False)
            opened += found.exact_count + found.interpolation_count > found.steps / 10
    # Without the bound nine in ten would; with one that each threshold met by itself, a third.
    assert opened <= at_most(worlds, 0.05)


def test_one_episode_however_long_opens_no_tier(memory):
    """Its precedents are right and the network knows nothing; but nobody has seen another episode."""
    states, went, good = by_heart(1200, situations=20)
    fill(memory, states, went, good, length=600)
    selector = selector_of(memory, epochs=1)
    useless(selector)
    found = selector.calibrate(desired_return=0.0, trained_on={"episode_id": "episode-9"}, apply=False)
    assert (found.episodes, found.exact_count + found.interpolation_count) == (2, 0)
    assert found.exact[-1].agreement > found.network_agreement + 0.3
