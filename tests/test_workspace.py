"""A workspace: one file, one configuration, everything that belongs together."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import precedent
from network import random_weights, same_bits
from precedent import GlobalConfig, Tier, Workspace
from precedent import workspace as workspaces
from precedent.config import OfflineTrainerConfig
from worlds import ACTION, STATE, learnable, one_hot, refused, step

SIZES = {"trajectory_store": {"dimension": STATE, "action_dimension": ACTION}}
SMALL = {"decision_layer": {"hidden_size": 16}, "trainer": {"epochs": 2, "progress": False}}


@pytest.fixture
def workspace(path):
    with precedent.open(path, rl=SIZES | SMALL) as opened:
        yield opened


def test_a_path_opens_a_file_with_everything_that_belongs_to_it(workspace, path):
    assert path.exists()
    assert isinstance(workspace.trajectories, precedent.TrajectoryStore)
    assert isinstance(workspace.patterns, precedent.PatternLibrary)
    assert isinstance(workspace.layer, precedent.DecisionLayer)
    assert isinstance(workspace.trainer, precedent.OfflineTrainer)
    assert isinstance(workspace.selector, precedent.ActionSelector)
    assert isinstance(workspace.config, GlobalConfig)
    assert (workspace.trajectories.dimension, workspace.trajectories.action_dimension) == (STATE, ACTION)


def test_its_parts_are_made_once_and_belong_together(workspace):
    assert workspace.layer is workspace.layer
    assert workspace.selector is workspace.selector
    assert workspace.trainer is workspace.trainer
    workspace.layer.set_weights(random_weights(workspace.layer.get_weights(), seed=1))
    assert workspace.selector.select_action(one_hot(0)).tier is Tier.GENERATED
    id_ = workspace.trajectories.insert(step(one_hot(0), returns=1.0))
    assert workspace.selector.select_action(one_hot(0)).metadata.trajectory_ids == (id_,)
    assert [p.pattern_id for p in workspace.patterns] == ["retry"]


def test_threads_that_ask_first_together_get_the_same_parts(workspace, monkeypatch):
    """Whoever makes the layer waits until another thread wants it too, as long as a lock lets that happen."""
    both, made = threading.Barrier(2), workspaces.DecisionLayer

    def slowly(*args, **options):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return made(*args, **options)

    monkeypatch.setattr(workspaces, "DecisionLayer", slowly)
    with ThreadPoolExecutor(2) as pool:
        trainers = [pool.submit(lambda: workspace.trainer) for _ in range(2)]
    assert trainers[0].result() is trainers[1].result() is workspace.trainer
    assert workspace.trainer.layer is workspace.layer is workspace.selector.layer


def test_the_layer_s_sizes_are_the_store_s_dimensions(tmp_path):
    with precedent.open(tmp_path / "a.db", rl={"trajectory_store": {"dimension": 5}}) as workspace:
        assert workspace.layer.get_weights().W1.shape[0] == 15
        assert workspace.layer.get_weights().W2.shape[1] == 5


@pytest.mark.parametrize("name", ["state_size", "action_size"])
def test_a_layer_of_other_sizes_than_the_store_s_is_refused(path, name):
    rl = SIZES | {"decision_layer": {name: 17}}
    with (
        precedent.open(path, rl=rl) as workspace,
        pytest.raises(precedent.DimensionError, match=rf"rl\.decision_layer\.{name}.*17"),
    ):
        _ = workspace.layer


def test_nothing_said_is_the_seed_s_path_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with precedent.open() as workspace:
        assert workspace.trajectories.dimension == 768
    assert (tmp_path / ".rl" / "trajectories.db").is_file()


@pytest.mark.parametrize("form", ["mapping", "camelCase", "config", "toml"])
def test_settings_may_come_in_any_form(tmp_path, form):
    where = tmp_path / "agent.db"
    tree = {"rl": {"trajectory_store": {"path": str(where), "dimension": 5}}}
    file = tmp_path / "agent.toml"
    file.write_text('[rl.trajectory_store]\npath = "agent.db"\ndimension = 5\n')
    given = {
        "mapping": tree,
        "camelCase": {"rl": {"trajectoryStore": {"path": str(where), "dimension": 5}}},
        "config": GlobalConfig.from_dict(tree),
        "toml": file,
    }
    with precedent.open(given[form]) as workspace:
        assert workspace.trajectories.dimension == 5
    assert where.is_file()


def test_a_later_source_wins(tmp_path, monkeypatch):
    file = tmp_path / "agent.toml"
    file.write_text(
        '[rl.trajectory_store]\npath = "toml.db"\ndimension = 4\n'
        "[rl.trainer]\nepochs = 4\nbatch_size = 4\nsave_interval = 4\n"
    )
    monkeypatch.setenv("PRECEDENT_RL__TRAINER__BATCH_SIZE", "5")
    monkeypatch.setenv("PRECEDENT_RL__TRAINER__SAVE_INTERVAL", "5")
    with precedent.open(file, rl={"trainer": {"save_interval": 6}}) as workspace:
        trainer = workspace.config.rl.trainer
        assert workspace.config.rl.trajectory_store.dimension == 4
        assert (trainer.min_trajectories, trainer.epochs) == (100, 4)
        assert (trainer.batch_size, trainer.save_interval) == (5, 6)


def test_a_whole_configuration_is_only_overridden_by_what_is_passed_beside_it(path, monkeypatch):
    monkeypatch.setenv("PRECEDENT_RL__TRAINER__GAMMA", "0.6")
    config = GlobalConfig.from_dict({"rl": {"trajectory_store": {"path": str(path), "dimension": 4}}})
    with precedent.open(config, rl={"trainer": {"epochs": 2}}) as workspace:
        assert workspace.config.rl.trainer == OfflineTrainerConfig(epochs=2)
        assert workspace.trajectories.dimension == 4


def test_a_path_that_is_passed_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PRECEDENT_RL__TRAJECTORY_STORE__PATH", str(tmp_path / "environment.db"))
    monkeypatch.setenv("PRECEDENT_RL__TRAJECTORY_STORE__DIMENSION", "6")
    with precedent.open(tmp_path / "passed.db") as workspace:
        assert workspace.trajectories.dimension == 6
    assert not (tmp_path / "environment.db").exists()
    with precedent.open():
        assert (tmp_path / "environment.db").exists()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"rl": {"trainer": {"epochs": 0}}}, r"rl\.trainer\.epochs"),
        ({"rl": {"trainer": {"epoch": 1}}}, r"rl\.trainer\.epoch\b"),
        ({"trainer": {"epochs": 1}}, r"\btrainer\b"),
        ({"reasoningbank": {"hybrid": True}}, r"reasoningbank\.hybrid\b"),
    ],
)
def test_a_bad_setting_is_named_by_its_path_and_makes_no_file(path, overrides, named):
    with pytest.raises(precedent.ValidationError, match=named):
        precedent.open(path, **overrides)
    assert not path.exists()


@pytest.mark.parametrize("value", [7, [1], b"x"])
def test_what_is_neither_path_nor_settings_is_refused(value):
    with refused("path_or_config"):
        precedent.open(value)


def test_saving_stores_the_layer_as_the_newest_model_of_the_file(workspace, path):
    for seed in (1, 2):
        weights = random_weights(workspace.layer.get_weights(), seed=seed)
        workspace.layer.set_weights(weights)
        workspace.save()
    workspace.layer.set_weights(random_weights(weights, seed=3))
    with precedent.open(path) as again:
        assert again.layer.trained
        assert same_bits(again.layer.get_weights(), weights)


def test_a_finished_training_stores_its_best(workspace, path):
    learnable(workspace.trajectories)
    workspace.trainer.train()
    state = np.ones(STATE)
    with precedent.open(path) as again:
        assert same_bits(again.layer.get_weights(), workspace.layer.get_weights())
        kept = again.layer.predict_with_confidence(state, 0.5)
        assert kept == workspace.layer.predict_with_confidence(state, 0.5)
        assert kept.confidence is not None
        assert again.layer.settings.return_range == workspace.layer.settings.return_range


def test_an_unfinished_training_stores_nothing(workspace, path):
    learnable(workspace.trajectories)
    fitter = workspace.trainer.fitter()
    next(fitter)
    fitter.close()
    with precedent.open(path, rl=SMALL) as again:
        assert not again.layer.trained


def test_the_settings_reach_the_parts(path):
    rl = SIZES | {
        "decision_layer": {"hidden_size": 7, "return_scale": "episode", "optimizer": "sgd"},
        "trainer": {"epochs": 3, "min_trajectories": 1000},
        "action_selector": {"exact_threshold": 0.5},
    }
    with precedent.open(path, rl=rl) as workspace:
        assert workspace.layer.settings.optimizer == "sgd"
        assert workspace.layer.get_weights().b1.shape == (7,)
        workspace.trajectories.insert(step([0.7, 0.7] + [0.0] * 6, reward=1.0))
        assert workspace.selector.select_action(one_hot(0), 0.9).tier is Tier.EXACT
        with pytest.raises(precedent.InsufficientDataError, match="1000"):
            workspace.trainer.train()


def taken(store, wins, losses):
    for i in range(wins + losses):
        store.insert(step(one_hot(0), success=i < wins, reward=0.0, pattern="tried"))


@pytest.mark.parametrize("fallback", [True, False])
def test_patterns_answer_where_the_cascade_has_none_if_they_may(path, fallback):
    with precedent.open(path, rl=SIZES, reasoningbank={"fallback_to_patterns": fallback}) as workspace:
        taken(workspace.trajectories, 3, 1)
        if fallback:
            assert workspace.selector.select_action(one_hot(0)).tier is Tier.PATTERN
        else:
            with pytest.raises(precedent.NoActionError):
                workspace.selector.select_action(one_hot(0))


@pytest.mark.parametrize("hybrid", [True, False])
def test_hybrid_mode_reaches_the_selector(path, hybrid):
    with precedent.open(path, rl=SIZES | SMALL, reasoningbank={"hybrid_mode": hybrid}) as workspace:
        taken(workspace.trajectories, 40, 0)
        workspace.layer.set_weights(random_weights(workspace.layer.get_weights(), seed=1))
        tier = workspace.selector.select_action(one_hot(0)).tier
        assert tier is (Tier.PATTERN if hybrid else Tier.GENERATED)


def test_where_learning_is_off_storing_goes_on_and_patterns_answer(path):
    with precedent.open(path, rl=SIZES | SMALL | {"enabled": False}) as workspace:
        taken(workspace.trajectories, 4, 0)
        workspace.trajectories.insert(step(one_hot(0), returns=5.0, pattern="tried"))
        workspace.layer.set_weights(random_weights(workspace.layer.get_weights(), seed=1))
        assert workspace.selector.select_action(one_hot(0)).tier is Tier.PATTERN
        with pytest.raises(precedent.NoActionError):
            workspace.selector.select_action(-one_hot(0), filter={"task_type": "unheard of"})


def test_closing_what_a_workspace_lent_does_nothing(workspace):
    lent = workspace.trajectories
    lent.close()
    with lent:
        pass
    assert lent.insert(step())
    assert workspace.trajectories.get_stats().total_trajectories == 1


def test_a_store_may_be_opened_on_a_workspace(workspace):
    with precedent.TrajectoryStore(workspace) as borrowed:
        id_ = borrowed.insert(step())
    assert workspace.trajectories.get(id_).id == id_
    with pytest.raises(precedent.ValidationError, match="Workspace"):
        precedent.TrajectoryStore(workspace, dimension=STATE)


def test_an_ensemble_in_the_settings_is_what_the_trainer_makes(path):
    rl = SIZES | {"trainer": {"ensemble": 2, "epochs": 1, "min_trajectories": 1, "progress": False}}
    with precedent.open(path, rl=rl) as workspace:
        workspace.trajectories.insert(step())
        workspace.trainer.train()
        assert len(workspace.layer.members) == 2


PARTS = ["trajectories", "patterns", "layer", "trainer", "selector"]


@pytest.mark.parametrize("part", PARTS)
def test_every_use_after_close_is_refused(path, part):
    workspace = precedent.open(path, rl=SIZES)
    workspace.close()
    workspace.close()
    with pytest.raises(precedent.errors.ClosedError):
        getattr(workspace, part)
    with pytest.raises(precedent.errors.ClosedError):
        workspace.save()
    with pytest.raises(precedent.errors.ClosedError), workspace:
        pass


def test_what_was_lent_closes_with_the_workspace(path):
    with precedent.open(path, rl=SIZES) as workspace:
        lent, library = workspace.trajectories, workspace.patterns
        selector, trainer = workspace.selector, workspace.trainer
    for use in (
        lent.get_stats,
        lambda: len(library),
        lambda: selector.select_action(one_hot(0)),
        trainer.train,
    ):
        with pytest.raises(precedent.errors.ClosedError):
            use()


def test_a_workspace_in_memory_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with precedent.open(":memory:", rl=SIZES | SMALL) as workspace:
        workspace.trajectories.insert(step())
        workspace.save()
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_workspace_decides_and_does_not_save(path):
    with precedent.open(path, rl=SIZES | SMALL) as workspace:
        workspace.trajectories.insert(step(one_hot(0), returns=1.0))
    rl = SMALL | {"trajectory_store": {"read_only": True}}
    with precedent.open(path, rl=rl) as reader:
        assert reader.selector.select_action(one_hot(0)).tier is Tier.EXACT
        with pytest.raises(precedent.errors.ReadOnlyError):
            reader.save()


def test_a_workspace_may_be_opened_on_a_path_and_on_a_workspace(path):
    with Workspace(path, rl=SIZES) as workspace:
        other = precedent.open(workspace)
        assert (other.path, other.config) == (workspace.path, workspace.config)
        other.trajectories.insert(step())
        assert len(workspace.trajectories) == 1
        other.close()
        assert len(workspace.trajectories) == 1
        with pytest.raises(precedent.ValidationError, match="no settings beside a Workspace"):
            Workspace(workspace, rl={"enabled": False})
    assert other.closed


@pytest.mark.parametrize(
    ("name", "value"), [("hidden_size", 64), ("optimizer", "sgd"), ("return_scale", "episode")]
)
def test_a_named_setting_that_the_kept_network_was_not_made_with_is_refused(path, name, value):
    with precedent.open(path, rl=SIZES | {"decision_layer": {"seed": 7}}) as workspace:
        workspace.save()
    with precedent.open(path, rl={"decision_layer": {name: value}}) as workspace:
        for _ in range(2):  # asked again it is refused again
            with refused(f"rl.decision_layer.{name}"):
                _ = workspace.layer
    with precedent.open(path, rl={"decision_layer": {"seed": 7}}) as workspace:
        assert workspace.layer.settings.seed == 7
