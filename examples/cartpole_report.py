"""What `cartpole.py` found, as a table and as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BEST = 500.0  # CartPole-v1 ends an episode after 500 steps
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond the list, the normal one.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


@dataclass(frozen=True)
class Outcome:
    """One seed: its recording, its network, its fresh episodes.

    Attributes:
        returns: Total rewards of episodes, by policy.
        tiers: Decisions of the cascade by the tier that made them.
        p50: Median time of a decision, in ms.
        p99: Its 99th percentile, in ms.
        steps: Recorded steps.
        training: Seconds that training took.
    """

    returns: dict[str, npt.NDArray[np.float64]]
    tiers: dict[str, int]
    p50: float
    p99: float
    steps: int
    training: float


def interval(outcomes: Sequence[Outcome], policy: str) -> tuple[float, float, float]:
    """Return the mean over seeds and its 95 % interval: Student's t on the means of the seeds."""
    means = np.array([outcome.returns[policy].mean() for outcome in outcomes])
    mean, freedom = float(means.mean()), len(means) - 1
    if freedom == 0:
        return mean, math.nan, math.nan
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96
    half = quantile * float(means.std(ddof=1)) / math.sqrt(len(means))
    return mean, max(0.0, mean - half), min(BEST, mean + half)


def table(episodes: int, outcomes: Sequence[Outcome], fresh: int) -> str:
    """Return everything about one amount of data."""
    steps = sum(outcome.steps for outcome in outcomes) / len(outcomes)
    training = sum(outcome.training for outcome in outcomes) / len(outcomes)
    lines = [
        "",
        f"CartPole-v1 from {episodes} recorded episodes ({steps:,.0f} steps): {len(outcomes)} seeds, each "
        f"its own recording and network, {fresh} fresh episodes",
        f"{'':24}{'mean return':>12}   {'95 % interval over seeds':<24}",
    ]
    for policy in outcomes[0].returns:
        mean, low, high = interval(outcomes, policy)
        lines.append(f"{policy:24}{mean:12.1f}   [{low:.1f}, {high:.1f}]")
    total = sum(sum(outcome.tiers.values()) for outcome in outcomes)
    rates = {tier: sum(outcome.tiers[tier] for outcome in outcomes) / total for tier in outcomes[0].tiers}
    lines += [
        f"{'tiers of the cascade':24}" + ", ".join(f"{tier} {rate:.1%}" for tier, rate in rates.items()),
        f"{'time of a decision':24}p50 {np.median([o.p50 for o in outcomes]):.3f} ms, "
        f"p99 {np.median([o.p99 for o in outcomes]):.3f} ms (median over seeds; training {training:.1f} s)",
    ]
    return "\n".join(lines)


def draw(path: Path, outcomes: dict[int, list[Outcome]]) -> None:
    """Write the tables as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        2,
        len(outcomes),
        figsize=(6.0 * len(outcomes), 5.0),
        height_ratios=(4, 1),
        squeeze=False,
        layout="constrained",
    )
    colours = ("#9aa0a6", "#c58b4b", "#5b8bb0", "#2f6f4f")
    for column, (episodes, found) in enumerate(outcomes.items()):
        panel = panels[0][column]
        for at, (policy, colour) in enumerate(zip(found[0].returns, colours, strict=True)):
            mean, low, high = interval(found, policy)
            if math.isnan(low):
                low = high = mean
            panel.bar(at, mean, color=colour, width=0.7)
            panel.errorbar(at, mean, yerr=[[mean - low], [high - mean]], color="black", capsize=4)
            panel.text(at, 12, f"{mean:.0f}", ha="center", va="bottom", color="white", weight="bold")
        panel.set_xticks(
            range(len(found[0].returns)), [policy.replace(" ", "\n", 1) for policy in found[0].returns]
        )
        panel.set(ylim=(0, BEST * 1.04), ylabel="mean return", title=f"{episodes} recorded episodes")
        panel.axhline(BEST, color="black", linewidth=0.6, linestyle=":")
        panel.spines[["top", "right"]].set_visible(False)

        strip, left = panels[1][column], 0.0
        total = sum(sum(outcome.tiers.values()) for outcome in found)
        for tier, colour in zip(found[0].tiers, ("#2f6f4f", "#7fae94", "#5b8bb0"), strict=True):
            share = sum(outcome.tiers[tier] for outcome in found) / total
            strip.barh(0, share, left=left, color=colour, label=f"{tier} {share:.1%}")
            left += share
        p50, p99 = (float(np.median([getattr(o, name) for o in found])) for name in ("p50", "p99"))
        strip.set(xlim=(0, 1), title=f"who decided; p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        strip.set_axis_off()
        strip.legend(loc="upper center", bbox_to_anchor=(0.5, 0.05), ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
