"""All methods on the toy problem, over seeds: at their defaults, and tuned on the training domains."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ValidationError

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.toy.grid import OPTIMIZERS, Case
from isodistill.toy.problem import VARIANTS, Variant
from isodistill.toy.train import SETS_PER_STEP, TEST_SETS, TRAIN_SETS, VALIDATION_SETS, ToyResult, Trial, train_toy

_PACKAGES = ("isodistill", "torch", "peft", "torchjd")
TUNED = "tuned"
SETTINGS = (*OPTIMIZERS, TUNED)
_FIRST_TUNING_SEED = 10_000


class StudySettings(BaseModel):
    """What a study ran, apart from its cases.

    Attributes:
        seeds: Seeds 0 .. seeds - 1 are reported.
        tuning_seeds: As many further seeds choose the trial; 0 for no tuning.
        steps: Optimizer steps of a run.
        train_sets: Sets in the training data.
        validation_sets: Sets behind the choice.
        test_sets: Sets of each test.
        sets_per_step: Sets in one step.
    """

    seeds: int = 10
    tuning_seeds: int = 2
    steps: int = 100
    train_sets: int = TRAIN_SETS
    validation_sets: int = VALIDATION_SETS
    test_sets: int = TEST_SETS
    sets_per_step: int = SETS_PER_STEP


class TrialScore(BaseModel):
    """A trial and what it was chosen by.

    Attributes:
        trial: The hyperparameters.
        worst_domain: The lowest validation accuracy among the training domains, a mean over the tuning seeds.
    """

    trial: Trial
    worst_domain: float


class CaseResult(BaseModel):
    """One method on one variant.

    Attributes:
        variant: See `isodistill.toy.problem.ToyProblem`.
        case: See `isodistill.toy.grid.Case`.
        defaults: The results over seeds at default options, by optimizer.
        tuning: All trials with their scores; empty without tuning.
        chosen: The best trial, ``None`` without tuning.
        tuned: Its results over seeds.
    """

    variant: Variant
    case: str
    defaults: dict[str, list[ToyResult]]
    tuning: list[TrialScore] = []
    chosen: Trial | None = None
    tuned: list[ToyResult] = []


class ToyStudy(BaseModel):
    """The whole table.

    Attributes:
        settings: What was run.
        versions: Library versions.
        results: One entry for each variant and case.
    """

    settings: StudySettings
    versions: dict[str, str]
    results: list[CaseResult] = []

    def find(self, variant: Variant, case: str) -> CaseResult | None:
        """Returns the entry of a variant and a case, if it is there."""
        return next((r for r in self.results if r.variant == variant and r.case == case), None)


def run_study(
    cases: Sequence[str],
    settings: StudySettings,
    variants: Sequence[Variant] = VARIANTS,
    out: Path | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> ToyStudy:
    """Runs what is missing of a study, and keeps each finished case in a file.

    The trial is chosen by the worst training domain's accuracy on validation sets of the training domains, over seeds
    of its own; of equal trials the first one wins. The tests with a broken cue have no part in it. The variant
    ``rotated`` is run at default options only.

    Args:
        cases: Rows (see `Case`).
        settings: What to run.
        variants: The problems.
        out: The JSON file to go on with and to write; ``None`` for none.
        progress: Called with (stage, done, total) after each case.

    Returns:
        The study, in the order of variants and cases.

    Raises:
        IsodistillError: if a case or a variant is unknown, or if the file holds a study with other settings.
    """
    rows = [Case(name) for name in cases]
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown:
        raise IsodistillError(f"variant={unknown[0]!r} is unknown: choose one of {', '.join(VARIANTS)}")
    study = _load(out, settings)
    for done, (variant, row) in enumerate((v, r) for v in variants for r in rows):
        if study.find(variant, row.name) is None:
            study.results.append(_run_case(variant, row, settings))
            study.results.sort(key=lambda result: _place(result, variants, cases))
            if out is not None:
                write_text_atomically(out, study.model_dump_json() + "\n")
        progress("toy", done + 1, len(variants) * len(rows))
    return study


def _place(result: CaseResult, variants: Sequence[Variant], cases: Sequence[str]) -> tuple[int, int]:
    # What an earlier call left in the file, and this one did not ask for, stands behind.
    variant = variants.index(result.variant) if result.variant in variants else len(variants)
    return variant, cases.index(result.case) if result.case in cases else len(cases)


def _load(out: Path | None, settings: StudySettings) -> ToyStudy:
    # TorchJD is optional: without it, its methods are refused when they are built.
    installed = {str(d.name).lower(): d.version for d in metadata.distributions() if d.name}
    versions = {name: installed[name] for name in _PACKAGES if name in installed}
    fresh = ToyStudy(settings=settings, versions=versions)
    if out is None or not out.is_file():
        return fresh
    try:
        study = ToyStudy.model_validate(json.loads(out.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        raise IsodistillError(f"{out} is not the JSON of a toy study: name another file") from None
    if study.settings != settings or study.versions != versions:
        raise IsodistillError(f"{out} holds a study with other settings or versions: remove it, or name another file")
    return study


def _run_case(variant: Variant, case: Case, settings: StudySettings) -> CaseResult:
    def run(trial: Trial, seed: int) -> ToyResult:
        return train_toy(variant, case.method, trial, seed, settings.steps, case.shuffled)

    seeds = range(settings.seeds)
    defaults = {name: [run(trial, seed) for seed in seeds] for name, trial in case.defaults().items()}
    result = CaseResult(variant=variant, case=case.name, defaults=defaults)
    if settings.tuning_seeds == 0 or variant == "rotated":
        return result
    tuning_seeds = range(_FIRST_TUNING_SEED, _FIRST_TUNING_SEED + settings.tuning_seeds)
    for trial in case.trials():
        worst = [min(run(trial, seed).validation) for seed in tuning_seeds]
        result.tuning.append(TrialScore(trial=trial, worst_domain=statistics.fmean(worst)))
    chosen = max(result.tuning, key=lambda score: score.worst_domain).trial
    result.chosen = chosen
    if chosen == case.defaults()[chosen.optimizer]:
        result.tuned = defaults[chosen.optimizer]
    else:
        result.tuned = [run(chosen, seed) for seed in seeds]
    return result


def rows_of(study: ToyStudy, variant: Variant, setting: str) -> list[list[str]]:
    """Lays one variant out as a table's rows: means and standard deviations over seeds.

    Args:
        study: The study.
        variant: The variant.
        setting: ``adamw`` or ``tensor_adamw`` (default options), or ``tuned``.

    Returns:
        For each case its name, the cue weight, the accuracy with a random and with a reversed cue, and the chosen
        trial (empty at defaults); no row if nothing was tuned.
    """
    rows = []
    for result in study.results:
        runs = result.tuned if setting == TUNED else result.defaults[setting]
        if result.variant == variant and runs:
            trial = result.chosen if setting == TUNED else None
            told = "" if trial is None else _told(trial, Case(result.case).options)
            measures = ([r.cue_weight for r in runs], [r.random_cue for r in runs], [r.reversed_cue for r in runs])
            rows.append([result.case, *(_spread(values) for values in measures), told])
    return rows


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.2f} ± {deviation:.2f}"


def _told(trial: Trial, fixed: dict[str, object]) -> str:
    options = [f"{name} {value}" for name, value in trial.options.items() if name not in fixed]
    return ", ".join([*options, f"lr {trial.learning_rate:g}", trial.optimizer])
