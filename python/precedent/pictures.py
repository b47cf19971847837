"""Reports for the eye: figures of matplotlib, which is an extra, and HTML, which needs nothing."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from precedent.reports import EvaluationReport, TrainingReport

__all__ = [
    "against_baseline",
    "evaluation_figure",
    "evaluation_html",
    "evaluation_text",
    "training_figure",
    "training_html",
    "training_text",
]

# Of an HTML picture, in pixels.
_WIDTH, _HEIGHT, _MARGIN = 320, 120, 8


def _figure(panels: int) -> tuple[Any, Any]:
    """Return a figure that no window manager knows of, and its panels."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as err:
        message = "plot() needs matplotlib: install it with `pip install precedent-rl[plot]`"
        raise ModuleNotFoundError(message, name="matplotlib") from err
    figure = Figure(figsize=(5.5 * panels, 4.0), layout="constrained")
    return figure, figure.subplots(1, panels)


def training_figure(report: TrainingReport, path: str | os.PathLike[str] | None) -> Any:
    """See `TrainingReport.plot`."""
    figure, (losses, norms) = _figure(2)
    epochs = [epoch.epoch for epoch in report.epoch_metrics]
    losses.plot(epochs, [epoch.train_loss for epoch in report.epoch_metrics], label="training")
    validated = [(e.epoch, e.val_loss) for e in report.epoch_metrics if e.val_loss is not None]
    if validated:
        losses.plot(*zip(*validated, strict=True), label="validation")
    best = report.final_metrics.best_epoch
    losses.axvline(best, color="grey", linestyle=":", label=f"best epoch, {best}")
    losses.set(xlabel="epoch", ylabel="loss", title="Loss")
    losses.legend()
    norms.plot(epochs, [epoch.gradient_norm for epoch in report.epoch_metrics])
    norms.set(xlabel="epoch", ylabel="norm", title="Gradient, before clipping")
    if report.worse_than_baseline:
        figure.suptitle(against_baseline(report), color="darkred", fontsize="small")
    if path is not None:
        figure.savefig(path)
    return figure


def evaluation_figure(report: EvaluationReport, path: str | os.PathLike[str] | None) -> Any:
    """See `EvaluationReport.plot`."""
    figure, (reliability, risk) = _figure(2)
    reliability.plot([0, 1], [0, 1], color="grey", linestyle=":")
    told = [bin_.confidence for bin_ in report.reliability]
    came = [bin_.similarity for bin_ in report.reliability]
    reliability.plot(told, came, marker="o")
    error = report.calibration_error
    shown = "the layer is not calibrated" if error is None else f"expected calibration error {error:.3f}"
    reliability.set(xlabel="confidence", ylabel="similarity", title=f"Reliability: {shown}")
    risk.plot(*(zip(*report.risk_coverage, strict=True) if report.risk_coverage else ([], [])))
    risk.set(xlabel="share answered, surest first", ylabel="1 - similarity", title="Risk against coverage")
    if path is not None:
        figure.savefig(path)
    return figure


def training_text(report: TrainingReport) -> str:
    """Return a report in a few lines."""
    return "\n".join([f"{name}: {value}" for name, value in _training_rows(report)] + _warnings(report))


def evaluation_text(report: EvaluationReport) -> str:
    """Return a report in a few lines."""
    return "\n".join(f"{name}: {value}" for name, value in _evaluation_rows(report))


def training_html(report: TrainingReport) -> str:
    """Return a report as a table with the losses drawn beside it."""
    warned = "".join(f"<p><strong>{escape(text)}</strong></p>" for text in _warnings(report))
    losses = [[epoch.train_loss for epoch in report.epoch_metrics]]
    validated = [epoch.val_loss for epoch in report.epoch_metrics if epoch.val_loss is not None]
    drawn = _lines([*losses, validated], "Loss by epoch: training solid, validation dashed")
    return f"<div>{warned}{_table(_training_rows(report))}{drawn}</div>"


def evaluation_html(report: EvaluationReport) -> str:
    """Return a report as a table with the risk against coverage drawn beside it."""
    drawn = _lines([[risk for _, risk in report.risk_coverage]], "Risk against coverage, surest first")
    return f"<div>{_table(_evaluation_rows(report))}{drawn}</div>"


def _training_rows(report: TrainingReport) -> list[tuple[str, str]]:
    final, data = report.final_metrics, report.data_stats
    rows = [
        ("epochs", f"{len(report.epoch_metrics)}, the best {final.best_epoch}"),
        ("training loss", f"{final.train_loss:.6f}"),
    ]
    if final.val_loss is not None:
        rows.append(("validation loss", f"{final.val_loss:.6f}"))
    rows.append(("steps", f"{data.train_size:,} trained on, {data.val_size:,} validated on"))
    if report.baseline is not None:
        layer, neighbor = report.baseline.layer_similarity, report.baseline.neighbor_similarity
        rows.append(("similarity to what was done", f"{layer:.3f}; the nearest neighbour's {neighbor:.3f}"))
    rows.append(("seconds", f"{sum(epoch.duration for epoch in report.epoch_metrics):.2f}"))
    return rows


def _evaluation_rows(report: EvaluationReport) -> list[tuple[str, str]]:
    rows = [("accuracy", f"{report.accuracy:.3f}"), ("similarity", f"{report.avg_similarity:.3f}")]
    if report.calibration_error is not None:
        rows.append(("expected calibration error", f"{report.calibration_error:.3f}"))
    for name, part in report.per_task_type.items():
        rows.append((name, f"accuracy {part.accuracy:.3f} of {part.count:,} steps"))
    return rows


def _warnings(report: TrainingReport) -> list[str]:
    return [against_baseline(report)] if report.worse_than_baseline else []


def against_baseline(report: TrainingReport) -> str:
    """Return what a run says that was not worth it."""
    baseline = report.baseline
    if baseline is None:
        return ""
    return (
        f"The network does worse than the nearest neighbour on the validation steps: similarity "
        f"{baseline.layer_similarity:.3f} against {baseline.neighbor_similarity:.3f}"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{lines}</table>"


def _lines(series: Sequence[Sequence[float]], title: str) -> str:
    """Return curves over one another as SVG; those of fewer than two points are left out."""
    drawn = [values for values in series if len(values) > 1]
    if not drawn:
        return ""
    low = min(min(values) for values in drawn)
    high = max(max(values) for values in drawn)
    scale = (_HEIGHT - 2 * _MARGIN) / ((high - low) or 1.0)
    paths = []
    for values, dashes in zip(drawn, ("none", "4"), strict=False):
        step = (_WIDTH - 2 * _MARGIN) / (len(values) - 1)
        points = " ".join(
            f"{_MARGIN + i * step:.1f},{_HEIGHT - _MARGIN - (value - low) * scale:.1f}"
            for i, value in enumerate(values)
        )
        paths.append(
            f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-dasharray="{dashes}"/>'
        )
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img"><title>{escape(title)}</title>'
        f"{''.join(paths)}</svg>"
    )
