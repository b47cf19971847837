"""A store shadowed by a dict: whatever is done to both, they agree."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

import precedent
from worlds import EPOCH, changed, discounted, distances, step, succeeded

# A grid of states makes ties and equal states likely, which random numbers never would.
STATES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=3, max_size=3).filter(any)
EPISODES = st.sampled_from(["a", "b", "c"])
ROWS = st.builds(
    lambda state, pattern, episode, reward, value, success, moment, index, task: step(
        state,
        pattern=pattern,
        action=[1.0, 0.0] if pattern == "p" else [0.0, 1.0],
        episode_id=episode,
        reward=reward,
        returns=value,
        success=success,
        timestamp=EPOCH + moment,
        step_index=index,
        task_type=task,
    ),
    STATES,
    st.sampled_from(["p", "q"]),
    EPISODES,
    st.sampled_from([-1.0, 0.25, 0.75]),
    st.none() | st.sampled_from([-2.0, 0.5, 1.5]),
    st.none() | st.booleans(),
    st.integers(0, 50),
    st.none() | st.integers(0, 5),
    st.sampled_from(["x", "y"]),
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "task_type": st.sampled_from(["x", "y", ["x", "y"], "z"]),
        "min_return": st.sampled_from([-2.0, 0.5, 1.0]),
        "min_reward": st.sampled_from([0.25, 0.3]),
        "min_episode_reward": st.sampled_from([-0.5, 0.5, 1.0]),
        "episode_id": st.sampled_from(["a", ["b", "c"]]),
        "after_timestamp": st.integers(EPOCH, EPOCH + 50),
        "before_timestamp": st.integers(EPOCH, EPOCH + 50),
        "pattern_id": st.sampled_from(["p", ["p", "q"], "r"]),
        "success": st.booleans(),
    },
)


def listed(value):
    return [value] if isinstance(value, str) else value


class StoreModel(RuleBasedStateMachine):
    """Two stores on one file, used by turns, beside one dict of rows in the order of their insertion."""

    ids = Bundle("ids")

    @initialize(metric=st.sampled_from(["cosine", "euclidean", "dot"]))
    def open(self, metric):
        self.folder = tempfile.TemporaryDirectory()
        self.metric = metric
        self.stores = [self.reopened(), self.reopened()]
        self.rows = {}
        self.episodes = {}

    def reopened(self):
        return precedent.TrajectoryStore(
            Path(self.folder.name) / "model.db",
            dimension=3,
            action_dimension=2,
            hnsw={"metric": self.metric},
        )

    def teardown(self):
        if hasattr(self, "stores"):
            for store in self.stores:
                store.close()
            self.folder.cleanup()

    def remember(self, id_, row):
        self.rows[id_] = changed(row, id=id_)
        self.episodes.setdefault(row.metadata.episode_id, {"success": None, "metadata": {}})

    def forget(self, id_):
        name = self.rows.pop(id_).metadata.episode_id
        if all(row.metadata.episode_id != name for row in self.rows.values()):
            del self.episodes[name]

    def ordered(self, name):
        steps = [row for row in self.rows.values() if row.metadata.episode_id == name]
        last = 10**9

        def place(row):
            index = row.metadata.step_index
            return (last if index is None else index, row.metadata.timestamp)

        return sorted(steps, key=place)

    def matches(self, row, condition):
        facts = row.metadata
        total = sum(r.reward for r in self.ordered(facts.episode_id))
        tests = {
            "task_type": lambda v: facts.task_type in listed(v),
            "min_return": lambda v: row.return_to_go is not None and row.return_to_go >= v,
            "min_reward": lambda v: row.reward >= v,
            "min_episode_reward": lambda v: total >= v,
            "episode_id": lambda v: facts.episode_id in listed(v),
            "after_timestamp": lambda v: facts.timestamp >= v,
            "before_timestamp": lambda v: facts.timestamp < v,
            "pattern_id": lambda v: row.action.pattern_id in listed(v),
            "success": lambda v: succeeded(row) is v,
        }
        return all(tests[key](value) for key, value in condition.items())

    @rule(target=ids, which=st.integers(0, 1), row=ROWS)
    def insert(self, which, row):
        id_ = self.stores[which].insert(row)
        self.remember(id_, row)
        return id_

    @rule(target=ids, which=st.integers(0, 1), rows=st.lists(ROWS, max_size=6))
    def insert_batch(self, which, rows):
        made = self.stores[which].insert_batch(rows)
        for id_, row in zip(made, rows, strict=True):
            self.remember(id_, row)
        return multiple(*made)

    @rule(which=st.integers(0, 1), rows=st.lists(ROWS, min_size=1, max_size=4), at=st.integers(0, 3))
    def insert_a_bad_batch(self, which, rows, at):
        rows[at % len(rows)] = changed(rows[at % len(rows)], reward=float("nan"))
        try:
            self.stores[which].insert_batch(rows)
        except precedent.ValidationError:
            return
        raise AssertionError("a reward of NaN was accepted")

    @rule(which=st.integers(0, 1), id_=consumes(ids))
    def delete(self, which, id_):
        if id_ in self.rows:
            assert self.stores[which].delete([id_]) == 1
            self.forget(id_)
        else:
            try:
                self.stores[which].delete([id_])
            except precedent.NotFoundError:
                return
            raise AssertionError("a row was deleted twice")

    @rule(which=st.integers(0, 1), size=st.integers(0, 12), dry_run=st.booleans())
    def prune(self, which, size, dry_run):
        def worth(row):
            value = row.return_to_go
            return (succeeded(row), -np.inf if value is None else value, row.metadata.timestamp)

        # Rows of equal worth and time may go in either order, so only the count and the worth are compared.
        gone = max(0, len(self.rows) - size)
        expected = sorted(map(worth, self.rows.values()))[gone:]
        assert self.stores[which].prune(keep_days=None, max_size=size, dry_run=dry_run) == gone
        if dry_run:
            return
        kept = {id_ for b in self.stores[which].iter_batches() for id_ in b.ids}
        for id_ in [id_ for id_ in self.rows if id_ not in kept]:
            self.forget(id_)
        assert sorted(map(worth, self.rows.values())) == expected

    @rule(which=st.integers(0, 1), name=EPISODES, gamma=st.sampled_from([0.0, 0.5, 1.0]))
    def compute_returns(self, which, name, gamma):
        steps = self.ordered(name)
        if not steps:
            try:
                self.stores[which].compute_returns(name, gamma)
            except precedent.NotFoundError:
                return
            raise AssertionError("an episode without steps had returns")
        returns = self.stores[which].compute_returns(name, gamma)
        np.testing.assert_allclose(returns, discounted([s.reward for s in steps], gamma))
        for row, value in zip(steps, returns.tolist(), strict=True):
            self.rows[row.id] = changed(row, return_to_go=value)

    @rule(which=st.integers(0, 1), name=EPISODES, success=st.booleans())
    def set_episode(self, which, name, success):
        if name not in self.episodes:
            return
        self.stores[which].set_episode(name, success=success, metadata={"said": success})
        self.episodes[name] = {"success": success, "metadata": {"said": success}}

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.stores[which].close()
        self.stores[which] = self.reopened()

    @rule(which=st.integers(0, 1))
    def rebuild_index(self, which):
        self.stores[which].rebuild_index()

    @rule(
        which=st.integers(0, 1),
        query=STATES,
        options=st.fixed_dictionaries(
            {
                "k": st.integers(1, 12),
                "metric": st.sampled_from([None, "cosine", "euclidean", "dot"]),
                "exact": st.booleans(),
                "filter": FILTERS,
                "threshold": st.none(),
            }
        ),
    )
    def search(self, which, query, options):
        k, metric = options["k"], options["metric"]
        among = [row for row in self.rows.values() if self.matches(row, options["filter"])]
        found = self.stores[which].search(query, **options)
        assert len(found) == min(k, len(among))
        assert {r.id for r in found} <= {row.id for row in among}
        for result in found:
            assert result.trajectory == self.rows[result.id]
        if among:
            away = distances(metric or self.metric, query, np.stack([r.state_embedding for r in among]))
            nearest = np.sort(away)[:k]
            np.testing.assert_allclose([r.distance for r in found], nearest, rtol=1e-9, atol=1e-9)
        keys, _ = self.stores[which].search_ids(query, **options)
        assert [t.id for t in self.stores[which].get_many(keys[keys >= 0])] == [r.id for r in found]

    @rule(which=st.integers(0, 1), state=STATES)
    def get_by_state(self, which, state):
        wanted = np.float32(state).tobytes()
        expected = [id_ for id_, row in self.rows.items() if row.state_embedding.tobytes() == wanted]
        assert [t.id for t in self.stores[which].get_by_state(state)] == expected

    @rule(which=st.integers(0, 1), condition=FILTERS)
    def scan(self, which, condition):
        got = [id_ for b in self.stores[which].iter_batches(condition, size=3) for id_ in b.ids]
        assert got == [id_ for id_, row in self.rows.items() if self.matches(row, condition)]
        names = {self.rows[id_].metadata.episode_id for id_ in got}
        assert set(self.stores[which].episodes(condition)) == names

    @invariant()
    def statistics_and_episodes_agree(self):
        if not hasattr(self, "stores"):
            return
        store = self.stores[0]
        stats = store.get_stats()
        assert (stats.total_trajectories, stats.total_episodes) == (len(self.rows), len(self.episodes))
        assert store.get_many(list(self.rows)) == list(self.rows.values())
        for name, said in self.episodes.items():
            episode, steps = store.get_episode(name), self.ordered(name)
            assert [s.id for s in episode] == [s.id for s in steps]
            assert np.isclose(episode.total_reward, sum(s.reward for s in steps))
            expected = succeeded(steps[-1]) if said["success"] is None else said["success"]
            assert (episode.success, episode.metadata) == (expected, said["metadata"])

    @invariant()
    def patterns_agree(self):
        if not hasattr(self, "stores"):
            return
        library = precedent.PatternLibrary(self.stores[1])
        used = {row.action.pattern_id for row in self.rows.values()}
        assert {p.pattern_id for p in library} == used
        for name in used:
            of = [row for row in self.rows.values() if row.action.pattern_id == name]
            pattern = library.get(name)
            assert (pattern.uses, pattern.successes) == (len(of), sum(map(succeeded, of)))
            assert np.isclose(pattern.mean_reward, np.mean([row.reward for row in of]))

    @rule()
    def verify(self):
        assert self.stores[0].verify(deep=True).ok


TestStore = StoreModel.TestCase
