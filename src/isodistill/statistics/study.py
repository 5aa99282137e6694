"""Methods against one baseline over training seeds and isomer sets: effects, intervals, corrected p-values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from isodistill.errors import IsodistillError
from isodistill.statistics.bootstrap import Estimate, bootstrap_over_seeds
from isodistill.statistics.significance import holm, paired_t_test, sign_flip_test

TestName = Literal[
    "sign flips of seeds", "t-test over seeds", "sign flips of sets", "sign flips of draws", "t-test over draws"
]

LEVEL = 0.05
"""The level of significance after Holm's correction."""

SEEDS_TO_FLIP = 6
"""From this many seeds on, flipping the signs of their differences can show a p-value of at most `LEVEL`."""


class MethodEffect(BaseModel):
    """One method held against the baseline in one measure.

    Attributes:
        mean: The method's mean over seeds and sets.
        baseline: The baseline's mean.
        effect: The paired difference, method minus baseline. Times 100 it is in points where the measure is a share.
        p_value: The p-value of no difference, not corrected.
        p_holm: The same after Holm's correction for the number of methods.
        significant: Whether ``p_holm`` is at most `LEVEL` and the effect's interval leaves out zero.
        test: What gave the p-value. With one seed it is ``"sign flips of sets"``, which speaks of these two trained
            models on other test sets, and not of the methods.
        seeds: The number of seeds, or of draws.
        sets: The number of isomer sets.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    mean: Estimate
    baseline: Estimate
    effect: Estimate
    p_value: float
    p_holm: float
    significant: bool
    test: TestName
    seeds: int
    sets: int

    @property
    def points(self) -> Estimate:
        """The effect in percentage points."""
        return Estimate(value=100 * self.effect.value, low=100 * self.effect.low, high=100 * self.effect.high)


def compare_with_baseline(
    values: Mapping[str, NDArray[np.float64]],
    counts: NDArray[np.float64],
    baseline: str = "erm",
    *,
    samples: int = 2000,
    seed: int = 0,
) -> dict[str, MethodEffect]:
    """Compares every method with the baseline, seed by seed and set by set.

    Run n of a method is paired with run n of the baseline (the same seed, so the same first weights and data order),
    and both with the same test sets. The p-value comes from the seeds' mean differences: by sign flips from
    `SEEDS_TO_FLIP` seeds on; with one seed from sign flips of the sets. For two to five seeds it is the larger of a
    t-test over seeds and of the sign flips of the sets (from as many sets on): on few problems the seeds' differences
    may coincide by chance, and a t-test then takes them for exact.

    Args:
        values: For each method, baseline included, the sum over a set's items in a split of the measure, shape
            (seeds, sets, splits); the same shape for all.
        counts: The number of items of a set in a split, shape (sets, splits); 0 where it does not stand there.
        baseline: The baseline's name.
        samples: Bootstrap resamples, and drawn sign patterns.
        seed: Seed of both.

    Returns:
        The effect by method, the baseline left out, in the given order.

    Raises:
        IsodistillError: If the baseline is missing, the shapes differ, or a split has no item.
    """
    if baseline not in values:
        raise IsodistillError(f"The study has no run of the baseline {baseline!r}; it has {', '.join(values)}.")
    items = np.asarray(counts, dtype=np.float64)
    arrays = {name: np.asarray(array, dtype=np.float64) for name, array in values.items()}
    shape = arrays[baseline].shape
    for name, array in arrays.items():
        if array.shape != shape or array.shape[1:] != items.shape or not array.size:
            raise IsodistillError(
                f"Method {name!r} has results of shape {array.shape}, baseline {baseline!r} of {shape} and the items"
                f" of {items.shape}: give every method the same seeds, sets and splits."
            )
    if (items.sum(axis=0) == 0).any():
        raise IsodistillError("A split of the study has no item: leave it out.")
    found: dict[str, tuple[Estimate, float, TestName]] = {}
    for name, array in arrays.items():
        if name != baseline:
            difference = array - arrays[baseline]
            p_value, test = _test(difference, items, samples, seed)
            found[name] = (_estimate(difference, items, samples, seed), p_value, test)
    means = {name: _estimate(array, items, samples, seed) for name, array in arrays.items()}
    return corrected_effects(found, means, baseline, seeds=shape[0], sets=shape[1])


def corrected_effects(
    found: Mapping[str, tuple[Estimate, float, TestName]],
    means: Mapping[str, Estimate],
    baseline: str,
    *,
    seeds: int,
    sets: int,
) -> dict[str, MethodEffect]:
    """Corrects the p-values of several methods for their number and says what is significant.

    Args:
        found: The paired effect of each method, its p-value and what gave that.
        means: The mean of each method, baseline included.
        baseline: The baseline's name.
        seeds: The number of seeds, or of draws.
        sets: The number of isomer sets.

    Returns:
        The effect by method, in the order of `found`.
    """
    adjusted = dict(zip(found, holm([p_value for _, p_value, _ in found.values()]), strict=True))
    return {
        name: MethodEffect(
            mean=means[name],
            baseline=means[baseline],
            effect=effect,
            p_value=p_value,
            p_holm=adjusted[name],
            significant=adjusted[name] <= LEVEL and (effect.low > 0 or effect.high < 0),
            test=test,
            seeds=seeds,
            sets=sets,
        )
        for name, (effect, p_value, test) in found.items()
    }


def _estimate(values: NDArray[np.float64], counts: NDArray[np.float64], samples: int, seed: int) -> Estimate:
    estimate = bootstrap_over_seeds(values, counts, samples=samples, seed=seed)
    assert estimate is not None  # what has no item was refused
    return estimate


def _test(
    difference: NDArray[np.float64], counts: NDArray[np.float64], samples: int, seed: int
) -> tuple[float, TestName]:
    shares = difference / counts.sum(axis=0)  # (seeds, sets, splits): their sum over sets is the split's mean
    if len(shares) == 1:
        return sign_flip_test(shares[0].sum(axis=1), samples, seed), "sign flips of sets"
    by_seed = shares.sum(axis=1).mean(axis=1)
    if len(by_seed) >= SEEDS_TO_FLIP:
        return sign_flip_test(by_seed, samples, seed), "sign flips of seeds"
    p_value = paired_t_test(by_seed)
    if shares.shape[1] >= SEEDS_TO_FLIP:
        p_value = max(p_value, sign_flip_test(shares.mean(axis=(0, 2)), samples, seed))
    return p_value, "t-test over seeds"
