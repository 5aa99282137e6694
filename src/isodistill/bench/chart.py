"""The picture of benchmark files: what a step costs relative to its reference, a panel for each file."""

from __future__ import annotations

from collections.abc import Sequence

from isodistill.bench.timing import BenchTable
from isodistill.report.drawing import INK, Chart, figure, series

_WIDTH = 7.0  # inches; for a documentation page
_HEADER = ["benchmark", "tokens", "case", "seconds", "ratio", "least", "most"]


def cost_chart(tables: Sequence[BenchTable]) -> Chart:
    """Draws the ratios of each table as bars, with the range over rounds.

    Args:
        tables: Tables with timings.

    Returns:
        The chart.
    """
    tables = [table for table in tables if table.timings]
    heights = [len(table.timings) + 1.2 for table in tables]
    with figure(_WIDTH, 0.24 * sum(heights) + 0.3) as drawing:
        grid = drawing.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, table in zip(grid, tables, strict=True):
            for row, timing in enumerate(table.timings):
                axes.barh(row, timing.ratio, color=series(row), height=0.62)
                axes.plot([timing.ratio_low, timing.ratio_high], [row, row], color=INK, linewidth=1.0)
                axes.annotate(
                    f"{timing.ratio:.2f}",
                    (max(timing.ratio, timing.ratio_high), row),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                )
            axes.axvline(1.0, color=INK, linewidth=0.7, linestyle="--")
            axes.set_yticks(range(len(table.timings)), [timing.case for timing in table.timings])
            axes.set_ylim(len(table.timings) - 0.4, -0.6)
            axes.margins(x=0.1)
            axes.grid(axis="y", visible=False)
            axes.set_title(_title(table))
    rows: list[list[str | float | int | None]] = [
        [table.benchmark, _tokens(table), timing.case, timing.median, timing.ratio, timing.ratio_low, timing.ratio_high]
        for table in tables
        for timing in table.timings
    ]
    return Chart(
        name="costs",
        label="Bars: the time of each case relative to the reference of its benchmark.",
        caption="Median over rounds; the line spans the rounds.",
        header=_HEADER,
        rows=rows,
        drawing=drawing,
    )


def _tokens(table: BenchTable) -> int | None:
    tokens = table.settings.get("tokens")
    return int(tokens) if tokens is not None else None


def _title(table: BenchTable) -> str:
    tokens = _tokens(table)
    size = f", {tokens:,} tokens" if tokens is not None else ""
    return f"{table.benchmark}{size}, relative to {table.reference}"
