"""The tables of the report, as plain text cells for the page, for Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from isodistill.evaluation.compare import is_ood_split
from isodistill.evaluation.effects import MeasureEffects
from isodistill.evaluation.results import SplitResult
from isodistill.report.panel import Panel
from isodistill.report.runs import RunSummary, flatten
from isodistill.report.verdict import Verdict, change, interval, p_value, percent, points, quantity

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
"""Which direction of a measure is better."""

_MOST_COLUMNS = 4


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        header: The column heads.
        rows: The rows, each as long as the header; the first cell heads its row.
        marked: The rows that are significant, or that differ; by place.
    """

    header: list[str]
    rows: list[list[str]]
    marked: set[int] = field(default_factory=set)


def accuracy_table(panel: Panel) -> Table:
    """Accuracy by split and group, with 95% intervals.

    Args:
        panel: The panel.

    Returns:
        A row per split, then the mean over the out-of-distribution splits that all groups share; a column per group.
        With more than four groups rows and columns are exchanged.
    """
    rows = []
    for split in panel.splits:
        known = [run.evaluation.splits[split] for run in panel.runs if split in run.evaluation.splits]
        shared = panel.measure(f"accuracy:{split}")
        cells = [
            interval(shared.groups[label]) if shared else _alone(runs, split) for label, runs in panel.groups.items()
        ]
        constant = known[0].constant_accuracy
        sets = {run.evaluation.data: 0 for run in panel.runs}  # several data sets where draws are taken together
        for run in panel.runs:
            if split in run.evaluation.splits:
                sets[run.evaluation.data] = max(sets[run.evaluation.data], run.evaluation.splits[split].n_sets)
        rows.append([split, *cells, "–" if constant is None else percent(constant), str(sum(sets.values()))])
    mean = panel.measure("ood_accuracy")
    if mean is not None:
        first = {run.evaluation.data: run.evaluation for run in reversed(panel.runs)}
        asked = {(data, item.set_id) for data, each in first.items() for item in each.items if is_ood_split(item.split)}
        cells = [interval(mean.groups[label]) for label in panel.groups]
        rows.append(["mean out of distribution", *cells, "–", str(len(asked))])
    table = Table(["Split", *panel.groups, "Best constant answer", "Sets"], rows)
    if len(panel.groups) <= _MOST_COLUMNS:
        return table
    turned = [list(cells) for cells in zip(table.header, *table.rows, strict=True)]
    return Table(["Group", *turned[0][1:]], turned[1:])


def difference_table(verdict: Verdict) -> Table:
    """Every group against the baseline by accuracy out of distribution, in points.

    Args:
        verdict: The verdict.

    Returns:
        A row per group; those that are significant over training seeds (or draws) are marked.
    """
    exact = any(row.mcnemar is not None for row in verdict.comparisons)
    many, each = ("Draws", "draw") if verdict.replicates == "draws" else ("Seeds", "seed")
    header = ["Group", "Difference", "95% interval", "p", "p, Holm", many, "Sets", "Reading", f"Each {each} alone"]
    rows, marked = [], set()
    for place, row in enumerate(verdict.comparisons):
        effect = row.effect
        if row.reading in ("better", "worse"):
            marked.add(place)
        by_seed = ", ".join(points(value) for value in row.by_seed) if len(row.by_seed) > 1 else "–"
        if len(row.by_seed) > 5:
            by_seed = f"{points(min(row.by_seed))} to {points(max(row.by_seed))}"
        cells = [
            row.label,
            points(effect.effect.value),
            f"{points(effect.effect.low)} to {points(effect.effect.high)}",
            p_value(effect.p_value).removeprefix("p ").removeprefix("= "),
            p_value(effect.p_holm).removeprefix("p ").removeprefix("= "),
            str(effect.seeds),
            str(effect.sets),
            row.reading,
            by_seed,
        ]
        if exact:
            cells.append("–" if row.mcnemar is None else p_value(row.mcnemar).removeprefix("p ").removeprefix("= "))
        rows.append(cells)
    return Table([*header, "McNemar p"] if exact else header, rows, marked)


