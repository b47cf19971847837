"""The decision layer: a small network from state, desired return and context to an action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from precedent import _core, checks, questions
from precedent.config import DecisionLayerConfig
from precedent.network import Gradients, NetworkWeights, Prediction, TrainingMetrics

if TYPE_CHECKING:
    import os

    from precedent._core import Layer

__all__ = ["DecisionLayer"]

Floats = npt.NDArray[np.float32]

# A global of this module is found sooner than one of numpy's, and every answer is checked.
_isfinite = np.isfinite


class DecisionLayer:
    """A two-layer network that answers where no precedent is near enough.

    Input: state || return code || context, each `state_size` wide; hidden ReLU; linear output. 787,456
    parameters at 768 dimensions. Same seed and same data give the same weights bit for bit, at any number of
    threads. Large batches (a step of 19 samples or more at 768 dimensions) are shared among all processors;
    their threads stay as long as the layer.

    Args:
        state_size: Dimensions of a state.
        action_size: Dimensions of an action.
        hidden_size: Hidden units.
        learning_rate: Step size.
        momentum: Of `sgd`.
        weight_decay: Decoupled and sparing biases under `adamw`; added to the gradient (L2) under `adam` and
            `sgd`.
        optimizer: `"adamw"` (Loshchilov and Hutter 2019), `"adam"` (Kingma and Ba 2015) or `"sgd"`.
        clip_norm: The largest global norm of a gradient; None = no clipping.
        encoding: The code of the desired return: `"compact"` (near returns have near codes, norm 1) or the
            seed's.
        context: What trainer and rollout put into the context block: `"none"` (zeros), `"history"` (the mean
            of the last states before this one) or `"previous_action"` (where states and actions are of one
            size).
        history_length: How many states `history` averages.
        return_scale: What a desired return is: `"raw"` (a return to go), `"quantile"` (its quantile among the
            rows that match) or `"episode"` (the quantile of the episode's total reward).
        return_range: The returns that are mapped to 0 and 1; None = (0, 1) until a trainer sets it
            from its data.
        seed: Keys the initial weights.

    Example:
        >>> from precedent import DecisionLayer
        >>> layer = DecisionLayer(state_size=2, action_size=2, hidden_size=32, learning_rate=0.02)
        >>> for _ in range(200):  # in the first state action 0 was right, in the second action 1
        ...     step = layer.train(states=[[1, 0], [0, 1]], actions=[[1, 0], [0, 1]], returns=1.0)
        >>> step.loss < 0.01
        True
        >>> int(layer.predict([0.9, 0.1], desired_return=1.0).argmax())
        0

    Raises:
        ValidationError: A setting of the wrong kind or range.
    """

    __slots__ = ("_core", "_settings")

    # The compiled layer, for the rest of this package.
    _core: Layer
    _settings: dict[str, Any]

    def __init__(
        self,
        state_size: int,
        action_size: int,
        *,
        hidden_size: int = 256,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        optimizer: Literal["adamw", "adam", "sgd"] = "adamw",
        clip_norm: float | None = 1.0,
        encoding: Literal["compact", "seed"] = "compact",
        context: Literal["none", "history", "previous_action"] = "none",
        history_length: int = 5,
        return_scale: Literal["raw", "quantile", "episode"] = "raw",
        return_range: tuple[float, float] | None = None,
        seed: int = 0,
    ) -> None:
        # The settings of a workspace may leave the sizes to the store; a layer of its own needs them.
        checks.integer("state_size", state_size, low=1)
        checks.integer("action_size", action_size, low=1)
        settings = DecisionLayerConfig(
            state_size=state_size,
            action_size=action_size,
            hidden_size=hidden_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            optimizer=optimizer,
            clip_norm=clip_norm,
            encoding=encoding,
            context=context,
            history_length=history_length,
            return_scale=return_scale,
            return_range=return_range,
            seed=seed,
        )
        given = {name: getattr(settings, name) for name in settings.readers}
        self._take(_core.Layer(given))

    @classmethod
    def _of(cls, core: Layer) -> Self:
        """Return the face of a layer of the core; what a workspace makes of the file's model."""
        layer = object.__new__(cls)
        layer._take(core)
        return layer

    def _take(self, core: Layer) -> None:
        # All but the return range, which a trainer may set, stay as they are: no need to ask again.
        self._core = core
        self._settings = core.settings

    @property
    def state_size(self) -> int:
        """Dimensions of a state."""
        return self._settings["state_size"]  # type: ignore[no-any-return]

    @property
    def action_size(self) -> int:
        """Dimensions of an action."""
        return self._settings["action_size"]  # type: ignore[no-any-return]

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.state_size, self.action_size

    @property
    def hidden_size(self) -> int:
        """Hidden units."""
        return self._settings["hidden_size"]  # type: ignore[no-any-return]

    @property
    def context(self) -> str:
        """`"none"`, `"history"` or `"previous_action"`."""
        return self._settings["context"]  # type: ignore[no-any-return]

    @property
    def history_length(self) -> int:
        """How many states the context `history` averages."""
        return self._settings["history_length"]  # type: ignore[no-any-return]

    @property
    def return_scale(self) -> str:
        """`"raw"`, `"quantile"` or `"episode"`."""
        return self._settings["return_scale"]  # type: ignore[no-any-return]

    @property
    def return_range(self) -> tuple[float, float]:
        """The returns that are mapped to 0 and 1."""
        return self._core.return_range

    @property
    def settings(self) -> DecisionLayerConfig:
        """All settings: those it was made with, and the return range that a trainer set."""
        return DecisionLayerConfig(**self._core.settings)

    @property
    def trained(self) -> bool:
        """Whether it learned, or was given weights; before that it refuses to predict."""
        return self._core.trained

    @property
    def calibrated(self) -> bool:
        """Whether its predictions have a confidence."""
        return self._core.calibrated

    @property
    def timesteps(self) -> bool:
        """Whether it was trained with step numbers; only then does a rollout pass them."""
        return self._core.timesteps

    @property
    def encoder(self) -> str | None:
        """The fingerprint of the encoder whose states it was trained on."""
        return self._core.encoder

    @property
    def inference(self) -> str:
        """With what it answers: `"bf16"`, weights rounded to 16 bits, or `"f32"`, the weights as they are.

        `"bf16"` unless it is set, since reading the weights is what an answer waits for. Layers of fewer than
        65,536 weights answer in float32 anyway, and so does any question whose answer might move by over 1 %.
        It touches neither training nor losses, and no file keeps it.
        """
        return self._core.inference

    @inference.setter
    def inference(self, name: Literal["bf16", "f32"]) -> None:
        self._core.set_inference(checks.choice("inference", name, ("bf16", "f32")))

    @property
    def inference_error(self) -> float:
        """How far rounded answers are from those in float32, relative to their length; 0 in float32.

        It is the largest error among eight questions, measured when the weights are rounded: of states that a
        trainer kept, else of random ones. By it and the size of its terms each answer is judged.
        """
        return self._core.inference_error

    @property
    def members(self) -> tuple[Self, ...]:
        """Copies of the networks whose mean it answers with, each as a layer of its own; mostly one."""
        return tuple(type(self)._of(member) for member in self._core.members)

    def predict(
        self, state: Any, desired_return: float, *, context: Any = None, timestep: int | None = None
    ) -> Floats:
        """Return the action `[a]` for a state `[d]` and a desired return.

        Args:
            state: `[d]`.
            desired_return: On the layer's `return_scale`.
            context: `[d]`; None = zeros.
            timestep: The step's position in its episode, from 0; None = not told.

        Raises:
            NotTrainedError: The layer never learned.
            ValidationError: Something of another kind or size, or not finite; or numbers so large that the
                answer would not be finite.
        """
        asked = questions.one(self.state_size, state, desired_return, context, timestep)
        action = self._core.predict(*asked)
        if 0 in _isfinite(action).tobytes():  # half a microsecond, a third of what `.all()` takes
            raise questions.too_large(asked)
        return action

    def predict_many(
        self, states: Any, desired_returns: Any, *, contexts: Any = None, timesteps: Any = None
    ) -> Floats:
        """Return actions `[n, a]` for states `[n, d]` and one desired return or `n`.

        Raises:
            NotTrainedError: The layer never learned.
            ValidationError: Something of another kind or size, or not finite; or numbers so large that an
                answer would not be finite.
        """
        asked = questions.several(
            self.state_size, states, desired_returns, contexts, timesteps, "desired_returns"
        )
        actions = self._core.predict_many(*asked)
        sound = _isfinite(actions)
        if not sound.all():
            raise questions.too_large(asked, int(np.argwhere(~sound)[0, 0]))
        return actions

    def predict_with_confidence(
        self,
        state: Any,
        desired_return: float,
        *,
        context: Any = None,
        timestep: int | None = None,
        coverage: float = 0.8,
    ) -> Prediction:
        """Return the action for a state, with a calibrated confidence; the arguments are those of `predict`.

        The confidence rests on the length of the action, the shorter the more the actions disagree that were
        taken in such situations, on the distance of the state to those that a trainer learned from, and on
        how far the members of an ensemble are apart. The interval is conformal (Vovk et al. 2005): its
        coverage is that of the average over situations like those it was calibrated on, also among the surer
        and the less sure answers by themselves. Too few of them to tell, and it is all of [0, 1].

        Args:
            state: `[d]`.
            desired_return: On the layer's `return_scale`.
            context: `[d]`; None = zeros.
            timestep: The step's position in its episode, from 0; None = not told.
            coverage: The share of the similarities that the interval is to hold, between 0 and 1.

        Raises:
            NotTrainedError: The layer never learned.
            ValidationError: Something of another kind or size, or not finite; or numbers so large that the
                answer would not be finite.
        """
        coverage = checks.number("coverage", coverage)
        if not 0.0 < coverage < 1.0:
            raise checks.refuse("coverage", "a number between 0 and 1", coverage)
        asked = questions.one(self.state_size, state, desired_return, context, timestep)
        action, confidence, low, high = self._core.predict_with_confidence(*asked, coverage)
        if 0 in _isfinite(action).tobytes():
            raise questions.too_large(asked)
        action.flags.writeable = False
        return Prediction(action=action, confidence=confidence, low=low, high=high)

    def inputs(self, states: Any, returns: Any, *, contexts: Any = None, timesteps: Any = None) -> Floats:
        """Return what the first layer sees, `[n, 3d]`, for reference implementations.

        Raises:
            ValidationError: Something of another kind or size, or not finite.
        """
        return self._core.inputs(*questions.several(self.state_size, states, returns, contexts, timesteps))

    def calibrate(
        self, states: Any, actions: Any, returns: Any, *, contexts: Any = None, timesteps: Any = None
    ) -> None:
        """Fit the confidence on data that was not trained on; the trainer does it on its validation split.

        Args:
            states: `[n, d]`.
            actions: The right actions `[n, a]`.
            returns: One or `n`.
            contexts: `[n, d]`.
            timesteps: `[n]`.

        Raises:
            NotTrainedError: The layer never learned.
            ValidationError: Something of another kind or size, or not finite.
        """
        asked = questions.several(self.state_size, states, returns, contexts, timesteps)
        targets = checks.matrix("actions", actions, self.action_size, len(asked[0]))
        self._core.calibrate(asked[0], targets, *asked[1:])

    def seed_confidence(
        self, state: Any, desired_return: float, *, context: Any = None, timestep: int | None = None
    ) -> float:
        """Return the seed's formula, for comparison: norms of hidden units and output against 50 and 10.

        It is not clipped and not calibrated.

        Raises:
            NotTrainedError: The layer never learned.
            ValidationError: Something of another kind or size, or not finite.
        """
        return self._core.seed_confidence(
            *questions.one(self.state_size, state, desired_return, context, timestep)
        )

    def train(
        self,
        states: Any,
        actions: Any,
        returns: Any,
        *,
        contexts: Any = None,
        timesteps: Any = None,
        weights: Any = None,
    ) -> TrainingMetrics:
        """Take one optimizer step on one batch, of each member. A refused batch changes nothing.

        Args:
            states: `[n, d]`.
            actions: The targets `[n, a]`.
            returns: The returns that were reached, one or `n`.
            contexts: `[n, d]`; None = zeros.
            timesteps: `[n]`; None = not told.
            weights: How much each sample counts, `[n]`, at least 0; normalised to sum 1.

        Raises:
            ValidationError: Something of another kind or size, or not finite.
            TrainingError: The loss is not finite; the weights stay as they were.
        """
        batch = questions.batch(self._sizes, states, actions, returns, contexts, timesteps, weights)
        return _metrics(self._core.train(*batch))

    def gradients(
        self,
        states: Any,
        actions: Any,
        returns: Any,
        *,
        contexts: Any = None,
        timesteps: Any = None,
        weights: Any = None,
    ) -> Gradients:
        """Return the gradient of one batch, and change nothing; the arguments are those of `train`.

        For samples that lie apart: each holder of a shard computes its gradient with a copy of this layer,
        and all apply `Gradients.mean` of them, or what an all-reduce makes of `flat`, `loss` and `weight`.
        With a single shard that is `train`, to the bits.

        Raises:
            ValidationError: Something of another kind or size, or not finite; or an ensemble, whose members
                learn apart.
            TrainingError: The loss or the gradient is not finite.
        """
        batch = questions.batch(self._sizes, states, actions, returns, contexts, timesteps, weights)
        flat, loss, weight = self._core.gradient(*batch)
        flat.flags.writeable = False
        return Gradients(flat=flat, loss=loss, weight=weight)

    def apply_gradients(self, gradients: Gradients) -> TrainingMetrics:
        """Take one optimizer step down a gradient, clipped like any. A refused one changes nothing.

        Args:
            gradients: Of this layer, as `gradients` or `Gradients.mean` make them.

        Raises:
            DimensionError: It is not as long as the layer has parameters.
            ValidationError: It is of another kind or not finite; or the layer is an ensemble.
        """
        if not isinstance(gradients, Gradients):
            raise checks.refuse("gradients", "Gradients", gradients)
        inputs, hidden, outputs = 3 * self.state_size, self.hidden_size, self.action_size
        parameters = (inputs + 1) * hidden + (hidden + 1) * outputs
        flat = checks.vector("gradients.flat", gradients.flat, parameters)
        checks.finite("gradients.flat", flat)
        return _metrics(self._core.apply(flat, checks.number("gradients.loss", gradients.loss)))

    def get_weights(self) -> NetworkWeights:
        """Return float32 copies of the weights; of an ensemble those of `members[0]`."""
        w1, b1, w2, b2 = self._core.weights()
        return NetworkWeights(W1=w1, b1=b1, W2=w2, b2=b2)

    def set_weights(self, weights: NetworkWeights) -> None:
        """Replace the weights; resets the optimizer, clears the calibration and leaves an ensemble.

        Raises:
            ValidationError: A matrix of another shape, or a number that is not finite.
        """
        if not isinstance(weights, NetworkWeights):
            raise checks.refuse("weights", "NetworkWeights", weights)
        inputs, hidden, actions = 3 * self.state_size, self.hidden_size, self.action_size
        self._core.set_weights(
            checks.matrix("W1", weights.W1, hidden, inputs),
            checks.vector("b1", weights.b1, hidden),
            checks.matrix("W2", weights.W2, actions, hidden),
            checks.vector("b2", weights.b2, actions),
        )

    def context_of(self, states: Any, actions: Any) -> Floats:
        """Return the context `[n, d]` of each step of an episode, by the layer's `context` setting.

        The first is zero, and none sees its own step's action. Training and rollouts use this same function.

        Args:
            states: All states so far `[n, d]`, in order.
            actions: The actions taken there `[n, a]`.

        Raises:
            ValidationError: Something of another kind or size, or not finite.
        """
        given = checks.matrix("states", states, self.state_size)
        return self._core.context_of(given, checks.matrix("actions", actions, self.action_size, len(given)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, settings, optimizer state and calibration as MessagePack, atomically.

        Raises:
            StorageError: The file cannot be written.
        """
        self._core.save(checks.path("path", path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote; training goes on to the same bits.

        Raises:
            StorageError: No such file, or one that is damaged, truncated or of another program.
        """
        return cls._of(_core.Layer.load(checks.path("path", path)))

    def export_safetensors(self, path: str | os.PathLike[str]) -> None:
        """Write the tensors W1, b1, W2, b2, with the settings as metadata.

        Raises:
            ValidationError: An ensemble: export its members one by one.
            StorageError: The file cannot be written.
        """
        self._core.export_safetensors(checks.path("path", path))

    @classmethod
    def from_safetensors(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `export_safetensors` wrote.

        Raises:
            StorageError: No such file, or one that is damaged or of another program.
        """
        return cls._of(_core.Layer.from_safetensors(checks.path("path", path)))

    def __repr__(self) -> str:
        sizes = f"{3 * self.state_size} -> {self.hidden_size} -> {self.action_size}"
        return f"<DecisionLayer {sizes}, {'trained' if self.trained else 'untrained'}>"


def _metrics(told: tuple[float, float, float, int]) -> TrainingMetrics:
    loss, gradient_norm, learning_rate, epoch = told
    return TrainingMetrics(loss=loss, gradient_norm=gradient_norm, learning_rate=learning_rate, epoch=epoch)
