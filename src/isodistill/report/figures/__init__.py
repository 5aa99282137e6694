"""The figures of the report, a file each; every one returns ``None`` where there is nothing to draw."""

from __future__ import annotations

from isodistill.report.drawing import Chart
from isodistill.report.figures.accuracy import accuracy_chart
from isodistill.report.figures.conflict import conflict_chart
from isodistill.report.figures.consistency import consistency_chart
from isodistill.report.figures.curves import learning_chart, mask_chart
from isodistill.report.figures.forest import forest_chart
from isodistill.report.figures.histogram import histogram_chart
from isodistill.report.figures.scatter import scatter_chart
from isodistill.report.panel import Panel

FIGURES = (
    forest_chart,
    accuracy_chart,
    scatter_chart,
    consistency_chart,
    conflict_chart,
    histogram_chart,
    mask_chart,
    learning_chart,
)


def draw_figures(panel: Panel) -> dict[str, Chart]:
    """Draws every figure that a panel has something for.

    Args:
        panel: The panel.

    Returns:
        The charts by their names.
    """
    drawn = (draw(panel) for draw in FIGURES)
    return {chart.name: chart for chart in drawn if chart is not None}
