"""What looks like numbers and is refused by name: masks, dates, arrays without axes, too many digits."""

import numpy as np
import pytest

import precedent
from precedent.encoders import FourierEncoder, HashingEncoder, task_text
from precedent.replay import PrioritizedReplay
from training import layer
from worlds import ACTION, STATE, batch, changed, one_hot, refused, states, step, unchanged

NO_AXES = {
    "filter.task_type": lambda s: s.search(one_hot(0), filter={"task_type": np.array("t")}),
    "ids": lambda s: s.delete(np.array("x")),
    "ids ": lambda s: s.get_many(np.array(5)),
    "trajectories": lambda s: s.insert_batch(np.array(5)),
    "shards": lambda _: precedent.Gradients.mean(np.array(5)),
    "settings": lambda s: precedent.OfflineTrainer(s, layer()).sweep(np.array(5)),
    "texts": lambda _: HashingEncoder(4).encode(np.array("x")),
    "task.requirements": lambda _: task_text({"requirements": np.array("x")}),
    "states": lambda s: s.quantizer.encode(np.array(1.0)),
}


@pytest.mark.parametrize(("field", "call"), NO_AXES.items(), ids=NO_AXES)
def test_an_array_without_axes_is_not_several(target, field, call):
    with refused(field.strip()):
        call(target)


def test_ragged_states_have_no_codes(target):
    with refused("states"):
        target.quantizer.encode([[1.0, 2.0, 3.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    "value", [np.array("0.5"), np.array(True), np.array(1j), np.ma.array(0.5, mask=True)]
)
def test_an_array_of_something_else_is_no_number(target, value):
    with refused("threshold"):
        target.search(one_hot(0), threshold=value)
    assert target.search(one_hot(0), threshold=np.array(2)) == []


HUGE = 10**5000
TOO_LONG = {
    "seed": lambda _: precedent.DecisionLayer(2, 2, seed=HUGE),
    "seed ": lambda _: PrioritizedReplay(5, seed=HUGE),
    "threshold": lambda s: s.search(one_hot(0), threshold=HUGE),
    "k": lambda s: s.search(one_hot(0), k=-HUGE),
    "metadata['a'][1]": lambda s: s.set_episode("e0", metadata={"a": [0, HUGE]}),
    "trajectories[0].metadata.extra['a']": lambda s: s.insert_batch([changed(step(), extra={"a": HUGE})]),
}


@pytest.mark.parametrize(("field", "call"), TOO_LONG.items(), ids=TOO_LONG)
def test_a_number_that_is_too_long_to_write_is_refused_by_name(target, field, call):
    with refused(field.strip()) as caught:
        call(target)
    assert "a whole number of 16610 bits" in str(caught.value)


def test_a_long_number_that_can_be_written_is_kept(memory):
    id_ = memory.insert(changed(step(), extra={"a": 10**4000}))
    assert memory.get(id_).metadata.extra == {"a": 10**4000}


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("timestamps", "datetime64[ns]", "milliseconds since 1970"),
        ("timestamps", "datetime64[ms]", "milliseconds since 1970"),
        ("durations", "timedelta64[us]", "milliseconds"),
    ],
)
def test_dates_are_not_taken_for_milliseconds_whatever_their_unit(target, name, kind, expected):
    before, values = target.get_stats(), np.array([1, 2, 3]).astype(kind)
    with refused(name) as caught:
        target.insert_batch(changed(batch(3), **{name: values}))
    assert expected in str(caught.value)
    unchanged(target, before)
    cure = str(caught.value).split(".astype")[1].split('"')[1]
    target.insert_batch(changed(batch(3), **{name: values.astype(cure).astype("int64")}))


def masked(*numbers):
    return np.ma.array(numbers, mask=[True] + (len(numbers) - 1) * [False])


MASKED = {
    "rewards": lambda s: s.insert_batch(changed(batch(3), rewards=masked(0.0, 1.0, 2.0))),
    "timestamps": lambda s: s.insert_batch(changed(batch(3), timestamps=masked(0, 1, 2))),
    "successes": lambda s: s.insert_batch(changed(batch(3), successes=masked(False, True, True))),
    "task_types": lambda s: s.insert_batch(changed(batch(3), task_types=masked("a", "b", "c"))),
    "states": lambda s: s.insert_batch(changed(batch(1), states=[np.ma.array(np.ones(STATE), mask=True)])),
    "weights": lambda _: layer().gradients(states(3), states(3, ACTION), 1.0, weights=masked(0.0, 1.0, 2.0)),
    "returns": lambda _: layer().train(states(3), states(3, ACTION), masked(0.0, 1.0, 2.0)),
    "observations": lambda _: FourierEncoder.fit(np.ma.array(np.eye(3), mask=np.eye(3)), 16),
    "td_errors": lambda _: PrioritizedReplay(3).update_priorities([0, 1], masked(0.0, 1.0)),
    "indices": lambda _: PrioritizedReplay(3).update_priorities(masked(0, 1), [0.0, 1.0]),
}


@pytest.mark.parametrize(("field", "call"), MASKED.items(), ids=MASKED)
def test_what_lies_under_a_mask_is_not_used(target, field, call):
    before = target.get_stats()
    with refused(field) as caught:
        call(target)
    assert "mask" in str(caught.value)
    unchanged(target, before)


def test_a_weight_beyond_float32_is_named_without_a_warning():
    with refused("weights[1]") as caught:
        layer().gradients(states(3), states(3, ACTION), 1.0, weights=[1.0, 1e39, 1.0])
    assert "1e+39" in str(caught.value)
