"""Control tasks of Gymnasium, with the behaviour that is recorded and the returns that mean 0 and 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Controller = Callable[[Floats], int]
# From the observations of several episodes that are under way, `[n, m]`, their numbers and the rewards of
# their last steps (0 at first), to actions `[n]`.
Policy = Callable[[Floats, npt.NDArray[np.intp], npt.NDArray[np.float64]], npt.NDArray[np.intp]]

# Episodes by the share of their actions that is random; what is left over is steered best.
MIX = ((1.0, 0.5), (0.6, 0.4), (0.1, 0.1))


@dataclass(frozen=True)
class World:
    """A task.

    Attributes:
        name: Of the environment.
        controller: Acts well, by a rule.
        actions: How many there are.
        floor: The mean return of random actions: normalised 0.
        ceiling: A return that counts as solved: normalised 1.
    """

    name: str
    controller: Controller
    actions: int
    floor: float
    ceiling: float

    def make(self) -> gymnasium.Env[Floats, int]:
        """Return the environment."""
        return gymnasium.make(self.name)

    def normalised(self, returns: Any) -> Any:
        """Return returns on the scale from random (0) to solved (1)."""
        return (np.asarray(returns) - self.floor) / (self.ceiling - self.floor)

    def record(self, episodes: int, seed: int) -> Recording:
        """Let the three behaviours act. The first n of these episodes are no sample of them: ask for n."""
        rng = np.random.default_rng((seed, episodes))
        env = self.make()
        shares: list[float] = []
        for share, part in MIX[:-1]:
            shares += [share] * round(part * episodes)
        shares += [MIX[-1][0]] * (episodes - len(shares))
        steps = []
        for episode, share in enumerate(shares):
            seen, _ = env.reset(seed=seed * 1_000_000 + episode)
            ended = False
            while not ended:
                wild = rng.random() < share
                action = int(rng.integers(self.actions)) if wild else self.controller(seen)
                after, reward, terminated, truncated, _ = env.step(action)
                steps.append((seen, action, float(reward), episode, terminated, truncated))
                seen, ended = after, terminated or truncated
        env.close()
        return Recording(*(np.array(column) for column in zip(*steps, strict=True)))

    def play(self, policy: Policy, episodes: int, seed: int) -> npt.NDArray[np.float64]:
        """Return the total rewards of fresh episodes, the same for every policy, played side by side."""
        envs = [self.make() for _ in range(episodes)]
        seen = np.stack([env.reset(seed=seed * 1_000_000 + 500_000 + i)[0] for i, env in enumerate(envs)])
        totals, last = np.zeros(episodes), np.zeros(episodes)
        going = np.arange(episodes)
        while len(going):
            actions = policy(seen[going], going, last[going])
            still = []
            for i, action in zip(going.tolist(), actions.tolist(), strict=True):
                seen[i], last[i], terminated, truncated, _ = envs[i].step(action)
                totals[i] += last[i]
                if not (terminated or truncated):
                    still.append(i)
            going = np.array(still, np.intp)
        for env in envs:
            env.close()
        return totals


@dataclass(frozen=True)
class Recording:
    """Steps of many episodes, one after the other."""

    observations: Floats
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float64]
    episodes: npt.NDArray[np.int64]
    terminated: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]

    @property
    def totals(self) -> npt.NDArray[np.float64]:
        """The total reward of each episode."""
        return np.bincount(self.episodes, self.rewards)

    def of(self, episodes: npt.NDArray[np.bool_]) -> Recording:
        """Return some of the episodes, numbered anew."""
        kept = episodes[self.episodes]
        numbers = np.cumsum(episodes) - 1
        columns = (self.observations, self.actions, self.rewards, numbers[self.episodes])
        return Recording(*(column[kept] for column in (*columns, self.terminated, self.truncated)))

    @property
    def bar(self) -> float:
        """The total reward that the best tenth of the episodes reached."""
        return float(np.quantile(self.totals, 0.9))

    def best(self) -> Recording:
        """Return the best tenth of the episodes, all of those that are equally good."""
        return self.of(self.totals >= self.bar)


def _balance(seen: Floats) -> int:
    """Push to where the pole leans and turns, and a little to where the cart stands."""
    return int(seen @ (0.03, 0.02, 1.0, 0.2) > 0)


def _swing(seen: Floats) -> int:
    """Push the way the second link turns against the first, which feeds energy in."""
    return 2 if seen[4] < 0 else 0


def _rock(seen: Floats) -> int:
    """Accelerate the way the car moves."""
    return 2 if seen[1] >= 0 else 0


def _land(seen: Floats) -> int:
    """Steer by two proportional-derivative rules: one for the angle, one for the height."""
    x, y, vx, vy, angle, turning, left, right = (float(value) for value in seen)
    wanted_angle = min(max(0.5 * x + vx, -0.4), 0.4)
    wanted_height = 0.55 * abs(x)
    turn = 0.5 * (wanted_angle - angle) - turning
    lift = 0.5 * (wanted_height - y) - 0.5 * vy
    if left or right:
        turn, lift = 0.0, -0.5 * vy
    if lift > max(abs(turn), 0.05):
        return 2
    if turn < -0.05:
        return 3
    return 1 if turn > 0.05 else 0


WORLDS = {
    world.name: world
    for world in (
        World("CartPole-v1", _balance, 2, 22.0, 500.0),
        World("Acrobot-v1", _swing, 3, -499.0, -80.0),
        World("MountainCar-v0", _rock, 3, -200.0, -110.0),
        World("LunarLander-v3", _land, 4, -180.0, 250.0),
    )
}
