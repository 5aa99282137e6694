"""Tests of a paired difference, and the correction for testing many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXACT_SIGNS = 16
"""Up to this many values every pattern of signs is tried; beyond, patterns are drawn."""

_CHUNK = 4_000_000  # signs held at once


def mcnemar(candidate: Sequence[bool] | NDArray[np.bool_], baseline: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Exact McNemar test of whether two models are right equally often on the same items.

    Of the items that exactly one of the two gets right, each side would win half: a binomial test of that, two-sided.
    It speaks of these two trained models, not of other training seeds, and takes items as independent: give one item
    of each isomer set. Source: Q. McNemar (1947), "Note on the sampling error of the difference between correlated
    proportions or percentages".

    Args:
        candidate: One flag per item.
        baseline: One flag per item, in the same order.

    Returns:
        The p-value; 1 where the two never differ.

    Raises:
        ValueError: If the two differ in length.
    """
    ours, theirs = np.asarray(candidate, dtype=bool), np.asarray(baseline, dtype=bool)
    if ours.shape != theirs.shape:
        raise ValueError("both sides must answer the same items")
    wins, losses = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    return 1.0 if wins + losses == 0 else float(stats.binomtest(wins, wins + losses).pvalue)


def sign_flip_test(differences: Sequence[float] | NDArray[Any], samples: int = 10_000, seed: int = 0) -> float:
    """Permutation test of paired differences: how often random signs give a mean as far from zero as the given one.

    If the two sides do not differ, each difference might as well have had the other sign. Up to `EXACT_SIGNS` values
    every pattern is tried; then the least p-value is 2 / 2^n, so fewer than 6 values can never show p <= 0.05. Beyond,
    patterns are drawn, and the given one counts among them (B. Phipson and G. Smyth, 2010, "Permutation p-values
    should never be zero").

    Args:
        differences: Candidate minus baseline, one value per independent unit (a seed, or a set); ``nan`` is left out.
        samples: The number of drawn patterns.
        seed: Seed of the drawing.

    Returns:
        The two-sided p-value; 1 without values.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return 1.0
    # Sums of the same numbers in another order differ in the last digits, and must not count as smaller.
    limit = abs(values.sum()) - 1e-9 * np.abs(values).sum()
    if len(values) <= EXACT_SIGNS:
        patterns = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1  # (2^n, n)
        return float((np.abs((2.0 * patterns - 1.0) @ values) >= limit).mean())
    rng = np.random.default_rng(seed)
    hits, chunk = 0, max(1, _CHUNK // len(values))
    for start in range(0, samples, chunk):
        signs = rng.integers(0, 2, size=(min(chunk, samples - start), len(values))) * 2.0 - 1.0
        hits += int((np.abs(signs @ values) >= limit).sum())
    return (hits + 1) / (samples + 1)


def paired_t_test(differences: Sequence[float] | NDArray[Any]) -> float:
    """Student's t-test of paired differences against zero, for too few values to permute.

    Args:
        differences: Candidate minus baseline, one value per independent unit, at least two.

    Returns:
        The two-sided p-value; 1 where all differences are zero, 0 where all are the same and not zero.

    Raises:
        ValueError: If there are fewer than two differences.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        raise ValueError("a t-test needs at least two differences")
    if np.ptp(values) == 0:
        return float(values[0] == 0)
    p_value = float(stats.ttest_1samp(values, 0.0).pvalue)
    if not np.isfinite(p_value):  # their squares underflow; the test does not depend on their scale
        p_value = float(stats.ttest_1samp(values / np.abs(values).max(), 0.0).pvalue)
    return p_value


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for their number, so that the chance of any false alarm among them stays at the level.

    The p-values in rising order are multiplied by m, m - 1, ..., 1, made non-decreasing, and cut at 1. Source:
    S. Holm (1979), "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: p-values of one family of tests.

    Returns:
        The adjusted p-values in the given order.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in adjusted]
