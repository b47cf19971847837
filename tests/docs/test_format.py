"""docs/format.md and docs/index-format.md say what is in the files: fresh files are compared with them."""

import json
import re
import sqlite3
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import precedent
from precedent.callbacks import JsonlLogger
from precedent.encoders import HashingEncoder
from precedent.replay import PrioritizedReplay
from worlds import ACTION, STATE, learnable

DOCS = Path(__file__).parents[2] / "docs"


def section(heading, document="format.md"):
    """The text below a heading, up to the next one of any level."""
    text = (DOCS / document).read_text()
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/{document} has no section {heading!r}"
    return found[1]


def rows(text, header):
    """The cells of the table that begins with this header."""
    table = text.partition(header + "\n")[2]
    assert table, f"no table {header!r}"
    lines = table.splitlines()[1:]
    ends = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:ends]]


def names(cell):
    return re.findall(r"`(\w+)`", cell)


def documented(text, header):
    """The names in a table's first column, in order."""
    return [names(row[0])[0] for row in rows(text, header)]


@pytest.fixture
def file(path):
    """A fresh file that was written to once, and all it may know of itself."""
    encoder = HashingEncoder(STATE)
    hnsw = {"build_above": 10_000}
    with precedent.TrajectoryStore(path, action_dimension=ACTION, encoder=encoder, hnsw=hnsw) as store:
        learnable(store)
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


TABLES = "| table | a row is | primary key | unique |"


def test_every_table_of_a_fresh_file_is_documented(file):
    told = {names(row[0])[0]: (names(row[2]), names(row[3])) for row in rows(section("Tables"), TABLES)}
    found = {}
    for (table,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"):
        info = file.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))
        unique = file.execute(
            "SELECT c.name FROM pragma_index_list(?) i, pragma_index_info(i.name) c WHERE i.origin = 'u'",
            (table,),
        )
        found[table] = ([key for (key,) in info], [column for (column,) in unique])
    assert found == told


def test_every_column_of_a_fresh_file_is_documented(file):
    for row in rows(section("Tables"), TABLES):
        (table,) = names(row[0])
        columns = rows(section(f"`{table}`"), "| column | type | NULL | meaning |")
        told = [(*names(name), kind, null != "never") for name, kind, null, _ in columns]
        info = file.execute('SELECT name, type, NOT "notnull" AND pk = 0 FROM pragma_table_info(?)', (table,))
        assert [(name, kind, bool(null)) for name, kind, null in info] == told, table


def test_the_kinds_of_tables_and_the_one_reference_are_as_documented(file):
    kinds = file.execute("SELECT name, wr, strict FROM pragma_table_list WHERE name NOT LIKE 'sqlite_%'")
    kinds = {name: (bool(wr), bool(strict)) for name, wr, strict in kinds}
    assert all(strict for _, strict in kinds.values())
    assert {name for name, (without_rowid, _) in kinds.items() if without_rowid} == {"meta", "span"}
    references = [
        (table, row[3], row[2])
        for table in kinds
        for row in file.execute(f"PRAGMA foreign_key_list({table})")
    ]
    assert references == [("pattern_entry", "pattern", "pattern")]
    others = "SELECT name FROM sqlite_schema WHERE type <> 'table' AND name NOT LIKE 'sqlite_autoindex_%'"
    assert file.execute(others).fetchall() == []


def test_every_key_of_meta_is_documented(file):
    told = {names(row[0])[0]: row[1] for row in rows(section("`meta`"), "| key | value | meaning |")}
    kinds = file.execute("SELECT key, upper(typeof(value)) FROM meta")
    assert dict(kinds.fetchall()) == told


def test_the_header_is_as_documented(file, path):
    told = {
        names(row[0])[0]: row[1]
        for row in rows(section("Header and pragmas"), "| what | value | where it lives |")
    }
    start = path.read_bytes()[:100]
    assert start[68:72] == b"PRCD"
    assert f"0x{int.from_bytes(start[68:72]):X}" in told["application_id"]
    assert told["user_version"].endswith(f" {int.from_bytes(start[60:64])}")
    for pragma in ("journal_mode", "encoding"):
        assert file.execute(f"PRAGMA {pragma}").fetchone()[0] == told[pragma].strip("`")
    assert file.execute("PRAGMA auto_vacuum").fetchone() == (0,)


