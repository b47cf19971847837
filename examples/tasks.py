"""An agent that handles text tasks and gets better at it: select, act, store, compute returns, train.

    python examples/tasks.py

It starts with an empty store and no idea. Where the selector has no answer the agent tries a pattern at
random; every hundred tasks the network is trained on what was recorded. Texts become vectors by hashed
n-grams, so nothing is downloaded; a real agent would pass its own model to `precedent.encoders.as_encoder`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from precedent import (
    Action,
    ActionSelector,
    DecisionLayer,
    NoActionError,
    OfflineTrainer,
    PatternLibrary,
    Trajectory,
    TrajectoryMetadata,
    TrajectoryStore,
)
from precedent.encoders import HashingEncoder
from tasks_world import PATTERNS, RIGHT, Task, World

DIMENSION = 256
WEEK = 7 * 24 * 3600 * 1000
CURIOSITY = 0.05  # how often a random pattern is tried although there is an answer


class Agent:
    """Store, network, trainer and selector over one file."""

    def __init__(self, path: Path, seed: int) -> None:
        self.encoder = HashingEncoder(DIMENSION)
        self.store = TrajectoryStore(path, dimension=DIMENSION, encoder=self.encoder)
        self.embeddings = {name: self.encoder.encode(text) for name, text in PATTERNS.items()}
        self.patterns = PatternLibrary(self.store)
        for name, text in PATTERNS.items():
            self.patterns.upsert(name, self.embeddings[name], payload={"instruction": text})
        layer = DecisionLayer(DIMENSION, DIMENSION, seed=seed)
        self.trainer = OfflineTrainer(
            self.store, layer, epochs=10, min_trajectories=100, seed=seed, progress=False
        )
        # The default thresholds, 0.99 and 0.95, suit sentence embeddings. Hashed n-grams of two texts of one
        # wording, about other things, have a cosine of about 0.6; of two kinds of tasks, 0.2.
        self.selector = ActionSelector(
            self.store,
            layer,
            exact_threshold=0.85,
            interpolation_threshold=0.5,
            min_confidence=0.5,
            patterns=self.patterns,
        )
        self.rng = np.random.default_rng(seed)

    def choose(self, text: str, tried: set[str]) -> tuple[str, str]:
        """Return a pattern for a situation, none that was tried on this task, and where it came from."""
        if self.rng.random() >= CURIOSITY:
            try:
                result = self.selector.select_action(text, desired_return=0.9)
            except NoActionError:
                pass
            else:
                if result.pattern_id is not None and result.pattern_id not in tried:
                    return result.pattern_id, result.tier.name.lower()
        return str(self.rng.choice([name for name in PATTERNS if name not in tried])), "at random"

    def handle(self, world: World, task: Task) -> tuple[bool, str]:
        """Work on a task until it is done or out of steps, and record it. Tell how the first step went."""
        text, steps, tried, first = task.text, [], set[str](), None
        for step in range(task.max_steps):
            pattern, source = self.choose(text, tried)
            tried.add(pattern)
            outcome = world.execute(task, pattern)
            steps.append(
                Trajectory(
                    state_embedding=text,
                    action=Action(pattern_id=pattern, embedding=self.embeddings[pattern]),
                    reward=1.0 if outcome.success else -1.0,
                    metadata=TrajectoryMetadata(
                        task_type=task.type,
                        episode_id=task.id,
                        step_index=step,
                        success=outcome.success,
                        extra={"text": text},
                    ),
                )
            )
            first = first or (pattern == task.best, source)
            if outcome.done:
                break
            text = outcome.next_text
        self.store.insert_batch(steps)
        self.store.compute_returns(task.id)
        return first

    def train(self) -> float:
        """Learn from the last week. Return the validation loss."""
        report = self.trainer.train({"after_timestamp": int(time.time() * 1000) - WEEK})
        return report.final_metrics.val_loss

    def report(self, task: Task) -> None:
        """Print what the store holds, and how one more task would be handled and why."""
        stats = self.store.get_stats()
        steps, tasks = stats.total_trajectories, stats.total_episodes
        print(f"\n{steps} steps in {tasks} tasks, mean return {stats.avg_return:.2f}")
        print(f"success rate of a step {stats.success_rate:.0%}; at most {RIGHT:.0%} is possible")
        result = self.selector.select_action(task.text)
        pattern = self.patterns.get(result.pattern_id)
        print(f"\nTask: {task.text}\n  {pattern.pattern_id}: {pattern.payload['instruction']}")
        print(f"  {result.tier.name.lower()}, confidence {result.confidence:.2f}, {result.latency:.2f} ms")
        for precedent in self.store.get_many(list(result.metadata.trajectory_ids))[:3]:
            print(f"  precedent: {precedent.metadata.extra['text']}")


def main() -> None:
    """Handle tasks and print how it goes."""
    parser = argparse.ArgumentParser(description="An agent that learns to handle text tasks.")
    parser.add_argument("--tasks", type=int, default=600, help="how many (default 600)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        agent, world = Agent(Path(folder) / "tasks.db", options.seed), World(options.seed)
        print(f"{len(PATTERNS)} patterns; guessing is right {1 / len(PATTERNS):.0%} of the time.")
        print(f"{'tasks':>9}  {'right at first':>14}  {'val. loss':>9}  decided by")
        for start in range(0, options.tasks, 100):
            results = [agent.handle(world, world.task()) for _ in range(min(100, options.tasks - start))]
            sources = Counter(source for _, source in results)
            shares = ", ".join(f"{source} {n / len(results):.0%}" for source, n in sources.most_common())
            right = sum(good for good, _ in results) / len(results)
            span = f"{start + 1:4}-{start + len(results):4}"
            print(f"{span}  {right:14.0%}  {agent.train():9.4f}  {shares}", flush=True)
        agent.report(world.task())
        agent.store.close()


if __name__ == "__main__":
    main()
