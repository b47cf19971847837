"""From text, tasks and observations to embeddings. No encoder here downloads anything.

A store that is given an `Encoder` takes text, or a task mapping, wherever it takes a state. `as_encoder`
adapts what you have; `HashingEncoder` needs no model; `FourierEncoder` is for numeric observations and is
called by you.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from precedent import checks
from precedent.errors import ValidationError

__all__ = ["Encoder", "FourierEncoder", "HashingEncoder", "as_encoder", "task_text"]

Floats = npt.NDArray[np.float32]
# From a list of texts to one vector each.
Embed = Callable[[list[str]], Any]


@runtime_checkable
class Encoder(Protocol):
    """What makes embeddings of texts."""

    @property
    def dimension(self) -> int:
        """How long an embedding is."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells this encoder from others; a store refuses another one than it was filled with."""
        ...

    def encode(self, texts: Sequence[str] | str, /, *, role: str = "document") -> Floats:
        """Return float32 embeddings `[n, d]`; for one `str`, `[d]`.

        Args:
            texts: One text or several.
            role: `"document"` for what is stored, `"query"` for what is asked.
        """
        ...


def task_text(task: Mapping[str, Any] | str) -> str:
    """Return a task as text to encode: the seed's prompt.

    Args:
        task: `description`, `type`, `context` (anything that has a JSON form) and `requirements` (texts),
            each optional but one. A `str` comes back as it is.

    Example:
        >>> print(task_text({"description": "Add a login", "requirements": ["tests", "docs"]}))
        Task: Add a login
        Requirements: tests, docs

    Raises:
        ValidationError: It is neither, is empty, has an unknown key, or its context has no JSON form.
    """
    if isinstance(task, str):
        return task
    if not isinstance(task, Mapping):
        raise checks.refuse("task", "text or a task mapping", task)
    known = ("description", "type", "context", "requirements")
    for key in task:
        if key not in known:
            raise ValidationError(f"task: expected keys among {', '.join(known)}, got {key!r}")
    lines = []
    for key, label in (("description", "Task"), ("type", "Type")):
        if task.get(key) is not None:
            lines.append(f"{label}: {checks.text(f'task.{key}', task[key])}")
    if task.get("context") is not None:
        lines.append(f"Context: {checks.json_value('task.context', task['context'], ascii_only=False)}")
    requirements = task.get("requirements")
    if requirements is not None:
        several = [requirements] if isinstance(requirements, str) else requirements
        if isinstance(several, Mapping) or not hasattr(type(several), "__iter__"):
            raise checks.refuse("task.requirements", "texts", requirements)
        named = [checks.text(f"task.requirements[{i}]", text) for i, text in enumerate(several)]
        lines.append(f"Requirements: {', '.join(named)}")
    if not lines:
        raise checks.refuse("task", f"at least one of {', '.join(known)}", dict(task))
    return "\n".join(lines)


class HashingEncoder:
    """Words and character n-grams, hashed into a unit vector that is never zero.

    It knows spelling, not meaning: texts that share words are near. It is the same on every machine.

    Args:
        dimension: How long an embedding is, 1 to 16,384.

    Example:
        >>> encoder = HashingEncoder(256)
        >>> fails, again, other = encoder.encode(["the login fails", "login fails again", "pay the invoice"])
        >>> bool(fails @ again > 0.4 > fails @ other)
        True
    """

    __slots__ = ("_dimension",)

    def __init__(self, dimension: int) -> None:
        self._dimension = checks.integer("dimension", dimension, low=1, high=16_384)

    @property
    def dimension(self) -> int:
        """How long an embedding is."""
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """The name of the method and the dimension."""
        return f"precedent-hashing-1/{self._dimension}"

    def encode(self, texts: Sequence[str] | str, /, *, role: str = "document") -> Floats:
        """Return embeddings `[n, d]`, or `[d]` for one text. Documents and queries are encoded alike.

        Raises:
            ValidationError: Something else than text.
        """
        from precedent._core import hashing_encode

        checks.choice("role", role, ("document", "query"))
        one = isinstance(texts, str)
        made = hashing_encode(_texts([texts] if one else texts), self._dimension)
        return made[0] if one else made

    def __repr__(self) -> str:
        return f"HashingEncoder({self._dimension})"


