"""Signatures, settings and documents name one set of defaults."""

import inspect

import pytest

import precedent
from precedent import config

NOTHING = inspect.Parameter.empty
STORE = {
    "dimension": None,
    "action_dimension": None,
    "hnsw": None,
    "cache": None,
    "durability": "normal",
    "storage": None,
    "encoder": None,
    "read_only": False,
}
LAYER = {
    "hidden_size": 256,
    "learning_rate": 1e-3,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "optimizer": "adamw",
    "clip_norm": 1.0,
    "encoding": "compact",
    "context": "none",
    "history_length": 5,
    "return_scale": "raw",
    "return_range": None,
    "seed": 0,
}
TRAINER = {
    "batch_size": 32,
    "epochs": 10,
    "validation_split": 0.2,
    "early_stopping_patience": 3,
    "min_trajectories": 100,
    "save_interval": 5,
    "save_path": None,
    "gamma": 0.99,
    "curriculum": None,
    "replay": "uniform",
    "diversity_weight": 0.3,
    "emphasis": 0.0,
    "convergence_threshold": None,
    "schedule": "constant",
    "warmup_steps": 0,
    "timesteps": False,
    "ensemble": 1,
    "executor": None,
    "seed": 0,
    "progress": None,
    "callbacks": (),
}
SELECTOR = {
    "exact_threshold": 0.99,
    "interpolation_threshold": 0.95,
    "interpolation_k": 5,
    "min_interpolation_samples": 3,
    "fallback_to_neural": True,
    "return_scale": None,
    "metric": None,
    "min_agreement": 0.0,
    "min_confidence": 0.0,
    "patterns": None,
    "hybrid_mode": False,
    "log": None,
}
CLASSES = {
    precedent.TrajectoryStore: STORE,
    precedent.DecisionLayer: LAYER,
    precedent.OfflineTrainer: TRAINER,
    precedent.ActionSelector: SELECTOR,
}
SECTIONS = {
    config.DecisionLayerConfig: LAYER,
    config.OfflineTrainerConfig: TRAINER,
    config.ActionSelectorConfig: SELECTOR,
    config.TrajectoryStoreConfig: STORE,
}
SEARCH = {"k": 5, "metric": None, "threshold": 0.8, "filter": None, "exact": False, "ef_search": None}
METHODS = {
    precedent.TrajectoryStore.search: SEARCH,
    precedent.TrajectoryStore.search_many: SEARCH,
    precedent.TrajectoryStore.search_ids: SEARCH | {"threshold": None},
    precedent.TrajectoryStore.get_by_state: {"filter": None},
    precedent.TrajectoryStore.episodes: {"filter": None},
    precedent.TrajectoryStore.set_episode: {"success": None, "metadata": None},
    precedent.TrajectoryStore.iter_batches: {"filter": None, "size": 1024},
    precedent.TrajectoryStore.compute_returns: {"gamma": 0.99, "tail": None},
    precedent.TrajectoryStore.compute_all_returns: {"gamma": 0.99, "missing_only": True},
    precedent.TrajectoryStore.prune: {
        "keep_days": 30,
        "min_return": None,
        "max_size": None,
        "keep_successful": True,
        "unit": "step",
        "dry_run": False,
    },
    precedent.TrajectoryStore.verify: {"deep": False},
    precedent.PatternLibrary.upsert: {"embedding": None, "name": None, "payload": None},
    precedent.PatternLibrary.search: {"k": 1},
    precedent.PatternLibrary.match: {"k": 1, "neighbors": 32, "min_similarity": 0.0, "filter": None},
    precedent.DecisionLayer.predict: {"context": None, "timestep": None},
    precedent.DecisionLayer.inputs: {"contexts": None, "timesteps": None},
    precedent.DecisionLayer.predict_many: {"contexts": None, "timesteps": None},
    precedent.DecisionLayer.calibrate: {"contexts": None, "timesteps": None},
    precedent.DecisionLayer.train: {"contexts": None, "timesteps": None, "weights": None},
    precedent.OfflineTrainer.train: {"filter": None, "resume": False},
    precedent.OfflineTrainer.fitter: {"filter": None, "resume": False},
    precedent.OfflineTrainer.evaluate: {
        "filter": None,
        "include_training": False,
        "keep_predictions": True,
    },
    precedent.ActionSelector.select_action: {
        "desired_return": 0.9,
        "filter": None,
        "context": None,
        "timestep": None,
    },
    precedent.ActionSelector.start_episode: {"gamma": 0.99, "filter": None},
    precedent.open: {"path_or_config": None, "encoder": None},
}


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not NOTHING}


@pytest.mark.parametrize(("made", "expected"), CLASSES.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_a_constructor_has_the_defaults_of_the_documents(made, expected):
    given = defaults(made)
    assert {name: given[name] for name in expected if name in given} == expected
    # An option beyond the documents would be one that nobody can know of.
    assert set(given) - set(expected) <= {"fallback_to_patterns", "layer"}


@pytest.mark.parametrize("made", CLASSES, ids=lambda made: made.__name__)
def test_options_can_only_be_given_by_name(made):
    parameters = list(inspect.signature(made).parameters.values())
    positional = {"store", "layer", "path", "source", "state_size", "action_size"}
    for parameter in parameters:
        if parameter.name not in positional:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.parametrize(("section", "expected"), SECTIONS.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_a_section_of_settings_has_the_same_defaults(section, expected):
    for name, value in section().to_dict().items():
        if name in expected and name not in ("hnsw", "cache"):
            assert value == expected[name], name


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_setting_of_a_class_is_in_its_section(section):
    beside = {"encoder", "executor", "callbacks", "patterns", "hybrid_mode"}
    assert set(SECTIONS[section]) - beside <= set(section().to_dict())


@pytest.mark.parametrize(
    ("method", "expected"), METHODS.items(), ids=lambda x: getattr(x, "__qualname__", "")
)
def test_a_method_has_the_defaults_of_the_documents(method, expected):
    assert defaults(method) == expected


def test_the_sections_within_sections_have_the_defaults_of_the_documents():
    assert config.CacheConfig().to_dict() == {"enabled": True, "max_size": 1000, "ttl": 3_600_000}
    assert config.Curriculum().to_dict() == {"easy_epochs": 5, "max_duration": 30 * 60_000}
    names = {"enabled", "m", "ef_construction", "ef_search", "metric", "quantization", "build_above"}
    assert config.HnswConfig().to_dict() == dict.fromkeys(names)


def test_a_layer_says_the_settings_it_was_made_with():
    made = precedent.DecisionLayer(4, 3)
    assert made.settings.to_dict() == LAYER | {"state_size": 4, "action_size": 3}
