"""Methods against one baseline over draws: each draw is another student, other problems and another seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from isodistill.errors import IsodistillError
from isodistill.statistics.bootstrap import Estimate
from isodistill.statistics.significance import paired_t_test, sign_flip_test
from isodistill.statistics.study import SEEDS_TO_FLIP, MethodEffect, TestName, corrected_effects

CONFIDENCE = 0.95


def mean_over_draws(values: Sequence[float] | NDArray[np.float64], bounds: tuple[float, float]) -> Estimate | None:
    """Estimates a mean over draws with Student's interval.

    Whatever varies between draws, test problems and training seeds included, is in the spread of the values.

    Args:
        values: One value per draw.
        bounds: The range that the measure can have; the interval does not leave it.

    Returns:
        The mean and its 95% interval; ``None`` with fewer than two draws.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return None
    mean = float(array.mean())
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return Estimate(value=mean, low=max(mean - margin, bounds[0]), high=min(mean + margin, bounds[1]))


def compare_over_draws(
    values: Mapping[str, Sequence[float]], baseline: str, bounds: tuple[float, float], sets: int
) -> dict[str, MethodEffect]:
    """Compares every method with the baseline, draw by draw.

    Args:
        values: For each method, baseline included, one value per draw, in one order; at least two draws.
        baseline: The baseline's name.
        bounds: The range that the measure can have.
        sets: The number of isomer sets of all draws together, for the record.

    Returns:
        The paired effect by method, the baseline left out. The p-value comes from sign flips of the draws'
        differences from `SEEDS_TO_FLIP` draws on, and from a t-test below.

    Raises:
        IsodistillError: if the baseline is missing, there are fewer than two draws, or the methods have different ones.
    """
    arrays = {name: np.asarray(each, dtype=np.float64) for name, each in values.items()}
    if baseline not in arrays or len({len(each) for each in arrays.values()}) != 1 or len(arrays[baseline]) < 2:
        raise IsodistillError(f"Give the baseline {baseline!r} and every method the same draws, two or more.")
    reach = bounds[1] - bounds[0]
    found: dict[str, tuple[Estimate, float, TestName]] = {}
    flips = len(arrays[baseline]) >= SEEDS_TO_FLIP
    test: TestName = "sign flips of draws" if flips else "t-test over draws"
    for name, array in arrays.items():
        if name != baseline:
            difference = array - arrays[baseline]
            p_value = sign_flip_test(difference) if flips else paired_t_test(difference)
            found[name] = _mean(difference, (-reach, reach)), p_value, test
    means = {name: _mean(array, bounds) for name, array in arrays.items()}
    return corrected_effects(found, means, baseline, seeds=len(arrays[baseline]), sets=sets)


def _mean(values: NDArray[np.float64], bounds: tuple[float, float]) -> Estimate:
    estimate = mean_over_draws(values, bounds)
    assert estimate is not None  # fewer than two draws were refused
    return estimate
