"""A training run: what it reports, when it stops, what it leaves, what it refuses."""

import io
import logging
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

import precedent
from network import same_bits
from training import layer, marked, trainer
from worlds import ACTION, LEFT, RIGHT, STATE, learnable, refused


@pytest.mark.parametrize("why", ["no split", "one episode"])
def test_without_validation_the_train_loss_steers(memory, why):
    marked(memory, episodes=1 if why == "one episode" else 20, length=120 if why == "one episode" else 5)
    made = layer(learning_rate=0.01)
    options = {"validation_split": 0.0} if why == "no split" else {}
    report = trainer(memory, made, epochs=4, **options).train()
    losses = [m.train_loss for m in report.epoch_metrics]
    assert [m.val_loss for m in report.epoch_metrics] == [None] * len(losses)
    assert report.final_metrics.val_loss is None
    assert report.baseline is None
    assert report.data_stats.val_size == 0
    assert report.data_stats.train_size == memory.get_stats().total_trajectories
    assert report.final_metrics.best_epoch == 1 + int(np.argmin(losses))
    assert made.predict_with_confidence(np.ones(STATE), 0.5).confidence is None


def test_a_report_says_what_happened(memory):
    learnable(memory)
    report = trainer(memory, layer(learning_rate=0.01), epochs=5, early_stopping_patience=9).train()
    assert [m.epoch for m in report.epoch_metrics] == [1, 2, 3, 4, 5]
    for metrics in report.epoch_metrics:
        assert metrics.train_loss > 0
        assert metrics.val_loss > 0
        assert metrics.gradient_norm > 0
        assert metrics.duration >= 0
    assert report.epoch_metrics[-1].train_loss < report.epoch_metrics[0].train_loss
    best = min(report.epoch_metrics, key=lambda m: m.val_loss)
    assert report.final_metrics.best_epoch == best.epoch
    assert report.final_metrics.val_loss == best.val_loss
    assert report.final_metrics.train_loss == best.train_loss
    data = report.data_stats
    assert data.total_trajectories == data.train_size + data.val_size == 240
    assert data.val_size == 48
    with pytest.raises(AttributeError):
        report.final_metrics.best_epoch = 3


def test_the_network_learns_what_good_steps_did(memory):
    seen, _, _ = learnable(memory, episodes=300)
    made = layer(learning_rate=0.01, hidden_size=32)
    trainer(memory, made, epochs=20).train()
    asked = made.predict_many(seen, 2.0)
    chosen_left = asked @ LEFT > asked @ RIGHT
    assert np.mean(chosen_left == (seen[:, 0] > 0)) > 0.9


@pytest.mark.parametrize("patience", [1, 3])
def test_training_stops_early_where_nothing_gets_better(memory, patience):
    marked(memory)
    made = layer(optimizer="sgd", learning_rate=1e-30)  # too small to change a float32
    report = trainer(memory, made, epochs=20, early_stopping_patience=patience).train()
    assert len(report.epoch_metrics) == 1 + patience
    assert report.final_metrics.best_epoch == 1


def test_the_layer_holds_each_epoch_s_weights_while_it_is_yielded_and_the_best_at_the_end(memory):
    marked(memory)
    made = layer(learning_rate=0.03)
    fitter = trainer(memory, made, epochs=12, early_stopping_patience=20).fitter()
    held, losses = [], []
    for metrics in fitter:
        held.append(made.get_weights())
        losses.append(metrics.val_loss)
    best = int(np.argmin(losses))
    assert best < len(losses) - 1, "a world in which the best epoch is not the last"
    assert same_bits(made.get_weights(), held[best])
    assert not any(same_bits(a, b) for a, b in pairwise(held))
    again = layer(learning_rate=0.03)
    trainer(memory, again, epochs=1).train()
    assert same_bits(again.get_weights(), held[0])


def test_the_fitter_is_the_same_training_as_train(memory):
    marked(memory)
    layers = [layer(), layer()]
    epochs = list(trainer(memory, layers[0], epochs=3).fitter())
    report = trainer(memory, layers[1], epochs=3).train()
    assert [m.val_loss for m in epochs] == [m.val_loss for m in report.epoch_metrics]
    assert same_bits(layers[0].get_weights(), layers[1].get_weights())


