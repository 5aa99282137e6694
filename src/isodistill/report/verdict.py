"""The report's first sentence: what the numbers allow to be said, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isodistill.evaluation.compare import is_ood_split
from isodistill.evaluation.effects import GroupValue, MeasureEffects
from isodistill.evaluation.metrics import accuracy
from isodistill.report.panel import Panel, panel_of_runs
from isodistill.report.runs import RunSummary
from isodistill.statistics.bootstrap import Estimate
from isodistill.statistics.study import LEVEL, MethodEffect


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """One group of like runs held against the baseline by accuracy out of distribution.

    Attributes:
        label: The group's label.
        effect: The paired difference with its test.
        by_seed: The difference of each paired run by itself.
        mcnemar: The exact McNemar p-value, where there is one run a side.
        reading: ``"better"`` or ``"worse"`` (significant over seeds), ``"ahead"`` or ``"behind"`` (the same of one run
            a side, which says nothing of other seeds), or ``"no difference shown"``.
    """

    label: str
    effect: MethodEffect
    by_seed: list[float]
    mcnemar: float | None
    reading: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the report says first.

    Attributes:
        sentence: The one sentence.
        kind: ``"better"``, ``"worse"``, ``"lead"`` (one run a side), ``"no difference"`` or ``"none"`` (nothing to
            compare).
        comparisons: Every group against the baseline, the judged one first.
        baseline: The baseline's label, or ``None``.
        caveats: What the reader must know beside the sentence.
        others: How the further groups fared, in a sentence; empty where there is none.
        replicates: What was paired: ``"training seeds"`` or ``"draws"``.
    """

    sentence: str
    kind: str
    comparisons: list[GroupComparison]
    baseline: str | None
    caveats: list[str] = field(default_factory=list)
    others: str = ""
    replicates: str = "training seeds"


_KINDS = {"better": "better", "worse": "worse", "ahead": "lead", "behind": "lead"}


def judge(runs: Sequence[RunSummary] | Panel, baseline: str = "erm") -> Verdict:
    """Compares groups of runs with the baseline by accuracy out of distribution.

    The judged group is the first whose method starts with ``iga``, else the first that is not the
    baseline. "Beats" is said of a difference that is significant over training seeds after Holm's correction for the
    number of groups, and whose interval leaves out zero.

    Args:
        runs: The runs, of which those that differ by seed alone form one group; or a panel.
        baseline: The name of the baseline run, or else its method; a panel knows its own.

    Returns:
        The verdict.

    Raises:
        IsodistillError: If the runs were evaluated on different data.
    """
    panel = runs if isinstance(runs, Panel) else panel_of_runs(runs, baseline)
    reference = panel.baseline
    if reference is None:
        sentence = f"Nothing is compared: there is no baseline run called '{baseline}' among the runs."
        return Verdict(sentence, "none", [], None)
    others = [label for label in panel.groups if label != reference]
    others.sort(key=lambda label: not panel.groups[label][0].method.startswith("iga"))
    if not others:
        return Verdict("Nothing is compared: the baseline is the only run of this report.", "none", [], reference)
    measure = panel.measure("ood_accuracy")
    if measure is None:
        sentence = f"Nothing is compared: {others[0]} and {reference} share no problem of an out-of-distribution split."
        return Verdict(sentence, "none", [], reference)
    comparisons = [_compare(label, measure, panel) for label in others if label in measure.effects]
    if not comparisons:
        sentence = f"Nothing is compared: no training seed of {others[0]} is one of {reference}."
        return Verdict(sentence, "none", [], reference)
    judged = comparisons[0]
    caveats = [*panel.notes, *_caveats(panel, judged, measure)]
    kind = _KINDS.get(judged.reading, "no difference")
    return Verdict(
        _sentence(judged, reference, len(comparisons), panel.replicates),
        kind,
        comparisons,
        reference,
        caveats,
        _others(comparisons[1:], reference),
        panel.replicates,
    )


def _compare(label: str, measure: MeasureEffects, panel: Panel) -> GroupComparison:
    effect = measure.effects[label]
    if effect.seeds > 1:
        reading = "no difference shown"
        if effect.significant:
            reading = "better" if effect.effect.value > 0 else "worse"
    else:
        shown = effect.p_holm <= LEVEL and (effect.effect.low > 0 or effect.effect.high < 0)
        reading = ("ahead" if effect.effect.value > 0 else "behind") if shown else "no difference shown"
    return GroupComparison(label, effect, _by_seed(label, measure, panel), measure.mcnemar.get(label), reading)


def _by_seed(label: str, measure: MeasureEffects, panel: Panel) -> list[float]:
    ours, theirs = measure.groups[label].by_seed, measure.groups[measure.baseline].by_seed
    if panel.seeds is None:
        return [a - b for a, b in zip(ours, theirs, strict=False)]
    numbers = dict(zip(panel.seeds[measure.baseline], theirs, strict=True))
    pairs = zip(panel.seeds[label], ours, strict=True)
    return [value - numbers[seed] for seed, value in pairs if seed in numbers]


