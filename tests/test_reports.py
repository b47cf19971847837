"""Reports for the eye, and where metrics go."""

import copy
import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import precedent
from precedent.callbacks import JsonlLogger, TensorBoardLogger
from training import layer, trainer
from worlds import learnable, refused


@pytest.fixture
def run(memory):
    learnable(memory, episodes=150)
    training = trainer(memory, layer(learning_rate=0.01), epochs=3)
    return training, training.train()


def memorised(store):
    """Random actions in situations that come again: a neighbour knows them, a tiny network cannot."""
    rng = np.random.default_rng(0)
    known, answers = rng.normal(size=(100, store.dimension)), rng.normal(size=(100, store.action_dimension))
    which = rng.integers(0, 100, 1000)
    store.insert_batch(
        precedent.TrajectoryBatch(
            states=known[which],
            actions=answers[which],
            rewards=np.ones(1000),
            pattern_ids="move",
            episode_ids=[f"episode-{i // 5}" for i in range(1000)],
            task_types="walk",
        )
    )
    return trainer(store, layer(hidden_size=1), epochs=1)


def lines_of(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_an_evaluation_is_read_only_down_to_its_task_types_and_pickles(run):
    report = run[0].evaluate()
    with pytest.raises(TypeError):
        report.per_task_type["walk"] = None
    for twin in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report), copy.copy(report)):
        assert twin == report
        with pytest.raises(TypeError):
            twin.per_task_type["walk"] = None


@pytest.mark.parametrize("by_alias", [False, True])
def test_reports_go_to_json_and_back(run, by_alias):
    training, trained = run
    for report in (trained, training.evaluate()):
        read = type(report).from_dict(json.loads(json.dumps(report.to_dict(by_alias=by_alias))))
        assert read == report
        assert str(read) == str(report)
        assert type(report).from_dict(report.to_dict(by_alias=by_alias)) == report
    read = precedent.TrainingReport.from_dict(trained.to_dict() | {"baseline": None})
    assert not read.worse_than_baseline
    assert read.epoch_metrics == trained.epoch_metrics


def test_a_mapping_that_is_no_report_is_refused_by_name(run):
    mapping = run[1].to_dict()
    for change, named in (
        ({"epoch_metrics": 3}, r"TrainingReport\.epoch_metrics: expected .+, got 3"),
        ({"epoch_metrics": "none"}, r"TrainingReport\.epoch_metrics: expected .+, got 'none'"),
        ({"baseline": 3}, "Baseline: expected a mapping, got int"),
        ({"data_stats": {}}, r"DataStats\.total_trajectories"),
    ):
        with pytest.raises(precedent.ValidationError, match=named):
            precedent.TrainingReport.from_dict(mapping | change)


def test_a_training_report_draws_its_losses(run):
    _, report = run
    losses, norms = report.plot().axes
    drawn = lines_of(losses)
    assert drawn["training"] == [[e.epoch, e.train_loss] for e in report.epoch_metrics]
    assert drawn["validation"] == [[e.epoch, e.val_loss] for e in report.epoch_metrics]
    assert norms.get_lines()[0].get_ydata().tolist() == [e.gradient_norm for e in report.epoch_metrics]


def test_an_evaluation_draws_reliability_and_risk(run, tmp_path):
    training, _ = run
    report = training.evaluate()
    reliability, risk = report.plot(tmp_path / "trust.png").axes
    assert reliability.get_lines()[1].get_xydata().tolist() == [
        [b.confidence, b.similarity] for b in report.reliability
    ]
    assert risk.get_lines()[0].get_xydata().tolist() == [list(point) for point in report.risk_coverage]
    assert (tmp_path / "trust.png").read_bytes().startswith(b"\x89PNG")
    assert f"{report.calibration_error:.3f}" in reliability.get_title()


def test_a_run_without_validation_is_drawn_and_shown_too(memory):
    learnable(memory)
    report = trainer(memory, layer(), epochs=1, validation_split=0.0).train()
    assert "validation" not in lines_of(report.plot().axes[0])
    assert "validation loss" not in str(report)
    assert "<svg" not in report._repr_html_()
    assert not report.worse_than_baseline


def test_an_uncalibrated_evaluation_says_so_in_its_picture(memory):
    learnable(memory)
    training = trainer(memory, layer(), epochs=1)
    training.train()
    training.layer.set_weights(training.layer.get_weights())
    assert "not calibrated" in training.evaluate().plot().axes[0].get_title()


def test_reports_show_themselves_in_notebooks_and_on_paper(run):
    training, report = run
    html = report._repr_html_()
    assert html.count("<polyline") == 2
    assert f"{report.final_metrics.val_loss:.6f}" in html
    assert f"{report.final_metrics.val_loss:.6f}" in str(report)
    evaluation = training.evaluate()
    assert f"{evaluation.accuracy:.3f}" in evaluation._repr_html_()
    assert "walk: accuracy" in str(evaluation)


