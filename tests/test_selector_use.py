"""The selector at work: scales of returns, many states, rollouts, logs, statistics."""

import json
import threading

import numpy as np
import pytest

import precedent
from cascade import HERE, at, calibrated, network, precedent_at
from precedent import Tier
from precedent.encoders import HashingEncoder, as_encoder
from worlds import ACTION, STATE, one_hot, refused, states, step

NAN = float("nan")


def without_latency(results):
    return [(r.action.tolist(), r.pattern_id, r.tier, r.confidence, r.metadata) for r in results]


@pytest.mark.parametrize("desired", [0.0, 0.37, 0.9, 1.0])
@pytest.mark.parametrize("condition", [None, {"task_type": "code"}])
def test_a_quantile_is_that_of_the_returns_that_match(memory, desired, condition):
    rng = np.random.default_rng(4)
    returns = {"code": rng.normal(size=23), "support": 10 + rng.normal(size=31)}
    for kind, values in returns.items():
        for value in values:
            memory.insert(step(HERE, returns=float(value), task_type=kind))
        memory.insert(step(HERE, returns=None, task_type=kind))
    among = returns["code"] if condition else np.concatenate(list(returns.values()))
    selector = precedent.ActionSelector(memory, return_scale="quantile")
    result = selector.select_action(HERE, desired, filter=condition)
    assert result.metadata.return_used == pytest.approx(np.quantile(among, desired))
    chosen = memory.get(result.metadata.trajectory_ids[0])
    assert chosen.return_to_go >= result.metadata.return_used


@pytest.mark.parametrize("desired", [0.0, 0.37, 0.9, 1.0])
def test_on_the_episode_scale_each_episode_counts_once_by_its_total(memory, desired):
    rng = np.random.default_rng(4)
    totals = []
    for e in range(13):
        rewards = rng.normal(size=rng.integers(1, 6))
        totals.append(rewards.sum())
        for reward in rewards:
            memory.insert(step(HERE, reward=float(reward), episode_id=f"e{e}", pattern=f"p{e}"))
    selector = precedent.ActionSelector(memory, return_scale="episode")
    result = selector.select_action(HERE, desired)
    assert result.metadata.return_used == pytest.approx(np.quantile(totals, desired))
    assert totals[int(result.pattern_id[1:])] >= result.metadata.return_used - 1e-9


@pytest.mark.parametrize("scale", ["quantile", "episode"])
def test_a_quantile_follows_every_write(memory, scale):
    rng = np.random.default_rng(5)
    selector = precedent.ActionSelector(memory, return_scale=scale)
    kept = {}
    for i in range(60):
        value = float(rng.normal())
        kept[memory.insert(step(HERE, reward=value, returns=value, episode_id=f"e{i}"))] = value
        if i % 3 == 2:
            gone = list(kept)[int(rng.integers(len(kept)))]
            memory.delete([gone])
            del kept[gone]
        used = selector.select_action(HERE, 0.8).metadata.return_used
        assert used == pytest.approx(np.quantile(list(kept.values()), 0.8))


def test_a_quantile_follows_new_returns_of_old_rows(memory):
    for i in range(5):
        memory.insert(step(HERE, reward=float(i), returns=0.0, episode_id=f"e{i}"))
    selector = precedent.ActionSelector(memory, return_scale="quantile")
    assert selector.select_action(HERE, 1.0).metadata.return_used == 0.0
    memory.compute_all_returns(missing_only=False)
    assert selector.select_action(HERE, 1.0).metadata.return_used == 4.0


@pytest.mark.parametrize("scale", ["quantile", "episode"])
@pytest.mark.parametrize("desired", [-0.01, 1.01, NAN])
def test_a_quantile_outside_zero_to_one_is_refused(memory, scale, desired):
    selector = precedent.ActionSelector(memory, return_scale=scale)
    with refused("desired_return"):
        selector.select_action(HERE, desired)


def test_the_scale_is_the_layer_s_and_no_other(memory):
    made = network(return_scale="episode")
    memory.insert(step(HERE, reward=7.0))
    result = precedent.ActionSelector(memory, made).select_action(HERE, 1.0)
    assert result.metadata.return_used == 7.0
    precedent.ActionSelector(memory, made, return_scale="episode")
    with refused("return_scale"):
        precedent.ActionSelector(memory, made, return_scale="raw")


@pytest.mark.parametrize("scale", ["quantile", "episode"])
def test_the_network_is_asked_for_the_quantile_itself(memory, scale):
    made = network(return_scale=scale)
    memory.insert(step(one_hot(5), reward=7.0, returns=7.0))
    result = precedent.ActionSelector(memory, made).select_action(HERE, 0.6)
    assert result.tier is Tier.GENERATED
    np.testing.assert_array_equal(result.action, made.predict(HERE, 0.6))


