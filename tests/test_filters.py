"""Filters: what a mapping or a SearchFilter may say, and how it is refused otherwise."""

import math

import numpy as np
import pytest

from precedent import SearchFilter, ValidationError
from precedent.filters import normalised

WHOLE = {
    "task_type": ["chat"],
    "min_return": 0.5,
    "min_reward": -1.0,
    "min_episode_reward": 3.0,
    "episode_id": ["a", "b"],
    "after_timestamp": 10,
    "before_timestamp": 20,
    "pattern_id": ["greet"],
    "agent_type": "coder",
    "success": True,
}


def test_a_filter_that_asks_nothing_is_none():
    assert normalised(None) is None
    assert normalised({}) is None
    assert normalised(SearchFilter()) is None
    assert normalised({"task_type": None}) is None


def test_every_condition_can_be_said_in_either_spelling():
    camel = {
        "taskType": "chat",
        "minReturn": 0.5,
        "minReward": -1,
        "minEpisodeReward": 3,
        "episodeId": ["a", "b"],
        "afterTimestamp": 10,
        "beforeTimestamp": 20,
        "patternId": ("greet",),
        "agentType": "coder",
        "success": True,
    }
    assert normalised(camel) == WHOLE
    assert normalised(WHOLE) == WHOLE
    assert normalised(SearchFilter(**WHOLE)) == WHOLE


def test_the_plural_of_the_seeds_trainer_is_understood():
    assert normalised({"taskTypes": ["a", "b"]}) == {"task_type": ["a", "b"]}
    assert SearchFilter.from_dict({"taskTypes": ["a"]}) == SearchFilter(task_type=["a"])


def test_one_name_and_a_list_of_one_are_the_same():
    assert normalised({"pattern_id": "p"}) == normalised({"pattern_id": ["p"]})


def test_an_iterator_of_names_is_kept_for_every_use():
    several = SearchFilter(task_type=(name for name in ["a", "b"]))
    for _ in range(2):
        assert normalised(several) == {"task_type": ["a", "b"]}


def test_a_filter_does_not_follow_its_callers_list():
    names = ["a"]
    frozen = SearchFilter(episode_id=names)
    names.append("b")
    assert frozen == SearchFilter(episode_id="a")
    assert frozen.episode_id == ("a",)


def test_an_empty_list_matches_nothing_and_is_kept():
    assert normalised({"episode_id": []}) == {"episode_id": []}


def test_numpy_numbers_are_numbers():
    conditions = normalised(
        {"min_return": np.float32(0.5), "after_timestamp": np.int64(7), "success": np.bool_(0)}
    )
    assert conditions == {"min_return": 0.5, "after_timestamp": 7, "success": False}
    assert type(conditions["success"]) is bool


@pytest.mark.parametrize(
    ("filter", "named"),
    [
        ({"task": "chat"}, "'task'"),
        ({7: "chat"}, "7"),
        ({"task_type": 3}, "filter.task_type"),
        ({"task_type": ["chat", 3]}, r"filter.task_type\[1\]"),
        ({"task_type": ""}, "filter.task_type"),
        ({"task_type": {"chat": 1}}, "filter.task_type"),
        ({"min_return": "high"}, "filter.min_return"),
        ({"min_return": math.nan}, "filter.min_return"),
        ({"min_reward": True}, "filter.min_reward"),
        ({"min_reward": np.complex64(1)}, "filter.min_reward"),
        ({"min_reward": np.array([1.0])}, "filter.min_reward"),
        ({"min_reward": np.timedelta64(1, "s")}, "filter.min_reward"),
        ({"after_timestamp": 1.5}, "filter.after_timestamp"),
        ({"after_timestamp": 2**63}, "filter.after_timestamp"),
        ({"before_timestamp": "yesterday"}, "filter.before_timestamp"),
        ({"agent_type": ["coder"]}, "filter.agent_type"),
        ({"success": 1}, "filter.success"),
        ({"success": "yes"}, "filter.success"),
        ({"task_type": "a", "taskType": "b"}, "filter.task_type"),
        (["task_type"], "filter"),
        ("chat", "filter"),
    ],
)
def test_an_unknown_key_or_a_value_of_another_kind_is_named(filter, named):
    with pytest.raises(ValidationError, match=named):
        normalised(filter)


def test_an_infinite_bound_is_a_bound():
    assert normalised({"min_return": -math.inf}) == {"min_return": -math.inf}
