"""Reads run folders into what the report shows."""

from __future__ import annotations

from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.evaluation.results import Evaluation
from isodistill.report.runs import RunSummary
from isodistill.runs import EVALUATION_FILE, RunRecord, read_diagnostics


def summarise_run(folder: Path, name: str | None = None) -> RunSummary:
    """Reads a trained and evaluated run.

    Args:
        folder: The output folder of `isodistill train`, with the ``evaluation.json`` of `isodistill evaluate`.
        name: The run's name in the report; by default the folder's.

    Returns:
        The summary.

    Raises:
        IsodistillError: if the record or the evaluation is missing or damaged.
    """
    record = RunRecord.load(folder)
    file = folder / EVALUATION_FILE
    if not file.is_file():
        raise IsodistillError(f"{file} is missing: run `isodistill evaluate --adapter {folder} --data DIR`")
    evaluation = Evaluation.load(file)
    return RunSummary(
        name=name or folder.resolve().name,
        method=record.method,
        settings=record.settings,
        evaluation=evaluation,
        domains=record.domains,
        log_history=record.log_history,
        diagnostics=read_diagnostics(folder),
        seconds=record.seconds,
        tokens=record.tokens,
    )
