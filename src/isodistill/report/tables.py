"""The tables of the report, as plain text cells for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isodistill.evaluation.compare import ood_accuracy
from isodistill.evaluation.results import SplitResult
from isodistill.report.runs import RunSummary, all_splits, flatten
from isodistill.report.verdict import interval, percent
from isodistill.statistics.bootstrap import Estimate


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        header: The column heads.
        rows: The rows, each as long as the header; the first cell heads its row.
    """

    header: list[str]
    rows: list[list[str]]


def accuracy_table(runs: Sequence[RunSummary]) -> Table:
    """Accuracy of the written answers by split and run, with 95% intervals.

    Args:
        runs: The runs.

    Returns:
        A row per split, then the mean over the out-of-distribution splits; a column per run.
    """
    rows = []
    for split in all_splits(runs):
        results = [run.evaluation.splits.get(split) for run in runs]
        first = next(result for result in results if result is not None)
        cells = [interval(result.accuracy if result else None) for result in results]
        constant = "–" if first.constant_accuracy is None else percent(first.constant_accuracy)
        rows.append([split, *cells, constant, str(max(result.n_sets for result in results if result))])
    means = [ood_accuracy(run.evaluation) for run in runs]
    if any(mean.estimate for mean in means):
        cells = [interval(mean.estimate) for mean in means]
        rows.append(["mean out of distribution", *cells, "–", str(max(mean.n_sets for mean in means))])
    return Table(["Split", *(run.name for run in runs), "Best constant answer", "Sets"], rows)


def measures_table(runs: Sequence[RunSummary]) -> Table:
    """What stands beside accuracy: the weakest domain, other readings of it, and the pull of the cue.

    Args:
        runs: The runs.

    Returns:
        A row per split and run.
    """
    header = ["Split", "Run", "Accuracy", "Worst domain", "By likelihood", "Balanced", "Answered", "Cue followed"]
    return Table(header, [[split, name, *_measures(result)] for split, name, result in _results(runs)])


def consistency_table(runs: Sequence[RunSummary]) -> Table:
    """Consistency within isomer sets, beside accuracy.

    Args:
        runs: The runs.

    Returns:
        A row per split and run, with 95% intervals.
    """
    header = ["Split", "Run", "Accuracy", "Agreement", "JS (nats)", "LCS centred", "LCS raw"]
    rows = [
        [
            split,
            name,
            percent(result.accuracy.value),
            interval(result.agreement),
            _small(result.js_divergence),
            _small(result.lcs_centred),
            _small(result.lcs_raw),
        ]
        for split, name, result in _results(runs)
    ]
    return Table(header, rows)


def _results(runs: Sequence[RunSummary]) -> list[tuple[str, str, SplitResult]]:
    return [
        (split, run.name, run.evaluation.splits[split])
        for split in all_splits(runs)
        for run in runs
        if split in run.evaluation.splits
    ]


def _measures(result: SplitResult) -> list[str]:
    def share(value: float | None) -> str:
        return "–" if value is None else percent(value)

    return [
        percent(result.accuracy.value),
        f"{percent(result.worst_domain.value)} ({result.worst_domain.name})",
        share(result.likelihood_accuracy.value if result.likelihood_accuracy else None),
        share(result.balanced_accuracy),
        percent(result.answered),
        share(result.cue_followed),
    ]


def _small(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def domain_table(runs: Sequence[RunSummary]) -> Table:
    """Accuracy by split, domain and run.

    Args:
        runs: The runs.

    Returns:
        A row per split and domain; a column per run.
    """
    rows = []
    for split in all_splits(runs):
        results = [run.evaluation.splits.get(split) for run in runs]
        domains = sorted({domain for result in results if result for domain in result.by_domain})
        for domain in domains:
            cells = ["–" if not r or domain not in r.by_domain else percent(r.by_domain[domain]) for r in results]
            rows.append([f"{split}: {domain}", *cells])
    return Table(["Split and domain", *(run.name for run in runs)], rows)


def settings_table(runs: Sequence[RunSummary]) -> tuple[Table, list[bool]]:
    """Every setting of every run, of its evaluation, and what it cost.

    Args:
        runs: The runs.

    Returns:
        The table, with a column per run, and for each row whether the runs differ in it.
    """
    columns = [
        {
            "method": run.method,
            **flatten(run.settings),
            **flatten(run.evaluation.config.model_dump(), "evaluation."),
            "student": run.evaluation.student,
            "adapter": run.evaluation.adapter or "none",
            "data": run.evaluation.data,
            **flatten(run.evaluation.versions, "version."),
            "training tokens": f"{run.tokens:,}",
            "training seconds": f"{run.seconds:.0f}",
            "evaluation seconds": f"{run.evaluation.seconds:.0f}",
        }
        for run in runs
    ]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(column.get(key, "–") for column in columns)] for key in keys]
    return Table(["Setting", *(run.name for run in runs)], rows), [len(set(row[1:])) > 1 for row in rows]
