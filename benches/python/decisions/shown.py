"""Writes what `suite.py` found: the section "Decisions" of docs/benchmarks.md, and its picture.

python benches/python/decisions/shown.py --out docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
BEGIN, END = (
    "<!-- made by benches/python/decisions: begin -->",
    "<!-- made by benches/python/decisions: end -->",
)
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
OURS = ("cascade", "network alone", "exact tier alone", "interpolation alone")
RIVALS = (
    "1-nearest-neighbour",
    "DiscreteBC",
    "DiscreteBC, best tenth",
    "DiscreteCQL",
    "DiscreteDecisionTransformer",
)
FULL = 300
ERROR = "calibration error, mean (range)"

Records = list[dict[str, Any]]


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean over seeds and half of its 95 % interval (Student's t); nan with a single seed."""
    freedom = len(values) - 1
    if freedom < 1:
        return float(np.mean(values)), math.nan
    quantile = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96
    return float(np.mean(values)), quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def by(records: Records, *keys: str) -> dict[Any, Records]:
    """Return records by the values of some of their fields."""
    groups: dict[Any, Records] = defaultdict(list)
    for record in records:
        groups[tuple(record[key] for key in keys)].append(record)
    return groups


def returns_table(records: Records) -> str:
    """Return the mean returns with 300 episodes, a column a world, and the mean of the normalised ones."""
    here = [r for r in records if r["episodes"] == FULL]
    worlds = list(dict.fromkeys(r["world"] for r in here))
    cells = by(here, "policy", "world")
    lines = [["policy", *worlds, "normalised"], ["---"] * (len(worlds) + 2)]
    played = {r["policy"] for r in here}
    for policy in filter(played.__contains__, ("behaviour", *OURS, *RIVALS)):
        line, normal = [policy], defaultdict(list)
        for world in worlds:
            found = cells.get((policy, world), [])
            mean, half = interval([r["mean"] for r in found]) if found else (math.nan, math.nan)
            line.append(_shown(mean, half, 2 if world == "Text tasks" else 0))
            for record in found:
                if "normalised" in record:
                    normal[record["seed"]].append(record["normalised"])
        # the mean over the worlds, where all of them were played
        whole = [np.mean(values) for values in normal.values() if len(values) == len(worlds)]
        line.append(_shown(*interval(whole), 2) if whole else "")
        lines.append(line)
    return _rows(lines)


def efficiency_table(records: Records) -> str:
    """Return normalised returns by the number of recorded episodes."""
    policies = (
        "cascade",
        "network alone",
        "exact tier alone",
        "interpolation alone",
        "1-nearest-neighbour",
        "DiscreteBC",
        "DiscreteBC, best tenth",
    )
    sizes = sorted({r["episodes"] for r in records})
    cells = by([r for r in records if "normalised" in r], "world", "policy", "episodes")
    worlds = list(dict.fromkeys(r["world"] for r in records))
    lines = [["world", "policy", *(f"{size} episodes" for size in sizes)], ["---"] * (len(sizes) + 2)]
    for world in worlds:
        for policy in policies:
            shown = []
            for size in sizes:
                found = cells.get((world, policy, size), [])
                shown.append(_shown(*interval([r["normalised"] for r in found]), 2) if found else "")
            lines.append([world, policy, *shown])
    return _rows(lines)


def costs_table(records: Records) -> str:
    """Return seconds to train and milliseconds to decide, medians over worlds and seeds."""
    cells = by([r for r in records if r["episodes"] == FULL and r.get("training")], "policy")
    lines = [["policy", "training, CPU s", "a decision from an encoded state, ms"], ["---"] * 3]
    for (policy,), found in cells.items():
        training = np.median([r["training"] for r in found])
        decision = 1e3 * np.median([r["decision"] for r in found if r["decision"]])
        lines.append([policy, f"{training:.1f}", f"{decision:.2f}"])
    return _rows(lines)


def trust_table(records: Records) -> str:
    """Return what the thresholds came to, and how right the network's confidence was."""
    cells = by([r for r in records if r["episodes"] == FULL and r["policy"] == "cascade"], "world")
    lines = [
        ["world", "agreement of the network", "of the cascade", "tiers 1 and 2 answer", ERROR],
        ["---"] * 5,
    ]
    for (world,), found in cells.items():
        told = [r["calibration"] for r in found if r["calibration"]]
        errors = [r["trust"] for r in found if r["trust"] is not None]
        error = f"{np.mean(errors):.3f} ({min(errors):.3f} to {max(errors):.3f})" if errors else ""
        if not told:
            lines.append([world, "", "", "", error])
            continue
        shares = [(t["exact_count"] + t["interpolation_count"]) / t["steps"] for t in told]
        lines.append(
            [
                world,
                f"{np.mean([t['network_agreement'] for t in told]):.3f}",
                f"{np.mean([t['cascade_agreement'] for t in told]):.3f}",
                f"{np.mean(shares):.0%}",
                error,
            ]
        )
    return _rows(lines)


