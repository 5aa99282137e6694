"""The main table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from isodistill.report.panel import Panel, panel_of_runs
from isodistill.report.runs import RunSummary
from isodistill.report.tables import accuracy_table


def summary_table(runs: Sequence[RunSummary] | Panel) -> Table:
    """Accuracy by split and group, as in the report.

    Args:
        runs: The runs, or a panel of them.

    Returns:
        A rich table; names are shown as they are, markup in them is not followed.

    Raises:
        IsodistillError: If there is no run or two runs share a name.
    """
    panel = runs if isinstance(runs, Panel) else panel_of_runs(runs)
    content = accuracy_table(panel)
    table = Table(title=Text(panel.title or "Accuracy by split, with 95% intervals"))
    for position, head in enumerate(content.header):
        table.add_column(Text(head), justify="left" if position == 0 else "right")
    for row in content.rows:
        table.add_row(*(Text(cell) for cell in row), end_section=row is content.rows[-2:][0])
    return table
