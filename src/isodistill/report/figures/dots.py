"""Small multiples of dots with intervals: a panel for each measure, a row for each group."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from isodistill.evaluation.effects import MeasureEffects
from isodistill.report.drawing import INK, WIDTH, figure, marker, short


def dot_panels(measures: Sequence[tuple[str, MeasureEffects]], columns: int = 2) -> Figure:
    """Draws measures side by side, each with its own scale.

    Args:
        measures: A title and a measure for each panel; all have the same groups.
        columns: Panels beside each other.

    Returns:
        The figure. A dashed line stands at the baseline's value.
    """
    labels = list(measures[0][1].groups)
    columns = min(columns, len(measures))
    lines = -(-len(measures) // columns)
    with figure(WIDTH, 0.2 + lines * (0.62 + 0.19 * len(labels))) as drawing:
        grid = drawing.subplots(lines, columns, squeeze=False, sharey=True).flat
        for axes, (title, measure) in zip(grid, measures, strict=False):
            for row, label in enumerate(labels):
                group = measure.groups[label]
                if group.low is not None and group.high is not None:
                    axes.plot([group.low, group.high], [row, row], color=INK, linewidth=1.0)
                marker(axes, group.mean, row, row, size=5)
            axes.axvline(measure.groups[measure.baseline].mean, color=INK, linewidth=0.7, linestyle="--")
            axes.set_yticks(range(len(labels)), [short(label) for label in labels])
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
            axes.set_title(title)
            if measure.unit == "share":
                axes.set_xlim(-0.02, 1.02)
                axes.xaxis.set_major_formatter(PercentFormatter(1.0))
            axes.xaxis.set_major_locator(MaxNLocator(4))
    for axes in drawing.axes[len(measures) :]:
        axes.set_axis_off()
    return drawing


def dot_rows(measures: Sequence[tuple[str, MeasureEffects]]) -> list[list[str | float | int | None]]:
    """Lists what `dot_panels` draws.

    Args:
        measures: As there.

    Returns:
        Rows of measure, group, mean, low, high and the number of runs.
    """
    return [
        [measure.measure, label, group.mean, group.low, group.high, len(group.by_seed)]
        for _, measure in measures
        for label, group in measure.groups.items()
    ]


DOT_HEADER = ["measure", "group", "mean", "low", "high", "runs"]
"""The columns of `dot_rows`."""
