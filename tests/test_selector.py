"""The cascade: each tier by construction, what it requires, and what is said of it."""

import numpy as np
import pytest

import precedent
from cascade import HERE, calibrated, network, precedent_at
from precedent import Tier
from worlds import ACTION, one_hot, refused, step

NAN = float("nan")
CLOSED = {"exact_threshold": np.inf, "interpolation_threshold": np.inf}


@pytest.fixture
def selector(memory):
    return precedent.ActionSelector(memory)


def test_the_tiers_are_numbered_as_the_seed_numbers_them():
    assert [(t.name, int(t)) for t in Tier] == [
        ("EXACT", 1),
        ("INTERPOLATED", 2),
        ("GENERATED", 3),
        ("PATTERN", 4),
    ]


def test_an_exact_precedent_answers_with_its_own_action(memory, selector):
    id_ = precedent_at(memory, 0.995, action=(1.0, 2.0, 3.0), pattern="mine")
    precedent_at(memory, 0.9)
    result = selector.select_action(HERE)
    assert (result.tier, result.pattern_id) == (Tier.EXACT, "mine")
    np.testing.assert_array_equal(result.action, [1.0, 2.0, 3.0])
    assert result.confidence == result.metadata.similarity == pytest.approx(0.995, abs=1e-6)
    assert result.metadata.trajectory_ids == (id_,)
    assert result.metadata.return_used == 0.9
    assert result.latency >= 0.0


def test_the_nearest_good_precedent_answers_though_nearer_ones_were_bad(memory, selector):
    for i in range(20):
        precedent_at(memory, 0.9999, returns=0.89, direction=1 + i % 7)
    precedent_at(memory, 0.99999, returns=None)
    good = precedent_at(memory, 0.991, pattern="good")
    result = selector.select_action(HERE)
    assert (result.tier, result.pattern_id) == (Tier.EXACT, "good")
    assert result.metadata.trajectory_ids == (good,)


def test_threshold_and_desired_return_count_themselves(memory):
    precedent_at(memory, 1.0, returns=0.75)
    selector = precedent.ActionSelector(memory, exact_threshold=1.0)
    assert selector.select_action(HERE, 0.75).tier is Tier.EXACT
    with pytest.raises(precedent.NoActionError):
        selector.select_action(HERE, np.nextafter(0.75, 1.0))


def test_the_desired_return_is_nine_tenths_by_default(memory, selector):
    precedent_at(memory, 1.0, returns=0.899)
    with pytest.raises(precedent.NoActionError):
        selector.select_action(HERE)
    precedent_at(memory, 1.0, returns=0.9)
    assert selector.select_action(HERE).tier is Tier.EXACT


def test_near_precedents_are_averaged_by_similarity(memory, selector):
    cosines = (0.98, 0.97, 0.96)
    actions = np.array([[1.0, 0.2, 0.0], [0.8, 0.0, 0.4], [0.0, 1.0, 0.0]])
    ids = [
        precedent_at(memory, c, action=a, pattern=f"p{i}", direction=i + 1)
        for i, (c, a) in enumerate(zip(cosines, actions, strict=True))
    ]
    result = selector.select_action(HERE)
    mean = np.average(actions, axis=0, weights=cosines)
    assert result.tier is Tier.INTERPOLATED
    np.testing.assert_allclose(result.action, mean, rtol=1e-5)
    assert result.confidence == pytest.approx(np.mean(cosines), abs=1e-6)
    assert result.metadata.similarity == pytest.approx(np.mean(cosines), abs=1e-6)
    assert result.metadata.neighbor_count == 3
    assert result.metadata.trajectory_ids == tuple(ids)
    units = actions / np.linalg.norm(actions, axis=1, keepdims=True)
    assert result.metadata.agreement == pytest.approx(np.linalg.norm(units.mean(0)), abs=1e-5)
    assert result.pattern_id == "p0"


