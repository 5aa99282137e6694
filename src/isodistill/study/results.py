"""What a study found: every arm against the baseline, under each selection rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict

from isodistill.evaluation import Evaluation
from isodistill.evaluation.effects import GroupValue, MeasureEffects, bounds_of, measure_effects
from isodistill.files import write_text_atomically
from isodistill.runs import EVALUATION_FILE
from isodistill.statistics.draws import compare_over_draws, mean_over_draws
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
        pooled: One entry for each rule and each name that data sets are draws of, see `pool_draws`.
        failed: Why cells failed, by their slugs.
    """

    model_config = ConfigDict(extra="forbid")

    versions: dict[str, str]
    config: dict[str, Any]
    students: dict[str, str] = {}
    results: list[Result]
    pooled: list[Result] = []
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
        pooled=pool_draws(found, {name: entry.draw_of for name, entry in config.data.items()}),
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


def pool_draws(results: Sequence[Result], draw_of: Mapping[str, str | None]) -> list[Result]:
    """Takes the comparisons on draws of one thing together, each draw as one value.

    Args:
        results: A study's comparisons.
        draw_of: What each data set is a draw of; ``None`` for none.

    Returns:
        One comparison for each rule and each name in `draw_of` that has two draws or more: ``data`` is that name,
        ``student`` counts the draws, and ``by_seed`` holds the draws' means, in the order of `draw_of` (a study's
        results go by student). An arm is left out that is missing from a draw, and so is a measure.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    order = {name: place for place, name in enumerate(draw_of)}
    for result in sorted(results, key=lambda each: order.get(each.data, 0)):
        name = draw_of.get(result.data)
        if name is not None and result.effects:
            groups.setdefault((result.rule, name), []).append(result)
    return [_pool(rule, name, draws) for (rule, name), draws in groups.items() if len(draws) > 1]


def _pool(rule: str, name: str, draws: Sequence[Result]) -> Result:
    first = draws[0]
    effects = []
    for measure in first.effects:
        same = [each for draw in draws for each in draw.effects if each.measure == measure.measure]
        if len(same) == len(draws) and all(measure.baseline in each.groups for each in same):
            effects.append(_measure(same))
    return Result(
        rule=rule,
        data=name,
        student=f"{len(draws)} draws",
        controls=[arm for arm in first.controls if all(arm in draw.controls for draw in draws)],
        effects=effects,
    )


def _measure(draws: Sequence[MeasureEffects]) -> MeasureEffects:
    first = draws[0]
    bounds = bounds_of(first.measure, first.unit)
    values = {
        arm: [each.groups[arm].mean for each in draws]
        for arm in first.groups
        if all(arm in each.groups for each in draws)
    }
    groups = {}
    for arm, means in values.items():
        mean = mean_over_draws(means, bounds)
        assert mean is not None  # two draws or more
        groups[arm] = GroupValue(mean=mean.value, low=mean.low, high=mean.high, by_seed=means)
    sets = sum(max((effect.sets for effect in each.effects.values()), default=0) for each in draws)
    return MeasureEffects(
        measure=first.measure,
        title=first.title,
        unit=first.unit,
        better=first.better,
        splits=first.splits,
        over="draws",
        baseline=first.baseline,
        groups=groups,
        effects=compare_over_draws(values, first.baseline, bounds, sets),
    )
