"""Accuracy out of distribution, and the paired difference between two evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError
from isodistill.evaluation.items import split_sort_key
from isodistill.evaluation.metrics import Floats, flips
from isodistill.evaluation.results import Evaluation, ItemRecord
from isodistill.statistics.bootstrap import Estimate, bootstrap_mean_of_ratios, bootstrap_over_seeds

_Key = tuple[str, str, str]  # split, set id, domain


class Comparison(BaseModel):
    """A mean over splits, with the splits and sets it rests on.

    Attributes:
        estimate: The value with its interval, or ``None`` if there was nothing to average.
        splits: The splits averaged over, each with equal weight.
        n_sets: The isomer sets that entered, and that were resampled.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    estimate: Estimate | None
    splits: list[str]
    n_sets: int


class PairedComparison(Comparison):
    """A mean difference between two sides, with the accuracy of each on the shared problems.

    Attributes:
        candidate: Mean accuracy of the side that is judged.
        baseline: Mean accuracy of the side it is held against.
    """

    candidate: Estimate | None
    baseline: Estimate | None


def is_ood_split(split: str) -> bool:
    """Tells whether a split lies outside the training distribution.

    Args:
        split: The split's name.

    Returns:
        ``True`` for the splits without the cue or with a reversed one, with unseen domains, or deeper.
    """
    return split in ("cue_absent", "cue_reversed", "deeper") or split.startswith("unseen_domain")


def ood_accuracy(evaluation: Evaluation, samples: int = 1000, seed: int = 0) -> Comparison:
    """Mean accuracy over the out-of-distribution splits that were evaluated, each split with equal weight.

    Args:
        evaluation: The evaluation.
        samples: Bootstrap resamples of isomer sets.
        seed: Seed of the bootstrap.

    Returns:
        The mean with its interval and the splits it covers.
    """
    values = {key: float(item.correct) for key, item in _by_key(evaluation, None).items()}
    return _mean_over_splits(values, samples, seed)


def ood_gap(evaluation: Evaluation, samples: int = 1000, seed: int = 0) -> Comparison:
    """Accuracy on ``iid`` less the mean accuracy over the out-of-distribution splits: what leaving the training costs.

    The sets that stand in several splits are resampled together, so the interval is that of the difference.

    Args:
        evaluation: The evaluation.
        samples: Bootstrap resamples of isomer sets.
        seed: Seed of the bootstrap.

    Returns:
        The gap in [-1, 1] with its interval, positive where the student does worse outside; the estimate is ``None``
        where either side was not evaluated.
    """
    items = _by_key(evaluation, None) | _by_key(evaluation, ["iid"])
    values = {key: float(item.correct) for key, item in items.items()}
    splits, n_sets, top, bottom = _table(values)
    outside = len(splits) - splits.count("iid")
    estimate = None
    if outside and outside < len(splits):
        weights = np.array([1.0 if split == "iid" else -1 / outside for split in splits])
        estimate = bootstrap_over_seeds(top[None], bottom, split_weights=weights, samples=samples, seed=seed)
    return Comparison(estimate=estimate, splits=splits, n_sets=n_sets)


