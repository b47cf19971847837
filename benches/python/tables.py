"""Measures every work beside its peers and writes the tables.

python benches/python/tables.py                        # everything, printed
python benches/python/tables.py --only predict memory  # what has one of these words in its name
python benches/python/tables.py --million              # also what is measured at a million rows
python benches/python/tables.py --out docs/benchmarks.md  # between that file's two markers: `make bench`
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
    from contextlib import AbstractContextManager

import figures
import works
from peers import ONE_THREAD
from report import ROOT, add, comparison, header
from rounds import measure

BEGIN, END = (
    "<!-- made by benches/python/tables.py: begin -->",
    "<!-- made by benches/python/tables.py: end -->",
)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure Precedent beside its peers.")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="only works with one of these words"
    )
    parser.add_argument("--out", type=Path, help="the document to write into")
    parser.add_argument("--million", action="store_true", help="also at a million rows: an hour, 15 GB")
    parser.add_argument("--folder", type=Path, help="where the scratch files go: the disk to be measured")
    parser.add_argument(
        "--keep",
        type=Path,
        help="a folder in which graphs stay, and are found by the next run with their cost",
    )
    options = parser.parse_args()
    head = header(
        "make bench" if options.out else shlex.join(["python", "benches/python/tables.py", *sys.argv[1:]])
    )

    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    measured = works.WORKS | (works.MILLIONS if options.million else {})
    shown_alone = figures.FIGURES | (figures.MILLIONS if options.million else {})
    table, others = comparison(), []
    with _root(options.keep, options.folder) as root:
        for name, work in measured.items():
            if wanted(name):
                scratch = _fresh(root)
                with work(scratch) as made:
                    shown = len(table.rows)
                    add(table, measure(made))
                for row in table.rows[shown:]:
                    print(" | ".join(row), flush=True)
        for name, figure in shown_alone.items():
            if wanted(name):
                others.append(figure(_fresh(root)))
                print(others[-1], flush=True)

    text = "\n\n".join([head, *(str(made) for made in [table, *others] if made.rows)])
    print("\n" + text)
    if options.out:
        _write(options.out, text)
    for row in table.rows:
        if row[6] == "**no**":
            print(f"missed: {row[0]} beside {row[2]}: {row[4]}, target {row[5]}")


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


def _write(path: Path, text: str) -> None:
    """Put the tables between the markers; a document without them gets them at its end."""
    path = path if path.is_absolute() else ROOT / path
    old = path.read_text() if path.exists() else "# Benchmarks\n"
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    if not ONE_THREAD.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **ONE_THREAD})
    main()
