"""Groups of evaluations held against one baseline in every measure: means, intervals, paired effects, p-values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError
from isodistill.evaluation.by_run import BY_RUN, Better, Unit
from isodistill.evaluation.compare import is_ood_split
from isodistill.evaluation.items import split_sort_key
from isodistill.evaluation.metrics import Floats, agreement_by_set, flips, js_by_set
from isodistill.evaluation.results import Evaluation, ItemRecord
from isodistill.statistics.bootstrap import bootstrap_over_seeds
from isodistill.statistics.significance import holm, mcnemar
from isodistill.statistics.study import LEVEL, MethodEffect, compare_with_baseline

_Key = tuple[str, str, str]  # split, set id, domain
_BOUNDS = {"share": (0.0, 1.0), "nats": (0.0, math.log(2)), "number": (0.0, 2.0)}  # a number is a cosine distance
_OWN_BOUNDS = {"ood_gap": (-1.0, 1.0), "cka": (0.0, 1.0)}
_CUE_PAIRS = (("cue_absent", "cue_reversed"), ("unseen_domain", "unseen_domain__cue_reversed"))


def bounds_of(measure: str, unit: Unit) -> tuple[float, float]:
    """Tells the range that a measure can have.

    Args:
        measure: Its name.
        unit: Its unit.

    Returns:
        The least and the greatest value.
    """
    return _OWN_BOUNDS.get(measure, _BOUNDS[unit])


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class GroupValue(_Model):
    """One group's value of a measure.

    Attributes:
        mean: The mean over the group's runs.
        low: Lower end of the 95% bootstrap interval over training seeds (and isomer sets, see `MeasureEffects.over`);
            ``None`` where nothing can be resampled: one run of a measure that is known by run alone.
        high: Upper end. Neither end leaves the range that the measure can have.
        by_seed: The value of each run, in the order in which the group's evaluations were given.
    """

    mean: float
    low: float | None
    high: float | None
    by_seed: list[float]


class MeasureEffects(_Model):
    """One measure of every group, and its paired effect against the baseline.

    Attributes:
        measure: The measure's name, for example ``"ood_accuracy"`` or ``"accuracy:iid"``.
        title: What it is, in words.
        unit: ``"share"`` (times 100 it is in points), ``"nats"`` or ``"number"``.
        better: Which direction is an improvement; ``"neither"`` where it is not one by itself.
        splits: The splits that it is averaged over, each with the same weight.
        over: What the intervals resample. A measure that is no mean over sets (a worst domain, a distance of states)
            is known for each run alone, and its intervals cover ``"seeds"`` only. ``"draws"`` are those of students and
            problems too (`isodistill.statistics.draws`): each counts as one value, and stands where a seed stands else.
        baseline: The baseline's label.
        groups: Every group's value by label.
        effects: Every other group against the baseline, paired run by run, with Holm's correction over the groups of
            this measure. A group is missing where nothing can be paired: one run of a measure over seeds.
        mcnemar: The exact McNemar p-value of each group with one run against one run of the baseline, on one problem
            of each isomer set; it speaks of these two trained models. Accuracies only.
    """

    measure: str
    title: str
    unit: Unit
    better: Better
    splits: list[str]
    over: Literal["seeds and sets", "seeds", "draws"]
    baseline: str
    groups: dict[str, GroupValue]
    effects: dict[str, MethodEffect]
    mcnemar: dict[str, float] = {}


@dataclass(frozen=True)
class _Values:
    """A measure of every run: sums over the items of a set in a split, ``(runs, sets, splits)`` by group."""

    groups: dict[str, Floats]
    counts: Floats  # (sets, splits)


@dataclass(frozen=True)
class _Data:
    """What all evaluations share: the same problems, in the same order, answered by every run."""

    keys: list[_Key]
    records: dict[str, list[list[ItemRecord]]]  # by group, run and key
    splits: list[str]

    def part(self, wanted: Callable[[str], bool]) -> _Data:
        places = [place for place, key in enumerate(self.keys) if wanted(key[0])]
        return _Data(
            [self.keys[place] for place in places],
            {label: [[run[place] for place in places] for run in runs] for label, runs in self.records.items()},
            [split for split in self.splits if wanted(split)],
        )

    def isomers(self, split: str) -> bool:
        """Whether the members of each set of a split share their answer, and so can be compared."""
        run = next(iter(self.records.values()))[0]
        answers = {(item.set_id, item.answer) for item in run if item.split == split}
        return len(answers) == len({set_id for set_id, _ in answers})

    def by_item(self, read: Callable[[ItemRecord], float]) -> _Values:
        rows = [(set_id, split) for split, set_id, _ in self.keys]
        return _spread(rows, self.splits, self.each(lambda run: np.array([read(item) for item in run])))

    def by_set(self, read: Callable[[list[ItemRecord], list[str]], Floats]) -> _Values:
        # One value for each set of each split: a set that stands in two splits is two units, resampled together.
        units = [f"{split}\0{set_id}" for split, set_id, _ in self.keys]
        rows = [(set_id, split) for split, set_id in dict.fromkeys((key[0], key[1]) for key in self.keys)]
        return _spread(rows, self.splits, self.each(lambda run: read(run, units)))

    def each(self, read: Callable[[list[ItemRecord]], Floats]) -> dict[str, Floats]:
        return {label: np.stack([read(run) for run in runs]) for label, runs in self.records.items()}


def measure_effects(
    groups: Mapping[str, Sequence[Evaluation]],
    baseline: str = "erm",
    samples: int = 2000,
    seed: int = 0,
    *,
    seeds: Mapping[str, Sequence[int | None]] | None = None,
) -> list[MeasureEffects]:
    """Measures groups of runs and pairs each with the baseline, run by run and problem by problem.

    The problems are those that every run of every group answered.

    Args:
        groups: The evaluations of each group's training seeds, by the group's label.
        baseline: The label of the group that the others are held against.
        samples: Bootstrap resamples, and drawn sign patterns.
        seed: Seed of both.
        seeds: The training seed of each evaluation; runs with the same seed are paired. ``None`` for a student that was
            not trained: it is held against every run of the baseline. By default run n is paired with run n.

    Returns:
        The measures that are defined, out-of-distribution accuracy first.

    Raises:
        IsodistillError: If the baseline is missing, a group is empty, its seeds do not fit or repeat, or the runs were
            evaluated on different data.
    """
    if baseline not in groups:
        raise IsodistillError(f"The study has no run of the baseline {baseline!r}; it has {', '.join(groups)}.")
    numbers = {label: list(seeds[label] if seeds else range(len(runs))) for label, runs in groups.items()}
    for label, runs in groups.items():
        if not runs:
            raise IsodistillError(f"Group {label!r} has no evaluation: leave it out.")
        if len(numbers[label]) != len(runs) or len(set(numbers[label])) != len(runs):
            raise IsodistillError(f"Group {label!r} has {len(runs)} evaluations: give each its own training seed.")
    pairs = {label: _pair(numbers[label], numbers[baseline]) for label in groups if label != baseline}
    data = _shared(groups)
    outside = data.part(is_ood_split)
    found: list[MeasureEffects] = []

    def add(
        name: str,
        title: str,
        values: _Values,
        splits: Sequence[str],
        better: Better = "higher",
        unit: Unit = "share",
        flags: _Data | None = None,
        by_run: bool = False,
    ) -> None:
        if values.counts.size:
            over: Literal["seeds and sets", "seeds"] = "seeds" if by_run else "seeds and sets"
            effects = _effects(values, pairs, baseline, samples, seed, by_run)
            tests = _mcnemar(flags, pairs, baseline) if flags else {}
            bounds = bounds_of(name, unit)
            measured = {
                label: _group(array, values.counts, samples, seed, by_run, bounds)
                for label, array in values.groups.items()
            }
            found.append(
                MeasureEffects(
                    measure=name,
                    title=title,
                    unit=unit,
                    better=better,
                    splits=list(splits),
                    over=over,
                    baseline=baseline,
                    groups=measured,
                    effects=effects,
                    mcnemar=tests,
                )
            )

    add("ood_accuracy", "accuracy out of distribution", outside.by_item(_right), outside.splits, flags=outside)
    for split in data.splits:
        part = data.part(lambda name, split=split: name == split)  # type: ignore[misc]
        add(f"accuracy:{split}", f"accuracy on {split}", part.by_item(_right), [split], flags=part)
    plain = data.part({"cue_absent" if "cue_absent" in data.splits else "iid", "deeper"}.__contains__)
    depths = sorted({item.depth for item in next(iter(plain.records.values()))[0]})
    for depth in depths if len(depths) > 1 else []:
        values = plain.by_item(lambda item, depth=depth: _right(item) if item.depth == depth else math.nan)  # type: ignore[misc]
        add(f"depth_accuracy:{depth}", f"accuracy at depth {depth}", values, plain.splits)
    if outside.splits and "iid" in data.splits:
        both = data.part(lambda name: name == "iid" or is_ood_split(name))
        add("ood_gap", "accuracy on iid less that out of distribution", _gap(both), both.splits, "lower")
    for first, second in _CUE_PAIRS:
        if first in data.splits and second in data.splits:
            title = f"answers that change from {first} to {second}"
            values = _flips(data, first, second)
            add("flip_rate" if first == "cue_absent" else f"flip_rate:{first}", title, values, [first, second], "lower")
    within = data.part({split for split in (outside.splits or data.splits) if data.isomers(split)}.__contains__)
    add("agreement", "answer agreement within sets", within.by_set(_agreement), within.splits)
    js = within.by_set(_js)
    add("js_divergence", "Jensen-Shannon divergence within sets", js, within.splits, "lower", "nats")
    for name, title, read, better, unit in BY_RUN:
        known = [
            {split for split, result in run.splits.items() if read(result) is not None}
            for runs in groups.values()
            for run in runs
        ]
        splits = [split for split in within.splits if all(split in each for each in known)]
        if splits:
            table = {
                label: np.array([np.mean([read(run.splits[split]) for split in splits]) for run in runs])[:, None, None]
                for label, runs in groups.items()
            }
            add(name, title, _Values(table, np.ones((1, 1))), splits, better, unit, by_run=True)
    return found


def _shared(groups: Mapping[str, Sequence[Evaluation]]) -> _Data:
    tables = {
        label: [{(item.split, item.set_id, item.domain): item for item in run.items} for run in runs]
        for label, runs in groups.items()
    }
    everyone = [table for runs in tables.values() for table in runs]
    keys = [key for key in everyone[0] if all(key in table for table in everyone[1:])]
    for key in keys:
        texts = {(table[key].prompt, table[key].answer) for table in everyone}
        if len(texts) > 1:
            split, set_id, domain = key
            raise IsodistillError(
                f"The runs were evaluated on different data: set {set_id!r} of split '{split}', domain '{domain}', "
                "has another text or answer in each; evaluate all on one data set."
            )
    records = {label: [[table[key] for key in keys] for table in runs] for label, runs in tables.items()}
    return _Data(keys, records, sorted({key[0] for key in keys}, key=split_sort_key))


def _spread(rows: Sequence[tuple[str, str]], splits: Sequence[str], found: dict[str, Floats]) -> _Values:
    """Sums units by their set and split; `rows` names these for each unit, `found` holds (runs, units) by group."""
    # A unit counts where it is defined for every run: two numbers are only paired on the same units.
    defined = ~np.isnan(np.concatenate(list(found.values()))).any(axis=0)
    rows = [row for row, kept in zip(rows, defined, strict=True) if kept]
    sets = {set_id: place for place, set_id in enumerate(sorted({set_id for set_id, _ in rows}))}
    present = {split for _, split in rows}
    columns = {split: place for place, split in enumerate(split for split in splits if split in present)}
    at = (
        np.array([sets[name] for name, _ in rows], dtype=int),
        np.array([columns[name] for _, name in rows], dtype=int),
    )
    counts = np.zeros((len(sets), len(columns)))
    np.add.at(counts, at, 1.0)
    groups = {}
    for label, values in found.items():
        groups[label] = np.zeros((len(values), *counts.shape))
        for table, run in zip(groups[label], values[:, defined], strict=True):
            np.add.at(table, at, run)
    return _Values(groups, counts)


def _pair(ours: list[int | None], theirs: list[int | None]) -> tuple[list[int], list[int]]:
    """Positions of the runs that are paired, on both sides."""
    if ours == [None]:
        return [0] * len(theirs), list(range(len(theirs)))
    shared = [number for number in ours if number in theirs]
    return [ours.index(number) for number in shared], [theirs.index(number) for number in shared]


def _right(item: ItemRecord) -> float:
    return float(item.correct)


def _agreement(items: list[ItemRecord], units: list[str]) -> Floats:
    return agreement_by_set([item.extracted for item in items], units)


def _js(items: list[ItemRecord], units: list[str]) -> Floats:
    distributions = [
        None if item.probabilities is None else np.array(list(item.probabilities.values())) for item in items
    ]
    return js_by_set(distributions, units)


def _gap(both: _Data) -> _Values:
    values = both.by_item(_right)
    # A mean over splits gives each 1 / n: these factors turn it into iid minus the mean of the others.
    n = len(both.splits)
    weights = np.array([n if split == "iid" else -n / (n - 1) for split in both.splits])
    return _Values({label: array * weights for label, array in values.groups.items()}, values.counts)


def _flips(data: _Data, first: str, second: str) -> _Values:
    place = {key: row for row, key in enumerate(data.keys)}
    shared = [key for key in data.keys if key[0] == first and (second, *key[1:]) in place]
    before, after = ([place[split, key[1], key[2]] for key in shared] for split in (first, second))

    def turned(run: list[ItemRecord]) -> Floats:
        return flips([run[row].extracted for row in before], [run[row].extracted for row in after]).astype(np.float64)

    return _spread([(key[1], first) for key in shared], [first], data.each(turned))


def _group(
    array: Floats, counts: Floats, samples: int, seed: int, by_run: bool, bounds: tuple[float, float]
) -> GroupValue:
    by_seed = (array.sum(axis=1) / counts.sum(axis=0)).mean(axis=1).tolist()
    if by_run and len(array) == 1:
        return GroupValue(mean=by_seed[0], low=None, high=None, by_seed=by_seed)
    estimate = bootstrap_over_seeds(array, counts, samples=samples, seed=seed)
    assert estimate is not None  # every split has items
    # The intervals of few seeds are stretched, beyond what the measure can be at all.
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in (estimate.low, estimate.high))
    return GroupValue(mean=estimate.value, low=low, high=high, by_seed=by_seed)


def _effects(
    values: _Values,
    pairs: Mapping[str, tuple[list[int], list[int]]],
    baseline: str,
    samples: int,
    seed: int,
    by_run: bool,
) -> dict[str, MethodEffect]:
    found: dict[str, MethodEffect] = {}
    for label, (ours, theirs) in pairs.items():
        if len(ours) > (1 if by_run else 0):
            sides = {label: values.groups[label][ours], baseline: values.groups[baseline][theirs]}
            found.update(compare_with_baseline(sides, values.counts, baseline, samples=samples, seed=seed))
    # Corrected here: the groups may hold different seeds, so each was compared by itself.
    adjusted = holm([effect.p_value for effect in found.values()])
    return {
        label: effect.model_copy(
            update={
                "p_holm": p,
                "significant": p <= LEVEL and (effect.effect.low > 0 or effect.effect.high < 0),
            }
        )
        for (label, effect), p in zip(found.items(), adjusted, strict=True)
    }


def _mcnemar(data: _Data, pairs: Mapping[str, tuple[list[int], list[int]]], baseline: str) -> dict[str, float]:
    by_set: dict[str, list[int]] = {}
    for place in sorted(range(len(data.keys)), key=data.keys.__getitem__):
        by_set.setdefault(data.keys[place][1], []).append(place)
    # One problem of each set, since the members are not independent: which one depends on the set's id alone.
    chosen = [places[zlib.crc32(set_id.encode()) % len(places)] for set_id, places in by_set.items()]
    return {
        label: mcnemar(
            [data.records[label][ours[0]][place].correct for place in chosen],
            [data.records[baseline][theirs[0]][place].correct for place in chosen],
        )
        for label, (ours, theirs) in pairs.items()
        if len(ours) == 1
    }
