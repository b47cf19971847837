"""Text tasks with a known best answer: seven kinds of request, in many words, one right tool for each."""

from __future__ import annotations

import numpy as np

from precedent.encoders import HashingEncoder
from worlds import MIX, Floats, Policy, Recording

DIMENSION = 512
# For each tool how people ask for it. The tools are the actions.
KINDS = {
    "bisect": ("{thing} crashes when {case}, please fix it", "Fix the error in {thing}: it fails if {case}"),
    "search": (
        "How do I configure {thing} so that {case}?",
        "Where does it say what {thing} does when {case}?",
    ),
    "refactor": (
        "Clean up {thing}, it is hard to read when {case}",
        "Split {thing} into modules where {case}",
    ),
    "outline": ("Summarise the report on {thing}; say that {case}", "Give me the gist of {thing}, as {case}"),
    "query": (
        "How many users of {thing} were there while {case}?",
        "Count the orders for {thing} where {case}",
    ),
    "restore": ("{thing} is down since the release and {case}!", "Outage: {thing} returns 500 and {case}"),
    "review": (
        "Please look over the change to {thing}, {case}",
        "Approve the patch for {thing} unless {case}",
    ),
}
THINGS = (
    "the parser",
    "billing",
    "the search page",
    "login",
    "the exporter",
    "the mailer",
    "checkout",
    "the API",
)
THINGS += ("the scheduler", "the importer", "the dashboard", "the cache", "single sign-on", "the mobile app")
CASES = ("the list is empty", "two users write at once", "the clock changes", "the file is large", "it rains")
CASES += (
    "the network is slow",
    "the name has an umlaut",
    "nobody is logged in",
    "it is the first of the month",
)


class Texts:
    """The suite as a world: an episode is one request, the return 1 for the right tool and 0 else."""

    name = "Text tasks"
    actions = len(KINDS)
    floor, ceiling = 1.0 / len(KINDS), 1.0

    def normalised(self, returns: Floats) -> Floats:
        """Return returns on the scale from guessing (0) to always right (1)."""
        return (np.asarray(returns) - self.floor) / (self.ceiling - self.floor)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Floats, np.ndarray]:
        """Return the embeddings of n requests, and their right tools."""
        kinds = rng.integers(self.actions, size=n)
        asked = list(KINDS.values())
        texts = [
            asked[kind][rng.integers(2)].format(thing=rng.choice(THINGS), case=rng.choice(CASES))
            for kind in kinds
        ]
        return HashingEncoder(DIMENSION).encode(texts), kinds

    def record(self, episodes: int, seed: int) -> Recording:
        """Let the three behaviours act: a random tool in all, six in ten or one in ten of the cases."""
        rng = np.random.default_rng((seed, episodes, 7))
        states, right = self.draw(episodes, rng)
        shares = np.repeat([share for share, _ in MIX], [round(part * episodes) for _, part in MIX])
        shares = np.resize(shares, episodes)
        actions = np.where(rng.random(episodes) < shares, rng.integers(self.actions, size=episodes), right)
        ends = np.ones(episodes, bool)
        rewards = (actions == right).astype(np.float64)
        return Recording(states, actions, rewards, np.arange(episodes), ends, ~ends)

    def play(self, policy: Policy, episodes: int, seed: int) -> np.ndarray:
        """Return the returns of fresh requests, twenty for each episode."""
        states, right = self.draw(20 * episodes, np.random.default_rng((seed, 99)))
        return (policy(states, np.arange(len(states)), np.zeros(len(states))) == right).astype(np.float64)
