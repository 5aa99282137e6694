"""The report's first sentence: what the numbers allow to be said, and what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isodistill.evaluation.compare import PairedComparison, is_ood_split, paired_difference
from isodistill.evaluation.metrics import accuracy
from isodistill.report.runs import RunSummary, replicates
from isodistill.statistics.bootstrap import Estimate


@dataclass(frozen=True, slots=True)
class RunComparison:
    """One group of like runs held against the baseline.

    Attributes:
        label: What the group is called.
        runs: How many runs (training seeds) it averages.
        comparison: The paired difference in accuracy out of distribution.
        by_run: The difference of each run by itself, name and value, where there are several.
    """

    label: str
    runs: int
    comparison: PairedComparison
    by_run: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the report says first.

    Attributes:
        sentence: The one sentence.
        kind: ``"better"``, ``"worse"``, ``"no difference"`` or ``"none"`` (nothing to compare).
        comparisons: Every group against the baseline, the judged one first.
        baseline: The baseline's label, or ``None``.
        caveats: What the reader must know beside the sentence.
    """

    sentence: str
    kind: str
    comparisons: list[RunComparison]
    baseline: str | None
    caveats: list[str]


def judge(runs: Sequence[RunSummary], baseline: str = "erm", samples: int = 1000, seed: int = 0) -> Verdict:
    """Compares the runs with the baseline by accuracy out of distribution.

    The judged group is the first whose method starts with ``iga``, else the first that is not the
    baseline. Runs that differ by seed alone form one group and are averaged item by item.

    Args:
        runs: The runs.
        baseline: The name of the baseline run, or else its method.
        samples: Bootstrap resamples of isomer sets.
        seed: Seed of the bootstrap.

    Returns:
        The verdict.

    Raises:
        IsodistillError: If the runs were evaluated on different data.
    """
    groups = _groups(runs)
    reference = next((group for group in groups if any(run.name == baseline for run in group)), None)
    reference = reference or next((group for group in groups if group[0].method == baseline), None)
    if reference is None:
        return Verdict(
            f"Nothing is compared: there is no baseline run called '{baseline}' among the runs.", "none", [], None, []
        )
    others = sorted(
        (group for group in groups if group is not reference), key=lambda group: not group[0].method.startswith("iga")
    )
    if not others:
        return Verdict(
            "Nothing is compared: the baseline is the only run of this report.", "none", [], _label(reference), []
        )
    comparisons = [_compare(group, reference, samples, seed) for group in others]
    sentence, kind = _sentence(comparisons[0], _label(reference))
    caveats = _caveats(others[0], reference, comparisons[0], runs, samples, seed)
    return Verdict(sentence, kind, comparisons, _label(reference), caveats)


def _groups(runs: Sequence[RunSummary]) -> list[list[RunSummary]]:
    groups: list[list[RunSummary]] = []
    for run in runs:
        if not any(run in group for group in groups):
            groups.append(replicates(runs, run))
    return groups


def _label(group: Sequence[RunSummary]) -> str:
    return group[0].name if len(group) == 1 else f"{group[0].method} ({len(group)} seeds)"


def _compare(group: list[RunSummary], reference: list[RunSummary], samples: int, seed: int) -> RunComparison:
    theirs = [run.evaluation for run in reference]
    comparison = paired_difference([run.evaluation for run in group], theirs, samples=samples, seed=seed)
    by_run = []
    if len(group) > 1:
        for run in group:
            alone = paired_difference(run.evaluation, theirs, samples=samples, seed=seed).estimate
            if alone is not None:
                by_run.append((run.name, alone.value))
    return RunComparison(_label(group), len(group), comparison, by_run)


def _sentence(judged: RunComparison, baseline: str) -> tuple[str, str]:
    result = judged.comparison
    if result.estimate is None or result.candidate is None or result.baseline is None:
        return (
            f"Nothing is compared: {judged.label} and {baseline} share no problem of an out-of-distribution split.",
            "none",
        )
    numbers = (
        f"{percent(result.candidate.value)} against {percent(result.baseline.value)} of the problems right, "
        f"{points(result.estimate.value)} points (95% interval {points(result.estimate.low)} to "
        f"{points(result.estimate.high)}, paired over {result.n_sets} isomer sets)"
    )
    # The same rule as for the eye: an interval that touches zero shows nothing.
    if result.estimate.low > 0:
        return f"{judged.label} beats {baseline} out of distribution: {numbers}.", "better"
    if result.estimate.high < 0:
        return f"{judged.label} loses to {baseline} out of distribution: {numbers}.", "worse"
    return f"No difference shown between {judged.label} and {baseline} out of distribution: {numbers}.", "no difference"


def _caveats(
    group: list[RunSummary],
    reference: list[RunSummary],
    judged: RunComparison,
    runs: Sequence[RunSummary],
    samples: int,
    seed: int,
) -> list[str]:
    notes = [
        "The interval covers the choice of test problems, not the variation between training seeds: "
        + (
            f"{len(group)} and {len(reference)} runs were averaged."
            if min(len(group), len(reference)) > 1
            else "with a single run on a side this is a lead, not evidence."
        )
    ]
    labels = (judged.label, _label(reference))
    iid = paired_difference(
        [run.evaluation for run in group], [run.evaluation for run in reference], ["iid"], samples, seed
    )
    if iid.estimate is not None and iid.estimate.high < 0 and judged.comparison.estimate is not None:
        notes.append(
            f"On the training domains {labels[0]} is {points(-iid.estimate.value, sign=False)} points below "
            f"{labels[1]}: "
            "a student that has learnt less takes fewer shortcuts too, so compare with a baseline stopped at the "
            "same iid accuracy."
        )
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
        run.name: run.evaluation.config.model_dump(exclude={"bootstrap_samples", "seed", "batch_size"}) for run in runs
    }
    first = next(iter(configs.values()))
    differing = sorted({key for config in configs.values() for key in config if config[key] != first[key]})
    if differing:
        notes.append(f"The runs were evaluated with different settings: {', '.join(differing)}.")
    if len({run.evaluation.student for run in runs}) > 1:
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


def interval(estimate: Estimate | None) -> str:
    """Writes an accuracy with its interval.

    Args:
        estimate: The accuracy, or ``None``.

    Returns:
        For example ``"61.3% [57.0, 65.1]"``; a dash for ``None``.
    """
    if estimate is None:
        return "–"
    return f"{percent(estimate.value)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
