"""The report: one page that says what the numbers show, its figures as files, and a table for the terminal."""

from isodistill.report.page import build_pages, build_report
from isodistill.report.panel import Panel, panel_of_runs
from isodistill.report.runs import RunSummary
from isodistill.report.terminal import summary_table
from isodistill.report.verdict import GroupComparison, Verdict, judge

__all__ = [
    "GroupComparison",
    "Panel",
    "RunSummary",
    "Verdict",
    "build_pages",
    "build_report",
    "judge",
    "panel_of_runs",
    "summary_table",
]