def test_the_pattern_of_an_interpolation_is_the_one_nearest_to_the_mean(memory, selector):
    for i, (pattern, action) in enumerate(
        [("left", (1.0, 0.0, 0.0)), ("middle", (0.7, 0.7, 0.0)), ("right", (0.0, 1.0, 0.0))]
    ):
        precedent_at(memory, 0.97 - i / 1000, action=action, pattern=pattern, direction=i + 1)
    assert selector.select_action(HERE).pattern_id == "middle"


@pytest.mark.parametrize("size", [1e25, 1.0, 1e-25])
def test_the_pattern_nearest_to_the_mean_is_found_however_large_the_actions_are(memory, selector, size):
    for pattern, x in (("least", 1.0), ("most", 3.0), ("middle", 2.1)):
        precedent_at(memory, 0.97, action=(x * size, 0.0, 0.0), pattern=pattern)
    result = selector.select_action(HERE)
    assert (result.tier, result.pattern_id) == (Tier.INTERPOLATED, "middle")


@pytest.mark.parametrize(("count", "tier"), [(2, Tier.GENERATED), (3, Tier.INTERPOLATED)])
def test_too_few_near_precedents_are_not_averaged(memory, count, tier):
    for i in range(count):
        precedent_at(memory, 0.96, direction=i + 1)
    for i in range(4):
        precedent_at(memory, 0.94, direction=i + 1)
        precedent_at(memory, 0.97, returns=0.5, direction=i + 1)
    assert precedent.ActionSelector(memory, network()).select_action(HERE).tier is tier


def test_only_the_nearest_few_are_averaged(memory):
    ids = [precedent_at(memory, 0.98 - i / 1000, direction=1 + i % 7) for i in range(9)]
    result = precedent.ActionSelector(memory, interpolation_k=4).select_action(HERE)
    assert result.metadata.trajectory_ids == tuple(ids[:4])
    assert precedent.ActionSelector(memory).select_action(HERE).metadata.neighbor_count == 5


def test_precedents_that_disagree_are_not_averaged_where_agreement_is_asked_for(memory):
    for i, action in enumerate(np.eye(3)):
        precedent_at(memory, 0.97, action=action, direction=i + 1)
    agreement = precedent.ActionSelector(memory).select_action(HERE).metadata.agreement
    assert agreement == pytest.approx(np.sqrt(1 / 3), abs=1e-6)
    strict = precedent.ActionSelector(memory, network(), min_agreement=0.6)
    assert strict.select_action(HERE).tier is Tier.GENERATED
    lenient = precedent.ActionSelector(memory, network(), min_agreement=0.57)
    assert lenient.select_action(HERE).tier is Tier.INTERPOLATED


def test_weights_of_an_interpolation_are_never_negative(memory):
    for cosine, action in ((-0.9, (0.0, 9.0, 0.0)), (0.5, (1.0, 0.0, 0.0)), (0.6, (1.0, 0.0, 0.0))):
        precedent_at(memory, cosine, action=action)
    for metric in ("cosine", "dot"):
        selector = precedent.ActionSelector(memory, interpolation_threshold=-1.0, metric=metric)
        np.testing.assert_allclose(selector.select_action(HERE).action, [1.0, 0.0, 0.0], atol=1e-6)


def test_a_metric_of_one_s_own_means_its_similarity(memory):
    precedent_at(memory, 0.96)
    selector = precedent.ActionSelector(memory, metric="euclidean", exact_threshold=0.7)
    result = selector.select_action(HERE)
    assert result.confidence == pytest.approx(1 / (1 + np.sqrt(2 - 2 * 0.96)), abs=1e-5)


def test_the_network_answers_where_no_precedent_is_near(memory):
    made = network()
    precedent_at(memory, 0.5)
    result = precedent.ActionSelector(memory, made).select_action(HERE, 0.7)
    assert (result.tier, result.pattern_id, result.confidence) == (Tier.GENERATED, None, 0.0)
    np.testing.assert_array_equal(result.action, made.predict(HERE, 0.7))
    assert result.metadata.neural_score is None
    assert result.metadata.trajectory_ids == ()