def test_names_of_task_types_do_not_become_html(memory):
    learnable(memory)
    training = trainer(memory, layer(), epochs=1)
    training.train()
    evaluation = training.evaluate()
    named = {"<script>": evaluation.per_task_type["walk"]}
    fields = {name: getattr(evaluation, name) for name in evaluation.to_dict()}
    assert "<script>" not in precedent.EvaluationReport(**fields | {"per_task_type": named})._repr_html_()


def test_a_run_that_a_neighbour_beats_says_so(memory, caplog):
    with caplog.at_level(logging.WARNING, "precedent.trainer"):
        report = memorised(memory).train()
    assert report.worse_than_baseline
    assert report.baseline.neighbor_similarity > report.baseline.layer_similarity
    for told in (caplog.text, str(report), report._repr_html_(), report.plot().get_suptitle()):
        assert "worse than the nearest neighbour" in told


def test_a_run_that_is_worth_it_says_nothing(run, caplog):
    _, report = run
    assert not report.worse_than_baseline
    assert "worse" not in str(report) + report._repr_html_() + caplog.text
    assert report.plot().get_suptitle() == ""


def test_metrics_go_to_a_file_a_line_an_epoch(memory, tmp_path):
    learnable(memory)
    path = tmp_path / "new" / "metrics.jsonl"
    for _ in range(2):
        report = trainer(memory, layer(), epochs=2, callbacks=[JsonlLogger(path)]).train()
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in told] == [1, 2, 1, 2]
    assert told[-1]["val_loss"] == report.epoch_metrics[-1].val_loss
    assert all(line["timestamp"] > 1_700_000_000_000 for line in told)


def test_metrics_go_to_tensorboard(memory, tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    learnable(memory)
    with TensorBoardLogger(tmp_path) as board:
        report = trainer(memory, layer(), epochs=2, callbacks=[board]).train()
    (file,) = tmp_path.iterdir()
    told, raw = [], file.read_bytes()
    while raw:  # length, checksum, event, checksum
        length = int.from_bytes(raw[:8], "little")
        event = Event.FromString(raw[12 : 12 + length])
        told += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        raw = raw[16 + length :]
    losses = [(step, value) for tag, step, value in told if tag == "loss/validation"]
    expected = [(e.epoch, pytest.approx(e.val_loss, rel=1e-6)) for e in report.epoch_metrics]
    assert losses == expected
    assert {tag for tag, *_ in told} == {"loss/train", "loss/validation", "gradient_norm", "seconds"}


@pytest.mark.parametrize("sink", [JsonlLogger, TensorBoardLogger])
def test_what_is_no_path_is_refused(sink):
    if sink is TensorBoardLogger:
        pytest.importorskip("tensorboardX")
    with refused("path" if sink is JsonlLogger else "folder"):
        sink(3)


METRICS = precedent.EpochMetrics(epoch=1, train_loss=0.5, val_loss=None, gradient_norm=1.0, duration=0.1)


def test_metrics_that_cannot_be_written_are_refused_before_the_first_epoch(tmp_path):
    with pytest.raises(precedent.errors.AccessError, match=f"path.*{tmp_path.name}"):
        JsonlLogger(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(precedent.errors.AccessError, match=r"path.*file"):
        JsonlLogger(tmp_path / "file" / "metrics.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_metrics_that_find_no_room_are_a_disk_full_error():
    log = JsonlLogger("/dev/full")
    with pytest.raises(precedent.errors.DiskFullError, match=r"path.*/dev/full"):
        log(METRICS)


def test_a_file_of_metrics_that_went_away_while_training_is_an_access_error(tmp_path):
    log = JsonlLogger(tmp_path / "gone" / "metrics.jsonl")
    (tmp_path / "gone" / "metrics.jsonl").unlink()
    (tmp_path / "gone").rmdir()
    with pytest.raises(precedent.errors.AccessError, match=r"path.*gone"):
        log(METRICS)


def test_metrics_stay_where_they_were_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = JsonlLogger("metrics.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    log(METRICS)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_missing_extra_is_named():
    script = """
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = sys.modules["tensorboardX"] = None
import precedent
from precedent.callbacks import TensorBoardLogger
report = precedent.TrainingReport(
    epoch_metrics=(),
    final_metrics=precedent.FinalMetrics(train_loss=1.0, val_loss=None, best_epoch=1),
    data_stats=precedent.DataStats(total_trajectories=1, train_size=1, val_size=0, avg_return=0.0),
    baseline=None,
)
for call in (report.plot, lambda: TensorBoardLogger("x")):
    try:
        call()
    except ModuleNotFoundError as error:
        print(error)
print(report._repr_html_()[:5])
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "precedent-rl[plot]" in told
    assert "precedent-rl[tensorboard]" in told
    assert "<div>" in told
