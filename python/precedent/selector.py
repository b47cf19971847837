"""The cascade: an exact precedent, else an interpolation of near ones, else the network, else a pattern.

Seeds: ActionSelector of the API reference and of the architecture document. Where they differ, the return
condition is inside the search, so that a near step that ended badly does not hide a near one that ended well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.config import METRICS
from precedent.decisions import (
    ActionMetadata,
    ActionResult,
    Log,
    SelectorStats,
    Tally,
    Tier,
    decided,
)
from precedent.errors import NoActionError, ValidationError
from precedent.filters import Filter, normalised
from precedent.fit import agreed_scale, check_asked, check_fit, check_store
from precedent.patterns import PatternLibrary
from precedent.questions import searchable
from precedent.retrieval import Hits
from precedent.tiers import exact, interpolated

if TYPE_CHECKING:
    import os

    from precedent.layer import DecisionLayer
    from precedent.rollout import Rollout
    from precedent.store import TrajectoryStore
    from precedent.thresholds import Calibration

__all__ = ["ActionSelector"]

Condition = dict[str, Any]

# For each scale: the store's name for the returns it ranks, and the filter that holds a row to one of them.
_SCALES = {
    "raw": (None, "min_return"),
    "quantile": ("return", "min_return"),
    "episode": ("episode", "min_episode_reward"),
}


class ActionSelector:
    """Chooses actions by precedent.

    Args:
        store: Where the precedents are.
        layer: The network of tier 3; without one, or before it learned, that tier passes.
        exact_threshold: The similarity from which one precedent suffices. Infinity closes the tier.
        interpolation_threshold: The similarity from which a precedent enters the interpolation. Infinity
            closes the tier.
        interpolation_k: Neighbours looked at, at least 1.
        min_interpolation_samples: Fewer near precedents than this are not interpolated.
        fallback_to_neural: Whether tier 3 is asked.
        return_scale: What a desired return means: "raw" (a return to go), "quantile" (of the returns to go),
            "episode" (of the episodes' total rewards). None = the layer's, or raw without a layer.
        metric: "cosine", "euclidean" or "dot"; None = the store's.
        min_agreement: Neighbours that agree less, in [0, 1], are not interpolated.
        min_confidence: Tier 3 passes where the network is less confident, in [0, 1].
        patterns: The library for tier 4 and for the names of generated actions.
        hybrid_mode: Whether a pattern replaces tier 3 where the lower bound of its success rate is above the
            network's confidence.
        fallback_to_patterns: Whether tier 4 answers where nothing else does.
        log: Gets every result: a callable, or the path of a file to which each is added as a line of JSON.

    Example:
        >>> from precedent import ActionSelector, TrajectoryBatch, TrajectoryStore
        >>> store = TrajectoryStore(":memory:", dimension=2)
        >>> seen = TrajectoryBatch(  # one situation twice: retrying failed, asking worked
        ...     states=[[1.0, 0.0], [1.0, 0.0]], actions=[[1.0, 0.0], [0.0, 1.0]],
        ...     rewards=[-1.0, 1.0], returns_to_go=[-1.0, 1.0], pattern_ids=["retry", "ask"],
        ...     episode_ids=["monday", "tuesday"], task_types="build",
        ... )
        >>> _, asked = store.insert_batch(seen)
        >>> result = ActionSelector(store).select_action([1.0, 0.01], desired_return=0.5)
        >>> result.tier.name, result.pattern_id, result.metadata.trajectory_ids == (asked,)
        ('EXACT', 'ask', True)
        >>> store.close()

    Raises:
        ValidationError: An option is of the wrong kind or range, or the scale is not the layer's.
        DimensionError: The layer's sizes are not the store's.
        EncoderMismatchError: The layer learned from another encoder's states.
    """

    def __init__(
        self,
        store: TrajectoryStore,
        layer: DecisionLayer | None = None,
        *,
        exact_threshold: float = 0.99,
        interpolation_threshold: float = 0.95,
        interpolation_k: int = 5,
        min_interpolation_samples: int = 3,
        fallback_to_neural: bool = True,
        return_scale: str | None = None,
        metric: str | None = None,
        min_agreement: float = 0.0,
        min_confidence: float = 0.0,
        patterns: PatternLibrary | None = None,
        hybrid_mode: bool = False,
        fallback_to_patterns: bool = True,
        log: Log | str | os.PathLike[str] | None = None,
    ) -> None:
        self.exact_threshold = checks.number("exact_threshold", exact_threshold, finite=False)
        self.interpolation_threshold = checks.number(
            "interpolation_threshold", interpolation_threshold, finite=False
        )
        self.interpolation_k = checks.integer("interpolation_k", interpolation_k, low=1)
        self.min_interpolation_samples = checks.integer(
            "min_interpolation_samples", min_interpolation_samples, low=1
        )
        self.fallback_to_neural = checks.flag("fallback_to_neural", fallback_to_neural)
        self.metric = None if metric is None else checks.choice("metric", metric, METRICS)
        self.min_agreement = checks.number("min_agreement", min_agreement, low=0.0, high=1.0)
        self.min_confidence = checks.number("min_confidence", min_confidence, low=0.0, high=1.0)
        self.hybrid_mode = checks.flag("hybrid_mode", hybrid_mode)
        self.fallback_to_patterns = checks.flag("fallback_to_patterns", fallback_to_patterns)
        check_store(store)
        if return_scale is not None:
            checks.choice("return_scale", return_scale, _SCALES)
        if layer is not None:
            check_fit(store, layer)
            return_scale = agreed_scale(return_scale, layer)
        self.return_scale = return_scale or "raw"
        self.store = store
        self.layer = layer
        if patterns is not None and not isinstance(patterns, PatternLibrary):
            raise checks.refuse("patterns", "a PatternLibrary", patterns)
        self.patterns = patterns
        self._tally = Tally(log)

    def select_action(
        self,
        state: Any,
        desired_return: float = 0.9,
        *,
        filter: Filter | None = None,
        context: Any = None,
        timestep: int | None = None,
    ) -> ActionResult:
        """Choose an action for a state.

        Args:
            state: An embedding `[d]`, or text or a task for a store with an encoder.
            desired_return: What the precedents must have reached, on the selector's scale; in [0, 1] on the
                scales "quantile" and "episode".
            filter: Which precedents count.
            context: `[d]` for the network.
            timestep: The position in the episode, for the network.

        Raises:
            NoActionError: No tier had an answer; it says for each what it lacked.
            ValidationError: An argument is of the wrong kind or range.
            ClosedError: The store is closed.
        """
        began = perf_counter()
        self.store._require_open()
        vector = self.store._query_vector(state)
        desired = self._desired(desired_return)
        chosen = normalised(filter)
        if context is not None:
            context = checks.finite("context", checks.vector("context", context, self.store.dimension))
        if timestep is not None:
            timestep = checks.integer("timestep", timestep)
        condition, used = self._condition(desired, chosen)
        if condition is None or self._closed_to_retrieval():
            hits = None
            searchable(vector[None], cosine=self._by_cosine(), many=False)
        else:
            hits = self._search(vector, condition)
        result = self._cascade(vector, hits, desired, used, chosen, context, timestep, began)
        self._tally.add(result)
        return result

    def select_many(
        self,
        states: Any,
        desired_return: float | Sequence[float] | npt.NDArray[np.floating[Any]] = 0.9,
        *,
        filter: Filter | None = None,
        contexts: Any = None,
        timesteps: Sequence[int] | None = None,
    ) -> list[ActionResult]:
        """Choose an action for each of many states: one search for all, the same answers as one by one.

        Args:
            states: Embeddings `[n, d]`, or n texts or tasks for a store with an encoder.
            desired_return: One for all, or n: a sequence or an array `[n]`.
            filter: Which precedents count.
            contexts: `[n, d]` for the network.
            timesteps: n positions for the network.

        Raises:
            NoActionError: No tier had an answer for one of them; the message has its position, and nothing is
                returned.
            ValidationError: See `select_action`.
        """
        began = perf_counter()
        self.store._require_open()
        vectors = self.store._query_matrix(states)
        searchable(vectors, cosine=self._by_cosine(), many=True)
        n = len(vectors)
        desired = self._desired_of_each(desired_return, n)
        if contexts is not None:
            contexts = checks.finite("contexts", checks.matrix("contexts", contexts, self.store.dimension, n))
        if timesteps is not None:
            timesteps = checks.column("timesteps", timesteps, n, np.int64).tolist()
            timesteps = [checks.integer(f"timesteps[{i}]", at) for i, at in enumerate(timesteps)]
        chosen = normalised(filter)
        found: list[tuple[Hits | None, float | None]] = [(None, None)] * n
        groups: dict[float, list[int]] = {}
        for i, value in enumerate(desired):
            groups.setdefault(value, []).append(i)
        for value, group in groups.items():
            condition, used = self._condition(value, chosen)
            skip = condition is None or self._closed_to_retrieval()
            answers = (
                [None] * len(group)
                if skip
                else self._search_many(vectors[group], condition, self._least(), self.interpolation_k)
            )
            for i, answer in zip(group, answers, strict=True):
                found[i] = (answer, used)
        share = (perf_counter() - began) / max(n, 1)
        results = []
        for i, (hits, used) in enumerate(found):
            context = None if contexts is None else contexts[i]
            timestep = None if timesteps is None else timesteps[i]
            begun = perf_counter() - share
            try:
                result = self._cascade(vectors[i], hits, desired[i], used, chosen, context, timestep, begun)
            except NoActionError as error:
                raise NoActionError(f"states[{i}]: {error}", error.lacked) from error
            results.append(result)
        for result in results:
            self._tally.add(result)
        return results

    def start_episode(
        self,
        desired_return: float,
        *,
        gamma: float = 0.99,
        filter: Filter | None = None,
    ) -> Rollout:
        """Begin an episode in which timestep, context and target follow by themselves.

        Args:
            desired_return: The return to ask for at the first step.
            gamma: The discount of the returns, in [0, 1]; after a reward r a raw target R becomes (R - r) /
                gamma.
            filter: Which precedents count.

        Raises:
            ValidationError: An argument is of the wrong kind or range.
        """
        from precedent.rollout import Rollout

        self.store._require_open()
        self._desired(desired_return)
        gamma = checks.number("gamma", gamma, low=0.0, high=1.0)
        return Rollout(self, float(desired_return), gamma, filter)

    def calibrate(
        self,
        filter: Filter | None = None,
        *,
        desired_return: float = 0.9,
        trained_on: Filter | None = None,
        validation_split: float = 0.2,
        seed: int = 0,
        apply: bool = True,
    ) -> Calibration:
        """Find the thresholds of tiers 1 and 2 for the encoder and the data at hand.

        The held-out episodes that reached the desired return are asked again, each without its own steps.
        Tier 1 answers from the similarity on from which it agrees best with what they did, tier 2 what is
        left from where it then does. A tier that agrees less often than the network, or is not sure to lose
        no more than 2 % of its steps, is closed: its threshold is infinity. Sure means to 95 %, for all
        thresholds together that might have been chosen: they are tested from those on that let the tier
        answer an eighth and a half of what it can, both ways up to the first that fails. A tier that does
        just what the network does is opened by some 550 steps of at least three episodes.

        Args:
            filter: Which episodes count, as precedents too.
            desired_return: What makes an episode good, on the selector's scale: what will be asked for.
            trained_on: The filter that the layer was trained with: what that run held out, or never saw, is
                asked about. None = what a run on everything and one with `filter` both hold out.
            validation_split: The trainer's, in [0, 1), so that the network is asked about what it did not
                learn. With 0 the trainer holds nothing out: what is left is what `trained_on` never saw.
            seed: The trainer's.
            apply: Whether the selector takes the thresholds over.

        Raises:
            NotTrainedError: There is no network to compare with, or it never learned.
            InsufficientDataError: Fewer than 20 steps of good held-out episodes.
            ValidationError: An argument is of the wrong kind or range, or `fallback_to_neural` is off.
        """
        from precedent.thresholds import calibration

        check_asked(self.layer, fallback=self.fallback_to_neural)
        split = checks.number("validation_split", validation_split, low=0.0, high=math.nextafter(1.0, 0.0))
        seed = checks.integer("seed", seed, high=2**64 - 1)
        apply = checks.flag("apply", apply)
        chosen = normalised(filter)
        learned = [chosen, None] if trained_on is None else [normalised(trained_on)]
        found = calibration(self, chosen, learned, self._desired(desired_return), split, seed)
        if apply:
            self.exact_threshold = found.exact_threshold
            self.interpolation_threshold = found.interpolation_threshold
        return found

    def stats(self) -> SelectorStats:
        """Return how often each tier answered, and how fast."""
        return self._tally.stats()

    def _desired(self, value: Any, name: str = "desired_return") -> float:
        if self.return_scale == "raw":
            return checks.number(name, value)
        return checks.number(name, value, low=0.0, high=1.0)

    def _desired_of_each(self, given: Any, n: int) -> list[float]:
        """Return n desired returns, of as many in order or of one for all."""
        if hasattr(given, "__array__"):
            array = np.asanyarray(given)
            if array.ndim > 1:
                raise checks.refuse("desired_return", f"one number or {n}", array)
            given = array.tolist()
        if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
            return [self._desired(given)] * n
        if not isinstance(given, Sequence):
            # A set's order is arbitrary, so that nobody can say which state gets which.
            raise checks.refuse("desired_return", f"one number or a sequence of {n}", given)
        desired = [self._desired(value, f"desired_return[{i}]") for i, value in enumerate(given)]
        if len(desired) != n:
            raise ValidationError(f"desired_return: expected one number or {n}, got {len(desired)}")
        return desired

    def _condition(self, desired: float, chosen: Condition | None) -> tuple[Condition | None, float | None]:
        """Return the filter that holds rows to a desired return, and the number it came to.

        None and None where no row has a return of that kind: then nothing can be retrieved.
        """
        ranked, key = _SCALES[self.return_scale]
        used: float | None = desired
        if ranked is not None:
            used = self.store._core.quantiles(ranked, [desired], chosen)[0]
            if used is None:
                return None, None
        condition = dict(chosen or {})
        condition[key] = max(used, condition.get(key, -math.inf))
        return condition, used

    def _closed_to_retrieval(self) -> bool:
        return self.exact_threshold == self.interpolation_threshold == math.inf

    def _by_cosine(self) -> bool:
        return (self.metric or self.store._core.hnsw["metric"]) == "cosine"

    def _least(self) -> float:
        return min(self.exact_threshold, self.interpolation_threshold)

    def _search(self, vector: npt.NDArray[np.float32], condition: Condition) -> Hits:
        k, least = self.interpolation_k, self._least()
        return Hits(self.store._core.search(vector, k, self.metric, least, condition, False, None))  # noqa: FBT003

    def _search_many(
        self, vectors: npt.NDArray[np.float32], condition: Condition | None, threshold: float | None, k: int
    ) -> list[Hits]:
        """Return the `k` nearest precedents of each state `[n, d]`; None = of whatever similarity."""
        answers = self.store._core.search_many(vectors, k, self.metric, threshold, condition, False, None)  # noqa: FBT003
        return [Hits(found) for found in answers]

    def _cascade(
        self,
        vector: npt.NDArray[np.float32],
        hits: Hits | None,
        desired: float,
        used: float | None,
        chosen: Condition | None,
        context: Any,
        timestep: int | None,
        began: float,
    ) -> ActionResult:
        lacked: dict[int, str] = {}
        result = (
            exact(self, hits, used, lacked, began)
            or interpolated(self, hits, used, lacked, began)
            or self._generated(vector, desired, used, chosen, context, timestep, lacked, began)
            or self._pattern(vector, chosen, used, lacked, began)
        )
        if result is not None:
            return result
        self._tally.lack()
        reasons = "; ".join(f"{Tier(tier).name.lower()}: {reason}" for tier, reason in sorted(lacked.items()))
        raise NoActionError(f"no tier of the cascade had an answer ({reasons})", lacked)

    def _generated(
        self,
        vector: npt.NDArray[np.float32],
        desired: float,
        used: float | None,
        chosen: Condition | None,
        context: Any,
        timestep: int | None,
        lacked: dict[int, str],
        began: float,
    ) -> ActionResult | None:
        if not self.fallback_to_neural:
            lacked[Tier.GENERATED] = "fallback_to_neural is off"
            return None
        if self.layer is None or not self.layer.trained:
            lacked[Tier.GENERATED] = (
                "there is no layer" if self.layer is None else "the layer was never trained"
            )
            return None
        prediction = self.layer.predict_with_confidence(vector, desired, context=context, timestep=timestep)
        confidence = prediction.confidence or 0.0
        if confidence < self.min_confidence:
            lacked[Tier.GENERATED] = (
                f"the network's confidence is {confidence:.2f}, {self.min_confidence:g} is needed"
            )
            return None
        if self.hybrid_mode:
            better = self._pattern(
                vector, chosen, used, {}, began, above=confidence, score=prediction.confidence
            )
            if better is not None:
                return better
        low, high = prediction.low, prediction.high
        metadata = ActionMetadata(
            neural_score=prediction.confidence,
            interval=None if low is None or high is None else (low, high),
            return_used=used,
        )
        name = self._nearest_pattern(prediction.action)
        return decided(prediction.action, name, Tier.GENERATED, confidence, metadata, began)

    def _nearest_pattern(self, action: npt.NDArray[np.float32]) -> str | None:
        if self.patterns is None or not action.any():
            return None
        found = self.patterns.search(action, k=1)
        return found[0].pattern_id if found else None

    def _pattern(
        self,
        vector: npt.NDArray[np.float32],
        chosen: Condition | None,
        used: float | None,
        lacked: dict[int, str],
        began: float,
        *,
        above: float | None = None,
        score: float | None = None,
    ) -> ActionResult | None:
        if self.patterns is None or (above is None and not self.fallback_to_patterns):
            lacked[Tier.PATTERN] = (
                "no pattern library is given" if self.patterns is None else "it is turned off"
            )
            return None
        found = self.patterns.match(vector, k=1, filter=chosen)
        if not found or found[0].pattern.embedding is None or (above is not None and found[0].low <= above):
            lacked[Tier.PATTERN] = "no pattern was taken in a similar state"
            return None
        best = found[0]
        metadata = ActionMetadata(
            similarity=best.similarity,
            neural_score=score,
            interval=(best.low, best.high),
            return_used=used,
        )
        return decided(best.pattern.embedding, best.pattern_id, Tier.PATTERN, best.low, metadata, began)