def test_a_calibrated_network_answers_with_its_confidence(memory):
    made = calibrated()
    result = precedent.ActionSelector(memory, made).select_action(HERE, 0.7)
    asked = made.predict_with_confidence(HERE, 0.7)
    assert result.confidence == result.metadata.neural_score == asked.confidence > 0
    assert result.metadata.interval == (asked.low, asked.high)


def test_the_network_s_answer_is_given_the_nearest_pattern_of_the_library(memory):
    made = network()
    library = precedent.PatternLibrary(memory)
    answer = made.predict(HERE, 0.9)
    library.upsert("near", answer + 0.01)
    library.upsert("far", -answer)
    result = precedent.ActionSelector(memory, made, patterns=library).select_action(HERE)
    assert (result.tier, result.pattern_id) == (Tier.GENERATED, "near")


def test_context_and_timestep_reach_the_network(memory):
    made = network()
    context = one_hot(3)
    result = precedent.ActionSelector(memory, made).select_action(HERE, 0.7, context=context, timestep=4)
    np.testing.assert_array_equal(result.action, made.predict(HERE, 0.7, context=context, timestep=4))


def taken(store, pattern, wins, losses, cosine=0.9):
    for i in range(wins + losses):
        precedent_at(store, cosine, pattern=pattern, returns=None, success=i < wins, reward=0.0)


@pytest.mark.parametrize("why", ["no layer", "untrained", "switched off", "not sure enough"])
def test_a_pattern_answers_where_the_network_cannot(memory, why):
    taken(memory, "often right", 9, 1)
    taken(memory, "often wrong", 1, 9)
    library = precedent.PatternLibrary(memory)
    layers = {
        "no layer": None,
        "untrained": precedent.DecisionLayer(8, ACTION),
        "switched off": calibrated(),
        "not sure enough": calibrated(),
    }
    options = {"switched off": {"fallback_to_neural": False}, "not sure enough": {"min_confidence": 1.0}}
    selector = precedent.ActionSelector(memory, layers[why], patterns=library, **options.get(why, {}))
    result = selector.select_action(HERE)
    (best,) = library.match(HERE)
    assert (result.tier, result.pattern_id) == (Tier.PATTERN, "often right")
    assert result.confidence == best.low
    np.testing.assert_array_equal(result.action, best.pattern.embedding)
    assert result.metadata.interval == (best.low, best.high)


def test_in_hybrid_mode_a_surer_pattern_replaces_the_network(memory):
    taken(memory, "always right", 40, 0)
    library = precedent.PatternLibrary(memory)
    plain = precedent.ActionSelector(memory, network(), patterns=library)
    hybrid = precedent.ActionSelector(memory, network(), patterns=library, hybrid_mode=True)
    assert plain.select_action(HERE).tier is Tier.GENERATED
    assert hybrid.select_action(HERE).tier is Tier.PATTERN


def test_in_hybrid_mode_a_less_sure_pattern_does_not_replace_the_network(memory):
    taken(memory, "always wrong", 0, 40)
    library = precedent.PatternLibrary(memory)
    made = calibrated()
    hybrid = precedent.ActionSelector(memory, made, patterns=library, hybrid_mode=True)
    assert library.match(HERE)[0].low < made.predict_with_confidence(HERE, 0.9).confidence
    assert hybrid.select_action(HERE).tier is Tier.GENERATED


def test_in_hybrid_mode_a_precedent_still_comes_first(memory):
    taken(memory, "always right", 40, 0)
    precedent_at(memory, 1.0)
    library = precedent.PatternLibrary(memory)
    hybrid = precedent.ActionSelector(memory, network(), patterns=library, hybrid_mode=True)
    assert hybrid.select_action(HERE).tier is Tier.EXACT


