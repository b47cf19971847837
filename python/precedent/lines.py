"""Files of JSON lines that grow: one for what a selector decides, one for what a training run measures."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from precedent import checks
from precedent.errors import AccessError, DiskFullError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

__all__ = ["JsonLines"]


class JsonLines:
    """A file to which records are added as lines of JSON, each with its time in ms since 1970.

    It is made at once, with its folders, so that what cannot be written to is refused before there is
    anything to write; and it stays where it is when the working directory changes. A line is written and
    closed at once; threads that share one take turns.

    Args:
        field: What the path is called in an error.
        path: The file. One that is there grows.

    Raises:
        AccessError: It cannot be written to.
        ValidationError: Not a path.
    """

    __slots__ = ("_field", "_lock", "path")

    def __init__(self, field: str, path: Any) -> None:
        self._field, self._lock = field, threading.Lock()
        self.path = os.path.abspath(checks.path(field, path))  # noqa: PTH100 - pathlib is slow to import
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)  # noqa: PTH103, PTH120
            self._append("")
        except OSError as err:
            self._refuse(err)

    def add(self, told: Mapping[str, Any]) -> None:
        """Write a record.

        Raises:
            AccessError: The file cannot be written to any more.
            DiskFullError: No room left.
        """
        import json
        import time

        line = json.dumps({"timestamp": time.time_ns() // 1_000_000, **told})
        try:
            self._append(line + "\n")
        except OSError as err:
            self._refuse(err)

    def _append(self, text: str) -> None:
        with self._lock, open(self.path, "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)

    def _refuse(self, err: OSError) -> NoReturn:
        import errno

        error = DiskFullError if err.errno == errno.ENOSPC else AccessError
        raise error(f"{self._field}: cannot write to {self.path}: {err.strerror}") from err