def test_without_a_return_there_is_no_precedent_but_the_network_answers(memory):
    memory.insert(step(HERE))
    selector = precedent.ActionSelector(memory, network(return_scale="quantile"))
    result = selector.select_action(HERE, 0.5)
    assert result.tier is Tier.GENERATED
    assert result.metadata.return_used is None


@pytest.fixture
def mixed(memory):
    """States that each tier but the last answers."""
    precedent_at(memory, 1.0)
    for i in range(4):
        memory.insert(step(at(0.97, i + 2)[[4, 1, 2, 3, 0, 5, 6, 7]], returns=2.0, pattern=f"p{i}"))
    queries = [HERE, one_hot(4), -one_hot(7), *states(5, seed=3)]
    return precedent.ActionSelector(memory, calibrated()), queries


def test_many_decisions_are_the_single_ones(mixed):
    selector, queries = mixed
    together = selector.select_many(queries, 0.7)
    assert without_latency(together) == without_latency([selector.select_action(q, 0.7) for q in queries])
    assert {r.tier for r in together} == {Tier.EXACT, Tier.INTERPOLATED, Tier.GENERATED}


def test_each_of_many_may_have_its_own_desired_return(mixed):
    selector, queries = mixed
    wanted = np.linspace(0.0, 3.0, len(queries))
    single = [selector.select_action(q, w) for q, w in zip(queries, wanted, strict=True)]
    assert without_latency(selector.select_many(queries, wanted)) == without_latency(single)


def test_desired_returns_that_come_again_are_searched_for_together(mixed, monkeypatch):
    selector, queries = mixed
    sizes, search_many = [], precedent.ActionSelector._search_many

    def counted(self, vectors, *options):
        sizes.append(len(vectors))
        return search_many(self, vectors, *options)

    monkeypatch.setattr(precedent.ActionSelector, "_search_many", counted)
    wanted = [(0.7, 0.2, 0.7)[i % 3] for i in range(len(queries))]
    single = [selector.select_action(q, w) for q, w in zip(queries, wanted, strict=True)]
    assert without_latency(selector.select_many(queries, wanted)) == without_latency(single)
    assert sizes == [wanted.count(0.7), wanted.count(0.2)]


def test_contexts_and_timesteps_of_many_are_those_of_one(mixed):
    selector, queries = mixed
    contexts = states(len(queries), seed=9)
    together = selector.select_many(queries, 0.7, contexts=contexts, timesteps=range(len(queries)))
    single = [
        selector.select_action(q, 0.7, context=c, timestep=t)
        for t, (q, c) in enumerate(zip(queries, contexts, strict=True))
    ]
    assert without_latency(together) == without_latency(single)


def test_none_of_many_is_lost_silently(memory):
    precedent_at(memory, 1.0)
    selector = precedent.ActionSelector(memory)
    with pytest.raises(precedent.NoActionError, match=r"1"):
        selector.select_many([HERE, one_hot(4)])


@pytest.mark.parametrize("one", [np.array(0.7), np.float32(0.5), 1, np.array(1)], ids=repr)
def test_an_array_of_no_dimensions_is_one_desired_return_for_many(mixed, one):
    selector, queries = mixed
    together = selector.select_many(queries, one)
    assert without_latency(together) == without_latency(selector.select_many(queries, float(one)))


@pytest.mark.parametrize(
    "desired",
    [
        [0.9],
        [0.9, NAN, 0.9],
        "best",
        np.array("best"),
        np.array(NAN),
        {0.1, 0.2, 0.3},
        {0.1: 0, 0.2: 1, 0.3: 2},
        (value for value in (0.1, 0.2, 0.3)),
        np.full((3, 1), 0.5),
        b"abc",
    ],
    ids=repr,
)
def test_desired_returns_that_do_not_fit_many_are_refused(memory, desired):
    with refused("desired_return"):
        precedent.ActionSelector(memory, network()).select_many(states(3), desired)


def test_no_states_have_no_decisions(memory):
    assert precedent.ActionSelector(memory, network()).select_many(np.empty((0, STATE)), 0.5) == []


def test_a_rollout_moves_a_raw_target_by_what_it_observed(memory):
    for value in range(101):
        precedent_at(memory, 0.0, returns=float(value))
    rollout = precedent.ActionSelector(memory, network()).start_episode(50.0, gamma=0.9)
    rollout.select(HERE)
    rollout.observe(5.0)
    assert rollout.desired_return == pytest.approx((50.0 - 5.0) / 0.9)
    rollout.observe(20.0)
    assert rollout.desired_return == pytest.approx((50.0 - 20.0) / 0.9)


