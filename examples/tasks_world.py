"""A small world of text tasks, in place of real ones: six kinds, six patterns, one right for each kind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# What an agent can do, as it would be told to a language model.
PATTERNS = {
    "reproduce-first": "Write a failing test that reproduces the bug, then bisect to its cause.",
    "search-docs": "Search the documentation and answer with a quotation and a link to the page.",
    "tests-then-change": "Pin the behaviour with tests, then restructure in small steps.",
    "outline": "Read everything once, write an outline of the main points, then shorten it.",
    "write-query": "Write an SQL query against the warehouse and check its result on a sample of rows.",
    "roll-back": "Roll back the last deployment, confirm that the service recovers, then look for the cause.",
}

# For each kind of task the pattern that works, and how people ask.
KINDS = {
    "bug": (
        "reproduce-first",
        ("{thing} crashes when {case}, please fix it", "Fix the error in {thing}: it fails if {case}"),
    ),
    "question": (
        "search-docs",
        (
            "How do I configure {thing} so that {case}?",
            "Where is it explained what {thing} does when {case}?",
        ),
    ),
    "refactoring": (
        "tests-then-change",
        (
            "Clean up {thing}, the code is hard to read when {case}",
            "Split {thing} into smaller modules, also where {case}",
        ),
    ),
    "summary": (
        "outline",
        (
            "Summarise the report about {thing} and say what happens when {case}",
            "Give me the gist of the long thread on {thing}; mention that {case}",
        ),
    ),
    "data": (
        "write-query",
        (
            "How many users of {thing} were there last month where {case}?",
            "Count the orders per country for {thing}, only where {case}",
        ),
    ),
    "incident": (
        "roll-back",
        (
            "{thing} is down since the release and {case}, customers are affected!",
            "Outage: {thing} returns 500 for everybody and {case}",
        ),
    ),
}

THINGS = (
    "the login page", "the billing service", "the export job", "the search box", "the mobile app",
    "the importer", "the report builder", "the mail gateway", "the calendar", "the payment form",
    "the image viewer", "the scheduler",
)  # fmt: skip
CASES = (
    "the user has no address", "two people save at once", "the file is empty", "the clock goes back an hour",
    "the name holds an umlaut", "the list is very long", "the network is slow", "the token has expired",
    "the currency is unknown", "nobody is logged in", "the disk is full", "the page is reloaded",
)  # fmt: skip

RIGHT, WRONG = 0.95, 0.05  # how often the right pattern and a wrong one succeed


@dataclass(frozen=True)
class Task:
    """Something to do, told in words. The agent sees `text`; only the world knows `best`."""

    id: str
    type: str
    text: str
    best: str
    max_steps: int = 3


@dataclass(frozen=True)
class Outcome:
    """What came of one action."""

    success: bool
    done: bool
    next_text: str


class World:
    """Hands out tasks and says what becomes of them. The same seed gives the same tasks and the same luck."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._tasks = 0

    def task(self) -> Task:
        """Return the next task; its kind, wording and subject are drawn at random."""
        kind = list(KINDS)[self._rng.integers(len(KINDS))]
        best, wordings = KINDS[kind]
        wording = wordings[self._rng.integers(len(wordings))]
        thing, case = THINGS[self._rng.integers(len(THINGS))], CASES[self._rng.integers(len(CASES))]
        text = wording.format(thing=thing, case=case)
        self._tasks += 1
        return Task(f"task-{self._tasks:04}", kind, text[0].upper() + text[1:], best)

    def execute(self, task: Task, pattern_id: str) -> Outcome:
        """Try a pattern. After a failure the task is the same, with a note of what was tried."""
        success = bool(self._rng.random() < (RIGHT if pattern_id == task.best else WRONG))
        return Outcome(
            success, success, task.text if success else f"{task.text} (already tried: {pattern_id})"
        )
