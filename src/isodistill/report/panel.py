"""What is compared in one place of the report: groups of like runs, one of them the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from isodistill.evaluation.effects import MeasureEffects, measure_effects
from isodistill.evaluation.items import split_sort_key
from isodistill.report.runs import RunSummary, check_runs, flatten, replicates


@dataclass(frozen=True)
class Panel:
    """Groups of runs on one data set and student, chosen by one rule.

    Attributes:
        title: What is compared here; empty where the report has one panel.
        groups: The runs of each group, which differ by their training seeds alone, by the group's label.
        baseline: The label of the group that the others are held against, or ``None``.
        seeds: The training seed of each run, by group (see `measure_effects`); by default run n is paired with run n.
        sweep: Panels of one sweep differ in their data alone, so that groups of the same label can be joined by a line.
        notes: What the reader must know of this panel beside what its numbers say.
        samples: Bootstrap resamples.
        pooled: The measures of a comparison over draws (see `isodistill.study.results.pool_draws`); the groups then
            hold the runs of all draws. ``None`` where the runs are compared as they are.
    """

    title: str
    groups: Mapping[str, list[RunSummary]]
    baseline: str | None
    seeds: Mapping[str, Sequence[int | None]] | None = None
    sweep: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    samples: int = 2000
    pooled: Sequence[MeasureEffects] | None = None

    @property
    def replicates(self) -> str:
        """What an effect's ``seeds`` counts: ``"training seeds"`` or ``"draws"``."""
        return "training seeds" if self.pooled is None else "draws"

    @property
    def runs(self) -> list[RunSummary]:
        """All runs, group by group."""
        return [run for runs in self.groups.values() for run in runs]

    @property
    def leads(self) -> list[RunSummary]:
        """The first run of each group, under the group's label."""
        return [runs[0].model_copy(update={"name": label}) for label, runs in self.groups.items()]

    @property
    def splits(self) -> list[str]:
        """The splits that any run was evaluated on, in reporting order."""
        return sorted({split for run in self.runs for split in run.evaluation.splits}, key=split_sort_key)

    @cached_property
    def effects(self) -> list[MeasureEffects]:
        """Every measure of every group; without a baseline there are no effects in it."""
        if self.pooled is not None:
            return list(self.pooled)
        evaluations = {label: [run.evaluation for run in runs] for label, runs in self.groups.items()}
        baseline = self.baseline if self.baseline is not None else next(iter(evaluations))
        found = measure_effects(evaluations, baseline, self.samples, seeds=self.seeds)
        if self.baseline is None:
            return [each.model_copy(update={"effects": {}, "mcnemar": {}}) for each in found]
        return found

    def measure(self, name: str) -> MeasureEffects | None:
        """Looks a measure up.

        Args:
            name: Its name, for example ``"ood_accuracy"``.

        Returns:
            The measure, or ``None`` where it is not defined for all groups.
        """
        return next((each for each in self.effects if each.measure == name), None)


def panel_of_runs(runs: Sequence[RunSummary], baseline: str = "erm") -> Panel:
    """Groups runs that differ by their seeds alone.

    Args:
        runs: The runs.
        baseline: The name of the baseline run, or else its method.

    Returns:
        The panel. A single run goes by its name, a group by its method and the number of seeds.

    Raises:
        IsodistillError: If there is no run or two share a name.
    """
    check_runs(runs)
    found: list[list[RunSummary]] = []
    for run in runs:
        if not any(run in group for group in found):
            found.append(replicates(runs, run))
    groups: dict[str, list[RunSummary]] = {}
    for group in found:
        label = group[0].name if len(group) == 1 else f"{group[0].method} ({len(group)} seeds)"
        groups[label if label not in groups else f"{label}, {group[0].name}"] = group
    reference = next((label for label, group in groups.items() if any(run.name == baseline for run in group)), None)
    if reference is None:
        reference = next((label for label, group in groups.items() if group[0].method == baseline), None)
    return Panel("", groups, reference, _seeds(groups, reference))


def _seeds(groups: Mapping[str, list[RunSummary]], baseline: str | None) -> dict[str, Sequence[int | None]] | None:
    """The runs' training seeds, or ``None`` where they do not pair every group with the baseline."""
    found: dict[str, Sequence[int | None]] = {}
    for label, runs in groups.items():
        numbers = [_seed(run) for run in runs]
        if None in numbers or len(set(numbers)) < len(numbers):
            return None
        found[label] = numbers
    theirs = set(found[baseline]) if baseline is not None else set()
    return found if all(theirs & set(numbers) for numbers in found.values()) else None


def _seed(run: RunSummary) -> int | None:
    values = {value for key, value in flatten(run.settings).items() if key.rsplit(".", 1)[-1] == "seed"}
    text = next(iter(values)) if len(values) == 1 else ""
    return int(text) if text.isdecimal() else None
