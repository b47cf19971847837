"""Prioritized replay as a user sees it."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import precedent
from precedent.replay import Batch, PrioritizedReplay
from worlds import refused

ALPHA, EPS = 0.6, 0.01


def holding(priorities, **settings):
    replay = PrioritizedReplay(len(priorities), **settings)
    replay.add(len(priorities), priorities)
    return replay


def test_a_batch_is_three_arrays_of_one_length():
    replay = holding([0.5, 1.0, 2.0])
    batch = replay.sample(8)
    assert isinstance(batch, Batch)
    assert [(a.dtype, a.shape) for a in (batch.indices, batch.weights, batch.priorities)] == [
        (np.int64, (8,)),
        (np.float32, (8,)),
        (np.float64, (8,)),
    ]
    assert np.array_equal(batch.priorities, np.array([0.5, 1.0, 2.0])[batch.indices])
    with pytest.raises(ValueError, match="read-only"):
        batch.indices[0] = 7


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("beta", [None, 0.0, 0.4, 1.0])
def test_weights_are_the_formula_s(replace, beta):
    td = np.random.default_rng(1).exponential(size=50)
    batch = holding(td).sample(20, beta, replace=replace)
    masses = (td + EPS) ** ALPHA
    weights = (50 * masses / masses.sum())[batch.indices] ** -(0.4 if beta is None else beta)
    assert batch.weights == pytest.approx(weights / weights.max(), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_what_was_surprising_is_drawn_as_often_as_its_share_says(alpha):
    td = np.array([0.0, 0.1, 0.5, 2.0, 4.0])
    replay = PrioritizedReplay(5, alpha=alpha, seed=3)
    replay.update_priorities(replay.add(5), td * [1, -1, 1, -1, 1])
    shares = (td + EPS) ** alpha / ((td + EPS) ** alpha).sum()
    drawn = np.concatenate([replay.sample(64).indices for _ in range(500)])
    assert np.bincount(drawn, minlength=5) == pytest.approx(32_000 * shares, abs=300)


def test_beta_is_annealed_to_one_over_beta_steps_items():
    replay = holding([1.0, 9.0], beta_steps=100)
    assert replay.beta == 0.4
    replay.sample(50)
    assert replay.beta == pytest.approx(0.7)
    replay.sample(70)
    assert replay.beta == 1.0
    assert holding([1.0]).beta == 0.4


def test_places_go_round_and_new_items_get_the_greatest_priority_so_far():
    replay = PrioritizedReplay(3)
    assert len(replay) == 0
    assert replay
    assert replay.add().tolist() == [0]
    assert replay.sample(1).priorities.tolist() == [1.0]
    replay.update_priorities([0], [-6.0])
    assert replay.add(3).tolist() == [1, 2, 0]
    assert set(replay.sample(9).priorities) == {6.0}
    assert len(replay) == 3


@given(
    st.lists(
        st.tuples(st.integers(0, 19), st.floats(-1e6, 1e6)),
        max_size=60,
    )
)
def test_the_last_error_of_each_item_is_its_priority(changes):
    replay, expected = holding(np.ones(20)), np.ones(20)
    for index, error in changes:
        expected[index] = abs(error)
    replay.update_priorities([i for i, _ in changes], [e for _, e in changes])
    batch = replay.sample(20, replace=False)
    assert sorted(batch.indices.tolist()) == list(range(20))
    assert np.array_equal(batch.priorities, expected[batch.indices])


@pytest.mark.parametrize("kind", [list, tuple, np.float32, np.float64, np.int32, "strided"])
def test_numbers_come_in_any_form(kind):
    td = np.array([3.0, 1.0, 2.0])
    errors = {list: td.tolist(), tuple: tuple(td), "strided": np.repeat(td, 2)[::2]}.get(kind)
    errors = td.astype(kind) if errors is None else errors
    replay = PrioritizedReplay(3)
    replay.update_priorities(replay.add(3).astype(np.uint8), errors)
    batch = replay.sample(3, replace=False)
    assert np.array_equal(batch.priorities, td[batch.indices])


def test_a_loaded_replay_draws_on_as_the_one_that_was_saved(tmp_path):
    replay = PrioritizedReplay(50, alpha=0.7, eps=0.1, beta_steps=300, seed=9)
    replay.update_priorities(replay.add(60)[-20:], np.linspace(-3, 3, 20))
    replay.sample(10)
    replay.save(tmp_path / "replay")
    loaded = PrioritizedReplay.load(tmp_path / "replay")
    names = ("capacity", "alpha", "eps", "beta_steps", "seed", "beta")
    assert [getattr(loaded, n) for n in names] == [getattr(replay, n) for n in names]
    for replace in (True, False):
        assert replay.add(3).tolist() == loaded.add(3).tolist()
        assert replay.sample(16, replace=replace) == loaded.sample(16, replace=replace)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "foreign"])
def test_a_file_that_is_none_of_ours_is_a_storage_error(tmp_path, damage):
    path = tmp_path / "replay"
    holding([1.0, 2.0]).save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-7], "flipped": flipped, "foreign": b"Dear diary"}[damage])
    with pytest.raises(precedent.StorageError, match="replay"):
        PrioritizedReplay.load(path)


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("capacity", {"capacity": 0}),
        ("capacity", {"capacity": 2.5}),
        ("capacity", {"capacity": True}),
        ("alpha", {"alpha": -0.1}),
        ("alpha", {"alpha": 1.1}),
        ("alpha", {"alpha": float("nan")}),
        ("eps", {"eps": 0.0}),
        ("eps", {"eps": 5e-324}),
        ("eps", {"eps": 1e-291}),
        ("eps", {"eps": float("inf")}),
        ("beta_steps", {"beta_steps": 0}),
        ("seed", {"seed": -1}),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(field, options):
    with refused(field):
        PrioritizedReplay(**({"capacity": 10} | options))


@pytest.mark.parametrize("alpha", [0.6, 1.0])
def test_nothing_starves_beside_the_smallest_eps(alpha):
    replay = holding([0.0] * 100, alpha=alpha, eps=1e-290)
    assert set(replay.sample(1_000).indices.tolist()) == set(range(100))


NAN, INF = float("nan"), float("inf")
BAD = {
    "n": [
        lambda r: r.add(0),
        lambda r: r.add(1.5),
        lambda r: r.add(2**40 - 1),
        lambda r: r.sample(0),
        lambda r: r.sample(-1),
        lambda r: r.sample(4, replace=False),
        lambda r: r.sample(2**40 - 1),
        lambda _: PrioritizedReplay(3).sample(1),
    ],
    "beta": [lambda r, b=b: r.sample(1, b) for b in (-0.1, 1.1, NAN, "one")],
    "replace": [lambda r: r.sample(1, replace="yes")],
    "priorities": [lambda r, p=p: r.add(2, p) for p in ([1.0], [[1.0, 2.0]], 1.0, "ab", [True, False])],
    "priorities[1]": [lambda r, p=p: r.add(2, [1.0, p]) for p in (-1.0, NAN, INF)],
    "indices": [
        lambda r, i=i: r.update_priorities(i, [1.0]) for i in (0, [0.0], ["a"], [True], [[0]], [2**63])
    ],
    "indices[1]": [lambda r, i=i: r.update_priorities([0, i], [1.0, 1.0]) for i in (3, -1, 2**62)],
    "td_errors": [lambda r, e=e: r.update_priorities([0], e) for e in ([1.0, 2.0], [], ["a"], 1.0, None)],
    "td_errors[1]": [lambda r, e=e: r.update_priorities([0, 1], [1.0, e]) for e in (NAN, INF, -INF)],
}


@pytest.mark.parametrize(("field", "call"), [(field, call) for field, calls in BAD.items() for call in calls])
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(tmp_path, field, call):
    replay = holding([1.0, 2.0, 3.0])
    replay.save(tmp_path / "before")
    with refused(field):
        call(replay)
    replay.save(tmp_path / "after")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


def test_threads_may_share_a_replay():
    replay = holding(np.ones(1000))

    def work():
        for _ in range(200):
            batch = replay.sample(32)
            replay.update_priorities(batch.indices, np.ones(32))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replay.sample(1000, replace=False).priorities.tolist() == [1.0] * 1000