def test_page_sizes_are_as_documented(tmp_path):
    for dimension, size in (768, 16384), (128, 8192), (384, 32768):
        assert f"{size}" in section("Header and pragmas")
        place = tmp_path / f"{dimension}.db"
        precedent.TrajectoryStore(place, dimension=dimension).close()
        connection = sqlite3.connect(place)
        assert connection.execute("PRAGMA page_size").fetchone() == (size,)
        connection.close()


def test_an_index_file_has_the_documented_header_and_sections(path):
    with precedent.TrajectoryStore(
        path, action_dimension=ACTION, dimension=STATE, hnsw={"build_above": 0}
    ) as store:
        count = len(learnable(store)[0])
        store.flush()
    data = path.with_name(path.name + "-index").read_bytes()
    magic, version, sections, identity = struct.unpack_from("<8sII16s", data)
    offsets = [
        row[0] for row in rows(section("The header: bytes 0 to 4095", "index-format.md"), "| bytes | what |")
    ]
    assert offsets[:4] == ["0..8", "8..12", "12..16", "16..32"]
    told = re.search(r"^Version (\d+)\.", (DOCS / "index-format.md").read_text(), re.MULTILINE)
    assert (magic, version) == (b"PRCDindx", int(told[1]))
    connection = sqlite3.connect(path)
    (told,) = connection.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
    connection.close()
    assert identity == told
    assert struct.unpack_from("<6I", data, 80)[0] == STATE
    assert struct.unpack_from("<2Q", data, 112) == (count, count)
    kinds = [
        cell
        for row in rows(section("The sections", "index-format.md"), "| kind | what, for n rows |")
        for cell in row[0].split(", ")
    ]
    found = [struct.unpack_from("<I", data, 176 + 32 * at)[0] for at in range(sections)]
    assert sorted(found) == [int(kind) for kind in kinds]


def test_an_id_is_laid_out_as_documented(store):
    learnable(store)
    widths = [int(bits) for bits, _ in rows(section("Ids"), "| bits | meaning |")]
    assert sum(widths) == 128
    (trajectory,) = store.get_many([1])
    rest, parts = int(trajectory.id, 16), []
    for width in reversed(widths):
        parts.insert(0, rest & (1 << width) - 1)
        rest >>= width
    assert parts[1] == 7
    assert parts[3] == 0b10
    assert parts[5] == 1
    assert parts[0] > 1_700_000_000_000, "milliseconds, not seconds"


def read_messagepack(data, at):
    """The value at a place of MessagePack, and where the next one begins."""
    mark, at = data[at], at + 1
    if mark in NUMBERS:
        return struct.unpack_from(NUMBERS[mark], data, at)[0], at + struct.calcsize(NUMBERS[mark])
    if mark in LENGTHS:
        (length,), at = struct.unpack_from(LENGTHS[mark], data, at), at + struct.calcsize(LENGTHS[mark])
        value = data[at : at + length]
        return (value.decode() if mark == 0xD9 else value), at + length
    if 0xA0 <= mark < 0xC0:
        return data[at : at + (mark & 31)].decode(), at + (mark & 31)
    if 0x80 <= mark < 0xA0:
        return read_several(data, at, mark & 15, pairs=mark < 0x90)
    if mark in (0xDC, 0xDE):
        (length,) = struct.unpack_from(">H", data, at)
        return read_several(data, at + 2, length, pairs=mark == 0xDE)
    return (mark if mark < 0x80 else {0xC0: None, 0xC2: False, 0xC3: True}[mark]), at


