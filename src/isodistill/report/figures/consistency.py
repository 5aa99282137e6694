"""Consistency within isomer sets, beside accuracy."""

from __future__ import annotations

from isodistill.report.drawing import Chart
from isodistill.report.figures.dots import DOT_HEADER, dot_panels, dot_rows
from isodistill.report.panel import Panel
from isodistill.report.verdict import quantity

_SHOWN = {
    "ood_accuracy": "accuracy ↑",
    "agreement": "answer agreement ↑",
    "js_divergence": "JS divergence, nats ↓",
    "lcs_centred": "LCS, centred ↓",
    "lcs_raw": "LCS, raw ↓",
    "flip_rate": "flips with the cue ↓",
}


def consistency_chart(panel: Panel) -> Chart | None:
    """Draws accuracy beside the measures of consistency, averaged over the same splits.

    Args:
        panel: The panel.

    Returns:
        A panel for each measure; ``None`` where no measure of consistency is defined.
    """
    measures = [(title, found) for name, title in _SHOWN.items() if (found := panel.measure(name)) is not None]
    if all(found.measure == "ood_accuracy" for _, found in measures):
        return None
    said = "; ".join(
        f"{found.title}: "
        + ", ".join(f"{label} {quantity(group.mean, found.unit)}" for label, group in found.groups.items())
        for _, found in measures
    )
    return Chart(
        "consistency",
        f"Accuracy and consistency by group. {said}.",
        "↑ higher is better, ↓ lower is better. Means over the out-of-distribution splits, or over all where there are "
        "none. A student that has learnt little treats isomers alike too: low divergence counts only beside high "
        "accuracy.",
        DOT_HEADER,
        dot_rows(measures),
        dot_panels(measures),
    )
