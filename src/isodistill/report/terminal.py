"""The main table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from isodistill.report.runs import RunSummary, check_runs
from isodistill.report.tables import accuracy_table


def summary_table(runs: Sequence[RunSummary]) -> Table:
    """Accuracy by split and run, as in the report.

    Args:
        runs: The runs.

    Returns:
        A rich table; names are shown as they are, markup in them is not followed.

    Raises:
        IsodistillError: If there is no run or two runs share a name.
    """
    check_runs(runs)
    content = accuracy_table(runs)
    table = Table(title="Accuracy by split, with 95% intervals over isomer sets")
    for position, head in enumerate(content.header):
        table.add_column(Text(head), justify="left" if position == 0 else "right")
    for row in content.rows:
        table.add_row(*(Text(cell) for cell in row), style="bold" if row[0].startswith("mean") else "")
    return table
