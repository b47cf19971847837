"""One open store file: how it is opened, what it is made with, states as the core takes them, closing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from precedent import _core, checks
from precedent.config import CacheConfig, HnswConfig
from precedent.errors import ClosedError, ValidationError
from precedent.queries import dimensions, encoded_dimension, has_text
from precedent.settings import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from precedent.encoders import Encoder
    from precedent.workspace import Workspace

__all__ = ["StoreFile"]


class StoreFile:
    """What `TrajectoryStore` is before it has verbs; see there for the options and their errors."""

    __slots__ = ("__weakref__", "_absolute_path", "_core", "_encoder", "_lent")

    # The compiled store, for the rest of this package.
    _core: _core.Store
    # Where the file is, for other processes, whatever the working directory has become; None = in memory.
    _absolute_path: str | None
    _encoder: Encoder | None
    _lent: bool

    def __init__(
        self,
        path: str | os.PathLike[str] | Workspace,
        *,
        dimension: int | None = None,
        action_dimension: int | None = None,
        hnsw: HnswConfig | Mapping[str, Any] | None = None,
        cache: CacheConfig | Mapping[str, Any] | None = None,
        durability: Literal["normal", "full"] = "normal",
        storage: Literal["f32", "f16"] | None = None,
        encoder: Encoder | None = None,
        read_only: bool = False,
    ) -> None:
        lender = getattr(path, "trajectories", None)
        if isinstance(lender, StoreFile):
            options = (dimension, action_dimension, hnsw, cache, storage, encoder)
            if durability != "normal" or read_only or any(option is not None for option in options):
                raise ValidationError(
                    "path: expected no options beside a Workspace, whose store is already open"
                )
            self._borrow(lender)
            return
        self._lent = False
        self._encoder = encoder
        if encoder is not None:
            dimension = encoded_dimension(encoder, dimension)
        graph = HnswConfig(**read(HnswConfig, {} if hnsw is None else hnsw, "hnsw"))
        kept = CacheConfig(**read(CacheConfig, {} if cache is None else cache, "cache"))
        name = checks.path("path", path)
        self._absolute_path = None if name == ":memory:" else _absolute(name)
        self._core = _core.Store(
            name,
            dimension=dimensions("dimension", dimension),
            action_dimension=dimensions("action_dimension", action_dimension),
            storage=None if storage is None else checks.choice("storage", storage, ("f32", "f16")),
            durability=checks.choice("durability", durability, ("normal", "full")),
            read_only=checks.flag("read_only", read_only),
            hnsw=graph.to_dict(),
            cache=(kept.enabled, kept.max_size, kept.ttl),
            encoder=None if encoder is None else encoder.fingerprint,
        )
        self._log_news()

    @classmethod
    def _lend(cls, store: StoreFile) -> Self:
        """Return another face of an open store, whose `close` does nothing; what a workspace gives out."""
        lent = object.__new__(cls)
        lent._borrow(store)
        return lent

    def _borrow(self, store: StoreFile) -> None:
        self._core, self._absolute_path = store._core, store._absolute_path
        self._encoder, self._lent = store.encoder, True

    def close(self) -> None:
        """Close the file; a search that is running ends with `ClosedError`. Again: nothing happens.

        A store that a `Workspace` lent stays open until the workspace is closed.
        """
        if not self._lent:
            self._core.close()
            self._log_news()

    def _log_news(self) -> None:
        """Write down what happened to the index since the last time; most of it happens behind the calls."""
        news = self._core.news()
        if news:
            from logging import getLogger  # importing it takes milliseconds, and most stores have no news

            for line in news:
                getLogger("precedent.store").info("%s: %s", self.path, line)

    def _require_open(self) -> None:
        """Do nothing to an open store.

        Raises:
            ClosedError: It was closed.
        """
        if self._core.closed:
            raise ClosedError(f"the store {self.path!r} is closed: open it again")

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._core.keys_matching(None))

    def __bool__(self) -> bool:
        return True  # an empty store is still one

    def __repr__(self) -> str:
        state = "closed" if self._core.closed else f"{self.dimension} dimensions"
        return f"<{type(self).__name__} {self.path!r}, {state}>"

    @property
    def path(self) -> str:
        """The file, as it was named."""
        return self._core.path

    @property
    def dimension(self) -> int:
        """Of a state."""
        return self._core.dimension

    @property
    def action_dimension(self) -> int:
        """Of an action."""
        return self._core.action_dimension

    @property
    def storage(self) -> str:
        """`"f32"` or `"f16"`."""
        return self._core.storage

    @property
    def durability(self) -> str:
        """`"normal"` or `"full"`."""
        return self._core.durability

    @property
    def read_only(self) -> bool:
        """Whether every writing method raises `ReadOnlyError`."""
        return self._core.read_only

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._core.closed

    @property
    def encoder(self) -> Encoder | None:
        """What makes states of text and tasks, as it was given."""
        return self._encoder

    @property
    def hnsw(self) -> HnswConfig:
        """The graph's settings in effect."""
        return HnswConfig(**self._core.hnsw)

    def _encode(
        self, fields: Sequence[str], given: Sequence[Any], role: str = "document"
    ) -> npt.NDArray[np.float32]:
        """Return embeddings of texts and tasks; `fields` are what each is called in an error."""
        if self._encoder is None:
            expected = "a vector of numbers (text needs a store with an encoder)"
            raise checks.refuse(fields[0], expected, given[0])
        from precedent.encoders import text_of

        texts = [text_of(field, item) for field, item in zip(fields, given, strict=True)]
        made = self._encoder.encode(texts, role=role)
        return checks.matrix("encoder", made, self._core.dimension, len(given))

    def _query_vector(self, state: Any, field: str = "state", role: str = "query") -> npt.NDArray[np.float32]:
        """Return a state as the core takes it, `[d]` float32; text and tasks are encoded.

        Raises:
            ValidationError: Not a state of this store; `field` is what the message calls it.
        """
        if type(state) is not np.ndarray and isinstance(state, (str, Mapping)):
            state = self._encode([field], [state], role)[0]
        return checks.vector(field, state, self._core.dimension)

    def _query_matrix(self, states: Any, field: str = "states") -> npt.NDArray[np.float32]:
        """Return states as the core takes them, `[q, d]` float32; texts and tasks are encoded.

        Raises:
            ValidationError: See `_query_vector`.
        """
        if has_text(states):
            states = self._encode([f"{field}[{i}]" for i in range(len(states))], states, "query")
        return checks.matrix(field, states, self._core.dimension)


def _absolute(path: str) -> str:
    """Return where a path leads from here; `..` stays, since it may follow a symbolic link."""
    # Importing pathlib takes longer than opening a store.
    if os.path.isabs(path):  # noqa: PTH117
        return path
    return os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118
