"""Everything the documents show is executed: fenced Python blocks and the examples of docstrings."""

import doctest
import importlib
import pkgutil
import re
from enum import IntEnum
from pathlib import Path

import pytest

import precedent
from precedent.values import Record

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
# A block of Python, and what it prints where a block of text follows at once.
FENCE = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def blocks():
    for document in DOCUMENTS:
        text = document.read_text()
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start(1)) + 1
            yield pytest.param(document, line, found[1], found[2], id=f"{document.name}:{line}")


def modules():
    yield "precedent"
    for module in pkgutil.walk_packages(precedent.__path__, "precedent."):
        if module.name != "precedent._core":
            yield module.name


@pytest.mark.parametrize(("document", "line", "block", "printed"), list(blocks()))
def test_a_block_of_a_document_does_what_it_shows(
    document, line, block, printed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    padded = "\n" * (line - 1) + block  # a failure then points into the document
    exec(compile(padded, str(document), "exec"), {"__name__": "__main__"})
    if printed is not None:
        assert capsys.readouterr().out == printed


def test_the_readme_shows_python_and_what_it_prints():
    assert FENCE.search((ROOT / "README.md").read_text())[2]


@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_of_a_module_s_docstrings_say_what_happens(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0


def working_classes():
    """The public classes that do something: neither records nor errors nor names of numbers."""
    public = [getattr(precedent, name) for name in precedent.__all__]
    plain = (Record, Exception, IntEnum)
    return [each for each in public if isinstance(each, type) and not issubclass(each, plain)]


@pytest.mark.parametrize("public", working_classes(), ids=lambda public: public.__name__)
def test_a_class_that_does_something_shows_how(public):
    assert doctest.DocTestParser().get_examples(public.__doc__)


def headings(document):
    """The anchors that the headings of a document get."""
    found = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_of_a_document_leads_somewhere(document):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            place = document.parent / target if target else document
            assert place.exists(), target
            assert not anchor or anchor in headings(place), f"{target}#{anchor}"
