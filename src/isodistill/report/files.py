"""The report's figures and numbers as files beside the page: PNG, SVG and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from isodistill.files import write_text_atomically
from isodistill.report.drawing import plain_cell
from isodistill.report.figures import draw_figures
from isodistill.report.figures.scaling import scaling_chart
from isodistill.report.panel import Panel

_COLUMNS = [
    *("panel", "measure", "unit", "better", "splits", "group", "mean", "low", "high"),
    *("effect", "effect_low", "effect_high", "p", "p_holm", "by_seed"),
]


def write_figures(panels: Sequence[Panel], folder: Path) -> list[Path]:
    """Writes every figure as PNG and SVG with its data as CSV, and all measures as one CSV.

    Args:
        panels: What is compared.
        folder: Where to write; files of the same names are replaced.

    Returns:
        The files.
    """
    written = []
    charts = [
        (f"{place}-{chart.name}" if len(panels) > 1 else chart.name, chart)
        for place, panel in enumerate(panels, 1)
        for chart in draw_figures(panel).values()
    ]
    scaling = scaling_chart(panels)
    if scaling is not None:
        charts.append((scaling.name, scaling))
    for name, chart in charts:
        written.append(write_text_atomically(folder / f"{name}.svg", chart.svg() + "\n"))
        written.append(write_text_atomically(folder / f"{name}.csv", chart.csv()))
        picture = folder / f"{name}.png"
        picture.write_bytes(chart.png())
        written.append(picture)
    written.append(write_text_atomically(folder / "measures.csv", measures_csv(panels)))
    return written


def measures_csv(panels: Sequence[Panel]) -> str:
    """Writes every measure of every group, a row each, with the value of every run.

    Args:
        panels: What is compared.

    Returns:
        CSV with a header.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for panel in panels:
        for measure in panel.effects:
            for label, group in measure.groups.items():
                effect = measure.effects.get(label)
                tested = (
                    [None] * 5
                    if effect is None
                    else [effect.effect.value, effect.effect.low, effect.effect.high, effect.p_value, effect.p_holm]
                )
                cells = [panel.title, measure.measure, measure.unit, measure.better, " ".join(measure.splits), label]
                values = [group.mean, group.low, group.high, *tested, " ".join(map(repr, group.by_seed))]
                writer.writerow([plain_cell(cell) for cell in [*cells, *values]])
    return buffer.getvalue()
