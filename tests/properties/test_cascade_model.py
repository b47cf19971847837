"""The retrieving tiers against a plain reading of their paragraphs, over random stores and settings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import precedent
from precedent import Tier
from worlds import distances, similarity, step

WIDE = 4


def expected(rows, query, metric, options, desired):
    """(tier, action, confidence, positions) of the decision, or None; rows are (state, action, return)."""
    allowed = [i for i, (_, _, value) in enumerate(rows) if value is not None and value >= desired]
    if not allowed:
        return None
    away = distances(metric, query, np.stack([rows[i][0] for i in allowed]))
    near = [(allowed[i], similarity(metric, away[i])) for i in np.argsort(away, kind="stable")]
    first, alike = near[0]
    if alike >= options["exact_threshold"]:
        return Tier.EXACT, rows[first][1], alike, [first]
    near = near[: options["interpolation_k"]]
    near = [(i, s) for i, s in near if s >= options["interpolation_threshold"]]
    if len(near) < options["min_interpolation_samples"]:
        return None
    weights = np.maximum([s for _, s in near], 0.0)
    actions = np.stack([rows[i][1] for i, _ in near])
    units = actions / np.linalg.norm(actions, axis=1, keepdims=True)
    if np.linalg.norm(units.mean(0)) < options["min_agreement"]:
        return None
    mean = np.average(actions, axis=0, weights=weights if weights.any() else None)
    return Tier.INTERPOLATED, mean, np.mean([s for _, s in near]), [i for i, _ in near]


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 30),
    metric=st.sampled_from(["cosine", "euclidean", "dot"]),
    desired=st.sampled_from([-1.0, 0.0, 0.5]),
    options=st.fixed_dictionaries(
        {
            "exact_threshold": st.sampled_from([0.5, 0.9, 0.99, 5.0]),
            "interpolation_threshold": st.sampled_from([-9.0, 0.0, 0.3, 0.7, 2.0]),
            "interpolation_k": st.integers(1, 8),
            "min_interpolation_samples": st.integers(1, 4),
            "min_agreement": st.sampled_from([0.0, 0.4, 0.8]),
        }
    ),
)
def test_the_cascade_decides_as_its_paragraphs_say(seed, count, metric, desired, options):
    rng = np.random.default_rng(seed)
    rows = [
        (
            rng.normal(size=WIDE).astype(np.float32),
            rng.normal(size=3).astype(np.float32),
            None if rng.random() < 0.2 else float(rng.normal()),
        )
        for _ in range(count)
    ]
    with precedent.TrajectoryStore(":memory:", dimension=WIDE, action_dimension=3) as store:
        ids = store.insert_batch(
            [step(s, action=a, returns=r, pattern=f"p{i}") for i, (s, a, r) in enumerate(rows)]
        )
        selector = precedent.ActionSelector(store, metric=metric, **options)
        for query in rng.normal(size=(3, WIDE)).astype(np.float32):
            plain = expected(rows, query, metric, options, desired)
            if plain is None:
                with pytest.raises(precedent.NoActionError):
                    selector.select_action(query, desired)
                continue
            tier, action, confidence, positions = plain
            result = selector.select_action(query, desired)
            assert result.tier is tier
            np.testing.assert_allclose(result.action, action, rtol=1e-4, atol=1e-5)
            assert result.confidence == pytest.approx(confidence, rel=1e-6)
            assert result.metadata.trajectory_ids == tuple(ids[i] for i in positions)
            to_mean = [np.linalg.norm(rows[i][1] - action) for i in positions]
            assert result.pattern_id == f"p{positions[int(np.argmin(to_mean))]}"
