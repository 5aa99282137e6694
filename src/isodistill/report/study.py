"""Reads the folder of a study into the panels of the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.evaluation.results import Evaluation
from isodistill.report.folder import summarise_run
from isodistill.report.panel import Panel
from isodistill.report.runs import RunSummary
from isodistill.runs import EVALUATION_FILE, RUN_FILE
from isodistill.study.folder import STUDY_FILE, FinalRun, StudyFolder
from isodistill.study.results import Result, pool_draws


def is_study(folder: Path) -> bool:
    """Tells whether a folder holds a study.

    Args:
        folder: The folder.

    Returns:
        Whether its record is there.
    """
    return (folder / STUDY_FILE).is_file()


def panels_of_study(study: StudyFolder) -> list[Panel]:
    """Reads the finished final runs of a study.

    Args:
        study: The study.

    Returns:
        A panel for each selection rule, data set and student that has a finished run, in the study's order; before them
        one for each comparison over draws.

    Raises:
        IsodistillError: If no final run is finished, or a record is damaged.
    """
    finals = [run for rule in study.config.rules for run in study.finals(rule)]
    if not finals:
        raise IsodistillError(f"{study.root} holds no finished final run yet: let `isodistill compare` go on.")
    rules, data, students = ({getattr(run, name) for run in finals} for name in ("rule", "data", "student"))
    due = [(entry.rule, entry.data, entry.student) for entry in study.load_plan().finals]
    read: dict[tuple[Path, str], RunSummary] = {}  # two rules that choose the same trial share its runs
    panels: dict[tuple[str, str, str], Panel] = {}
    for key in dict.fromkeys((run.rule, run.data, run.student) for run in finals):
        here = [run for run in finals if (run.rule, run.data, run.student) == key]
        for run in here:
            if (run.folder, run.arm) not in read:
                read[run.folder, run.arm] = _summary(run)
        arms = list(dict.fromkeys(run.arm for run in here))
        named = [
            text
            for text, all_of in (
                (f"selection: {key[0].replace('_', ' ')}", rules),
                (f"data: {key[1]}", data),
                (f"student: {key[2]}", students),
            )
            if len(all_of) > 1
        ]
        missing = due.count(key) - len(here)
        panels[key] = Panel(
            title=", ".join(named),
            groups={arm: [read[run.folder, arm] for run in _of(here, arm)] for arm in arms},
            baseline=study.config.baseline if study.config.baseline in arms else None,
            seeds={arm: [run.seed for run in _of(here, arm)] for arm in arms},
            sweep=f"{key[0]}, {key[2]}",
            notes=(f"{missing} of {due.count(key)} final runs are not finished.",) if missing else (),
            samples=study.config.evaluation.bootstrap_samples,
        )
    draw_of = {name: entry.draw_of for name, entry in study.config.data.items()}
    return [*_over_draws(panels, draw_of), *panels.values()]


def _over_draws(panels: Mapping[tuple[str, str, str], Panel], draw_of: Mapping[str, str | None]) -> list[Panel]:
    """Takes the panels of draws of one thing together, as `pool_draws` does."""
    results = [
        Result(rule=rule, data=data, student=student, controls=[], effects=panel.effects)
        for (rule, data, student), panel in panels.items()
        if draw_of[data] is not None and panel.baseline is not None
    ]
    found = []
    for result in pool_draws(results, draw_of):
        parts = [
            panel
            for (rule, data, _), panel in panels.items()
            if rule == result.rule and draw_of[data] == result.data and panel.baseline is not None
        ]
        several = len({each.rule for each in results}) > 1
        selection = f"selection: {result.rule.replace('_', ' ')}, " if several else ""
        found.append(
            Panel(
                title=f"{selection}{result.data}, over {result.student}",
                groups={arm: [run for part in parts for run in part.groups[arm]] for arm in result.effects[0].groups},
                baseline=parts[0].baseline,
                sweep=f"{result.data}, over {result.student}",
                notes=tuple(f"{part.title}: {note}" for part in parts for note in part.notes),
                pooled=result.effects,
            )
        )
    return found


def _of(runs: Iterable[FinalRun], arm: str) -> Sequence[FinalRun]:
    return [run for run in runs if run.arm == arm]


def _summary(run: FinalRun) -> RunSummary:
    name = run.arm if run.seed is None else f"{run.arm}, seed {run.seed}"
    if (run.folder / RUN_FILE).is_file():
        return summarise_run(run.folder, name)
    # The student that is not trained has an evaluation and no record of a training.
    evaluation = Evaluation.load(run.folder / EVALUATION_FILE)
    return RunSummary(name=name, method="none", settings={}, evaluation=evaluation, seconds=0.0, tokens=0)