def test_without_an_answer_the_error_says_what_each_tier_lacked(memory):
    precedent_at(memory, 0.96)
    selector = precedent.ActionSelector(memory, precedent.DecisionLayer(8, ACTION))
    with pytest.raises(precedent.NoActionError) as caught:
        selector.select_action(HERE)
    assert sorted(caught.value.lacked) == [1, 2, 3, 4]
    assert all(caught.value.lacked.values())
    for phrase in caught.value.lacked.values():
        assert phrase in str(caught.value)
    assert "train" in caught.value.lacked[3]


def test_an_empty_store_has_no_action(selector):
    with pytest.raises(precedent.NoActionError):
        selector.select_action(HERE)


@pytest.mark.parametrize("desired", [-5.0, 0.0, 450.0])
def test_any_finite_return_may_be_desired_on_the_raw_scale(memory, selector, desired):
    precedent_at(memory, 1.0, returns=desired)
    assert selector.select_action(HERE, desired).metadata.return_used == desired


def test_a_filter_narrows_every_tier(memory):
    precedent_at(memory, 1.0, task_type="other")
    taken(memory, "other", 5, 0)
    library = precedent.PatternLibrary(memory)
    selector = precedent.ActionSelector(memory, patterns=library)
    with pytest.raises(precedent.NoActionError):
        selector.select_action(HERE, filter={"task_type": "nothing like it"})
    assert selector.select_action(HERE, filter={"task_type": "other"}).tier is Tier.EXACT
    assert selector.select_action(HERE, filter={"task_type": "support"}).tier is Tier.PATTERN


def test_a_filter_s_own_minimum_return_holds_beside_the_desired_one(memory, selector):
    precedent_at(memory, 1.0, returns=1.0)
    assert selector.select_action(HERE, 0.5, filter={"min_return": 0.9}).tier is Tier.EXACT
    with pytest.raises(precedent.NoActionError):
        selector.select_action(HERE, 0.5, filter={"min_return": 2.0})


def test_a_result_is_a_frozen_record(memory, selector):
    precedent_at(memory, 1.0)
    result = selector.select_action(HERE)
    with pytest.raises(AttributeError):
        result.tier = Tier.PATTERN
    with pytest.raises(AttributeError):
        result.metadata.similarity = 0.0
    with pytest.raises(ValueError, match="read-only"):
        result.action[0] = 9.0


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("exact_threshold", {"exact_threshold": NAN}),
        ("exact_threshold", {"exact_threshold": "near"}),
        ("interpolation_threshold", {"interpolation_threshold": NAN}),
        ("interpolation_k", {"interpolation_k": -1}),
        ("interpolation_k", {"interpolation_k": 2.5}),
        ("min_interpolation_samples", {"min_interpolation_samples": 0}),
        ("fallback_to_neural", {"fallback_to_neural": "yes"}),
        ("return_scale", {"return_scale": "log"}),
        ("metric", {"metric": "manhattan"}),
        ("min_agreement", {"min_agreement": 1.5}),
        ("min_confidence", {"min_confidence": -0.1}),
        ("hybrid_mode", {"hybrid_mode": 1}),
        ("log", {"log": 7}),
    ],
    ids=repr,
)
def test_a_bad_option_is_refused_by_name(memory, field, options):
    with refused(field):
        precedent.ActionSelector(memory, **options)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("state", {"state": [1.0]}),
        ("state", {"state": [NAN] * 8}),
        ("state", {"state": np.zeros(8)}),
        ("state", {"state": "text"}),
        ("desired_return", {"desired_return": NAN}),
        ("desired_return", {"desired_return": "best"}),
        ("filter", {"filter": "all"}),
        ("context", {"context": [1.0]}),
        ("context", {"context": [NAN] + 7 * [0.0]}),
        ("timestep", {"timestep": 0.5}),
        ("timestep", {"timestep": -1}),
    ],
    ids=repr,
)
def test_a_bad_question_is_refused_by_name_whichever_tier_would_answer(memory, field, options):
    precedent_at(memory, 1.0)
    selector = precedent.ActionSelector(memory, network())
    asked = {"state": HERE} | options
    with refused(field):
        selector.select_action(asked.pop("state"), **asked)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("desired_return", {"desired_return": [0.5]}),
        ("desired_return", {"desired_return": [[0.5], [0.5, 0.5]]}),
        ("desired_return", {"desired_return": [0.5, "x"]}),
        ("contexts", {"contexts": np.zeros((3, 8))}),
        ("contexts", {"contexts": np.full((2, 8), NAN)}),
        ("timesteps", {"timesteps": 3}),
        ("timesteps", {"timesteps": [1]}),
        ("timesteps", {"timesteps": [-1, 0]}),
        ("timesteps", {"timesteps": [0.5, 1]}),
        ("timesteps", {"timesteps": "ab"}),
        ("timesteps", {"timesteps": [[1, 2]]}),
    ],
    ids=repr,
)
def test_a_bad_question_among_many_is_refused_by_name_whichever_tier_would_answer(memory, field, options):
    precedent_at(memory, 1.0)
    with refused(field):
        precedent.ActionSelector(memory, network()).select_many([HERE, HERE], **options)


