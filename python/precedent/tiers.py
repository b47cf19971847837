"""The tiers that answer by precedent: one that is near enough, or several together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from precedent.decisions import ActionMetadata, ActionResult, Tier, decided
from precedent.retrieval import agreement, interpolation, no_retrieval

if TYPE_CHECKING:
    from precedent.retrieval import Hits
    from precedent.selector import ActionSelector

__all__ = ["exact", "interpolated"]


def exact(
    selector: ActionSelector, hits: Hits | None, used: float | None, lacked: dict[int, str], began: float
) -> ActionResult | None:
    """Tier 1: what was done in the nearest situation. None, and what it lacked, where none is near enough."""
    if hits is None:
        lacked[Tier.EXACT] = no_retrieval(used)
    elif not hits.similarities or hits.similarities[0] < selector.exact_threshold:
        lacked[Tier.EXACT] = f"no precedent with that return has a similarity of {selector.exact_threshold:g}"
    else:
        similarity = hits.similarities[0]
        metadata = ActionMetadata(
            similarity=similarity, neighbor_count=1, return_used=used, trajectory_ids=hits.ids(1)
        )
        return decided(hits.actions[0], hits.pattern(0), Tier.EXACT, similarity, metadata, began)
    return None


def interpolated(
    selector: ActionSelector, hits: Hits | None, used: float | None, lacked: dict[int, str], began: float
) -> ActionResult | None:
    """Tier 2: the mean of what was done in near ones. None, and what it lacked, where they are too few."""
    if hits is None:
        lacked[Tier.INTERPOLATED] = no_retrieval(used)
        return None
    n = sum(similarity >= selector.interpolation_threshold for similarity in hits.similarities)
    if n < selector.min_interpolation_samples:
        lacked[Tier.INTERPOLATED] = (
            f"{n} precedents with that return have a similarity of {selector.interpolation_threshold:g}, "
            f"{selector.min_interpolation_samples} are needed"
        )
        return None
    actions, similarities = hits.actions[:n], np.asarray(hits.similarities[:n])
    agreed = agreement(actions)
    if agreed < selector.min_agreement:
        lacked[Tier.INTERPOLATED] = (
            f"the precedents agree only to {agreed:.2f}, {selector.min_agreement:g} is needed"
        )
        return None
    action, nearest = interpolation(actions, similarities)
    similarity = float(similarities.mean())
    metadata = ActionMetadata(
        similarity=similarity,
        neighbor_count=n,
        agreement=agreed,
        return_used=used,
        trajectory_ids=hits.ids(n),
    )
    return decided(action, hits.pattern(nearest), Tier.INTERPOLATED, similarity, metadata, began)