def measure_table(measure: MeasureEffects) -> Table:
    """One measure of every group, with its difference from the baseline.

    Args:
        measure: The measure.

    Returns:
        A row per group; significant differences are marked.
    """
    rows, marked = [], set()
    for place, (label, group) in enumerate(measure.groups.items()):
        effect = measure.effects.get(label)
        span = "–"
        if group.low is not None and group.high is not None:
            span = f"{quantity(group.low, measure.unit)} to {quantity(group.high, measure.unit)}"
        cells = [label, quantity(group.mean, measure.unit), span, str(len(group.by_seed))]
        if effect is None:
            cells += ["baseline" if label == measure.baseline else "–", "–", "–"]
        else:
            if effect.significant and effect.seeds > 1:
                marked.add(place)
            cells += [
                change(effect.effect.value, measure.unit),
                f"{change(effect.effect.low, measure.unit)} to {change(effect.effect.high, measure.unit)}",
                p_value(effect.p_holm).removeprefix("p ").removeprefix("= "),
            ]
        rows.append(cells)
    header = ["Group", "Mean", "95% interval", "Runs", "Difference", "95% interval of it", "p, Holm"]
    return Table(header, rows, marked)


def measures_table(panel: Panel) -> Table:
    """What stands beside accuracy: the weakest domain, other readings of it, and the pull of the cue.

    Args:
        panel: The panel.

    Returns:
        A row per split and group.
    """
    header = ["Split", "Group", "Accuracy", "Worst domain", "By likelihood", "Balanced", "Answered", "Cue followed"]
    rows = []
    for split in panel.splits:
        for label, runs in panel.groups.items():
            results = [run.evaluation.splits[split] for run in runs if split in run.evaluation.splits]
            if results:
                rows.append([split, label, *_measures(results)])
    return Table(header, rows)


def domain_table(panel: Panel) -> Table:
    """Accuracy by split, domain and group, means over the runs of a group.

    Args:
        panel: The panel.

    Returns:
        A row per split and domain; a column per group.
    """
    rows = []
    for split in panel.splits:
        groups = [
            [run.evaluation.splits[split] for run in runs if split in run.evaluation.splits]
            for runs in panel.groups.values()
        ]
        for domain in sorted({domain for results in groups for result in results for domain in result.by_domain}):
            cells = [_share([result.by_domain.get(domain) for result in results]) for results in groups]
            rows.append([f"{split}: {domain}", *cells])
    return Table(["Split and domain", *panel.groups], rows)


def settings_table(panel: Panel) -> Table:
    """Every setting of every group, of its evaluation, and what it cost.

    Args:
        panel: The panel.

    Returns:
        A column per group; where the runs of a group differ, their values in their order. The rows in which the groups
        differ are marked.
    """
    columns = [[_settings(run) for run in runs] for runs in panel.groups.values()]
    keys = list(dict.fromkeys(key for runs in columns for settings in runs for key in settings))
    rows = [
        [key, *(", ".join(dict.fromkeys(settings.get(key, "–") for settings in runs)) for runs in columns)]
        for key in keys
    ]
    return Table(["Setting", *panel.groups], rows, {place for place, row in enumerate(rows) if len(set(row[1:])) > 1})


def _settings(run: RunSummary) -> dict[str, str]:
    return {
        "method": run.method,
        **flatten(run.settings),
        **flatten(run.evaluation.config.model_dump(), "evaluation."),
        "training domains": ", ".join(run.domains) or "–",
        "student": run.evaluation.student,
        "adapter": run.evaluation.adapter or "none",
        "data": run.evaluation.data,
        **flatten(run.evaluation.versions, "version."),
        "training tokens": f"{run.tokens:,}",
        "training seconds": f"{run.seconds:.0f}",
        "evaluation seconds": f"{run.evaluation.seconds:.0f}",
    }


def _alone(runs: Sequence[RunSummary], split: str) -> str:
    """Accuracy on a split that not every group was evaluated on."""
    known = [run.evaluation.splits[split].accuracy for run in runs if split in run.evaluation.splits]
    return interval(known[0]) if len(known) == 1 else _share([each.value for each in known])


def _measures(results: Sequence[SplitResult]) -> list[str]:
    worst = {result.worst_domain.name for result in results}
    return [
        _share([result.accuracy.value for result in results]),
        _share([result.worst_domain.value for result in results]) + (f" ({worst.pop()})" if len(worst) == 1 else ""),
        _share([result.likelihood_accuracy.value if result.likelihood_accuracy else None for result in results]),
        _share([result.balanced_accuracy for result in results]),
        _share([result.answered for result in results]),
        _share([result.cue_followed for result in results]),
    ]


def _share(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return percent(sum(known) / len(known)) if known else "–"
