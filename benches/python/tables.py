"""Measures every work beside its peers and writes the tables.

python benches/python/tables.py                        # everything, printed
python benches/python/tables.py --only predict memory  # what has one of these words in its name
python benches/python/tables.py --sections search      # the document has a section for each group of works
python benches/python/tables.py --million              # also what is measured at a million rows
python benches/python/tables.py --out docs/benchmarks.md  # each section between its two markers: `make bench`
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

import figures
import works
from peers import ONE_THREAD
from report import ROOT, add, comparison, header
from rounds import measure

MILLION = "million"
SECTIONS = tuple(works.WORKS)


def main() -> None:
    """Measure, print, write."""
    options = _options()
    folders = {str(folder): "FOLDER" for folder in (options.keep, options.folder) if folder}
    told = [folders.get(word, word) for word in sys.argv[1:]]
    command = shlex.join(["python", "benches/python/tables.py", *told])
    sections = options.sections or [name for name in SECTIONS if name != MILLION or options.million]

    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    texts, missed = [], []
    with _root(options.keep, options.folder) as root:
        for section in sections:
            head = header(command)
            text, missed_here = _measured(section, root, wanted)
            missed += missed_here
            if text:
                texts.append(f"{head}\n\n{text}")
            if options.out and text:
                _write(options.out, section, texts[-1])
    print("\n" + "\n\n".join(texts))
    print("\n".join(missed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure Precedent beside its peers.")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="only works with one of these words"
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, help="only these sections")
    parser.add_argument(
        "--million",
        action="store_true",
        help="also at a million rows: 2.5 hours, 20 GB of memory, 30 GB of disk",
    )
    parser.add_argument("--out", type=Path, help="the document to write into, a section at a time")
    parser.add_argument("--folder", type=Path, help="where the scratch files go: the disk to be measured")
    parser.add_argument(
        "--keep",
        type=Path,
        help="a folder in which graphs stay, and are found by the next run with their cost",
    )
    options = parser.parse_args()
    if options.out and options.only:
        parser.error("a section is written whole: --out does not go with --only")
    return options


def _measured(section: str, root: str, wanted: Callable[[str], bool]) -> tuple[str, list[str]]:
    """Measure a section, printing as it goes. Return its tables, and a sentence for each missed target."""
    table, tables = comparison(), []
    for name, work in works.WORKS[section].items():
        if wanted(name):
            shown = len(table.rows)
            with work(_fresh(root)) as made:
                add(table, measure(made))
            del made  # and the threads that its contenders keep
            for row in table.rows[shown:]:
                print(" | ".join(row), flush=True)
    for name, figure in figures.FIGURES[section].items():
        if wanted(name):
            tables.append(figure(_fresh(root)))
            print(tables[-1], flush=True)
    missed = [
        f"missed: {row[0]} beside {row[2]}: {row[4]}, target {row[5]}"
        for row in table.rows
        if row[6] == "**no**"
    ]
    return "\n\n".join(str(made) for made in [table, *tables] if made.rows), missed


def _root(keep: Path | None, folder: Path | None) -> AbstractContextManager[str]:
    """Return where everything lies: a folder that stays, or one that goes."""
    if keep is None:
        return tempfile.TemporaryDirectory(dir=folder)
    keep.mkdir(parents=True, exist_ok=True)
    return nullcontext(str(keep))


def _fresh(root: str) -> Path:
    """Return an empty folder; what the last work left is gone."""
    folder = Path(root) / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _write(path: Path, section: str, text: str) -> None:
    """Put tables between a section's markers; a document without them gets them at its end."""
    begin, end = (
        f"<!-- made by benches/python/tables.py: {section} {side} -->" for side in ("begins", "ends")
    )
    path = path if path.is_absolute() else ROOT / path
    old = path.read_text() if path.exists() else "# Benchmarks\n"
    if begin not in old:
        old = f"{old.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = old.split(begin, 1)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **ONE_THREAD})
    main()
