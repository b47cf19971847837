"""Plays every world with every policy and writes what came out, one line of JSON a run.

python benches/python/decisions/suite.py --seeds 5 --out benches/python/decisions/results.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
FULL = 300
FEW = (10, 30, 100)
# What `ours.py` sets, and what `fit` and `calibrate` do by themselves, was chosen on recordings before these.
FIRST = 100
# With little data only these: the one that does best with much, and the one that learns from all there is.
WITH_FEW = ("DiscreteBC", "DiscreteBC, best tenth")


def run(
    world: Any, episodes: int, seed: int, options: argparse.Namespace, done: set[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """Return a record for each policy that has none yet."""
    import numpy as np
    import ours
    import rivals

    def missing(name: str) -> bool:
        return (world.name, episodes, seed, name) not in done

    against = [name for name in (options.rivals if episodes == FULL else WITH_FEW) if missing(name)]
    if world.name == "Text tasks" and rivals.TRANSFORMER in against:
        against.remove(rivals.TRANSFORMER)  # answered in one step: there is no sequence to learn from
    ours_too = options.ours and missing("cascade")
    if not ours_too and not against:
        return []
    recording = world.record(episodes, seed)
    facts = {"world": world.name, "episodes": episodes, "seed": seed, "steps": len(recording.rewards)}
    told: list[dict[str, Any]] = []

    def judge(name: str, policy: Any, seconds: float | None, decision: float | None, **more: Any) -> None:
        totals = world.play(policy, options.played, seed)
        told.append(
            {
                **facts,
                "policy": name,
                "mean": float(np.mean(totals)),
                "normalised": float(np.mean(world.normalised(totals))),
                "training": seconds,
                "decision": decision,
                **more,
            }
        )
        print(f"{world.name} {episodes} seed {seed} {name}: {told[-1]['mean']:.2f}", flush=True)

    if ours_too:
        mean, bar = float(recording.totals.mean()), recording.bar
        told.append({**facts, "policy": "behaviour", "mean": mean, "bar": bar})
        with tempfile.TemporaryDirectory() as folder:
            learned = ours.learn(world, recording, Path(folder), seed)
            for name, policy in learned.policies.items():
                if name == "cascade":
                    more = {
                        "calibration": learned.calibration,
                        "trust": learned.trust,
                        "reliability": learned.reliability,
                    }
                    judge(name, policy, learned.seconds, learned.decision, **more)
                else:
                    judge(name, policy, None, None)
    for name in against if rivals.available() else ():
        policy, seconds = rivals.learn(name, recording, seed, options.updates)
        judge(name, policy, seconds, _timed(policy, recording.observations[:50]))
    return told


def _timed(policy: Any, observations: Any) -> float:
    """Return the median time of a decision by itself, in seconds."""
    import numpy as np

    times = []
    for row in range(len(observations)):
        began = time.perf_counter()
        policy(observations[row : row + 1], np.array([row]), np.zeros(1))
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def main() -> None:
    """Run what is not in the file of results yet."""
    import rivals
    from texts import Texts

    from worlds import WORLDS

    worlds = {"Text tasks": Texts(), **WORLDS}
    parser = argparse.ArgumentParser(description="Decisions beside the peers, from the same recordings.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=FIRST, help="seed; other recordings need another --out")
    parser.add_argument("--worlds", nargs="+", default=list(worlds))
    parser.add_argument("--episodes", type=int, nargs="+", default=[FULL, *FEW])
    parser.add_argument("--rivals", nargs="*", default=list(rivals.NAMES), help="by name, as in the table")
    parser.add_argument("--ours", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--updates", type=int, default=2_000, help="optimizer steps of each rival")
    parser.add_argument("--played", type=int, default=20, help="fresh episodes a policy and seed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.jsonl")
    options = parser.parse_args()
    done = set()
    if options.out.exists():
        for line in options.out.read_text().splitlines():
            record = json.loads(line)
            done.add((record["world"], record["episodes"], record["seed"], record["policy"]))
    # Seed by seed, so that what is there after an interruption is whole for some seeds.
    for episodes in options.episodes:
        for seed in range(options.first, options.first + options.seeds):
            for name in options.worlds:
                told = run(worlds[name], episodes, seed, options, done)
                with options.out.open("a") as file:
                    file.writelines(json.dumps(record) + "\n" for record in told)
                done |= {(name, episodes, seed, record["policy"]) for record in told}


if __name__ == "__main__":
    if not THREADS.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **THREADS})
    main()
