"""Prioritized replay: draw a batch, fetch its items, update its priorities."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from peers import peer
from rounds import Contender, Work

from precedent.replay import PrioritizedReplay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ITEMS, ALPHA, BETA, EPS = 1_000_000, 0.6, 0.4, 0.01


@contextmanager
def sample_and_update(folder: Path, *, batch: int) -> Iterator[Work]:
    """A learner's turn; both keep one integer an item, and priorities keep their law over the rounds."""
    del folder
    rounds = 20_000 // batch + 20
    rng = np.random.default_rng(0)
    td_errors, items = rng.exponential(size=ITEMS), np.arange(ITEMS)
    news = rng.exponential(size=(rounds, batch))
    # What a draw by (|td| + eps)^alpha brings on average.
    masses = (td_errors + EPS) ** ALPHA
    expected = f"mean error drawn at first {{:.3f}} ({np.average(td_errors, weights=masses):.3f} by the law)"

    replay = PrioritizedReplay(ITEMS, alpha=ALPHA, eps=EPS)
    replay.add(ITEMS, td_errors)

    def ours() -> None:
        for news_of_batch in news:
            drawn = replay.sample(batch, BETA)
            items[drawn.indices]
            replay.update_priorities(drawn.indices, news_of_batch)

    first = np.mean([td_errors[replay.sample(1000).indices].mean() for _ in range(100)])
    peers, missing = [], []
    quality = expected.format(first)
    cpprb = peer("cpprb")
    if cpprb is None:
        missing.append("cpprb")
    else:
        buffer = cpprb.PrioritizedReplayBuffer(ITEMS, {"item": {"dtype": np.int64}}, alpha=ALPHA, eps=EPS)
        buffer.add(item=items, priorities=td_errors)

        def theirs() -> None:
            for news_of_batch in news:
                drawn = buffer.sample(batch, BETA)
                buffer.update_priorities(drawn["indexes"], news_of_batch)

        first = np.mean([td_errors[buffer.sample(1000)["indexes"]].mean() for _ in range(100)])
        peers.append(Contender("cpprb", theirs, units=rounds, quality=expected.format(first)))
    yield Work(
        f"prioritized replay, {ITEMS:,} items: sample {batch:,} and update their priorities",
        Contender("precedent", ours, units=rounds, quality=quality),
        peers,
        unit="batch",
        targets={"cpprb": 0.2},
        missing=missing,
    )


WORKS = {f"prioritized replay {batch}": partial(sample_and_update, batch=batch) for batch in (32, 1024)}
