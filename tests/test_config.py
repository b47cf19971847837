"""Settings: defaults, spellings, sources, and errors that carry the key's full path."""

import copy
import dataclasses
import pickle

import pytest

import precedent
from precedent import Curriculum, GlobalConfig
from precedent.config import RLConfig, TrajectoryStoreConfig

CHANGED = {
    "rl": {
        "enabled": False,
        "trajectory_store": {
            "path": "/data/agent.db",
            "dimension": 384,
            "action_dimension": 32,
            "hnsw": {"m": 24, "ef_search": 80, "metric": "dot"},
            "cache": {"enabled": False, "max_size": 7, "ttl": 5},
            "durability": "full",
            "storage": "f16",
            "read_only": True,
        },
        "decision_layer": {
            "hidden_size": 64,
            "learning_rate": 0.01,
            "optimizer": "sgd",
            "clip_norm": None,
            "context": "history",
            "return_scale": "episode",
            "return_range": (-1.0, 2.0),
        },
        "action_selector": {"exact_threshold": 0.9, "metric": "euclidean", "min_agreement": 0.5},
        "trainer": {"epochs": 3, "curriculum": {"easy_epochs": 2, "max_duration": 9}, "gamma": 1.0},
    },
    "reasoningbank": {"fallback_to_patterns": False, "hybrid_mode": False},
}


def camel(tree):
    if not isinstance(tree, dict):
        return tree

    def name(key):
        head, *tail = key.split("_")
        return head + "".join(word.capitalize() for word in tail)

    return {name(key): camel(value) for key, value in tree.items()}


def holds(config, tree):
    for key, value in tree.items():
        got = getattr(config, key)
        if isinstance(value, dict):
            holds(got, value)
        else:
            assert got == value, key


def test_without_a_word_everything_has_the_default_of_the_documents():
    config = GlobalConfig()
    assert config.rl.enabled is True
    assert config.rl.trajectory_store.path == "./.rl/trajectories.db"
    assert (config.rl.trajectory_store.durability, config.rl.trajectory_store.storage) == ("normal", None)
    assert config.rl.trajectory_store.cache == precedent.CacheConfig(
        enabled=True, max_size=1000, ttl=3_600_000
    )
    assert all(value is None for value in config.rl.trajectory_store.hnsw.to_dict().values())
    assert (config.reasoningbank.fallback_to_patterns, config.reasoningbank.hybrid_mode) == (True, True)


@pytest.mark.parametrize("spelling", [dict, camel], ids=["snake_case", "camelCase"])
def test_a_mapping_is_read_in_either_spelling_and_the_rest_stays_default(spelling):
    config = GlobalConfig.from_dict(spelling(CHANGED))
    holds(config, CHANGED)
    assert config.rl.trainer.batch_size == 32
    assert config.rl.trainer.curriculum == precedent.Curriculum(easy_epochs=2, max_duration=9)


def test_the_seed_s_own_example_is_understood():
    tree = {
        "rl": {
            "enabled": True,
            "trajectoryStore": {"path": "./.rl/trajectories.db", "hnsw": {"enabled": True, "M": 16}},
            "decisionLayer": {"stateSize": 768, "actionSize": 768, "hiddenSize": 256},
            "actionSelector": {"exactThreshold": 0.99, "interpolationThreshold": 0.95},
            "trainer": {"batchSize": 32, "epochs": 10, "minTrajectories": 100},
        },
        "reasoningbank": {"fallbackToPatterns": True, "hybridMode": True},
    }
    config = GlobalConfig.from_dict(tree)
    assert config.rl.trajectory_store.hnsw == precedent.HnswConfig(enabled=True, m=16)
    assert config.rl.decision_layer.state_size == 768


@pytest.mark.parametrize("by_alias", [False, True])
def test_what_is_written_is_read_again(by_alias):
    config = GlobalConfig.from_dict(CHANGED)
    tree = config.to_dict(by_alias=by_alias)
    assert ("trajectoryStore" in tree["rl"]) is by_alias
    assert GlobalConfig.from_dict(tree) == config
    assert GlobalConfig.from_dict(GlobalConfig().to_dict()) == GlobalConfig()


def test_settings_are_frozen_compared_by_value_and_replaceable():
    config = GlobalConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.rl = None
    assert config == GlobalConfig()
    other = dataclasses.replace(config, rl=dataclasses.replace(config.rl, enabled=False))
    assert other != config
    assert other.rl.enabled is False


def test_a_nested_section_may_be_a_mapping():
    config = GlobalConfig(rl={"trajectory_store": {"hnsw": {"m": 8}}})
    assert isinstance(config.rl, RLConfig)
    assert config.rl.trajectory_store.hnsw.m == 8


