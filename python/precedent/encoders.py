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
from precedent.fourier import FourierEncoder, hashed

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
    return task if isinstance(task, str) else text_of("task", task)


def text_of(field: str, task: Any) -> str:
    """Return a task, or text, as text to encode; errors name the field.

    Raises:
        ValidationError: See `task_text`; or it is text that is no valid Unicode.
    """
    if isinstance(task, str):
        return checks.text(field, task, empty=True)
    if not isinstance(task, Mapping):
        raise checks.refuse(field, "text or a task mapping", task)
    known = ("description", "type", "context", "requirements")
    for key in task:
        if key not in known:
            raise ValidationError(f"{field}: expected keys among {', '.join(known)}, got {key!r}")
    lines = []
    for key, label in (("description", "Task"), ("type", "Type")):
        if task.get(key) is not None:
            lines.append(f"{label}: {checks.text(f'{field}.{key}', task[key])}")
    if task.get("context") is not None:
        lines.append(f"Context: {checks.json_value(f'{field}.context', task['context'], ascii_only=False)}")
    requirements = task.get("requirements")
    if requirements is not None:
        one = isinstance(requirements, str)
        several = [requirements] if one else checks.listed(f"{field}.requirements", requirements, "texts")
        named = [checks.text(f"{field}.requirements[{i}]", text) for i, text in enumerate(several)]
        lines.append(f"Requirements: {', '.join(named)}")
    if not lines:
        raise checks.refuse(field, f"at least one of {', '.join(known)}", dict(task))
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
        # Plus 0.0, which makes 0.0 of -0.0.
        self._fingerprint = name or hashed("probes-v1", (np.round(probes, 3) + 0.0).astype("<f4").tobytes())

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
    several = checks.listed("texts", texts, "texts")
    return [checks.text(f"texts[{i}]", text, empty=True) for i, text in enumerate(several)]