class FourierEncoder:
    """Random Fourier features of numeric observations (Rahimi and Recht 2007), called on arrays.

    Observations are scaled to [0, 1] by `low` and `high`. The cosine of two embeddings is then, up to an
    error of about 1 / sqrt(dimension), the Gaussian kernel exp(-d^2 / (2 bandwidth^2)) of the distance d
    between the scaled observations. Sines and cosines come in pairs, so every embedding has norm 1 exactly.

    Args:
        low: The least value of each component.
        high: The greatest value of each component.
        dimension: How long an embedding is: an even number from 2 to 16,384.
        bandwidth: The distance at which the similarity has fallen to exp(-1/2) = 0.61.
        seed: Keys the random frequencies; the same on every machine.

    Example:
        >>> encode = FourierEncoder(low=[-1.0, -2.0], high=[1.0, 2.0], dimension=256, bandwidth=0.2)
        >>> here, near, far = encode([[0.0, 0.0], [0.02, 0.0], [0.8, -1.5]])
        >>> bool(here @ near > 0.99), bool(abs(here @ far) < 0.2)
        (True, True)

    Raises:
        ValidationError: A bound is infinite or not below the other (the component is named; replace it by the
            range that matters), or an option is out of its range.
    """

    __slots__ = ("_dimension", "_fingerprint", "_frequencies", "_low", "_width")

    def __init__(self, low: Any, high: Any, dimension: int, bandwidth: float, *, seed: int = 0) -> None:
        from precedent._core import fourier_frequencies

        self._low = _bounds("low", low)
        top = _bounds("high", high)
        if top.shape != self._low.shape:
            raise ValidationError(f"high: expected {len(self._low)} components, as low has, got {len(top)}")
        self._width = top - self._low
        if not (self._width > 0).all():
            at = int(np.flatnonzero(~(self._width > 0))[0])
            raise ValidationError(
                f"high[{at}]: expected more than low[{at}], {self._low[at]:g}, got {top[at]:g}"
            )
        self._dimension = checks.integer("dimension", dimension, low=2, high=16_384)
        if self._dimension % 2:
            raise checks.refuse("dimension", "an even number: sines and cosines come in pairs", dimension)
        width = checks.number("bandwidth", bandwidth)
        if width <= 0:
            raise checks.refuse("bandwidth", "more than 0", width)
        seed = checks.integer("seed", seed, high=2**64 - 1)
        drawn = fourier_frequencies(len(self._low), self._dimension // 2, seed)
        with np.errstate(over="ignore"):
            self._frequencies = drawn / width
        if not np.isfinite(self._frequencies).all():
            raise checks.refuse("bandwidth", "a share of the range that observations span", width)
        self._fingerprint = _hashed(
            "fourier-v1", self._low.tobytes(), top.tobytes(), repr((self._dimension, width, seed)).encode()
        )

    @property
    def dimension(self) -> int:
        """How long an embedding is."""
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """What tells these features from others."""
        return self._fingerprint

    def __call__(self, observations: Any) -> Floats:
        """Return embeddings `[n, dimension]` of observations `[n, m]`, or `[dimension]` of one `[m]`.

        Raises:
            ValidationError: Not finite numbers, or not `m` of them.
        """
        try:
            given = np.asarray(observations, np.float64)
        except (TypeError, ValueError):
            raise checks.refuse("observations", "numbers", observations) from None
        components = len(self._low)
        if given.ndim not in (1, 2) or given.shape[-1] != components:
            raise ValidationError(
                f"observations: expected {components} components each, got shape {given.shape}"
            )
        if not np.isfinite(given).all():
            raise ValidationError("observations: expected finite numbers, got NaN or infinity")
        angles = ((given - self._low) / self._width) @ self._frequencies
        features = np.empty((*angles.shape[:-1], self._dimension), np.float32)
        scale = np.sqrt(2.0 / self._dimension)
        features[..., 0::2] = np.cos(angles) * scale
        features[..., 1::2] = np.sin(angles) * scale
        return features

    def __repr__(self) -> str:
        return f"FourierEncoder({len(self._low)} components to {self._dimension} dimensions)"


class _Adapted:
    """An encoder made of a callable that was probed."""

    __slots__ = ("_dimension", "_document", "_fingerprint", "_query")

    _dimension: int

    def __init__(self, document: Embed, query: Embed, name: str | None) -> None:
        self._document, self._query = document, query
        probes = self._probed(document)
        self._dimension = probes.shape[1]
        if query is not document and self._probed(query).shape[1] != self._dimension:
            raise ValidationError("encoder: expected queries as long as documents, got another length")
        # Rounded, so that another thread count of the same model keeps the fingerprint.
        self._fingerprint = name or _hashed("probes-v1", np.round(probes, 3).astype("<f4").tobytes())

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def encode(self, texts: Sequence[str] | str, /, *, role: str = "document") -> Floats:
        checks.choice("role", role, ("document", "query"))
        embed = self._query if role == "query" else self._document
        one = isinstance(texts, str)
        several = _texts([texts] if one else texts)
        if not several:
            return np.empty((0, self._dimension), np.float32)
        made = _vectors(embed, several, self._dimension)
        return made[0] if one else made

    def __repr__(self) -> str:
        return f"<encoder {self._fingerprint!r} of {self._dimension} dimensions>"

    @staticmethod
    def _probed(embed: Embed) -> Floats:
        once, again = _vectors(embed, list(_PROBES), None), _vectors(embed, list(_PROBES), None)
        if once.shape != again.shape or not np.allclose(once, again, rtol=1e-3, atol=1e-4):
            raise ValidationError(
                "encoder: expected the same vectors for the same texts, got others the second time"
            )
        if np.allclose(once[0], once[1], rtol=1e-6, atol=0):
            raise ValidationError("encoder: expected different vectors for different texts, got the same")
        return once


_PROBES = ("Implement JWT authentication", "Fix the failing test in the parser")


def as_encoder(obj: Any, *, name: str | None = None, model: str | None = None) -> Encoder:
    """Return an encoder made of what you have.

    Args:
        obj: A sentence-transformers model (`encode`), a LangChain Embeddings (`embed_documents`,
            `embed_query`), an OpenAI client (`embeddings.create`), or any callable from a list of texts to
            vectors. An `Encoder` comes back as it is, unless a name is given.
        name: The fingerprint that the file remembers; None = a hash of two probes.
        model: The model to ask an OpenAI client for.

    Example:
        >>> def embed(texts):  # stands for a model of yours
        ...     return [[len(text), text.count(" "), 1.0] for text in texts]
        >>> encoder = as_encoder(embed, name="lengths")
        >>> encoder.dimension, encoder.fingerprint, encoder.encode("two words").tolist()
        (3, 'lengths', [9.0, 1.0, 1.0])

    Raises:
        ValidationError: It is none of these, or the vectors of two probes are zero, NaN, miscounted or
            unstable.
    """
    if name is not None:
        checks.text("name", name)
    if name is None and model is None and isinstance(obj, Encoder):
        return obj
    return _Adapted(*_adapters(obj, model), name)


def _adapters(obj: Any, model: str | None) -> tuple[Embed, Embed]:
    """Return what embeds documents and what embeds queries."""
    embeddings: Any = getattr(obj, "embeddings", None)
    if hasattr(embeddings, "create"):
        wanted = checks.text("model", model)

        def ask(texts: list[str]) -> list[Any]:
            answer = embeddings.create(model=wanted, input=texts)
            return [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]

        return ask, ask
    if model is not None:
        raise checks.refuse("model", "None for anything but an OpenAI client", model)
    if hasattr(obj, "embed_documents") and hasattr(obj, "embed_query"):
        return obj.embed_documents, lambda texts: [obj.embed_query(text) for text in texts]
    if isinstance(obj, Encoder):
        return obj.encode, lambda texts: obj.encode(texts, role="query")
    if hasattr(obj, "encode_document") and hasattr(obj, "encode_query"):
        return obj.encode_document, obj.encode_query
    if callable(getattr(obj, "encode", None)):
        return obj.encode, obj.encode
    if callable(obj):
        return obj, obj
    raise checks.refuse(
        "encoder", "a model with encode or embed_documents, an OpenAI client or a callable", obj
    )


def _vectors(embed: Embed, texts: list[str], dimension: int | None) -> Floats:
    vectors = checks.matrix("encoder", embed(texts), dimension, len(texts))
    if not np.isfinite(vectors).all():
        raise ValidationError("encoder: expected finite vectors, got NaN or infinity")
    if not vectors.any(axis=1).all():
        raise ValidationError("encoder: expected vectors that are not zero, got a zero vector")
    return vectors


def _texts(texts: Any) -> list[str]:
    if isinstance(texts, (bytes, Mapping)) or not hasattr(type(texts), "__iter__"):
        raise checks.refuse("texts", "texts", texts)
    return [checks.text(f"texts[{i}]", text, empty=True) for i, text in enumerate(texts)]


def _bounds(field: str, given: Any) -> npt.NDArray[np.float64]:
    try:
        bounds = np.array(given, np.float64)
    except (TypeError, ValueError):
        raise checks.refuse(field, "numbers", given) from None
    if bounds.ndim != 1 or not bounds.size:
        raise ValidationError(
            f"{field}: expected one number a component, got an array of shape {bounds.shape}"
        )
    # The largest float32 stands for infinity in the spaces of some environments.
    endless = ~(np.abs(bounds) < np.finfo(np.float32).max)
    if endless.any():
        at = int(np.flatnonzero(endless)[0])
        raise ValidationError(
            f"{field}[{at}]: expected a finite bound (the range that matters), got {bounds[at]:g}"
        )
    return bounds


def _hashed(kind: str, *parts: bytes) -> str:
    from hashlib import sha256

    return f"{kind}-{sha256(b'|'.join(parts)).hexdigest()[:16]}"