BAD = [
    ("rl.trajectory_store.dimension", 0),
    ("rl.trajectory_store.dimension", 16_385),
    ("rl.trajectory_store.dimension", "384"),
    ("rl.trajectory_store.hnsw.m", 1),
    ("rl.trajectory_store.hnsw.quantization", "int4"),
    ("rl.trajectory_store.hnsw", 5),
    ("rl.trajectory_store.cache.ttl", -1),
    ("rl.trajectory_store.durability", "none"),
    ("rl.trajectory_store.path", 5),
    ("rl.decision_layer.learning_rate", "fast"),
    ("rl.decision_layer.momentum", 1.0),
    ("rl.decision_layer.return_range", [1.0]),
    ("rl.action_selector.metric", "l1"),
    ("rl.action_selector.min_confidence", 2),
    ("rl.trainer.epochs", 0),
    ("rl.trainer.gamma", 1.5),
    ("rl.trainer.curriculum.easy_epochs", -1),
    ("rl.enabled", "yes"),
    ("reasoningbank.hybrid_mode", 1),
    ("reasoningbank", None),
    ("rl.unheard_of", 1),
    ("rl.trajectory_store.hnsw.efs", 1),
    ("rl.trainer.epoch", 1),
    ("rll", {}),
]


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize(("where", "value"), BAD)
def test_a_bad_setting_is_named_by_its_full_path(where, value):
    with pytest.raises(precedent.ValidationError, match=rf"\b{where}\b"):
        GlobalConfig.from_dict(nested(where, value))


def test_two_spellings_of_one_setting_are_refused():
    with pytest.raises(precedent.ValidationError, match=r"rl\.trajectory_?[sS]tore"):
        GlobalConfig.from_dict({"rl": {"trajectory_store": {}, "trajectoryStore": {}}})


@pytest.mark.parametrize("value", [None, 5, "text", [("rl", {})]])
def test_what_is_no_mapping_is_refused(value):
    with pytest.raises(precedent.ValidationError, match="mapping"):
        GlobalConfig.from_dict(value)


TOML = """
[rl.trajectory_store]
path = "data/agent.db"
dimension = 384
hnsw = { m = 24 }

[rl.trainer]
epochs = 3
save_path = "runs"
curriculum = { easy_epochs = 2 }

[reasoningbank]
hybrid_mode = false
"""


def test_a_toml_file_is_read_and_its_paths_start_where_it_lies(tmp_path):
    file = tmp_path / "settings" / "agent.toml"
    file.parent.mkdir()
    file.write_text(TOML)
    config = GlobalConfig.from_toml(file)
    assert config.rl.trajectory_store.path == str(file.parent / "data" / "agent.db")
    assert config.rl.trainer.save_path == str(file.parent / "runs")
    assert (config.rl.trajectory_store.dimension, config.rl.trajectory_store.hnsw.m) == (384, 24)
    assert (config.rl.trainer.epochs, config.reasoningbank.hybrid_mode) == (3, False)
    assert config.rl.trainer.curriculum == precedent.Curriculum(easy_epochs=2)


def test_an_absolute_path_in_a_toml_file_stays(tmp_path):
    (tmp_path / "a.toml").write_text('[rl.trajectory_store]\npath = "/elsewhere/agent.db"\n')
    assert GlobalConfig.from_toml(tmp_path / "a.toml").rl.trajectory_store.path == "/elsewhere/agent.db"
    (tmp_path / "b.toml").write_text('[rl.trajectory_store]\npath = ":memory:"\n')
    assert GlobalConfig.from_toml(tmp_path / "b.toml").rl.trajectory_store.path == ":memory:"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rl.trainer]\nepoch = 3\n", r"rl\.trainer\.epoch\b"),
        ("[rl.trainer]\nepochs = 'three'\n", r"rl\.trainer\.epochs\b"),
        ("[rl", "TOML"),
        ("\x00\xff", "TOML"),
    ],
)
def test_a_bad_toml_file_is_refused(tmp_path, text, message):
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(precedent.ValidationError, match=message):
        GlobalConfig.from_toml(tmp_path / "bad.toml")


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_toml_file_that_cannot_be_read_is_an_access_error(tmp_path, kind):
    where = tmp_path if kind == "folder" else tmp_path / "missing.toml"
    with pytest.raises(precedent.errors.AccessError, match=where.name):
        GlobalConfig.from_toml(where)


def test_environment_names_nest_by_two_underscores():
    config = GlobalConfig.from_env(
        {
            "PRECEDENT_RL__TRAJECTORY_STORE__DIMENSION": "384",
            "PRECEDENT_RL__TRAJECTORY_STORE__HNSW__M": "24",
            "PRECEDENT_RL__TRAJECTORY_STORE__PATH": "123",
            "PRECEDENT_RL__DECISION_LAYER__CLIP_NORM": "null",
            "PRECEDENT_RL__DECISION_LAYER__RETURN_RANGE": "[-1, 2.5]",
            "PRECEDENT_RL__DECISION_LAYER__LEARNING_RATE": "1e-2",
            "PRECEDENT_RL__DECISION_LAYER__OPTIMIZER": "adam",
            "PRECEDENT_RL__ENABLED": "False",
            "PRECEDENT_REASONINGBANK__HYBRID_MODE": "false",
            "PRECEDENT_OTHER": "not this class's concern",
            "PRECEDENT_RUNS__ANYTHING": "neither",
            "HOME": "/home/anybody",
        }
    )
    store, layer = config.rl.trajectory_store, config.rl.decision_layer
    assert (store.dimension, store.hnsw.m, store.path) == (384, 24, "123")
    assert (layer.clip_norm, layer.return_range, layer.learning_rate) == (None, (-1.0, 2.5), 0.01)
    assert (layer.optimizer, config.rl.enabled, config.reasoningbank.hybrid_mode) == ("adam", False, False)


