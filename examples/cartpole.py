"""Learns to balance a pole from recorded episodes, most of them bad, and compares three ways of using them.

    python examples/cartpole.py            # five seeds, 300 and 30 recorded episodes; what `make demo` runs
    python examples/cartpole.py --seeds 1  # a quick look

The behaviour is mixed: half of the episodes are random, two fifths follow a linear controller whose action is
replaced by a random one 60 % of the time, a tenth follow one that is replaced 10 % of the time. Nobody tells
the learner which is which: it sees observations, actions and rewards. Beside the three ways (the nearest
neighbour, the network alone, the cascade) stands what the recorded episodes brought. Each seed has its own
recording, store file, network and fresh episodes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import gymnasium
import numpy as np
import numpy.typing as npt

from cartpole_report import Outcome, draw, table
from precedent import (
    ActionSelector,
    DecisionLayer,
    OfflineTrainer,
    Tier,
    TrajectoryBatch,
    TrajectoryStore,
)
from precedent.encoders import FourierEncoder

Floats = npt.NDArray[np.float32]
Policy = Callable[[Floats], int]

ACTIONS = ("left", "right")
ONE_HOT = np.eye(2, dtype=np.float32)

# Position, velocity, angle, angular velocity. The velocities have no bound of their own: 3 covers what is
# ever seen.
BOUNDS = np.array([2.4, 3.0, 0.2095, 3.0])
# cos(encode(x), encode(y)) = exp(-d^2 / (2 * 0.2^2)): the exact tier (0.99) reaches to d = 0.028, the
# interpolating one (0.95) to d = 0.064, where d is measured between observations scaled to [0, 1].
FEATURES = 256
BANDWIDTH = 0.2
# "Act as in the best twentieth of the episodes."
DESIRED = 0.95

# Push towards the side to which the pole leans and turns, and a little towards the side where the cart
# stands.
CONTROLLER = np.array([0.03, 0.02, 1.0, 0.2])
FRESH_EPISODES = 10  # a seed


@dataclass(frozen=True)
class Recording:
    """Steps of many episodes, one after the other."""

    observations: Floats
    actions: npt.NDArray[np.int64]
    episodes: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]

    @property
    def episode_returns(self) -> npt.NDArray[np.float64]:
        """The total reward of each episode."""
        return np.bincount(self.episodes, self.rewards)


def record(env: gymnasium.Env[Floats, int], episodes: int, seed: int) -> Recording:
    """Let the three behaviours act."""
    rng = np.random.default_rng(seed)
    randomness = [1.0] * (episodes // 2) + [0.6] * (2 * episodes // 5)
    randomness += [0.1] * (episodes - len(randomness))
    steps = []
    for episode, share in enumerate(randomness):
        observation, _ = env.reset(seed=seed * 100_000 + episode)
        ended = False
        while not ended:
            wild = rng.random() < share
            action = int(rng.integers(2)) if wild else int(observation @ CONTROLLER > 0)
            after, reward, terminated, truncated, _ = env.step(action)
            steps.append((observation, action, episode, float(reward), terminated, truncated))
            observation, ended = after, terminated or truncated
    columns = zip(*steps, strict=True)
    return Recording(*(np.array(column) for column in columns))


def keep(store: TrajectoryStore, encoder: FourierEncoder, steps: Recording) -> None:
    """Put a recording into the store and compute its returns."""
    store.insert_batch(
        TrajectoryBatch(
            states=encoder(steps.observations),
            actions=ONE_HOT[steps.actions],
            rewards=steps.rewards,
            pattern_ids=[ACTIONS[action] for action in steps.actions],
            episode_ids=[f"episode-{episode}" for episode in steps.episodes],
            task_types="cartpole",
            terminated=steps.terminated,
            truncated=steps.truncated,
        )
    )
    store.compute_all_returns()


def play(env: gymnasium.Env[Floats, int], policy: Policy, seed: int) -> npt.NDArray[np.float64]:
    """Return the total rewards of fresh episodes: others than any recorded one, the same for every policy."""
    totals = np.zeros(FRESH_EPISODES)
    for episode in range(FRESH_EPISODES):
        observation, _ = env.reset(seed=seed * 100_000 + 50_000 + episode)
        ended = False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            totals[episode] += float(reward)
            ended = terminated or truncated
    return totals


def compare(folder: Path, episodes: int, seed: int) -> Outcome:
    """Record, learn and act once."""
    env = gymnasium.make("CartPole-v1")
    encoder = FourierEncoder(-BOUNDS, BOUNDS, FEATURES, BANDWIDTH, seed=seed)
    with TrajectoryStore(
        folder / f"cartpole-{episodes}-{seed}.db", dimension=FEATURES, action_dimension=len(ACTIONS)
    ) as store:
        steps = record(env, episodes, seed)
        keep(store, encoder, steps)

        layer = DecisionLayer(FEATURES, len(ACTIONS), return_scale="episode", seed=seed)
        began = perf_counter()
        OfflineTrainer(store, layer, seed=seed, progress=False).train()
        training = perf_counter() - began
        selector = ActionSelector(store, layer, return_scale="episode")

        def nearest(observation: Floats) -> int:
            found = store.search(encoder(observation), k=1, threshold=None)
            return ACTIONS.index(found[0].trajectory.action.pattern_id)

        def network(observation: Floats) -> int:
            return int(layer.predict(encoder(observation), DESIRED).argmax())

        def cascade(observation: Floats) -> int:
            return int(selector.select_action(encoder(observation), DESIRED).action.argmax())

        returns = {
            "behaviour data": steps.episode_returns,
            "1-nearest-neighbour": play(env, nearest, seed),
            "network alone": play(env, network, seed),
            "cascade": play(env, cascade, seed),
        }
        stats = selector.stats()
    env.close()
    return Outcome(
        returns=returns,
        tiers={tier.name.lower(): stats.tiers.get(tier, 0) for tier in Tier if tier != Tier.PATTERN},
        p50=stats.p50,
        p99=stats.p99,
        steps=len(steps.rewards),
        training=training,
    )


def main() -> None:
    """Print a table for each amount of data and draw them."""
    parser = argparse.ArgumentParser(description="CartPole from recorded episodes.")
    parser.add_argument("--seeds", type=int, default=5, help="recordings for each amount of data (default 5)")
    parser.add_argument("--episodes", type=int, nargs="+", default=[300, 30], help="recorded episodes")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "out", help="folder of the picture"
    )
    options = parser.parse_args()

    outcomes: dict[int, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for episodes in options.episodes:
            outcomes[episodes] = [compare(Path(folder), episodes, seed) for seed in range(options.seeds)]
            print(table(episodes, outcomes[episodes], FRESH_EPISODES), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / "cartpole.png"
    draw(picture, outcomes)
    print(f"drawn: {picture}")


if __name__ == "__main__":
    main()
