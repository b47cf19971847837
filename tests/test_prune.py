"""Pruning against a plain reading of its paragraph."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import precedent
from worlds import ACTION, DAY, STATE, batch, changed, one_hot, step, succeeded


def worst_first(rows, keep_successful):
    """Rows (success, return or None, time) by what goes first; None as a return is the lowest."""
    return sorted(
        rows,
        key=lambda row: (
            keep_successful and row["success"],
            -np.inf if row["return"] is None else row["return"],
            row["time"],
        ),
    )


def goes(row, now, keep_days, min_return, keep_successful):
    old = keep_days is not None and row["time"] < now - keep_days * DAY
    bad = min_return is not None and row["return"] is not None and row["return"] < min_return
    return (old or bad) and not (keep_successful and row["success"])


def kept_steps(rows, now, *, keep_days, min_return, max_size, keep_successful):
    kept = [row for row in rows if not goes(row, now, keep_days, min_return, keep_successful)]
    if max_size is not None and len(kept) > max_size:
        kept = worst_first(kept, keep_successful)[len(kept) - max_size :]
    return {row["id"] for row in kept}


def kept_episodes(rows, now, *, keep_days, min_return, max_size, keep_successful):
    episodes = {}
    for row in rows:
        episodes.setdefault(row["episode"], []).append(row)
    whole = []
    for members in episodes.values():
        if all(goes(row, now, keep_days, min_return, keep_successful) for row in members):
            continue
        returns = [row["return"] for row in members if row["return"] is not None]
        last = max(members, key=lambda row: row["time"])
        whole.append(
            {
                "success": last["success"],
                "return": np.mean(returns) if returns else None,
                "time": last["time"],
                "members": members,
            }
        )
    whole = worst_first(whole, keep_successful)
    while whole and max_size is not None and sum(len(e["members"]) for e in whole) > max_size:
        whole.pop(0)
    return {row["id"] for episode in whole for row in episode["members"]}


# Ages lie half a day from every limit, so the moment of the test does not matter; no two are the same.
ROWS = st.lists(
    st.tuples(
        st.integers(0, 5),  # age in days
        st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]) | st.none(),  # return
        st.sampled_from([None, True, False]),
        st.sampled_from([0.4, 0.6]),  # reward: decides where success is None
        st.integers(0, 3),  # episode
    ),
    max_size=14,
)


OPTIONS = st.fixed_dictionaries(
    {
        "keep_days": st.sampled_from([None, 0, 2, 4.0]),
        "min_return": st.sampled_from([None, -1.0, 0.25]),
        "max_size": st.sampled_from([None, 0, 1, 5]),
        "keep_successful": st.booleans(),
    }
)


@given(rows=ROWS, options=OPTIONS, unit=st.sampled_from(["step", "episode"]))
def test_what_is_kept_is_what_the_paragraph_says(rows, options, unit):
    now = time.time_ns() // 1_000_000
    if unit == "episode":  # a mean over steps of which some have no return is another question
        with_return = {row[4] for row in rows if row[1] is not None}
        rows = [(age, 0.5 if r is None and e in with_return else r, *rest, e) for age, r, *rest, e in rows]
    with precedent.TrajectoryStore(":memory:", dimension=STATE, action_dimension=ACTION) as store:
        world = []
        for i, (age, value, success, reward, episode) in enumerate(rows):
            moment = now - age * DAY - DAY // 2 + i
            trajectory = step(
                one_hot(i % STATE),
                reward=reward,
                returns=value,
                success=success,
                timestamp=moment,
                episode_id=f"e{episode}",
            )
            world.append(
                {
                    "id": store.insert(trajectory),
                    "success": succeeded(trajectory),
                    "return": value,
                    "time": moment,
                    "episode": episode,
                }
            )
        expected = (kept_steps if unit == "step" else kept_episodes)(world, now, **options)
        counted = store.prune(**options, unit=unit, dry_run=True)
        assert store.get_stats().total_trajectories == len(rows)
        assert store.prune(**options, unit=unit) == counted == len(rows) - len(expected)
        assert {id_ for b in store.iter_batches() for id_ in b.ids} == expected
        found = store.search_many([one_hot(i) for i in range(STATE)], k=len(rows) + 1, threshold=None)
        assert {r.id for results in found for r in results} == expected
        assert store.get_stats().total_episodes == len(
            {row["episode"] for row in world if row["id"] in expected}
        )


def ago(days):
    return time.time_ns() // 1_000_000 - int(days * DAY)


def test_by_default_what_failed_more_than_thirty_days_ago_goes(store):
    store.insert(step(reward=0.0, timestamp=ago(31)))
    kept = [
        store.insert(step(reward=0.0, timestamp=ago(29))),
        store.insert(step(reward=0.9, timestamp=ago(400))),
        store.insert(step(reward=0.0, success=True, timestamp=ago(400))),
    ]
    assert store.prune() == 1
    assert [t.id for t in store.get_many(kept)] == kept
    assert store.get_stats().total_trajectories == 3


def test_an_empty_store_has_nothing_to_prune(store):
    assert store.prune(keep_days=0, min_return=9.0, max_size=0) == 0


def test_a_missing_return_is_not_below_the_minimum_but_goes_first_when_there_is_no_room(store):
    unknown = store.insert(step(reward=0.0, returns=None, timestamp=ago(0)))
    low = store.insert(step(reward=0.0, returns=-5.0, timestamp=ago(1)))
    assert store.prune(keep_days=None, min_return=-6.0) == 0
    assert store.prune(keep_days=None, max_size=1) == 1
    assert store.get(low).id == low
    with pytest.raises(precedent.NotFoundError):
        store.get(unknown)


def test_no_room_sends_successful_steps_away_too(store):
    store.insert_batch(batch(10, successes=[True] * 10, rewards=np.ones(10)))
    assert store.prune(keep_days=None, max_size=4) == 6
    assert store.get_stats().total_trajectories == 4


def test_the_success_of_an_episode_is_the_caller_s_word_if_there_is_one(store):
    for name in ("good", "bad", "plain"):
        store.insert(step(reward=0.0, returns=1.0, episode_id=name, timestamp=ago(1)))
    store.set_episode("good", success=True)
    assert store.prune(keep_days=None, max_size=1, unit="episode") == 2
    assert list(store.episodes()) == ["good"]


def test_an_episode_with_one_step_worth_keeping_is_kept_whole(store):
    steps = [step(reward=0.0, timestamp=ago(40 - 20 * i), step_index=i) for i in range(3)]
    store.insert_batch(steps)
    store.insert_batch([changed(s, episode_id="old", timestamp=ago(50)) for s in steps])
    assert store.prune(unit="episode") == 3
    assert len(store.get_episode("e0")) == 3
    assert list(store.episodes()) == ["e0"]


def test_patterns_and_statistics_follow_a_prune(store):
    store.insert_batch(
        batch(10, pattern_ids=["old"] * 5 + ["new"] * 5, timestamps=[ago(60)] * 5 + [ago(1)] * 5)
    )
    assert store.prune(keep_successful=False) == 5
    assert [p.pattern_id for p in precedent.PatternLibrary(store)] == ["new"]
    assert store.verify(deep=True).ok
