"""Curves over optimizer steps: the mask, and the losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from isodistill.report.drawing import INK, LINES, WIDTH, Chart, figure, series, short, thin
from isodistill.report.panel import Panel
from isodistill.report.runs import RunSummary, number

_OVERLAID = 8  # more lines than styles cannot be told apart: each then has axes of its own
_Curve = list[tuple[float, float]]


def mask_chart(panel: Panel) -> Chart | None:
    """Draws the mean mask, the kept energy and the projection residual over the steps.

    Args:
        panel: The panel; groups without diagnostics are left out.

    Returns:
        Curves, or ``None`` if no run recorded any.
    """
    names = {
        "mean_mask": "mean mask (1 = nothing masked)",
        "kept_energy": "kept energy (share of the mean gradient's)",
        "projection_residual": "projection residual (lost to the low rank)",
    }
    return _chart(panel, names, lambda run: run.diagnostics, "mask", "What the mask kept, step by step.")


def learning_chart(panel: Panel) -> Chart | None:
    """Draws the training loss and, where it was logged, the validation loss.

    Args:
        panel: The panel.

    Returns:
        Curves over optimizer steps, or ``None`` if no run logged a loss.
    """
    names = {"loss": "training loss", "eval_loss": "validation loss"}
    caption = "Loss over optimizer steps, as the trainer logged it."
    return _chart(panel, names, lambda run: run.log_history, "learning", caption)


def mean_curve(runs: Sequence[RunSummary], read: Callable[[RunSummary], list[dict[str, Any]]], key: str) -> _Curve:
    """Averages a logged number over runs, step by step.

    Args:
        runs: The runs of a group.
        read: Where its rows are.
        key: The number's name.

    Returns:
        ``(step, mean over the runs that logged it there)`` in the order of the steps; what is not finite is left out.
    """
    by_step: dict[float, list[float]] = {}
    for run in runs:
        for row in read(run):
            step, value = number(row, "step"), number(row, key)
            if step is not None and value is not None:
                by_step.setdefault(step, []).append(value)
    return [(step, sum(values) / len(values)) for step, values in sorted(by_step.items())]


def _chart(
    panel: Panel,
    names: dict[str, str],
    read: Callable[[RunSummary], list[dict[str, Any]]],
    name: str,
    caption: str,
) -> Chart | None:
    drawn: list[tuple[str, dict[str, _Curve]]] = []
    for key, title in names.items():
        curves = {
            label: thin(points) for label, runs in panel.groups.items() if (points := mean_curve(runs, read, key))
        }
        if curves:
            drawn.append((title, curves))
    if not drawn:
        return None
    order = list(panel.groups)
    many = max(len(curves) for _, curves in drawn) > _OVERLAID
    if any(len(runs) > 1 for runs in panel.groups.values()):
        caption += " Means over training seeds."
    if many:
        caption += f" Shown: {drawn[0][0]}, a group in each plot; the thin dashed line is the baseline."
    said = "; ".join(
        f"{title}, {label}: from {points[0][1]:.3g} to {points[-1][1]:.3g}"
        for title, curves in drawn
        for label, points in curves.items()
    )
    return Chart(
        name,
        f"Curves over optimizer steps. {said}.",
        caption,
        ["measure", "group", "step", "value"],
        [[title, label, x, y] for title, curves in drawn for label, points in curves.items() for x, y in points],
        _apart(drawn[0][1], panel.baseline, order) if many else _overlaid(drawn, order),
    )


def _overlaid(drawn: Sequence[tuple[str, dict[str, _Curve]]], order: Sequence[str]) -> Figure:
    shown = [label for label in order if any(label in curves for _, curves in drawn)]
    with figure(WIDTH, 0.6 + 1.6 * len(drawn) + 0.17 * -(-len(shown) // 2)) as drawing:
        column = drawing.subplots(len(drawn), 1, squeeze=False, sharex=True)[:, 0]
        named: dict[str, Any] = {}
        for axes, (title, curves) in zip(column, drawn, strict=True):
            for label, points in curves.items():
                position = order.index(label)
                x, y = zip(*points, strict=True)
                (line,) = axes.plot(
                    x,
                    y,
                    color=series(position),
                    linestyle=LINES[position % len(LINES)],
                    linewidth=1.5,
                    marker="o" if len(points) < 12 else None,
                    markersize=3,
                )
                named.setdefault(label, line)
            axes.set_title(title)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        column[-1].set_xlabel("optimizer step")
        drawing.legend(
            list(named.values()), [short(label) for label in named], loc="outside upper left", ncols=2, handlelength=3.5
        )
    return drawing


def _apart(curves: dict[str, _Curve], baseline: str | None, order: Sequence[str]) -> Figure:
    columns = 3
    lines = -(-len(curves) // columns)
    with figure(WIDTH, 0.5 + 1.05 * lines) as drawing:
        grid = drawing.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
        for axes, (label, points) in zip(grid, curves.items(), strict=False):
            if baseline in curves and label != baseline:
                axes.plot(*zip(*curves[baseline], strict=True), color=INK, linewidth=0.7, linestyle="--")
            axes.plot(*zip(*points, strict=True), color=series(order.index(label)), linewidth=1.4)
            axes.set_title(short(label, 20), size=8)
        for axes in drawing.axes[len(curves) :]:
            axes.set_axis_off()
        drawing.supxlabel("optimizer step", size=8.5)
    return drawing