def _sentence(judged: GroupComparison, baseline: str, tests: int, replicates: str) -> str:
    effect = judged.effect
    runs = f"{effect.seeds} {replicates} and " if effect.seeds > 1 else ""
    corrected = f" after Holm's correction for {tests} comparisons" if tests > 1 else ""
    numbers = (
        f"{percent(effect.mean.value)} against {percent(effect.baseline.value)} of the problems right, "
        f"{points(effect.effect.value)} points (95% interval {points(effect.effect.low)} to "
        f"{points(effect.effect.high)}, paired over {runs}{effect.sets} isomer sets; "
        f"{p_value(effect.p_holm)}{corrected})"
    )
    lead = "with one run a side: a lead, not evidence"
    said = {
        "better": f"{judged.label} beats {baseline} out of distribution",
        "worse": f"{judged.label} loses to {baseline} out of distribution",
        "ahead": f"{judged.label} is ahead of {baseline} out of distribution, {lead}",
        "behind": f"{judged.label} is behind {baseline} out of distribution, {lead}",
    }.get(judged.reading, f"No difference shown between {judged.label} and {baseline} out of distribution")
    return f"{said}: {numbers}."


def _others(comparisons: Sequence[GroupComparison], baseline: str) -> str:
    if not comparisons:
        return ""
    parts = []
    for reading in ("better", "worse", "ahead", "behind", "no difference shown"):
        labels = [each.label for each in comparisons if each.reading == reading]
        if labels:
            parts.append(f"{reading}: {', '.join(labels)}")
    return f"The others against {baseline}: {'; '.join(parts)}."


def _caveats(panel: Panel, judged: GroupComparison, measure: MeasureEffects) -> list[str]:
    notes = []
    if judged.effect.seeds == 1:
        notes.append(
            "The interval covers the choice of test problems, not the variation between training seeds: with a single "
            "run on a side this is a lead, not evidence."
        )
    elif judged.effect.seeds < 5:
        notes.append(
            f"Only {judged.effect.seeds} {panel.replicates} were paired: the intervals allow for so few, and are wide."
        )
    iid = panel.measure("accuracy:iid")
    if iid is not None and judged.label in iid.effects and iid.effects[judged.label].effect.high < 0:
        notes.append(
            f"On the training domains {judged.label} is {points(-iid.effects[judged.label].effect.value, sign=False)} "
            f"points below {measure.baseline}: a student that has learnt less takes fewer shortcuts too, so compare "
            "with a baseline stopped at the same iid accuracy."
        )
    group, reference = panel.groups[judged.label], panel.groups[measure.baseline]
    for run in [*group, *reference]:
        short = [
            split for split, result in run.evaluation.splits.items() if is_ood_split(split) and result.answered < 0.9
        ]
        if short:
            notes.append(
                f"{run.name} ended fewer than nine in ten problems with an answer line in: {', '.join(short)}; "
                "what has no answer counts as wrong."
            )
    below = [
        split
        for split, result in group[0].evaluation.splits.items()
        if is_ood_split(split)
        and result.constant_accuracy is not None
        and accuracy([item.correct for item in group[0].evaluation.items if item.split == split and item.probabilities])
        <= result.constant_accuracy
    ]
    if below:
        notes.append(f"{group[0].name} does not beat the best constant answer in: {', '.join(below)}.")
    configs = {
        run.name: run.evaluation.config.model_dump(exclude={"bootstrap_samples", "seed", "batch_size"})
        for run in panel.runs
    }
    first = next(iter(configs.values()))
    differing = sorted({key for config in configs.values() for key in config if config[key] != first[key]})
    if differing:
        notes.append(f"The runs were evaluated with different settings: {', '.join(differing)}.")
    if len({run.evaluation.student for run in panel.runs}) > 1:
        notes.append("The runs have different students.")
    return notes


def percent(value: float) -> str:
    """Writes a share as a percentage.

    Args:
        value: A share, for example 0.613.

    Returns:
        For example ``"61.3%"``.
    """
    return f"{100 * value:.1f}%"


def points(value: float, sign: bool = True) -> str:
    """Writes a difference of shares in percentage points.

    Args:
        value: A difference, for example 0.031.
        sign: Whether to write a plus sign.

    Returns:
        For example ``"+3.1"``, with a true minus sign where negative.
    """
    rounded = round(100 * value, 1) + 0.0  # -0.0 becomes 0.0
    text = f"{rounded:+.1f}" if sign and rounded else f"{rounded:.1f}"
    return text.replace("-", "−")


def p_value(value: float) -> str:
    """Writes a p-value.

    Args:
        value: The p-value.

    Returns:
        For example ``"p = 0.032"``, or ``"p < 0.001"``.
    """
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def interval(estimate: Estimate | GroupValue | None) -> str:
    """Writes an accuracy with its interval.

    Args:
        estimate: The accuracy, or ``None``.

    Returns:
        For example ``"61.3% [57.0, 65.1]"``; a dash for ``None``.
    """
    if estimate is None:
        return "–"
    value = estimate.mean if isinstance(estimate, GroupValue) else estimate.value
    if estimate.low is None or estimate.high is None:
        return percent(value)
    return f"{percent(value)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def quantity(value: float, unit: str) -> str:
    """Writes a measure in its own unit.

    Args:
        value: The value.
        unit: ``"share"`` for a percentage, anything else for three digits.

    Returns:
        For example ``"61.3%"`` or ``"0.168"``.
    """
    return percent(value) if unit == "share" else f"{value:.3f}".replace("-", "−")


def change(value: float, unit: str) -> str:
    """Writes a difference of a measure.

    Args:
        value: The difference.
        unit: ``"share"`` for points, anything else for three digits.

    Returns:
        For example ``"+3.1"`` or ``"−0.012"``.
    """
    if unit == "share":
        return points(value)
    rounded = round(value, 3) + 0.0
    return (f"{rounded:+.3f}" if rounded else "0.000").replace("-", "−")
