"""Runs with several settings, side by side: each is what it is alone, wherever it was made."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import precedent
from network import same_bits
from training import Broken, figures, layer, marked, trainer

BASE = {"epochs": 3, "min_trajectories": 1, "batch_size": 8}
SETTINGS = (
    {"batch_size": 4},
    {"layer": {"hidden_size": 24, "seed": 3}, "replay": "prioritized"},
    {"layer": {"learning_rate": 0.01}, "ensemble": 2},
)


@pytest.fixture
def store(opened, tmp_path):
    made = opened(tmp_path / "steps.db")
    marked(made)
    return made


def alone(store, setting):
    options = dict(setting)
    made = layer(**options.pop("layer", {}))
    return made, trainer(store, made, **(BASE | options)).train({"task_types": ["walk"]})


def equal(one, other):
    pairs = zip(one.members, other.members, strict=True)
    return all(same_bits(a.get_weights(), b.get_weights()) for a, b in pairs)


def test_each_run_of_a_sweep_is_what_it_is_alone_in_the_order_of_the_settings(store, anywhere, tmp_path):
    own = layer()
    training = trainer(store, own, **BASE, executor=anywhere, save_path=tmp_path / "runs")
    sweep = training.sweep(SETTINGS, {"task_types": ["walk"]})
    assert [trial.settings for trial in sweep] == list(SETTINGS)
    for at, trial in enumerate(sweep):
        expected, report = alone(store, SETTINGS[at])
        assert equal(trial.layer, expected)
        assert trial.layer.calibrated
        assert figures(trial.report) == figures(report)
        assert equal(
            precedent.DecisionLayer.load(tmp_path / "runs" / f"trial-{at}" / "best.weights"), expected
        )
    assert not own.trained


def test_the_best_run_is_that_of_the_lowest_loss(store):
    sweep = trainer(store, layer(), **BASE).sweep([{"layer": {"seed": i}} for i in range(4)])
    losses = [trial.report.final_metrics.val_loss for trial in sweep]
    assert [trial.report.final_metrics.val_loss for trial in sweep.ranked()] == sorted(losses)
    assert sweep.best is sweep[losses.index(min(losses))]
    assert len(sweep) == 4
    assert sweep[1:3] == sweep.trials[1:3]


def test_where_a_run_did_not_validate_the_train_losses_decide(store):
    sweep = trainer(store, layer(), **BASE).sweep([{}, {"validation_split": 0.0}, {"epochs": 1}])
    losses = [trial.report.final_metrics.train_loss for trial in sweep.ranked()]
    assert losses == sorted(losses)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ([], "settings"),
        ({"epochs": 3}, "settings"),
        (7, "settings"),
        ([{}, 7], r"settings\[1\]"),
        ([{"epochs": 0}], r"settings\[0\]: epochs"),
        ([{}, {"epoch": 3}], r"settings\[1\]: epoch: unknown"),
        ([{"layer": {"hidden": 3}}], r"settings\[0\]: hidden: unknown"),
        ([{"layer": 3}], r"settings\[0\].layer"),
        ([{"layer": {"state_size": 3}}], r"settings\[0\]: .*state_size"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name_before_a_run_begins(store, settings, named):
    class Never:
        def submit(self, task):
            raise AssertionError(task)

    with pytest.raises(precedent.ValidationError, match=named):
        trainer(store, layer(), **BASE, executor=Never()).sweep(settings)


def test_a_sweep_after_training_leaves_the_range_of_returns_to_each_run(store):
    training = trainer(store, layer(), **BASE)
    settings = [{}, {"layer": {"return_scale": "episode"}}]
    before = [trial.layer.return_range for trial in training.sweep(settings)]
    training.train({"min_reward": 0.5})
    assert training.layer.return_range not in before
    assert [trial.layer.return_range for trial in training.sweep(settings)] == before


def test_a_range_that_was_given_is_each_run_s_that_keeps_its_scale(store):
    own = layer(return_range=(-3.0, 3.0))
    settings = [
        {},
        {"layer": {"return_scale": "raw"}},
        {"layer": {"return_scale": "episode"}},
        {"layer": {"returnScale": "episode", "returnRange": (0.25, 0.75)}},
    ]
    same, named, other, both = trainer(store, own, **BASE).sweep(settings)
    assert same.layer.return_range == named.layer.return_range == (-3.0, 3.0)
    assert 0.0 <= other.layer.return_range[0] < other.layer.return_range[1] <= 1.0
    assert both.layer.return_range == (0.25, 0.75)


def test_a_run_s_settings_are_read_in_either_spelling_and_kept_as_they_were_given(store):
    settings = {"layer": {"hiddenSize": 5}, "batchSize": 4}
    [trial] = trainer(store, layer(), **BASE).sweep([settings])
    settings["layer"]["hiddenSize"] = 7
    assert trial.settings == {"layer": {"hiddenSize": 5}, "batchSize": 4}
    assert trial.layer.hidden_size == 5
    twice = {"batch_size": 4, "batchSize": 4}
    with pytest.raises(precedent.ValidationError, match=r"settings\[0\]: batchSize: .*got two"):
        trainer(store, layer(), **BASE).sweep([twice])


def test_a_run_of_another_size_says_both_sizes(store):
    with pytest.raises(precedent.DimensionError, match=r"settings\[0\]") as caught:
        trainer(store, layer(), **BASE).sweep([{"layer": {"state_size": 3}}])
    assert (caught.value.expected, caught.value.got) == (store.dimension, 3)


def test_a_run_that_fails_ends_the_sweep_with_its_error(store, executor):
    with pytest.raises(precedent.InsufficientDataError):
        trainer(store, layer(), **BASE, executor=executor).sweep([{}, {"min_trajectories": 100_000}])


def test_a_store_in_memory_is_swept_here_and_refused_to_processes(memory):
    marked(memory)
    assert len(trainer(memory, layer(), **BASE).sweep([{}, {"epochs": 1}])) == 2
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes,
        pytest.raises(precedent.ValidationError, match="store in memory"),
    ):
        trainer(memory, layer(), **BASE, executor=processes).sweep([{}])


def test_processes_read_the_store_that_was_opened_wherever_the_working_directory_is_now(
    opened, tmp_path, monkeypatch
):
    for folder, episodes in (("here", 20), ("there", 8)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        marked(opened("steps.db"), episodes=episodes)
    monkeypatch.chdir(tmp_path / "here")
    store = opened("steps.db")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        training = trainer(store, layer(), **BASE, executor=processes)
        monkeypatch.chdir(tmp_path / "there")
        [trial] = training.sweep([{}])
    assert trial.report.data_stats.total_trajectories == len(store) == 100


def test_processes_save_where_the_caller_stands(store, tmp_path, monkeypatch):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        processes.submit(len, ()).result()  # it stands where the tests began
        monkeypatch.chdir(tmp_path)
        trainer(store, layer(), **BASE, executor=processes, ensemble=2, save_path="two").train()
        trainer(store, layer(), **BASE, executor=processes, save_path="one").train()
        trainer(store, layer(), **BASE, executor=processes, save_path="swept").sweep([{}])
    for folder in ("two/member-0", "two/member-1", "one", "swept/trial-0"):
        assert (tmp_path / folder / "best.weights").exists(), folder


def test_a_store_that_a_process_cannot_open_is_its_error_and_breaks_no_pool(store, tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        training = trainer(store, layer(), **BASE, executor=processes)
        hidden = (tmp_path / "steps.db").rename(tmp_path / "hidden.db")
        with pytest.raises(precedent.AccessError, match=r"steps\.db"):
            training.sweep([{}])
        hidden.rename(tmp_path / "steps.db")
        assert len(training.sweep([{}])) == 1


def test_once_a_run_failed_those_that_still_come_end_at_once(store):
    executor = Broken()
    with pytest.raises(OSError, match="worker is gone"):
        trainer(store, layer(), **BASE, executor=executor).sweep([{}, {"epochs": 1_000_000}])
    assert executor.cancelled == len(executor.tasks) == 2
    for task in executor.tasks:
        with pytest.raises(KeyboardInterrupt):
            task()