@pytest.mark.parametrize("layer", [3, "layer"])
def test_what_is_no_layer_is_refused(memory, layer):
    with refused("layer"):
        precedent.ActionSelector(memory, layer)


@pytest.mark.parametrize("sizes", [(9, ACTION), (8, ACTION + 1)])
def test_a_layer_of_other_sizes_is_refused(memory, sizes):
    with pytest.raises(precedent.DimensionError):
        precedent.ActionSelector(memory, precedent.DecisionLayer(*sizes))


@pytest.mark.parametrize("state", [[NAN] * 8, [1.0] * 7 + [-np.inf], np.zeros(8)], ids=str)
@pytest.mark.parametrize("scale", ["raw", "quantile", "episode"])
@pytest.mark.parametrize("options", [{}, CLOSED], ids=["open", "closed"])
def test_a_bad_state_is_refused_though_nothing_is_searched(memory, state, scale, options):
    """An empty store has no quantile to search by, and closed thresholds search for nothing."""
    selector = precedent.ActionSelector(memory, return_scale=scale, **options)
    with refused("state"):
        selector.select_action(state)
    with refused("states[1]"):
        selector.select_many([HERE, state])


@pytest.mark.parametrize("options", [{}, CLOSED], ids=["open", "closed"])
def test_a_zero_state_is_one_where_the_metric_is_not_the_cosine(memory, options):
    selector = precedent.ActionSelector(memory, network(), metric="dot", **options)
    assert selector.select_action(np.zeros(8)).tier is Tier.GENERATED


@pytest.mark.parametrize("state", [[NAN] * 8, np.zeros(8)], ids=str)
def test_of_many_the_bad_state_is_named_by_its_own_position(memory, state):
    precedent_at(memory, 1.0)
    selector = precedent.ActionSelector(memory, network())
    with refused("states[3]"):
        selector.select_many([HERE, HERE, HERE, state], [0.1, 0.2, 0.1, 0.2])


@pytest.mark.parametrize("options", [{}, CLOSED], ids=["open", "closed"])
def test_a_closed_store_ends_the_selector(memory, options):
    precedent_at(memory, 1.0)
    selector = precedent.ActionSelector(
        memory, network(), patterns=precedent.PatternLibrary(memory), **options
    )
    memory.close()
    for ask in (
        lambda: selector.select_action(HERE),
        lambda: selector.select_many([]),
        lambda: selector.start_episode(0.5),
    ):
        with pytest.raises(precedent.errors.ClosedError):
            ask()


def test_a_row_is_a_precedent_the_instant_it_was_inserted(memory, selector):
    for i in range(8):
        id_ = memory.insert(step(one_hot(i), returns=1.0, pattern=f"p{i}"))
        result = selector.select_action(one_hot(i))
        assert (result.pattern_id, result.metadata.trajectory_ids) == (f"p{i}", (id_,))
