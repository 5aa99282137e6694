"""The report: one page that says what the numbers show, and a table for the terminal."""

from isodistill.report.page import build_report
from isodistill.report.runs import RunSummary
from isodistill.report.terminal import summary_table
from isodistill.report.verdict import RunComparison, Verdict, judge

__all__ = ["RunComparison", "RunSummary", "Verdict", "build_report", "judge", "summary_table"]
