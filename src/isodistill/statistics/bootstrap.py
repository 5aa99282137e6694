"""Percentile bootstrap that resamples isomer sets, since the members of a set are not independent, and training seeds.

Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; clusters as
in A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8; seeds
crossed with sets as in A. B. Owen, "The pigeonhole bootstrap" (2007), with the small-sample expansion of
T. Hesterberg, "What teachers should know about the bootstrap" (2015), section 4.3.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import stats

_CHUNK = 4_000_000  # resampling counts held at once (32 MB)


class Estimate(BaseModel):
    """A number with its 95% bootstrap interval.

    Attributes:
        value: The estimate on the data as they are.
        low: Lower end of the interval (2.5th percentile of the resampled values).
        high: Upper end (97.5th percentile).
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    value: float
    low: float
    high: float


def bootstrap_mean(values: NDArray[np.float64], samples: int = 1000, seed: int = 0) -> Estimate | None:
    """Estimates a mean over sets.

    Args:
        values: One value per set, shape (sets,); ``nan`` marks sets that do not count.
        samples: The number of resamples.
        seed: Seed of the resampling.

    Returns:
        The mean with its interval, or ``None`` if no set counts.
    """
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    return bootstrap_ratio(defined, np.ones_like(defined), samples, seed)


def bootstrap_ratio(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], samples: int = 1000, seed: int = 0
) -> Estimate | None:
    """Estimates sum(numerators) / sum(denominators) over sets, for example items right / items.

    Args:
        numerators: One number per set, shape (sets,).
        denominators: One number per set, shape (sets,), not negative; sets with 0 do not count.
        samples: The number of resamples.
        seed: Seed of the resampling.

    Returns:
        The ratio with its interval, or ``None`` if no set counts.
    """
    return bootstrap_mean_of_ratios(
        np.asarray(numerators, dtype=np.float64)[:, None],
        np.asarray(denominators, dtype=np.float64)[:, None],
        samples=samples,
        seed=seed,
    )


def bootstrap_mean_of_ratios(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, samples: int = 1000, seed: int = 0
) -> Estimate | None:
    """Estimates the mean over splits of sum(numerators) / sum(denominators) within each split.

    Sets are resampled within strata: a stratum holds the sets that stand in the same splits. So a set
    that stands in several splits is drawn in all of them together, and no resample loses a split.
    With one set in a stratum nothing varies there: intervals of very few sets are too short.

    Args:
        numerators: One number per set and split, shape (sets, splits).
        denominators: The same shape, not negative; 0 where a set does not stand in a split.
        samples: The number of resamples.
        seed: Seed of the resampling.

    Returns:
        The mean with its interval, or ``None`` if a split has no set or there is none.
    """
    top = np.asarray(numerators, dtype=np.float64)
    return bootstrap_over_seeds(top[None], denominators, samples=samples, seed=seed)


def bootstrap_over_seeds(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    *,
    split_weights: NDArray[np.float64] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Estimate | None:
    """Estimates the mean over training seeds and splits of sum(numerators) / sum(denominators).

    Each resample draws seeds, and sets as `bootstrap_mean_of_ratios` does: the seeds answer the same sets, so a
    drawn set is drawn for all of them. The interval speaks of other seeds and of other test sets from the same source.
    A resample of few seeds varies too little, so the seeds' deviations from their mean are first stretched by
    ``sqrt(n / (n - 1)) * t / z``, with t and z the 97.5% quantiles of Student's distribution on n - 1 degrees of
    freedom and of the normal one: with one seed nothing is known of others and the interval covers sets alone, with
    two it is wide, with many the factor is 1.

    Args:
        numerators: One number per seed, set and split, shape (seeds, sets, splits).
        denominators: One number per set and split, shape (sets, splits), not negative; 0 where a set does not stand
            in a split.
        split_weights: What each split's ratio counts, shape (splits,); by default the same, summing to 1. With weights
            of both signs the estimate is a difference of splits.
        samples: The number of resamples.
        seed: Seed of the resampling.

    Returns:
        The mean with its interval, or ``None`` if a split has no set, or there is no set or no seed.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    present = (bottom > 0).any(axis=1)
    top, bottom = np.where(bottom > 0, top, 0.0)[:, present], bottom[present]
    if not bottom.size or not len(top) or (bottom.sum(axis=0) == 0).any():
        return None
    weighting = np.full(top.shape[2], 1 / top.shape[2]) if split_weights is None else split_weights
    by_seed = (top.sum(axis=1) / bottom.sum(axis=0)) @ weighting  # (seeds,)
    stretch = (small_sample_stretch(len(top)) - 1) * (by_seed - by_seed.mean())
    rng, seed_rng = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    draws = np.empty(samples)
    strata = _strata([tuple(row) for row in (bottom > 0).tolist()])
    chunk = max(1, _CHUNK // max(len(bottom), top.shape[0] * top.shape[2]))
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        totals = np.zeros((size, top.shape[0], top.shape[2]))
        weights = np.zeros((size, top.shape[2]))
        for members in strata:
            counts = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=size)
            totals += np.einsum("ds,nsk->dnk", counts, top[:, members], optimize=True)
            weights += counts @ bottom[members]
        drawn = (totals / weights[:, None]) @ weighting + stretch  # (size, seeds)
        shares = seed_rng.multinomial(len(top), np.full(len(top), 1 / len(top)), size=size) / len(top)
        draws[start : start + size] = (shares * drawn).sum(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value=float(by_seed.mean()), low=float(low), high=float(high))


def small_sample_stretch(seeds: int) -> float:
    """Computes by how much the deviations of few seeds are stretched before they are resampled.

    Args:
        seeds: The number of training seeds, at least 1.

    Returns:
        ``sqrt(n / (n - 1)) * t / z`` as in `bootstrap_over_seeds`; 1 for a single seed.
    """
    if seeds == 1:
        return 1.0
    ratio = stats.t.ppf(0.975, seeds - 1) / stats.norm.ppf(0.975)
    return float(np.sqrt(seeds / (seeds - 1)) * ratio)


def _strata(keys: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return [np.array(members, dtype=np.intp) for members in groups.values()]
