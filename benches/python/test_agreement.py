"""Our prioritized replay beside cpprb's: the same law, the same weights.

.venv-bench/bin/python -m pytest -c /dev/null --rootdir . benches/python/test_agreement.py
"""

from __future__ import annotations

import numpy as np
import pytest

from precedent.replay import PrioritizedReplay

cpprb = pytest.importorskip("cpprb")

ITEMS, EPS = 64, 0.01


@pytest.fixture(params=[0.0, 0.6, 1.0], ids=lambda alpha: f"alpha {alpha}")
def both(request):
    """Both replays after the same additions and updates, and the probabilities they should draw by."""
    rng = np.random.default_rng(7)
    td_errors = rng.exponential(size=ITEMS)
    ours = PrioritizedReplay(ITEMS, alpha=request.param, eps=EPS)
    theirs = cpprb.PrioritizedReplayBuffer(ITEMS, {"item": {"dtype": np.int64}}, alpha=request.param, eps=EPS)
    ours.add(ITEMS, td_errors)
    theirs.add(item=np.arange(ITEMS), priorities=td_errors)
    changed, news = rng.permutation(ITEMS)[:20], rng.exponential(2.0, size=20)
    ours.update_priorities(changed, news)
    theirs.update_priorities(changed, news)
    td_errors[changed] = news
    masses = (td_errors + EPS) ** request.param
    return ours, theirs, masses / masses.sum()


def test_both_draw_by_the_same_law(both):
    ours, theirs, law = both
    n, rounds = 100, 2000
    mine = np.bincount(np.concatenate([ours.sample(n).indices for _ in range(rounds)]), minlength=ITEMS)
    # Their arrays are views of memory that the next sample writes into.
    other = np.concatenate([theirs.sample(n)["indexes"].copy() for _ in range(rounds)])
    counts = np.bincount(other, minlength=ITEMS)
    # Strata bring each count at least as near to its expectation as independent draws would.
    deviation = np.sqrt(2 * n * rounds * law * (1 - law))
    assert (np.abs(mine - counts) / deviation).max() < 4.5


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_both_give_the_same_weights(both, beta):
    ours, theirs, _ = both
    mine, other = ours.sample(2000, beta), theirs.sample(2000, beta)
    of_item = dict(zip(mine.indices.tolist(), mine.weights.tolist(), strict=True))
    shared = [i for i, item in enumerate(other["indexes"].tolist()) if item in of_item]
    found = np.array([of_item[item] for item in other["indexes"][shared].tolist()])
    # Theirs are over the greatest weight of the whole buffer, ours over that of the batch.
    expected = other["weights"][shared]
    assert found / found.max() == pytest.approx(expected / expected.max(), rel=1e-4)