def test_an_epoch_below_the_convergence_threshold_is_the_last(memory):
    marked(memory)
    report = trainer(memory, epochs=9, convergence_threshold=1e9).train()
    assert len(report.epoch_metrics) == 1
    report = trainer(memory, epochs=3, early_stopping_patience=9, convergence_threshold=0.0).train()
    assert len(report.epoch_metrics) == 3


def test_the_same_seed_gives_the_same_bits_and_another_one_others(memory):
    marked(memory)
    layers = [layer(), layer(), layer()]
    for made, seed in zip(layers, (1, 1, 2), strict=True):
        trainer(memory, made, epochs=2, seed=seed).train()
    assert same_bits(layers[0].get_weights(), layers[1].get_weights())
    assert not same_bits(layers[0].get_weights(), layers[2].get_weights())


@pytest.mark.parametrize("scale", ["raw", "quantile", "episode"])
@pytest.mark.parametrize("context", ["none", "history"])
def test_every_scale_and_context_can_be_trained(memory, scale, context):
    marked(memory)
    made = layer(return_scale=scale, context=context)
    report = trainer(memory, made, epochs=2, timesteps=True).train()
    assert len(report.epoch_metrics) == 2
    low, high = made.settings.return_range
    if scale != "raw":
        assert 0.0 <= low < high <= 1.0


@pytest.mark.parametrize("batch_size", [32, 1000], ids=["in the epoch", "at its end"])
def test_a_loss_that_is_no_number_ends_training_and_keeps_the_weights_from_before(memory, batch_size):
    marked(memory)
    made = layer(optimizer="sgd", learning_rate=1e38, clip_norm=None)
    before = made.get_weights()
    with pytest.raises(precedent.TrainingError):
        trainer(memory, made, epochs=3, batch_size=batch_size).train()
    assert same_bits(made.get_weights(), before)
    assert not made.trained


def test_callbacks_and_progress_get_every_epoch(memory):
    marked(memory)
    seen = {"progress": [], "first": [], "second": []}
    training = trainer(
        memory,
        epochs=3,
        progress=seen["progress"].append,
        callbacks=[seen["first"].append, seen["second"].append],
    )
    report = training.train()
    for got in seen.values():
        assert tuple(got) == report.epoch_metrics


@pytest.mark.parametrize("gone", ["closed", "none"])
def test_without_a_standard_error_a_run_is_trained_as_off_a_terminal(memory, monkeypatch, gone):
    learnable(memory)
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if gone == "closed" else None)
    assert len(trainer(memory, epochs=2, progress=None).train().epoch_metrics) == 2


def test_off_a_terminal_progress_is_one_log_line_an_epoch(memory, caplog, capsys):
    marked(memory)
    with caplog.at_level(logging.INFO, logger="precedent"):
        trainer(memory, epochs=3, progress=None).train()
        assert len(caplog.records) == 3
        trainer(memory, epochs=3, progress=False).train()
        assert len(caplog.records) == 3
    assert capsys.readouterr() == ("", "")


def test_a_forced_bar_is_drawn_on_standard_error(memory, capsys):
    pytest.importorskip("tqdm")
    marked(memory)
    trainer(memory, epochs=2, progress=True).train()
    shown = capsys.readouterr().err
    assert "2/2" in shown
    report = trainer(memory, epochs=2).train()
    last = report.epoch_metrics[-1]
    assert f"train={last.train_loss:.4f}, val={last.val_loss:.4f}" in shown


def test_a_terminal_gets_the_bar_unasked_and_anything_else_a_line_an_epoch(
    memory, capsys, monkeypatch, caplog
):
    pytest.importorskip("tqdm")
    marked(memory)
    with caplog.at_level("INFO", logger="precedent.trainer"):
        trainer(memory, epochs=2, progress=None).train()
        assert capsys.readouterr().err == ""
        lines = [record.getMessage() for record in caplog.records if "train loss" in record.getMessage()]
        assert len(lines) == 2
        caplog.clear()
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        trainer(memory, epochs=2, progress=None).train()
    assert "2/2" in capsys.readouterr().err
    assert not [record for record in caplog.records if "train loss" in record.getMessage()]


