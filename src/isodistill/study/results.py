"""What a study found: every arm against the baseline, under each selection rule."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict

from isodistill.evaluation import Evaluation
from isodistill.evaluation.effects import MeasureEffects, measure_effects
from isodistill.files import write_text_atomically
from isodistill.runs import EVALUATION_FILE
from isodistill.study.folder import RESULTS_FILE, FinalRun, StudyFolder
from isodistill.study.weights import recorded_weights

_PACKAGES = ("isodistill", "torch", "transformers", "trl", "peft", "numpy", "optuna")


class Result(BaseModel):
    """The comparison under one rule on one data set with one student.

    Attributes:
        rule: The selection rule.
        data: The data set.
        student: The student.
        controls: The labels of the arms that are controls.
        effects: The measures, out-of-distribution accuracy first; none where the baseline has no finished run.
    """

    model_config = ConfigDict(extra="forbid")

    rule: str
    data: str
    student: str
    controls: list[str]
    effects: list[MeasureEffects]


class Results(BaseModel):
    """All that a study found; stands as ``results.json`` in its folder.

    Attributes:
        versions: Versions of what the numbers depend on.
        config: The study.
        students: The digests of the students' weights, where they are known: a lab student that was pretrained on
            another machine is another student.
        results: One entry for each rule, data set and student.
        failed: Why cells failed, by their slugs.
    """

    model_config = ConfigDict(extra="forbid")

    versions: dict[str, str]
    config: dict[str, Any]
    students: dict[str, str] = {}
    results: list[Result]
    failed: dict[str, str]


def sum_up(folder: StudyFolder, failed: dict[str, str]) -> Results:
    """Measures the finished runs and writes the results.

    Args:
        folder: The study, its final cells finished or failed.
        failed: Why cells failed, by their slugs.

    Returns:
        The results.

    Raises:
        IsodistillError: if the cells of a student were run with different weights.
    """
    config = folder.config
    students = recorded_weights(folder)
    found = []
    for rule in config.rules:
        finals = folder.finals(rule)
        for student, data in config.pairs:
            runs = [run for run in finals if run.data == data and run.student == student]
            found.append(
                Result(
                    rule=rule,
                    data=data,
                    student=student,
                    controls=list(dict.fromkeys(run.arm for run in runs if run.control)),
                    effects=_effects(runs, config.baseline, config.evaluation.bootstrap_samples),
                )
            )
    results = Results(
        versions={name: metadata.version(name) for name in _PACKAGES},
        config=config.model_dump(mode="json"),
        students=students,
        results=found,
        failed=failed,
    )
    write_text_atomically(folder.root / RESULTS_FILE, results.model_dump_json(indent=1) + "\n")
    return results


def _effects(runs: Sequence[FinalRun], baseline: str, samples: int) -> list[MeasureEffects]:
    groups: dict[str, list[Evaluation]] = {}
    seeds: dict[str, list[int | None]] = {}
    for run in runs:
        groups.setdefault(run.arm, []).append(Evaluation.load(run.folder / EVALUATION_FILE))
        seeds.setdefault(run.arm, []).append(run.seed)
    if baseline not in groups:
        return []
    return measure_effects(groups, baseline, samples, seeds=seeds)