@pytest.mark.parametrize(("reward", "clamped"), [(-500.0, 99.0), (500.0, 1.0)])
def test_a_target_stays_within_what_was_ever_reached(memory, reward, clamped):
    for value in range(101):
        precedent_at(memory, 0.0, returns=float(value))
    rollout = precedent.ActionSelector(memory, network()).start_episode(50.0)
    rollout.observe(reward)
    assert rollout.desired_return == pytest.approx(clamped)


def test_the_range_of_a_target_is_that_of_the_matching_steps(memory):
    for value in range(101):
        precedent_at(memory, 0.0, returns=float(value), task_type="other")
        precedent_at(memory, 0.0, returns=1000.0 + value)
    selector = precedent.ActionSelector(memory, network())
    rollout = selector.start_episode(50.0, filter={"task_type": "other"})
    rollout.observe(-5000.0)
    assert rollout.desired_return == pytest.approx(99.0)


@pytest.mark.parametrize(("scale", "gamma"), [("raw", 0.0), ("quantile", 0.99), ("episode", 0.5)])
def test_a_target_stays_without_discount_and_on_the_other_scales(memory, scale, gamma):
    precedent_at(memory, 1.0)
    selector = precedent.ActionSelector(memory, network(return_scale=scale))
    rollout = selector.start_episode(0.7, gamma=gamma)
    rollout.observe(123.0)
    assert rollout.desired_return == 0.7


@pytest.mark.parametrize(("gamma", "reward"), [(1e-310, 0.2), (0.5, -1.7e308)])
def test_a_target_that_no_number_holds_stays_where_no_returns_bound_it(memory, gamma, reward):
    precedent_at(memory, 1.0, returns=None)
    rollout = precedent.ActionSelector(memory, network()).start_episode(0.7, gamma=gamma)
    rollout.observe(reward)
    assert rollout.desired_return == 0.7
    assert rollout.select(HERE).tier is Tier.GENERATED


@pytest.mark.parametrize("context", ["none", "history", "previous_action"])
def test_a_rollout_builds_the_contexts_of_training(opened, context):
    size = STATE if context == "previous_action" else ACTION
    store = opened(":memory:", action_dimension=size)
    made = precedent.DecisionLayer(STATE, size, context=context, history_length=3, hidden_size=8)
    made.set_weights(made.get_weights())
    rollout = precedent.ActionSelector(store, made).start_episode(0.5, gamma=0.0)
    seen, done = states(7), []
    for i, state in enumerate(seen):
        actions = np.array([*done, np.zeros(size)], np.float32)
        expected = made.context_of(seen[: i + 1], actions)[-1]
        result = rollout.select(state)
        np.testing.assert_array_equal(result.action, made.predict(state, 0.5, context=expected))
        done.append(result.action)
        rollout.observe(0.1)


def test_a_rollout_remembers_the_states_that_were_though_the_environment_reuses_its_array(memory):
    made = network(context="history", history_length=3)
    kept, reused = (precedent.ActionSelector(memory, made).start_episode(0.5, gamma=0.0) for _ in range(2))
    buffer = np.empty(STATE, np.float32)
    for state in states(4):
        buffer[:] = state
        np.testing.assert_array_equal(reused.select(buffer).action, kept.select(state).action)


@pytest.mark.parametrize("timesteps", [False, True])
def test_a_rollout_passes_timesteps_only_to_a_layer_that_was_trained_with_them(memory, timesteps):
    rng = np.random.default_rng(0)
    for i in range(40):
        memory.insert(
            step(states(1, seed=i)[0], action=rng.normal(size=3), episode_id=f"e{i // 4}", step_index=i % 4)
        )
    made = precedent.DecisionLayer(STATE, ACTION, hidden_size=8)
    precedent.OfflineTrainer(
        memory, made, epochs=1, min_trajectories=1, timesteps=timesteps, progress=False
    ).train()
    selector = precedent.ActionSelector(memory, made, exact_threshold=2.0, interpolation_threshold=2.0)
    rollout = selector.start_episode(0.5, gamma=0.0)
    for t in range(3):
        given = {"timestep": t} if timesteps else {}
        np.testing.assert_array_equal(rollout.select(HERE).action, made.predict(HERE, 0.5, **given))


@pytest.mark.parametrize(
    ("field", "start"),
    [
        ("desired_return", {"desired_return": NAN}),
        ("gamma", {"gamma": 1.5}),
        ("gamma", {"gamma": NAN}),
        ("filter", {"filter": 7}),
    ],
)
def test_a_rollout_that_cannot_begin_is_refused(memory, field, start):
    with refused(field):
        precedent.ActionSelector(memory, network()).start_episode(**({"desired_return": 0.5} | start))


@pytest.mark.parametrize("reward", [NAN, float("inf"), "good", None])
def test_a_reward_that_is_no_number_is_refused_and_leaves_the_target(memory, reward):
    rollout = precedent.ActionSelector(memory, network()).start_episode(0.5)
    with refused("reward"):
        rollout.observe(reward)
    assert rollout.desired_return == 0.5


