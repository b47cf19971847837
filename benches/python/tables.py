"""Measures every work beside its peers and writes the tables.

python benches/python/tables.py                        # everything, printed
python benches/python/tables.py --only predict memory  # what has one of these words in its name
python benches/python/tables.py --out docs/benchmarks.md  # between that file's two markers: `make bench`
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from figures import FIGURES
from peers import ONE_THREAD
from report import ROOT, add, comparison, header
from rounds import measure
from works import WORKS

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
    parser.add_argument("--folder", type=Path, help="where the scratch files go: the disk to be measured")
    options = parser.parse_args()
    head = header(
        "make bench" if options.out else shlex.join(["python", "benches/python/tables.py", *sys.argv[1:]])
    )

    def wanted(name: str) -> bool:
        return not options.only or any(word in name for word in options.only)

    table, figures = comparison(), []
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        for name, work in WORKS.items():
            if wanted(name):
                scratch = _fresh(root)
                with work(scratch) as made:
                    shown = len(table.rows)
                    add(table, measure(made))
                for row in table.rows[shown:]:
                    print(" | ".join(row), flush=True)
        for name, figure in FIGURES.items():
            if wanted(name):
                figures.append(figure(_fresh(root)))
                print(figures[-1], flush=True)

    text = "\n\n".join([head, *(str(made) for made in [table, *figures] if made.rows)])
    print("\n" + text)
    if options.out:
        _write(options.out, text)
    for row in table.rows:
        if row[6] == "**no**":
            print(f"missed: {row[0]} beside {row[2]}: {row[4]}, target {row[5]}")


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
