"""Percentile bootstrap that resamples isomer sets, since the members of a set are not independent.

Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; clusters as
in A. C. Davison and D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

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
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    present = (bottom > 0).any(axis=1)
    top, bottom = np.where(bottom > 0, top, 0.0)[present], bottom[present]
    if not bottom.size or (bottom.sum(axis=0) == 0).any():
        return None
    value = float((top.sum(axis=0) / bottom.sum(axis=0)).mean())
    strata = _strata([tuple(row) for row in (bottom > 0).tolist()])
    rng = np.random.default_rng(seed)
    draws = np.empty(samples)
    chunk = max(1, _CHUNK // len(bottom))
    for start in range(0, samples, chunk):
        size = min(chunk, samples - start)
        totals, weights = np.zeros((size, top.shape[1])), np.zeros((size, top.shape[1]))
        for members in strata:
            counts = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=size)
            totals += counts @ top[members]
            weights += counts @ bottom[members]
        draws[start : start + size] = (totals / weights).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Estimate(value=value, low=float(low), high=float(high))


def _strata(keys: Sequence[Hashable]) -> list[NDArray[np.intp]]:
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return [np.array(members, dtype=np.intp) for members in groups.values()]
