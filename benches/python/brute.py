"""Peers that look at every row: faiss' flat index and sqlite-vec. A search returns row numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peers import peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from data import Vectors

    Search = Callable[[Vectors], Iterable[int]]


def faiss_flat(states: Vectors, k: int) -> Search | None:
    """Return a search for the `k` nearest by faiss, in memory; None where it is missing."""
    faiss = peer("faiss")
    if faiss is None:
        return None
    flat = faiss.IndexFlatIP(states.shape[1])
    flat.add(states)
    return lambda query: flat.search(query[None], k)[1][0]


def sqlite_vec(path: Path, states: Vectors, k: int) -> Search | None:
    """Return a search by sqlite-vec in a new file; None where it or an SQLite that loads extensions is
    missing.
    """
    apsw, extension = peer("apsw"), peer("sqlite_vec")
    if apsw is None or extension is None:
        return None
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(extension.loadable_path())
    connection.execute(
        f"CREATE VIRTUAL TABLE v USING vec0(e float[{states.shape[1]}] distance_metric=cosine)"
    )
    with connection:
        connection.executemany(
            "INSERT INTO v(rowid, e) VALUES (?, ?)", ((i, s.tobytes()) for i, s in enumerate(states))
        )
    sql = f"SELECT rowid FROM v WHERE e MATCH ? AND k = {k}"
    return lambda query: [row for (row,) in connection.execute(sql, (query.tobytes(),))]
