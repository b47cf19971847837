"""What a trainer learns from: the split, the returns, the order in which steps are shown."""

import numpy as np
import pytest

import precedent
from network import same_bits
from training import layer, marked, trained_on, trainer, validated
from worlds import ACTION, DAY, STATE, discounted, learnable


@pytest.mark.parametrize(("split", "held_out"), [(0.2, 4), (0.01, 1), (0.42, 8), (0.9, 18)])
def test_validation_never_shares_an_episode(memory, split, held_out):
    known = marked(memory)
    training = trained_on(memory, layer(), validation_split=split)
    steps = validated(training, known)
    episodes = [episode for episode, *_ in steps]
    assert len(set(episodes)) == held_out
    assert all(episodes.count(name) == 5 for name in episodes)
    assert len(training.evaluate(include_training=True).predictions) == 100


def test_the_split_is_the_same_in_every_run_and_store_and_follows_the_seed(opened):
    one, other = opened(":memory:"), opened(":memory:")
    known = marked(one)
    marked(other, order=range(19, -1, -1))

    def held_out(store, seed):
        return {episode for episode, *_ in validated(trained_on(store, layer(), seed=seed), known)}

    assert held_out(one, 0) == held_out(one, 0) == held_out(other, 0)
    assert len({frozenset(held_out(one, seed)) for seed in range(5)}) > 1


def test_average_return_is_that_of_whole_episodes_over_the_steps_that_match(memory):
    known = marked(memory)
    whole = trainer(memory, epochs=1, min_trajectories=1).train()
    assert whole.data_stats.avg_return == pytest.approx(np.mean([r for *_, r in known.values()]))
    some = {"filter": {"min_reward": 0.0}}
    chosen = [t.metadata for t in memory.get_many(matching(memory, **some))]
    expected = [discounted(memory.get_episode(m.episode_id).rewards, 0.99)[m.step_index] for m in chosen]
    report = trainer(memory, epochs=1, min_trajectories=1).train({"min_reward": 0.0})
    assert report.data_stats.total_trajectories == len(chosen) < 100
    assert report.data_stats.avg_return == pytest.approx(np.mean(expected))


def matching(store, **options):
    return [id_ for b in store.iter_batches(**options) for id_ in b.ids]


def test_missing_returns_are_computed_in_memory_and_not_written(opened):
    bare, computed = opened(":memory:"), opened(":memory:")
    for store in (bare, computed):
        marked(store)
    computed.compute_all_returns(0.9)
    layers = [layer(), layer()]
    for store, made in zip((bare, computed), layers, strict=True):
        trainer(store, made, epochs=2, gamma=0.9).train()
    assert same_bits(layers[0].get_weights(), layers[1].get_weights())
    assert bare.get_stats().avg_return is None


def test_training_writes_nothing_to_the_store(opened, path):
    store = opened()
    marked(store)
    store.close()
    before = path.read_bytes()
    with precedent.TrajectoryStore(path, read_only=True) as reader:
        trainer(reader, epochs=1).train()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "condition", "required", "available"),
    [
        ({}, {"episode_id": "episode-3"}, 100, 5),
        ({"min_trajectories": 101}, None, 101, 100),
        ({"min_trajectories": 6}, {"episode_id": "episode-3"}, 6, 5),
    ],
)
def test_too_few_matches_are_refused_with_both_counts(memory, options, condition, required, available):
    marked(memory)
    made = layer()
    with pytest.raises(precedent.InsufficientDataError, match=rf"{required}\D+{available}") as caught:
        trainer(memory, made, **options).train(condition)
    assert (caught.value.required, caught.value.available) == (required, available)
    assert not made.trained


@pytest.mark.parametrize("minimum", [0, 1])
def test_no_match_at_all_is_refused_whatever_the_minimum(memory, minimum):
    with pytest.raises(precedent.InsufficientDataError) as caught:
        trainer(memory, min_trajectories=minimum).train()
    assert caught.value.available == 0


def spread(returns):
    return tuple(np.quantile(returns, [0.01, 0.99]))


def test_the_return_range_is_set_from_the_training_returns_of_an_untrained_layer(memory):
    known = marked(memory)
    made = layer()
    trainer(memory, made, epochs=1, validation_split=0.0).train()
    low, high = made.settings.return_range
    assert (low, high) == pytest.approx(spread([r for *_, r in known.values()]), rel=1e-6)


@pytest.mark.parametrize("why", ["given", "trained"])
def test_a_return_range_that_is_given_or_learned_stays(memory, why):
    marked(memory)
    made = layer(return_range=(-9.0, 9.0)) if why == "given" else layer()
    if why == "trained":
        made.train(np.ones((2, STATE)), np.ones((2, ACTION)), [0.0, 1.0])
    before = made.settings.return_range
    trainer(memory, made, epochs=1).train()
    after = made.settings.return_range
    assert after == before or (before is None and after == (0.0, 1.0))


def test_returns_that_coincide_are_half_a_unit_inside_their_range(memory):
    learnable(memory, noise=0.0, length=1)
    made = layer()
    trainer(memory, made, epochs=1, min_trajectories=1).train()
    assert made.settings.return_range == (0.5, 1.5)


def test_curriculum_begins_with_the_episodes_that_were_quick(memory):
    for name, took, size in (("quick", 10, 0.0), ("slow", DAY, 100.0)):
        memory.insert_batch(
            precedent.TrajectoryBatch(
                states=np.random.default_rng(took).normal(size=(80, STATE)),
                actions=np.full((80, ACTION), size),
                rewards=np.zeros(80),
                pattern_ids=name,
                episode_ids=[f"{name}-{i // 4}" for i in range(80)],
                task_types="t",
                durations=np.full(80, took),
            )
        )
    made = layer(optimizer="sgd", learning_rate=1e-30)
    options = {"curriculum": precedent.Curriculum(easy_epochs=2), "early_stopping_patience": 9}
    losses = [m.train_loss for m in trainer(memory, made, epochs=4, **options).train().epoch_metrics]
    assert max(losses[:2]) < 100
    assert min(losses[2:]) > 1000


def test_diverse_replay_shows_rare_patterns_more_often(memory):
    rare = np.arange(400) % 50 == 0
    memory.insert_batch(
        precedent.TrajectoryBatch(
            states=np.random.default_rng(0).normal(size=(400, STATE)),
            actions=np.where(rare[:, None], 100.0, 0.0) * np.ones(ACTION),
            rewards=np.zeros(400),
            pattern_ids=["rare" if r else "common" for r in rare],
            episode_ids=[f"e{i}" for i in range(400)],
            task_types="t",
        )
    )

    def loss(**options):
        made = layer(optimizer="sgd", learning_rate=1e-30)
        report = trainer(
            memory, made, epochs=4, early_stopping_patience=9, validation_split=0.0, **options
        ).train()
        return np.mean([m.train_loss for m in report.epoch_metrics])

    uniform = loss()
    assert uniform == pytest.approx(10_000 * rare.mean(), rel=0.2)
    assert loss(replay="diverse", diversity_weight=1.0) > 5 * uniform
    assert uniform < loss(replay="diverse") < loss(replay="diverse", diversity_weight=1.0)
