"""The graph behind a store, as a user sees it: settings, states, codes, the file beside the database."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import precedent
from worlds import STATE, batch, one_hot, refused, states, step

ALWAYS = {"build_above": 0}


def saved_index(path):
    return path.with_name(path.name + "-index")


@pytest.fixture
def graphed(opened):
    return lambda *place, **options: opened(*place, hnsw=ALWAYS | options.pop("hnsw", {}), **options)


def test_a_graph_is_built_when_it_is_asked_for_and_reported(graphed, opened):
    store = graphed()
    store.insert_batch(batch(500))
    store.flush()
    stats = store.get_stats()
    assert (stats.index_state, stats.unindexed) == ("graph", 0)
    assert stats.index_size > 500 * STATE
    store.close()
    assert saved_index_size(store) > 0
    assert opened(":memory:").get_stats().index_state == "scan"


def saved_index_size(store):
    with precedent.TrajectoryStore(store.path) as again:
        return again.get_stats().sidecar_size


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("quantization", ["none", "int8", "binary"])
def test_the_graph_finds_what_the_scan_finds(graphed, metric, quantization):
    store = graphed(":memory:", hnsw={"metric": metric, "quantization": quantization})
    store.insert_batch(batch(3000))
    store.flush()
    assert store.get_stats().index_state == "graph"
    queries = states(60, seed=5)
    truth, far = store.search_ids(queries, k=10, exact=True)
    found, _ = store.search_ids(queries, k=10, ef_search=100)
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(truth, found, strict=True))
    assert hits / truth.size >= 0.95
    assert (np.diff(far) >= 0).all()


def test_a_row_is_found_the_instant_its_insert_returned_while_others_are_linked(graphed):
    store = graphed()
    store.insert_batch(batch(3000))
    failures = []

    def write(seed):
        for state in states(40, seed=seed):
            id_ = store.insert(step(state, episode_id=f"e{seed}"))
            if store.search(state, k=1)[0].id != id_:
                failures.append(id_)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store.flush()
    assert store.get_stats().unindexed == 0


def test_a_deleted_row_is_in_no_answer(graphed):
    store = graphed()
    ids = store.insert_batch(batch(1000))
    store.flush()
    store.delete(ids[:300])
    found = {r.id for state in states(30) for r in store.search(state, k=10, threshold=None)}
    assert not found & set(ids[:300])
    store.flush()
    found = {r.id for state in states(30) for r in store.search(state, k=10, threshold=None)}
    assert found
    assert not found & set(ids[:300])
    assert store.verify(deep=True).ok


def test_a_pocket_of_matches_at_the_query_does_not_hide_the_matches_far_away(opened):
    """Fifty clusters; the six farthest match, and the twenty rows that are nearest to the queries."""
    rng = np.random.default_rng(0)
    centres = 50 * rng.normal(size=(50, 8))
    centres[0] = 0
    centres = centres[np.argsort(np.linalg.norm(centres, axis=1))]
    clusters = np.repeat(np.arange(50), 300)
    places = centres[clusters] + rng.normal(size=(len(clusters), 8))
    matching = clusters >= 44
    matching[np.argsort(np.linalg.norm(places[:300], axis=1))[:20]] = True
    order = rng.permutation(len(places))
    settings = {"m": 8, "ef_construction": 40, "ef_search": 25, "metric": "euclidean", "build_above": 0}
    store = opened(dimension=8, action_dimension=2, hnsw=settings)
    store.insert_batch(
        precedent.TrajectoryBatch(
            states=places[order],
            actions=np.tile([1.0, 0.0], (len(places), 1)),
            rewards=matching[order].astype(float),
            pattern_ids="any",
            episode_ids=[f"episode-{row // 50}" for row in range(len(places))],
            task_types="walk",
        )
    )
    store.flush()
    codes = store.quantizer
    for query in 0.1 * rng.normal(size=(10, 8)):
        for k in (10, 25, 40):
            keys, distances = store.search_ids(query, k=k, filter={"min_reward": 0.5})
            assert (keys >= 0).all(), f"{len(keys[keys >= 0])} of {k}, and {matching.sum()} match"
            assert (distances < 10).sum() == min(k, 20)
            keys, _ = store.search_quantized(
                codes.encode(query[None], role="query"), k=k, filter={"min_reward": 0.5}
            )
            assert (keys >= 0).all()


def test_codes_alone_find_about_the_same(graphed):
    store = graphed(":memory:")
    store.insert_batch(batch(2000))
    store.flush()
    queries = states(40, seed=5)
    codes = store.quantizer.encode(queries, role="query")
    assert codes.shape == (40, store.quantizer.bytes_per_query)
    keys, distances = store.search_quantized(codes, k=10)
    truth, exact = store.search_ids(queries, k=10, exact=True)
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(truth, keys, strict=True))
    assert hits / truth.size >= 0.8
    assert distances[:, 0] == pytest.approx(exact[:, 0], abs=0.02)
    none, far = store.search_quantized(codes[:1], k=3, filter={"task_type": "nothing"})
    assert none.tolist() == [[-1, -1, -1]]
    assert np.isinf(far).all()


@pytest.mark.parametrize(
    ("quantization", "bytes_", "error"), [("none", 32, 0.0), ("int8", 20, 0.01), ("binary", 20, 0.7)]
)
def test_a_code_is_read_back_as_about_the_state(opened, quantization, bytes_, error):
    store = opened(":memory:", hnsw={"quantization": quantization})
    coder = store.quantizer
    given = states(20)
    codes = coder.encode(given)
    assert codes.dtype == np.uint8
    assert codes.shape == (20, coder.bytes_per_vector)
    assert coder.bytes_per_vector == bytes_
    back = coder.decode(codes)
    miss = np.linalg.norm(back - given, axis=1) / np.linalg.norm(given, axis=1)
    assert miss.max() <= error
    assert (coder.encode(given[0]) == codes[:1]).all()
    assert quantization in repr(coder)


def test_codes_of_another_kind_are_refused(opened):
    store = opened(":memory:")
    coder = store.quantizer
    with refused("codes"):
        store.search_quantized(np.zeros((1, coder.bytes_per_query + 1), np.uint8))
    with refused("codes"):
        coder.decode(np.zeros(coder.bytes_per_vector, np.uint8))
    with refused("codes"):
        coder.decode([[1, 2, 3]])
    with refused("k"):
        store.search_quantized(coder.encode(states(1), role="query"), k=0)
    with refused("role"):
        coder.encode(states(1), role="both")
    with refused("states[0]"):
        coder.encode(np.zeros((1, STATE)))
    with pytest.raises(precedent.DimensionError):
        coder.encode(states(2, d=STATE + 1))


def test_a_saved_index_is_read_again_and_a_damaged_one_is_logged_and_replaced(graphed, path, caplog):
    store = graphed()
    store.insert_batch(batch(800))
    store.flush()
    store.close()
    with caplog.at_level("INFO", logger="precedent"):
        with graphed() as again:
            assert again.search(states(800)[17], k=1)[0].distance == pytest.approx(0.0, abs=1e-6)
            assert again.get_stats().index_state == "graph"
        assert not caplog.records
        whole = saved_index(path).read_bytes()
        saved_index(path).write_bytes(whole[: len(whole) // 2])
        with graphed() as again:
            assert again.search(states(800)[17], k=1)[0].distance == pytest.approx(0.0, abs=1e-6)
            again.flush()
    assert any("built anew" in record.getMessage() for record in caplog.records)
    assert len(saved_index(path).read_bytes()) == len(whole)


def test_verify_tells_of_a_damaged_index(graphed, path):
    store = graphed()
    store.insert_batch(batch(500))
    store.flush()
    store.close()
    whole = bytearray(saved_index(path).read_bytes())
    whole[len(whole) // 2] ^= 1
    saved_index(path).write_bytes(whole)
    with precedent.TrajectoryStore(path, read_only=True) as reader:
        assert reader.verify().ok
        report = reader.verify(deep=True)
    assert not report.ok
    assert "saved index" in report.problems[0]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list threads")
def test_no_thread_is_left_after_the_last_close(pytestconfig, tmp_path):
    script = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import precedent
from worlds import ACTION, STATE, batch

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

before = threads()
stores = [
    precedent.TrajectoryStore(
        f"{sys.argv[2]}/{i}.db", dimension=STATE, action_dimension=ACTION, hnsw={"build_above": 0}
    )
    for i in range(2)
]
for store in stores:
    store.insert_batch(batch(2000))
stores[0].flush()
assert threads() > before
for store in stores:
    store.close()
deadline = time.monotonic() + 10  # the system lists a thread a moment longer than it runs
while threads() > before and time.monotonic() < deadline:
    pass
assert threads() == before, threads() - before
"""
    arguments = [sys.executable, "-c", script, str(pytestconfig.rootpath / "tests"), str(tmp_path)]
    assert subprocess.run(arguments, check=False).returncode == 0


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("m", {"m": 1}),
        ("m", {"m": 129}),
        ("quantization", {"quantization": "int4"}),
        ("metric", {"metric": "l1"}),
    ],
)
def test_settings_that_no_graph_can_have_are_refused(opened, field, settings):
    with refused(field):
        opened(hnsw=settings)