def draw(records: Records, path: Path) -> None:
    """Draw normalised return against the number of recorded episodes, a panel a world."""
    from matplotlib.figure import Figure

    worlds = list(dict.fromkeys(r["world"] for r in records))
    figure = Figure(figsize=(3.4 * len(worlds), 3.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(worlds), sharey=True))
    cells = by([r for r in records if "normalised" in r], "world", "policy", "episodes")
    for panel, world in zip(panels, worlds, strict=True):
        for policy in ("cascade", "1-nearest-neighbour", "DiscreteBC, best tenth"):
            points = sorted(
                (n, interval([r["normalised"] for r in found]))
                for (w, p, n), found in cells.items()
                if (w, p) == (world, policy)
            )
            sizes, means, halves = (
                [n for n, _ in points],
                [m for _, (m, _) in points],
                [h for _, (_, h) in points],
            )
            panel.errorbar(sizes, means, yerr=np.nan_to_num(halves), capsize=3, marker="o", label=policy)
        panel.set(title=world, xscale="log", xlabel="recorded episodes", ylim=(-0.3, 1.2))
    panels[0].set_ylabel("normalised return")
    panels[0].legend(fontsize="small")
    figure.savefig(path)


def draw_reliability(records: Records, path: Path) -> None:
    """Draw what the network's confidence promised against what came, a panel a world."""
    from matplotlib.figure import Figure

    here = [r for r in records if r["episodes"] == FULL and r.get("reliability")]
    worlds = by(here, "world")
    if not worlds:
        return
    figure = Figure(figsize=(3.0 * len(worlds), 3.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(worlds), sharey=True))
    for panel, ((world,), found) in zip(panels, worlds.items(), strict=True):
        panel.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
        for record in found:
            promised, came, _ = zip(*record["reliability"], strict=True)
            panel.plot(promised, came, marker=".", linewidth=1, label=f"recording {record['seed']}")
        error = np.mean([r["trust"] for r in found])
        panel.set(title=f"{world}: ECE {error:.3f}", xlabel="confidence", xlim=(0, 1.02), ylim=(0, 1.02))
    panels[0].set_ylabel("agreement with what was done")
    panels[-1].legend(fontsize="small")
    figure.savefig(path)


def text(records: Records) -> str:
    """Return the whole section."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from report import header

    seeds = {
        n: len({r["seed"] for r in records if r["episodes"] == n})
        for n in sorted({r["episodes"] for r in records})
    }
    counted = ", ".join(f"{count} of {n} episodes" for n, count in seeds.items())
    by_size = [
        "#### Normalised return by recorded episodes",
        efficiency_table(records),
        "![Normalised return by recorded episodes](decisions.png)",
    ]
    told = [
        "The agreement is that on the held-out steps by which the thresholds were chosen, so the cascade's "
        "is never below the network's. The calibration error is that of the network's confidence on the "
        "best tenth of five hundred episodes that were recorded later: by ten bins of equal count, the mean "
        "gap between the confidence and the cosine to what was done. It is of the network that learned with "
        "a fifth of the episodes held out.",
        "![Confidence of the network against its agreement, a line a recording](reliability.png)",
    ]
    return "\n\n".join(
        [
            header("bash benches/python/run decisions"),
            f"Recordings, each with its own seed: {counted}. Returns are means over seeds with the 95 % "
            "interval of Student's t. Normalised: 0 = random actions, 1 = solved.",
            "#### Mean return after 300 recorded episodes",
            returns_table(records),
            *(by_size if len(seeds) > 1 else ()),
            "#### What it costs, after 300 episodes",
            costs_table(records),
            "#### Thresholds and trust, after 300 episodes",
            trust_table(records),
            *(told if any(r.get("reliability") for r in records) else ()),
        ]
    )


def _shown(mean: float, half: float, digits: int) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


def _rows(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Read the results; print the section, or write it with its picture."""
    parser = argparse.ArgumentParser(description="The tables of the decision suite.")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results.jsonl")
    parser.add_argument("--out", type=Path, help="the document to write into")
    options = parser.parse_args()
    records = [json.loads(line) for line in options.results.read_text().splitlines()]
    made = text(records)
    print(made)
    if options.out:
        path = options.out if options.out.is_absolute() else ROOT / options.out
        old = path.read_text()
        before, rest = old.split(BEGIN, 1)
        path.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END, 1)[1]}")
        if len({r["episodes"] for r in records}) > 1:
            draw(records, path.parent / "decisions.png")
        draw_reliability(records, path.parent / "reliability.png")


if __name__ == "__main__":
    main()
