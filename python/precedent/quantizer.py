"""The codes of a store's graph: states in a quarter or a thirty-second of their size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from precedent import checks
from precedent.queries import is_vector

if TYPE_CHECKING:
    import numpy.typing as npt

    from precedent.handle import StoreFile

__all__ = ["Quantizer"]


class Quantizer:
    """States as codes and back, the way the graph of one store has them; what `store.quantizer` is.

    A code begins with the numbers that turn it back into a vector (without quantization there are none: it is
    the float32 bytes). Binary codes are asked with finer ones, so rows and queries are coded apart.

    Example:
        >>> from precedent import TrajectoryStore
        >>> store = TrajectoryStore(":memory:", dimension=4)
        >>> codes = store.quantizer.encode([[0.6, 0.8, 0.0, 0.0]])
        >>> codes.shape, store.quantizer.decode(codes)[0].round(2)
        ((1, 16), array([0.6, 0.8, 0. , 0. ], dtype=float32))
        >>> store.close()
    """

    __slots__ = ("_store",)

    _store: StoreFile

    def __init__(self, store: StoreFile) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"<Quantizer {self._store.hnsw.quantization} of {self._store.path!r}>"

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of an encoded row."""
        return self._store._core.quantizer.bytes_per_vector(query=False)

    @property
    def bytes_per_query(self) -> int:
        """Bytes of an encoded query; more than a row's where codes are binary."""
        return self._store._core.quantizer.bytes_per_vector(query=True)

    def encode(self, states: Any, role: Literal["row", "query"] = "row") -> npt.NDArray[np.uint8]:
        """Return codes of states `[n, d]`, or of one `[d]`, as long as their role needs.

        Args:
            states: What the store takes as states.
            role: `"row"`: to be decoded or kept, `[n, bytes_per_vector]`; `"query"`: for `search_quantized`,
                `[n, bytes_per_query]`.

        Raises:
            ValidationError: Not states of this store, or another role.
        """
        query = checks.choice("role", role, ("row", "query")) == "query"
        if is_vector(states):
            matrix = self._store._query_vector(states, "states")[np.newaxis]
        else:
            matrix = self._store._query_matrix(states)
        return self._store._core.quantizer.encode(matrix, query)

    def decode(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the states `[n, d]` that codes of rows stand for.

        Raises:
            ValidationError: Not codes of rows of this store.
        """
        return self._store._core.quantizer.decode(code_matrix(codes, self.bytes_per_vector))


def code_matrix(codes: Any, width: int) -> npt.NDArray[np.uint8]:
    """Return codes as the core takes them, `[n, width]`.

    Raises:
        ValidationError: Something else.
    """
    if isinstance(codes, np.ndarray) and codes.dtype == np.uint8 and codes.shape[1:] == (width,):
        return codes
    raise checks.refuse("codes", f"a uint8 array of shape [n, {width}]", codes)
