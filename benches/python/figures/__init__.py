"""What has no peer: our own times and sizes, as tables. Absolute times illustrate; they are no claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from figures import decide, growth, memory, rare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from report import Table

# Called with a scratch folder.
FIGURES: dict[str, Callable[[Path], Table]] = {
    "decision": decide.decisions,
    "memory": memory.open_store,
    "growth": growth.growth,
    "rare samples": rare.rare,
}
