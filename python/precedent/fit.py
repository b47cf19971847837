"""Whether a layer belongs to a store: of the same sizes, and made for states of the same encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from precedent import checks
from precedent.errors import DimensionError, EncoderMismatchError, NotTrainedError, ValidationError
from precedent.handle import StoreFile

if TYPE_CHECKING:
    from precedent.layer import DecisionLayer
    from precedent.store import TrajectoryStore

__all__ = ["agreed_scale", "check_asked", "check_fit", "check_store"]


def check_store(store: TrajectoryStore) -> None:
    """Refuse what is no store.

    Raises:
        ValidationError: It is something else.
    """
    if not isinstance(store, StoreFile):
        raise checks.refuse("store", "a TrajectoryStore", store)


def check_fit(store: TrajectoryStore, layer: DecisionLayer) -> None:
    """Refuse a layer that cannot learn from a store, nor decide by it.

    Raises:
        ValidationError: One of them is something else.
        DimensionError: The layer's sizes are not the store's dimensions.
        EncoderMismatchError: The layer learned from another encoder's states.
    """
    from precedent.layer import DecisionLayer as Layer

    check_store(store)
    if not isinstance(layer, Layer):
        raise checks.refuse("layer", "a DecisionLayer", layer)
    for name, expected, got in (
        ("state_size", store.dimension, layer.state_size),
        ("action_size", store.action_dimension, layer.action_size),
    ):
        if expected != got:
            message = f"layer.{name}: expected the store's {expected} dimensions, got {got}"
            raise DimensionError(message, expected, got)
    stored, given = store._core.encoder, layer.encoder
    if stored is not None and given is not None and stored != given:
        message = f"the store's states were made by the encoder {stored!r}, the layer learned from {given!r}"
        raise EncoderMismatchError(message, stored, given)


def agreed_scale(asked: str | None, layer: DecisionLayer) -> str:
    """Return the scale on which a layer learned.

    Raises:
        ValidationError: Another one was asked for.
    """
    learned: str = layer.return_scale
    if asked is not None and asked != learned:
        raise ValidationError(
            f'return_scale: expected "{learned}", the scale on which the layer learned, got "{asked}"'
        )
    return learned


def check_asked(layer: DecisionLayer | None, *, fallback: bool) -> None:
    """Refuse a cascade whose network is never asked: there is nothing to compare precedents with.

    Raises:
        NotTrainedError: There is no layer, or it never learned.
        ValidationError: It is turned off.
    """
    if not fallback:
        raise ValidationError("fallback_to_neural: expected True to compare with the network, got False")
    if layer is None or not layer.trained:
        what = "there is no layer" if layer is None else "the layer was never trained"
        raise NotTrainedError(f"{what}: precedents are compared with what the network would do")