def flip_rate(
    evaluation: Evaluation,
    first: str = "cue_absent",
    second: str = "cue_reversed",
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Share of problems whose written answer changes when nothing but the cue does.

    Args:
        evaluation: The evaluation.
        first: A split.
        second: Another that shows the same problems with other cues, for example ``"unseen_domain"`` and
            ``"unseen_domain__cue_reversed"``.
        samples: Bootstrap resamples of isomer sets.
        seed: Seed of the bootstrap.

    Returns:
        The share in [0, 1] with its interval, 0 for a student that is blind to the cue; the estimate is ``None`` where
        the splits share no problem.
    """
    ours, theirs = (
        {(item.set_id, item.domain): item for item in evaluation.items if item.split == split}
        for split in (first, second)
    )
    shared = [key for key in ours if key in theirs]
    changed = flips([ours[key].extracted for key in shared], [theirs[key].extracted for key in shared])
    values = {("", *key): float(flip) for key, flip in zip(shared, changed.tolist(), strict=True)}
    return _mean_over_splits(values, samples, seed).model_copy(update={"splits": [first, second]})


def paired_difference(
    candidate: Evaluation | Sequence[Evaluation],
    baseline: Evaluation | Sequence[Evaluation],
    splits: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> PairedComparison:
    """Difference in accuracy, candidate minus baseline, on the problems that all the runs answered.

    The difference is taken item by item before averaging over a split, then over splits; the
    bootstrap resamples isomer sets, so both sides are always compared on the same problems. Several
    runs of one side (training seeds) are averaged item by item first. The interval speaks of other
    test sets from the same source. It does not cover the variation between training seeds.

    Args:
        candidate: The evaluation that is judged, or those of several training seeds.
        baseline: The evaluation it is held against, or several.
        splits: The splits to compare on, or ``None`` for the out-of-distribution splits.
        samples: Bootstrap resamples of isomer sets.
        seed: Seed of the bootstrap.

    Returns:
        The mean difference in [-1, 1] with its interval, and the accuracy of both sides on the
        shared problems; all ``None`` if they share no problem.

    Raises:
        IsodistillError: If a shared problem has different texts: then the data sets differ.
    """
    ours = _mean_correct([candidate] if isinstance(candidate, Evaluation) else candidate, splits)
    theirs = _mean_correct([baseline] if isinstance(baseline, Evaluation) else baseline, splits)
    shared = [key for key in ours if key in theirs]
    for key in shared:
        _check_same(ours[key][0], theirs[key][0])
    difference = _mean_over_splits({key: ours[key][1] - theirs[key][1] for key in shared}, samples, seed)
    sides = [_mean_over_splits({key: side[key][1] for key in shared}, samples, seed) for side in (ours, theirs)]
    return PairedComparison(**difference.model_dump(), candidate=sides[0].estimate, baseline=sides[1].estimate)


def _by_key(evaluation: Evaluation, splits: Sequence[str] | None) -> dict[_Key, ItemRecord]:
    return {
        (item.split, item.set_id, item.domain): item
        for item in evaluation.items
        if (is_ood_split(item.split) if splits is None else item.split in splits)
    }


def _mean_correct(
    evaluations: Sequence[Evaluation], splits: Sequence[str] | None
) -> dict[_Key, tuple[ItemRecord, float]]:
    """A record and the share of the evaluations that got it right, for each problem that all of them hold."""
    tables = [_by_key(evaluation, splits) for evaluation in evaluations]
    means: dict[_Key, tuple[ItemRecord, float]] = {}
    for key, item in tables[0].items() if tables else ():
        records = [table[key] for table in tables if key in table]
        if len(records) < len(tables):
            continue
        for record in records[1:]:
            _check_same(record, item)
        means[key] = (item, sum(record.correct for record in records) / len(records))
    return means


def _check_same(item: ItemRecord, other: ItemRecord) -> None:
    if other.prompt != item.prompt or other.answer != item.answer:
        raise IsodistillError(
            f"The runs were evaluated on different data: set {item.set_id!r} of split '{item.split}', domain "
            f"'{item.domain}', has another text or answer in each; evaluate both on one data set."
        )


def _mean_over_splits(values: dict[_Key, float], samples: int, seed: int) -> Comparison:
    splits, n_sets, top, bottom = _table(values)
    estimate = bootstrap_mean_of_ratios(top, bottom, samples=samples, seed=seed)
    return Comparison(estimate=estimate, splits=splits, n_sets=n_sets)


def _table(values: dict[_Key, float]) -> tuple[list[str], int, Floats, Floats]:
    """The splits, the number of sets, and sums and numbers of items by set and split, each (sets, splits)."""
    splits = sorted({split for split, _, _ in values}, key=split_sort_key)
    sets = sorted({set_id for _, set_id, _ in values})
    column = {split: position for position, split in enumerate(splits)}
    row = {set_id: position for position, set_id in enumerate(sets)}
    top, bottom = np.zeros((len(sets), len(splits))), np.zeros((len(sets), len(splits)))
    for (split, set_id, _), value in values.items():
        top[row[set_id], column[split]] += value
        bottom[row[set_id], column[split]] += 1
    return splits, len(sets), top, bottom
