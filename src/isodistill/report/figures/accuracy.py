"""Accuracy by split and group."""

from __future__ import annotations

from isodistill.report.drawing import Chart
from isodistill.report.figures.dots import DOT_HEADER, dot_panels, dot_rows
from isodistill.report.panel import Panel
from isodistill.report.verdict import percent


def accuracy_chart(panel: Panel) -> Chart | None:
    """Draws accuracy by split and group with 95% intervals.

    Args:
        panel: The panel.

    Returns:
        A panel for each split that all groups were evaluated on, a dot for each group.
    """
    measures = [(each.splits[0], each) for each in panel.effects if each.measure.startswith("accuracy:")]
    if not measures:
        return None
    said = "; ".join(
        f"{split}: " + ", ".join(f"{label} {percent(group.mean)}" for label, group in measure.groups.items())
        for split, measure in measures
    )
    return Chart(
        "accuracy",
        f"Accuracy by split and group. {said}.",
        "Share of the problems answered rightly, by split. Lines are 95% bootstrap intervals over isomer "
        "sets and, where there are several, training seeds; the dashed line is the baseline's mean.",
        DOT_HEADER,
        dot_rows(measures),
        dot_panels(measures),
    )
