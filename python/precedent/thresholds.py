"""From which similarity on a precedent is worth more than the network: thresholds of tiers 1 and 2, measured.

0.99 and 0.95 mean different things to different encoders. So the steps of good episodes that the network
never learned from are asked again: each tier answers without their own episode, and what it would do is
compared with what was done.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from precedent.errors import InsufficientDataError, NotFoundError
from precedent.retrieval import agreement, interpolation
from precedent.values import Nested, Record, each, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from precedent.retrieval import Hits
    from precedent.selector import ActionSelector

__all__ = ["Calibration", "ThresholdAgreement", "calibration"]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

# Steps that are asked again, at the most and at the least; a threshold must be met by as many as the least.
_MOST, _FEWEST = 2_048, 20
# A tier agrees less often than the network in no more than this share of its steps.
_LOSS = 0.02
# The tests of a tier's thresholds begin where it answers one of so many of the steps that it can answer.
_STARTS = (8, 2)
# Sure to 95 % of all that is opened: twelve sequences of thresholds are tested, each to 1 - 0.05 / 12.
_SURE = 2.638
# Where none of n steps differs, up to ln(12 / 0.05) / n = 5.48 / n of all may, as surely: (5.48 / 2.638)^2.
_UNSEEN = 4.32
# Steps of one episode are alike: of so few episodes nothing follows for others.
_WITNESSES = 3
# Thresholds tried for each tier.
_TRIED = 48
# Where actions are their pattern's embedding to this mean cosine, agreeing means taking the same pattern.
_PATTERNED = 0.99
# Cosines that differ by less are equal, as actions are float32.
_ROUNDING = 1e-6


@record
class ThresholdAgreement(Record):
    """What a tier would do from one threshold on, if it were asked first.

    Attributes:
        threshold: The least similarity.
        count: Steps that it answers.
        agreement: How often it does there what the good episodes did, in [0, 1].
        network_agreement: How often the network does on the same steps.
    """

    threshold: float
    count: int
    agreement: float
    network_agreement: float


@record
class Calibration(Record):
    """The thresholds of tiers 1 and 2 for the encoder and the data at hand, and what was measured.

    Attributes:
        exact_threshold: For tier 1; infinity closes it.
        interpolation_threshold: For tier 2; infinity closes it.
        desired_return: What was asked for; the steps asked about are of episodes that reached it.
        measure: What agreeing means: `"pattern"` = no pattern is nearer to the action than the one that was
            taken; `"cosine"` = the cosine to the action taken, where a pattern's actions are not all alike.
        episodes: Held-out episodes that were asked about.
        steps: Their steps, at most 2,048.
        network_agreement: Of the network alone, on all of them.
        cascade_agreement: Of the cascade with these thresholds; never below the network's. It is measured on
            the very steps that the thresholds were chosen by, so expect somewhat less on others.
        exact_count: Steps that tier 1 answers in that cascade.
        interpolation_count: Steps that tier 2 answers in it.
        exact: Tier 1 alone, by falling threshold.
        interpolation: Tier 2 alone, by falling threshold.
    """

    exact_threshold: float
    interpolation_threshold: float
    desired_return: float
    measure: str
    episodes: int
    steps: int
    network_agreement: float
    cascade_agreement: float
    exact_count: int
    interpolation_count: int
    exact: tuple[ThresholdAgreement, ...]
    interpolation: tuple[ThresholdAgreement, ...]
    _nested: ClassVar[Nested] = {k: each(ThresholdAgreement) for k in ("exact", "interpolation")}


@dataclass(frozen=True)
class _Asked:
    """Steps of held-out episodes: what was done, what the network would do, what was found."""

    # The episode of each step, numbered from 0.
    episodes: npt.NDArray[np.intp]
    patterns: list[str]
    taken: Floats
    network: Floats
    found: list[Hits]


@dataclass(frozen=True)
class _Tier:
    """A tier on the steps: the similarity up to which a threshold lets it answer, and how well it then does.

    Attributes:
        reach: `[n]`; -inf where it cannot answer.
        scores: For each number of neighbours, `[n]`; nan where it does not answer from so many.
        similarities: `[n, k]`, nearest first; -inf where there are fewer.
    """

    reach: Doubles
    scores: dict[int, Doubles]
    similarities: Doubles

    def at(self, threshold: float) -> Doubles:
        """Return how well it does from a threshold on, nan where it does not answer."""
        entering = (self.similarities >= threshold).sum(axis=1)
        told = np.full(len(self.reach), np.nan)
        for neighbours, scores in self.scores.items():
            told = np.where(entering == neighbours, scores, told)
        return told

    def tried(self) -> list[float]:
        """Return the thresholds to try, falling: similarities that were seen, evenly spaced in rank."""
        reached = np.sort(self.reach[np.isfinite(self.reach)])[::-1]
        if len(reached) < _FEWEST:
            return []
        ranks = np.unique(np.linspace(_FEWEST - 1, len(reached) - 1, _TRIED).round().astype(int))
        return sorted({float(similarity) for similarity in reached[ranks]}, reverse=True)


def calibration(
    selector: ActionSelector,
    chosen: dict[str, Any] | None,
    learned: list[dict[str, Any] | None],
    desired: float,
    split: float,
    seed: int,
) -> Calibration:
    """Measure and choose; see `ActionSelector.calibrate`."""
    asked = _ask(selector, chosen, _seen(selector, learned, split, seed), desired)
    score = _Score(selector, asked)
    network = score.of(asked.network, np.arange(len(asked.taken)))
    exact, interpolated = _exact(asked, score), _interpolated(selector, asked, score)
    curves = [
        tuple(made for threshold in tier.tried() if (made := _alone(tier, threshold, network)) is not None)
        for tier in (exact, interpolated)
    ]
    best, thresholds, counts = _best(exact, interpolated, network, asked.episodes)
    return Calibration(
        exact_threshold=thresholds[0],
        interpolation_threshold=thresholds[1],
        desired_return=desired,
        measure=score.measure,
        episodes=len(np.unique(asked.episodes)),
        steps=len(network),
        network_agreement=float(network.mean()),
        cascade_agreement=best,
        exact_count=counts[0],
        interpolation_count=counts[1],
        exact=curves[0],
        interpolation=curves[1],
    )


def _best(
    exact: _Tier, interpolated: _Tier, network: Doubles, episodes: npt.NDArray[np.intp]
) -> tuple[float, tuple[float, float], tuple[int, int]]:
    """Return the cascade that agrees most, its tiers surely losing no more than `_LOSS` where they answer.

    Tier 1 from where it gains most by itself, or closed; then tier 2 behind it. Of equals the one whose
    precedents answer more: they say why. With both tiers closed it is the network, so there always is one.
    """
    everywhere = np.ones(len(network), bool)
    closed = _Opened(math.inf, 0.0, ~everywhere)
    first = _foremost([closed, *_opened(exact, network, episodes, everywhere)])
    cascades = []
    for one in (closed,) if first is closed else (closed, first):
        second = _foremost([closed, *_opened(interpolated, network, episodes, ~one.answered)])
        counts = int(one.answered.sum()), int(second.answered.sum())
        cascades.append((one.gain + second.gain, counts, (one.threshold, second.threshold)))
    gain, counts, chosen = max(cascades, key=lambda found: (round(found[0], 9), sum(found[1]), found[1][0]))
    return float(network.sum() + gain) / len(network), chosen, counts


@dataclass(frozen=True)
class _Opened:
    """A tier from one threshold on.

    Attributes:
        threshold: The least similarity.
        gain: How many steps more than the network it agrees on.
        answered: `[n]`, the steps that it answers.
    """

    threshold: float
    gain: float
    answered: npt.NDArray[np.bool_]


def _opened(
    tier: _Tier, network: Doubles, episodes: npt.NDArray[np.intp], free: npt.NDArray[np.bool_]
) -> list[_Opened]:
    """Return from which thresholds a tier may answer the steps that are free.

    They are tested in orders that do not depend on who was right: from those that let it answer an eighth and
    a half of the steps that it can, both ways, up to the first that fails. Along such a way any that would be
    wrong to open is let through as rarely as by a single test, however many there are and whichever is chosen
    in the end (fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995; of thresholds: Angelopoulos et al.
    2021). Which steps tier 1 leaves free does depend on it, so behind it that holds approximately.
    """
    told = []
    for threshold in tier.tried():
        gains = tier.at(threshold) - network
        answered = ~np.isnan(gains) & free
        if len(np.unique(episodes[answered])) >= _WITNESSES:
            gains = gains[answered]
            holds = _holds(gains, episodes[answered])
            told.append((_Opened(threshold, float(gains.sum()), answered), holds))
    counts = np.array([found.answered.sum() for found, _ in told])
    passed = []
    for share in _STARTS if told else ():
        start = int(np.abs(share * counts - counts.max()).argmin())
        for way in (told[start:], told[start::-1]):
            passed += [found for found, _ in itertools.takewhile(lambda point: point[1], way)]
    return [found for found in passed if round(found.gain, 9) >= 0.0]


def _foremost(opened: list[_Opened]) -> _Opened:
    """Return what gains most; of equals what answers more."""
    return max(opened, key=lambda found: (round(found.gain, 9), int(found.answered.sum())))


def _holds(gains: Doubles, episodes: npt.NDArray[np.intp]) -> bool:
    """Whether a tier that gains so much over the network, step by step, surely loses no more than `_LOSS`.

    The variance of the sum is what the steps tell, or the episodes as wholes, and a little more for what was
    never seen.
    """
    by_episode = np.bincount(episodes, gains)
    variance = max(float((gains**2).sum()), float((by_episode**2).sum())) + _UNSEEN
    return float(gains.sum()) - _SURE * math.sqrt(variance) >= -_LOSS * len(gains)


def _alone(tier: _Tier, threshold: float, network: Doubles) -> ThresholdAgreement | None:
    told = tier.at(threshold)
    answered = ~np.isnan(told)
    if not answered.any():
        return None
    return ThresholdAgreement(
        threshold=threshold,
        count=int(answered.sum()),
        agreement=float(told[answered].mean()),
        network_agreement=float(network[answered].mean()),
    )


def _exact(asked: _Asked, score: _Score) -> _Tier:
    similarities = np.full((len(asked.found), 1), -math.inf)
    scores = np.full(len(asked.found), np.nan)
    there = np.array([i for i, hits in enumerate(asked.found) if hits.similarities], np.intp)
    if len(there):
        similarities[there, 0] = [asked.found[i].similarities[0] for i in there]
        scores[there] = score.of(np.stack([asked.found[i].actions[0] for i in there]), there)
    return _Tier(similarities[:, 0], {1: scores}, similarities)


def _interpolated(selector: ActionSelector, asked: _Asked, score: _Score) -> _Tier:
    n, fewest = len(asked.found), selector.min_interpolation_samples
    k = max(len(hits.similarities) for hits in asked.found)  # at most `interpolation_k`, and mostly that
    similarities = np.full((n, k), -math.inf)
    for i, hits in enumerate(asked.found):
        similarities[i, : len(hits.similarities)] = hits.similarities
    scores = {}
    for neighbours in range(fewest, k + 1):
        told = np.full(n, np.nan)
        there, means = [], []
        for i, hits in enumerate(asked.found):
            actions = hits.actions[:neighbours]
            if len(actions) == neighbours and agreement(actions) >= selector.min_agreement:
                there.append(i)
                means.append(interpolation(actions, np.asarray(hits.similarities[:neighbours]))[0])
        if there:
            told[there] = score.of(np.stack(means), np.array(there))
        scores[neighbours] = told
    reach = similarities[:, fewest - 1] if fewest <= k else np.full(n, -math.inf)
    return _Tier(reach, scores, similarities)


class _Score:
    """How well actions agree with those taken, in [0, 1] each."""

    def __init__(self, selector: ActionSelector, asked: _Asked) -> None:
        from precedent.patterns import PatternLibrary

        known = {p.pattern_id: p.embedding for p in PatternLibrary(selector.store) if p.embedding is not None}
        for name in sorted(set(asked.patterns) - known.keys()):  # it went while the steps were asked about
            known[name] = asked.taken[[taken == name for taken in asked.patterns]].mean(axis=0)
        places = {name: i for i, name in enumerate(known)}
        self._gallery = _unit(np.stack(list(known.values())))
        self._taken = _unit(asked.taken)
        self._patterns = np.array([places[name] for name in asked.patterns], np.intp)
        own = (self._taken * self._gallery[self._patterns]).sum(axis=1)
        told_apart = len(set(asked.patterns)) > 1 and float(own.mean()) >= _PATTERNED
        self.measure = "pattern" if told_apart else "cosine"

    def of(self, actions: Floats, steps: npt.NDArray[np.intp]) -> Doubles:
        """Return the agreement of actions `[n, a]` with those of these steps."""
        unit = _unit(actions)
        if self.measure == "cosine":
            told: Doubles = np.clip((unit * self._taken[steps]).sum(axis=1), 0.0, 1.0)
            return told
        # Patterns may share an embedding: the one that was taken must be as near as any. Zeros are near none.
        cosines = unit @ self._gallery.T
        own = cosines[np.arange(len(steps)), self._patterns[steps]]
        return np.asarray((own >= cosines.max(axis=1) - _ROUNDING) & unit.any(axis=1), np.float64)


def _unit(rows: npt.NDArray[Any]) -> Doubles:
    lengths = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    unit: Doubles = np.divide(rows, lengths, out=np.zeros(rows.shape), where=lengths > 0)
    return unit


def _seen(
    selector: ActionSelector, learned: list[dict[str, Any] | None], split: float, seed: int
) -> set[str]:
    """Return the episodes that runs with these conditions learn from."""
    from precedent import _core

    seen: set[str] = set()
    for conditions in learned:
        names = list(selector.store.episodes(conditions))
        sides = zip(names, _core.held_out(names, split, seed), strict=True)
        seen.update(name for name, held_out in sides if not held_out)
    return seen


def _ask(selector: ActionSelector, chosen: dict[str, Any] | None, seen: set[str], desired: float) -> _Asked:
    reached, _ = selector._condition(desired, chosen)
    good = [] if reached is None else list(selector.store.episodes(reached))
    condition = reached or {}
    asked = [name for name in good if name not in seen]
    parts = []
    steps = 0
    # In an order of its own, so that those left out beyond the most are any.
    for episode, i in enumerate(np.random.default_rng(0).permutation(len(asked))):
        if steps >= _MOST:
            break
        own = {**condition, "episode_id": [asked[i]]}
        batches = list(_steps_of(selector, asked[i], own, desired))
        length = sum(len(taken) for _, taken, _, _ in batches)
        for states, taken, patterns, network in batches:
            found = _elsewhere(selector, states, condition, good, asked[i], length)
            parts.append((patterns, taken, network, found, np.full(len(taken), episode)))
        steps += length
    if steps < _FEWEST:
        raise InsufficientDataError(
            f"calibrating needs {_FEWEST} steps of held-out episodes that reached the desired return, "
            f"there are {steps}",
            _FEWEST,
            steps,
        )
    return _Asked(
        episodes=np.concatenate([part[4] for part in parts])[:_MOST],
        patterns=[name for part in parts for name in part[0]][:_MOST],
        taken=np.concatenate([part[1] for part in parts])[:_MOST],
        network=np.concatenate([part[2] for part in parts])[:_MOST],
        found=[hits for part in parts for hits in part[3]][:_MOST],
    )


def _elsewhere(
    selector: ActionSelector,
    states: Floats,
    condition: dict[str, Any],
    good: list[str],
    own: str,
    length: int,
) -> list[Hits]:
    """Return the precedents of states in other episodes than their own, which has so many steps."""
    k = selector.interpolation_k
    # A long episode's own steps would be read once for each of them and held at once: so only where they are
    # no more than the names that would be looked up instead.
    if length**2 <= len(good):
        found = selector._search_many(states, condition, None, k + length)
        return [hits.outside(own, k) for hits in found]
    others = [name for name in good if name != own]
    return selector._search_many(states, {**condition, "episode_id": others}, None, k)


def _steps_of(
    selector: ActionSelector, name: str, own: dict[str, Any], desired: float
) -> Iterator[tuple[Floats, Floats, list[str], Floats]]:
    """Walk the matching steps of an episode: states, actions, patterns, and what the network would do."""
    layer = selector.layer
    if layer is None:
        raise AssertionError("the selector checks that there is a network")
    places: dict[str, int] | None = None
    contexts = None
    if layer.context != "none" or layer.timesteps:
        try:
            whole = selector.store.get_episode(name)
        except NotFoundError:  # deleted meanwhile
            return
        places = {str(step.id): i for i, step in enumerate(whole)}
        if layer.context != "none":
            contexts = layer.context_of(whole.states, whole.actions)
    for batch in selector.store.iter_batches(own):
        states, actions = np.asarray(batch.states), np.asarray(batch.actions)
        names = [str(pattern) for pattern in batch.pattern_ids]
        at: list[int] = []
        if places is not None:
            # Steps that were inserted meanwhile have no place in the episode that was read.
            ids = [str(id_) for id_ in batch.ids or ()]
            kept = [i for i, id_ in enumerate(ids) if id_ in places]
            if not kept:
                continue
            at = [places[ids[i]] for i in kept]
            states, actions, names = states[kept], actions[kept], [names[i] for i in kept]
        network = layer.predict_many(
            states,
            desired,
            contexts=None if contexts is None else contexts[at],
            timesteps=at if layer.timesteps else None,
        )
        yield states, actions, names, network