def test_a_callback_that_raises_ends_training_with_the_epoch_s_weights(memory):
    marked(memory)
    made, twin = layer(), layer()

    def stop(metrics):
        if metrics.epoch == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        trainer(memory, made, epochs=5, callbacks=[stop]).train()
    epochs = trainer(memory, twin, epochs=5).fitter()
    next(epochs), next(epochs)
    assert same_bits(made.get_weights(), twin.get_weights())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("epochs", 0),
        ("epochs", "ten"),
        ("validation_split", 1.0),
        ("validation_split", -0.1),
        ("validation_split", float("nan")),
        ("early_stopping_patience", -1),
        ("min_trajectories", -1),
        ("save_interval", 0),
        ("save_path", 7),
        ("gamma", 1.1),
        ("gamma", float("nan")),
        ("curriculum", "easy"),
        ("replay", "random"),
        ("diversity_weight", 1.1),
        ("diversity_weight", -0.1),
        ("convergence_threshold", float("nan")),
        ("schedule", "linear"),
        ("timesteps", "yes"),
        ("seed", -1),
        ("progress", "bar"),
        ("callbacks", [7]),
        ("warmup_steps", -1),
        ("warmup_steps", 1.5),
        ("emphasis", -0.1),
        ("emphasis", 501.0),
        ("emphasis", float("nan")),
        ("ensemble", 0),
        ("ensemble", 65),
        ("ensemble", 1.5),
        ("executor", object()),
        ("executor", 2),
    ],
)
def test_an_option_out_of_its_range_is_refused_by_name(memory, field, value):
    with pytest.raises(precedent.ValidationError, match=rf"{field}.*expected .+, got .+"):
        trainer(memory, **{field: value})


@pytest.mark.parametrize("field", ["state_size", "action_size"])
def test_a_layer_of_other_sizes_is_refused_with_both_numbers(memory, field):
    sizes = {"state_size": STATE, "action_size": ACTION} | {field: 17}
    with pytest.raises(precedent.DimensionError, match="17"):
        precedent.OfflineTrainer(memory, precedent.DecisionLayer(**sizes))


def test_a_filter_that_is_none_is_refused(memory):
    marked(memory)
    with refused("filter"):
        trainer(memory).train("all of it")


def test_a_closed_store_cannot_be_trained_from(memory):
    made = layer()
    made.set_weights(made.get_weights())
    training = trainer(memory, made)
    memory.close()
    for use in (training.train, training.evaluate):
        with pytest.raises(precedent.errors.ClosedError):
            use()


def test_training_goes_on_no_longer_once_its_store_was_closed(memory):
    marked(memory)
    made, seen = layer(), []

    def close(metrics):
        seen.append(metrics.epoch)
        memory.close()

    with pytest.raises(precedent.errors.ClosedError):
        trainer(memory, made, epochs=50, callbacks=[close]).train()
    assert seen == [1]
    assert made.trained, "the last finished epoch is kept"


def test_a_fitter_ends_with_a_closed_error_when_its_store_was_closed_between_two_epochs(memory):
    marked(memory)
    epochs = trainer(memory, epochs=50).fitter()
    next(epochs)
    memory.close()
    with pytest.raises(precedent.errors.ClosedError):
        next(epochs)


def test_a_run_whose_last_epoch_is_over_does_not_report_on_a_closed_store(memory):
    marked(memory)
    epochs = trainer(memory, epochs=1).fitter()
    next(epochs)
    memory.close()
    with pytest.raises(precedent.errors.ClosedError):
        next(epochs)


def test_a_store_closed_in_the_middle_of_an_epoch_ends_it_there(opened):
    store = opened(":memory:")
    marked(store, episodes=400)
    training = trainer(store, layer(hidden_size=512), epochs=10_000, early_stopping_patience=10_000)
    begun, outcome = threading.Event(), []

    def train():
        try:
            for _ in training.fitter():
                begun.set()
        except BaseException as err:
            outcome.append(err)

    thread = threading.Thread(target=train)
    thread.start()
    begun.wait()
    store.close()
    thread.join()
    (error,) = outcome
    assert isinstance(error, precedent.errors.ClosedError)


def test_a_paused_run_leaves_no_threads_behind_a_closed_store(memory, threads):
    marked(memory)
    before = threads()
    epochs = trainer(memory, epochs=50).fitter()
    next(epochs)
    memory.close()
    assert any(threads() <= before for _ in range(100_000))
    epochs.close()


@pytest.mark.parametrize("callbacks", [None, 7])
def test_callbacks_that_are_not_several_are_refused_by_name(memory, callbacks):
    with refused("callbacks"):
        trainer(memory, callbacks=callbacks)