def test_candidates_below_k_are_refused(store):
    store.insert(step())
    with refused("ef_search"):
        store.search(one_hot(0), k=10, ef_search=9)


def test_a_store_that_goes_unclosed_lets_other_threads_run_while_it_saves_its_index(tmp_path):
    store = precedent.TrajectoryStore(
        tmp_path / "a.db", dimension=64, action_dimension=2, hnsw={"build_above": 0}
    )
    store.insert_batch(batch(5_000, d=64, a=2))
    while store.get_stats().unindexed:
        pass
    ran = []
    gate = threading.Lock()
    gate.acquire()

    def wait():
        with gate:
            ran.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    patience = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody takes the interpreter from who does not let go of it
    try:
        gate.release()
        del store
        assert ran
    finally:
        sys.setswitchinterval(patience)
        waiting.join()


def test_a_filter_that_excludes_what_the_query_is_about_is_answered_by_cells(graphed):
    store = graphed(dimension=48)
    rng = np.random.default_rng(4)
    clusters, centres = rng.integers(20, size=9000), rng.standard_normal((20, 48))

    def around(cluster, count):
        return (centres[cluster] + rng.standard_normal((count, 48))).astype(np.float32)

    rows = np.concatenate([around(cluster, 1) for cluster in clusters])
    store.insert_batch(batch(9000, states=rows, task_types=[f"t{cluster}" for cluster in clusters]))
    store.flush()
    queries, others = around(3, 40), {"task_type": [f"t{other}" for other in range(20) if other != 3]}

    def recall():
        truth, _ = store.search_ids(queries, k=10, filter=others, exact=True)
        found, _ = store.search_ids(queries, k=10, filter=others)
        return sum(len(np.intersect1d(a, b)) for a, b in zip(truth, found, strict=True)) / truth.size

    before = store.get_stats().index_size
    assert recall() >= 0.95
    store.flush()  # what the first questions would have needed is made behind them
    assert 40 * 9000 < store.get_stats().index_size - before < 120 * 9000
    assert recall() >= 0.95
    nearest = store.search(queries[0], k=1, threshold=None, filter=others)[0]
    store.delete([nearest.id])
    again = store.search(queries[0], k=1, threshold=None, filter=others)[0]
    assert again.id != nearest.id
    assert again.similarity <= nearest.similarity
    store.verify(deep=True)