@pytest.mark.parametrize("value", ["inf", "Infinity", "INF", "+inf"])
def test_a_variable_closes_a_tier_by_infinity(value):
    config = GlobalConfig.from_env({"PRECEDENT_RL__ACTION_SELECTOR__EXACT_THRESHOLD": value})
    assert config.rl.action_selector.exact_threshold == float("inf")
    config = GlobalConfig.from_env({"PRECEDENT_RL__ACTION_SELECTOR__EXACT_THRESHOLD": "-" + value.strip("+")})
    assert config.rl.action_selector.exact_threshold == float("-inf")


@pytest.mark.parametrize("value", ["inf", "Infinity", "nan"])
def test_a_path_may_be_called_like_a_number(value):
    assert GlobalConfig.from_env({"PRECEDENT_RL__TRAINER__SAVE_PATH": value}).rl.trainer.save_path == value


def test_without_variables_the_environment_says_nothing(monkeypatch):
    assert GlobalConfig.from_env({}) == GlobalConfig()
    monkeypatch.setenv("PRECEDENT_RL__TRAINER__EPOCHS", "3")
    assert GlobalConfig.from_env().rl.trainer.epochs == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PRECEDENT_RL__TRAJECTORY_STORE__DIMENSIONS", "384"),
        ("PRECEDENT_RL__TRAJECTORY_STORE", "384"),
        ("PRECEDENT_RL__TRAINER__EPOCHS__MORE", "3"),
        ("PRECEDENT_REASONINGBANK__HYBRID", "true"),
        ("PRECEDENT_RL__TRAINER__EPOCHS", "three"),
        ("PRECEDENT_RL__TRAINER__EPOCHS", "0"),
        ("PRECEDENT_REASONINGBANK__HYBRID_MODE", "yes please"),
        ("PRECEDENT_RL__ACTION_SELECTOR__EXACT_THRESHOLD", "nan"),
        ("PRECEDENT_RL__DECISION_LAYER__LEARNING_RATE", "inf"),
        ("PRECEDENT_RL__DECISION_LAYER__RETURN_RANGE", "[" * 100_000),
        ("PRECEDENT_RL__TRAINER__SEED", "9" * 5000),
    ],
)
def test_a_variable_that_names_nothing_or_does_not_fit_is_an_error(variable, value):
    with pytest.raises(precedent.ValidationError, match=variable):
        GlobalConfig.from_env({variable: value})


@pytest.mark.parametrize("value", ["int8", None])
def test_the_store_s_section_takes_what_a_file_may_hold(value):
    assert TrajectoryStoreConfig(hnsw={"quantization": value}).hnsw.quantization == value


@pytest.mark.parametrize("tree", [{}, CHANGED], ids=["default", "changed"])
def test_settings_survive_pickling_and_copying_with_all_that_is_in_them(tree):
    config = GlobalConfig.from_dict(tree)
    for again in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), copy.copy(config)):
        assert again == config
        assert again.to_dict() == config.to_dict()


def test_settings_show_their_fields_and_nothing_else():
    assert repr(precedent.CacheConfig()) == "CacheConfig(enabled=True, max_size=1000, ttl=3600000)"
    assert "readers" not in repr(GlobalConfig())


def test_the_curriculum_nests_like_every_other_group(tmp_path, monkeypatch):
    file = tmp_path / "settings.toml"
    file.write_text(
        '[rl.trajectory_store]\npath = ":memory:"\ndimension = 4\n'
        "[rl.trainer.curriculum]\neasy_epochs = 2\nmax_duration = 777\n"
    )
    with precedent.open(file, rl={"trainer": {"curriculum": {"easy_epochs": 3}}}) as workspace:
        assert workspace.config.rl.trainer.curriculum == Curriculum(easy_epochs=3, max_duration=777)
    monkeypatch.setenv("PRECEDENT_RL__TRAINER__CURRICULUM__EASY_EPOCHS", "4")
    with precedent.open(file) as workspace:
        assert workspace.config.rl.trainer.curriculum == Curriculum(easy_epochs=4, max_duration=777)
    monkeypatch.setenv("PRECEDENT_RL__TRAINER__CURRICULUM", "null")
    monkeypatch.delenv("PRECEDENT_RL__TRAINER__CURRICULUM__EASY_EPOCHS")
    with precedent.open(file) as workspace:
        assert workspace.config.rl.trainer.curriculum is None