def test_a_log_gets_every_result_and_nothing_else(memory):
    precedent_at(memory, 1.0)
    seen = []
    selector = precedent.ActionSelector(memory, log=seen.append)
    results = [selector.select_action(HERE), *selector.select_many([HERE, HERE])]
    with pytest.raises(precedent.NoActionError):
        selector.select_action(one_hot(4))
    assert seen == results


def test_a_log_may_be_a_file_of_json_lines(memory, tmp_path):
    id_ = precedent_at(memory, 1.0)
    for _ in range(2):  # a second selector goes on where the first one ended
        selector = precedent.ActionSelector(memory, log=tmp_path / "decisions.jsonl")
        selector.select_action(HERE, 0.5)
    lines = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert (line["tier"], line["pattern_id"], line["confidence"]) == (1, "retry", 1.0)
        assert line["action"] == [1.0, 0.0, 0.0]
        assert line["metadata"]["trajectory_ids"] == [id_]
        assert line["latency"] >= 0.0


def test_statistics_count_decisions_by_tier(mixed, memory):
    selector, queries = mixed
    empty = selector.stats()
    assert (empty.count, empty.no_action) == (0, 0)
    results = [selector.select_action(q, 0.7) for q in queries]
    stats = selector.stats()
    tiers = [r.tier for r in results]
    assert stats.count == len(queries)
    for tier in Tier:
        assert stats.tiers[tier] == tiers.count(tier)
        assert stats.rates[tier] == pytest.approx(tiers.count(tier) / len(queries))
    latencies = [r.latency for r in results]
    assert min(latencies) <= stats.p50 <= stats.p99 <= max(latencies)
    lonely = precedent.ActionSelector(memory)
    with pytest.raises(precedent.NoActionError):
        lonely.select_action(one_hot(6), 9.0)
    assert (lonely.stats().count, lonely.stats().no_action) == (0, 1)


@pytest.fixture
def elsewhere(opened):
    """A store of one encoder's states, and a layer that learned from another's."""
    words = HashingEncoder(STATE)
    other = as_encoder(lambda texts: [[1.0 + len(t)] * STATE for t in texts], name="other")
    source = opened(":memory:", encoder=other)
    source.insert_batch([step(f"task {i}" * i, episode_id=f"e{i}") for i in range(1, 9)])
    made = precedent.DecisionLayer(STATE, ACTION, hidden_size=8)
    precedent.OfflineTrainer(source, made, epochs=1, min_trajectories=1, progress=False).train()
    assert made.encoder == "other"
    return opened(":memory:", encoder=words), made


@pytest.mark.parametrize("use", [precedent.ActionSelector, precedent.OfflineTrainer])
def test_a_layer_that_learned_another_encoder_s_states_is_refused_with_both_named(elsewhere, use):
    store, made = elsewhere
    with pytest.raises(precedent.EncoderMismatchError, match="other") as caught:
        use(store, made)
    assert (caught.value.stored, caught.value.given) == (store.encoder.fingerprint, "other")


def test_one_selector_serves_several_threads(mixed):
    selector, queries = mixed
    expected = without_latency(selector.select_many(queries, 0.7))
    failures = []

    def work():
        try:
            for _ in range(20):
                assert without_latency([selector.select_action(q, 0.7) for q in queries]) == expected
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert selector.stats().count == 81 * len(queries)


def test_a_log_s_folder_is_made_with_it(memory, tmp_path):
    precedent_at(memory, 1.0)
    path = tmp_path / "a" / "b" / "decisions.jsonl"
    precedent.ActionSelector(memory, log=path).select_action(HERE, 0.5)
    assert len(path.read_text().splitlines()) == 1


def test_a_log_that_cannot_be_written_is_refused_before_the_first_decision(memory, tmp_path):
    with pytest.raises(precedent.errors.AccessError, match=f"log.*{tmp_path.name}"):
        precedent.ActionSelector(memory, log=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(precedent.errors.AccessError, match=r"log.*file"):
        precedent.ActionSelector(memory, log=tmp_path / "file" / "log")


def test_a_log_stays_where_it_was_when_the_working_directory_changes(memory, tmp_path, monkeypatch):
    precedent_at(memory, 1.0)
    monkeypatch.chdir(tmp_path)
    selector = precedent.ActionSelector(memory, log="decisions.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    selector.select_action(HERE, 0.5)
    assert len((tmp_path / "decisions.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("patterns", [7, "retry", {}])
def test_patterns_that_are_no_library_are_refused(memory, patterns):
    with refused("patterns"):
        precedent.ActionSelector(memory, patterns=patterns)
