"""Tables in Markdown, and what must stand beside them: the machine, the commit, the command."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from peers import versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rounds import Contender, Measured, Spread

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Table:
    """Rows under a title."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)

    def __str__(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join([f"### {self.title}", "", *("| " + " | ".join(line) + " |" for line in lines)])


def comparison() -> Table:
    """Return the empty table of everything that has a peer."""
    return Table(
        "Beside peers, in alternating rounds",
        ["work", "Precedent", "peer", "its time", "ratio, median (range)", "target", "met", "beside it"],
    )


def add(table: Table, measured: Measured) -> None:
    """Put a measured work into the comparison: a row a peer."""
    work = measured.work
    ours = _time(measured.times[work.ours.name], work.unit)
    for peer in work.peers:
        target, met = work.targets.get(peer.name), measured.met(peer.name)
        ratio = measured.ratios[peer.name]
        quality = "; ".join(
            f"{who}: {what}"
            for who, what in (("ours", _beside(measured, work.ours)), ("peer", _beside(measured, peer)))
            if what
        )
        table.add(
            work.title,
            ours,
            peer.name,
            _time(measured.times[peer.name], work.unit),
            f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
            "" if target is None else f"<= {target:.2f}",
            "" if met is None else "yes" if met else "**no**",
            quality,
        )
    for name in work.missing:
        table.add(work.title, ours, f"{name}: not installed", "", "", "", "", "")


def header(command: str) -> str:
    """Return where and how the tables were made."""
    peers = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}, commit {_commit()}, on {_processor()} with "
        f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()} with SQLite {sqlite3.sqlite_version}; {peers}. "
        f"The machine was shared (load average {os.getloadavg()[0]:.1f} at the start): ratios count, times "
        "illustrate. Times are CPU time of all threads of the process, the system's work for them included, "
        "unless a row says wall clock. Peers are held to one thread."
    )


def _beside(measured: Measured, contender: Contender) -> str:
    """Return what stands beside a time: its quality, and percentiles where each unit was timed."""
    told = [contender.quality] if contender.quality else []
    if contender.name in measured.tails:
        p50, p99 = measured.tails[contender.name]
        told.append(f"p50 {1e6 * p50:.0f} us, p99 {1e6 * p99:.0f} us")
    return ", ".join(told)


def _time(spread: Spread, unit: str) -> str:
    """Return a time a unit, and for rows their rate."""
    if unit in {"row", "sample"}:
        return f"{_digits(1 / spread.median)} {unit}s/s"
    scale, name = (1e3, "ms") if spread.median >= 1e-3 else (1e6, "us")
    return f"{spread.median * scale:.3g} {name} ({spread.low * scale:.3g} to {spread.high * scale:.3g})"


def _digits(rate: float) -> str:
    return f"{rate / 1e3:.1f}K" if rate < 1e6 else f"{rate / 1e6:.2f}M"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    # The document does not count: its sections are written one after the other.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/benchmarks.md")
    dirty = " (with changes)" if changed else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + dirty


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "an unnamed processor"