NUMBERS = {0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"}
LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B"}


def read_several(data, at, count, *, pairs):
    values = []
    for _ in range(2 * count if pairs else count):
        value, at = read_messagepack(data, at)
        values.append(value)
    return (dict(zip(values[::2], values[1::2], strict=True)) if pairs else values), at


def read_weights(data, version=1):
    header, at = read_messagepack(data, 0)
    body, end = read_messagepack(data, at)
    assert end == len(data)
    assert header[:3] == ["precedent-layer", version, len(data) - at]
    assert data[:2].hex() == "94af"
    return body


@pytest.fixture
def layer():
    layer = precedent.DecisionLayer(state_size=4, action_size=2, hidden_size=3)
    rng = np.random.default_rng(0)
    layer.train(rng.normal(size=(64, 4)), rng.normal(size=(64, 2)), 1.0)
    layer.calibrate(rng.normal(size=(64, 4)), rng.normal(size=(64, 2)), 1.0)
    return layer


def test_a_weight_file_has_the_documented_fields_in_order(layer, tmp_path):
    layer.save(tmp_path / "weights")
    body = read_weights((tmp_path / "weights").read_bytes())
    assert list(body) == documented(section("Weights"), "| key | type | meaning |")
    assert list(body["settings"]) == documented(section("Weights"), "| key | type |")
    weights = layer.get_weights()
    parts = [weights.W1, weights.b1, weights.W2, weights.b2]
    assert body["params"] == np.concatenate([part.ravel() for part in parts]).astype("<f4").tobytes()
    assert body["steps"] == 1
    assert len(body["first"]) == len(body["second"]) == len(body["params"])
    assert list(body["calibration"]) == documented(section("Weights"), CALIBRATION)
    assert len(body["calibration"]["weights"]) == 3
    score, value = np.transpose(body["calibration"]["knots"])
    assert (np.diff(score) >= 0).all()
    assert ((value >= 0) & (value <= 1)).all()
    assert len(body["centroids"]) == 0


CALIBRATION = "| key of the calibration | type | meaning |"


def test_what_a_trainer_leaves_for_trust_is_laid_out_as_documented(tmp_path):
    made, encoder = precedent.DecisionLayer(STATE, ACTION, hidden_size=3), HashingEncoder(STATE)
    with precedent.TrajectoryStore(":memory:", action_dimension=ACTION, encoder=encoder) as store:
        learnable(store)
        precedent.OfflineTrainer(store, made, epochs=1, min_trajectories=1, progress=False).train()
    made.save(tmp_path / "weights")
    body = read_weights((tmp_path / "weights").read_bytes())
    centroids = np.frombuffer(body["centroids"], "<f4").reshape(-1, STATE)
    assert 1 <= len(centroids) <= 1024
    assert np.isfinite(centroids).all()
    (spread, *_) = body["calibration"]["spreads"]
    meaning = rows(section("Weights"), CALIBRATION)[2][2]
    assert [name for name in names(meaning) if name in spread] == list(spread)
    assert 1 <= len(spread["levels"]) <= min(129, spread["count"])


def test_an_ensemble_s_files_are_where_and_what_the_document_says(tmp_path):
    made, folder = precedent.DecisionLayer(STATE, ACTION, hidden_size=3), tmp_path / "runs"
    encoder = HashingEncoder(STATE)
    with precedent.TrajectoryStore(":memory:", action_dimension=ACTION, encoder=encoder) as store:
        learnable(store)
        options = {"ensemble": 2, "epochs": 1, "min_trajectories": 1, "progress": False}
        precedent.OfflineTrainer(store, made, save_path=folder, **options).train()
    assert {path.name for path in folder.iterdir()} == {"best.weights", "member-0", "member-1"}
    assert {path.name for path in (folder / "member-1").iterdir()} <= documented_files()
    body = read_weights((folder / "best.weights").read_bytes(), version=2)
    single = documented(section("Weights"), "| key | type | meaning |")
    assert list(body) == single + documented(section("Weights"), "| key of version 2 | type | meaning |")
    (other,) = body["members"]
    assert read_weights(other)["params"] != body["params"]


def test_a_model_in_the_store_is_a_weight_file(tmp_path):
    with precedent.open(tmp_path / "agent.db", rl={"trajectory_store": {"dimension": 4}}) as workspace:
        workspace.layer.set_weights(workspace.layer.get_weights())
        workspace.save()
    connection = sqlite3.connect(tmp_path / "agent.db")
    (found,) = connection.execute(
        "SELECT bytes FROM model WHERE name = 'decision_layer' AND version = 1"
    ).fetchone()
    connection.close()
    assert read_weights(found)["trained"] is True


def test_a_checkpoint_is_laid_out_as_documented(store, tmp_path):
    learnable(store)
    layer = precedent.DecisionLayer(STATE, ACTION, hidden_size=3)
    folder = tmp_path / "run"
    options = {"epochs": 2, "save_interval": 2, "min_trajectories": 1, "curriculum": {"easy_epochs": 1}}
    options["replay"] = "prioritized"
    precedent.OfflineTrainer(store, layer, save_path=folder, progress=False, **options).train()
    told = documented_files()
    assert {re.sub(r"\d{4}", "0005", found.name) for found in folder.iterdir()} == told
    data = (folder / "last.ckpt").read_bytes()
    magic, version, *lengths = struct.unpack_from("<8sI4Q", data)
    assert (magic, version) == (b"PRECCKPT", 1)
    assert len(data) == 44 + sum(lengths) + 4
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    state, end = read_messagepack(data, 44)
    assert end == 44 + lengths[0]
    table = rows(section("The folder of a run"), "| key | type | meaning |")
    assert list(state) == [names(row[0])[0] for row in table]
    settings = names(table[0][2])
    nested = settings.index("curriculum")
    assert list(state["settings"]["curriculum"]) == settings[nested + 1 : nested + 3]
    assert list(state["settings"]) == settings[: nested + 1] + settings[nested + 3 :]
    assert [list(epoch) for epoch in state["history"]] == 2 * [names(table[2][2])]
    assert read_weights(data[end : end + lengths[1]])["settings"]["state_size"] == STATE
    best, priorities = end + lengths[1], len(data) - 4 - lengths[3]
    assert lengths[2] == 0 or read_weights(data[best:priorities])
    assert_saved_replay(data[priorities:-4], alpha=0.6)
    assert list(read_weights((folder / "best.weights").read_bytes()))


def assert_saved_replay(data, **told):
    values = {}
    for offset, size, what in rows(section("Saved replays"), "| offset | bytes | what |")[2:-2]:
        kind, name = what.split(": ")
        assert size == "8"
        (values[name],) = struct.unpack_from({"u64": "<Q", "f64": "<d"}[kind], data, int(offset))
    assert data[:12] == b"PRECPRIO" + struct.pack("<I", 1)
    held = next(value for name, value in values.items() if name.startswith("n,"))
    assert len(data) == 84 + 8 * held + 4
    assert (np.frombuffer(data, "<f8", held, 84) >= 0).all()
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    assert {name: values[name] for name in told} == told


def test_a_saved_replay_is_laid_out_as_documented(tmp_path):
    replay = PrioritizedReplay(7, alpha=0.25, eps=0.5, seed=9)
    replay.add(5)
    replay.update_priorities([0, 4], [3.0, 8.0])
    replay.save(tmp_path / "replay")
    assert_saved_replay((tmp_path / "replay").read_bytes(), capacity=7, alpha=0.25, eps=0.5, seed=9)


def documented_files():
    table = rows(section("The folder of a run"), "| file | when | what |")
    return {row[0].strip("`") for row in table}


def test_an_export_has_the_documented_tensors_and_metadata(tmp_path):
    encoder = HashingEncoder(STATE)
    layer = precedent.DecisionLayer(STATE, ACTION, hidden_size=3)
    with precedent.TrajectoryStore(":memory:", action_dimension=ACTION, encoder=encoder) as store:
        learnable(store)
        precedent.OfflineTrainer(store, layer, epochs=1, min_trajectories=1, progress=False).train()
    layer.export_safetensors(tmp_path / "layer.safetensors")
    data = (tmp_path / "layer.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert set(metadata) == set(documented(section("safetensors"), "| key | meaning |"))
    assert list(json.loads(metadata["settings"])) == documented(section("Weights"), "| key | type |")
    assert re.fullmatch("[0-9a-f]{16}", metadata["checksum"])
    weights = layer.get_weights()
    assert header.pop("centroids")["shape"][1] == STATE
    for name, tensor in header.items():
        begin, end = (8 + length + offset for offset in tensor["data_offsets"])
        assert tensor["dtype"] == "F32"
        assert data[begin:end] == getattr(weights, name).astype("<f4").tobytes()
    assert set(header) == {"W1", "b1", "W2", "b2"}
    assert json.loads(metadata["calibration"])


def test_a_line_of_a_selector_s_log_has_the_documented_keys(store, tmp_path):
    states, *_ = learnable(store)
    store.compute_all_returns()
    log = tmp_path / "decisions.jsonl"
    precedent.ActionSelector(store, log=log).select_action(states[0], -100.0)
    (line,) = log.read_text(encoding="utf-8").splitlines()
    table = rows(section("The log of a selector"), "| key | type | meaning |")
    told = json.loads(line)
    assert list(told) == [names(row[0])[0] for row in table]
    assert list(told["metadata"]) == [name for name in names(table[-1][2]) if name != "ActionMetadata"]


def test_a_line_of_a_training_run_s_log_has_the_documented_keys(tmp_path):
    log = tmp_path / "metrics.jsonl"
    metrics = {"epoch": 1, "train_loss": 0.5, "val_loss": None, "gradient_norm": 1.0, "duration": 0.1}
    JsonlLogger(log)(precedent.EpochMetrics(**metrics))
    (line,) = log.read_text(encoding="utf-8").splitlines()
    told = documented(section("The log of a training run"), "| key | type | meaning |")
    assert list(json.loads(line)) == told
