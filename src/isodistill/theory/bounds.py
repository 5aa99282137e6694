"""Upper bounds on the risk in a new domain, from the risks in the domains that were seen.

The unit of chance is a domain: (domain, its problems) pairs are taken to be drawn independently from one distribution
over domains. The risk measured in a domain is then an independent draw in [0, 1] whose mean is the risk to be bounded,
however few problems it was measured on. Domain packs that people wrote are no random draw: the assumption is a reading
aid, and nonce packs, which are drawn from a seed, are the only domains for which it holds by construction.

Two situations differ in what they cost:

- domains that the student was never trained on: the hypothesis does not depend on them, and `empirical_bernstein`
  holds as it stands;
- the training domains themselves: the hypothesis was chosen with them in view, and a PAC-Bayes bound pays for it with
  the divergence of a randomised adapter from its start. With K domains that price is KL / K: with a handful of domains
  the bound says nothing (it exceeds 1), and `domains_needed` tells how many it would take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import brentq

from isodistill.errors import IsodistillError

_MAX_DOMAINS = 2**60


class DomainBound(BaseModel):
    """A bound on the risk in a new domain.

    Attributes:
        name: The inequality.
        value: The bound; above 1 it says nothing.
        mean: The mean risk over the domains that it was computed from.
        variance: Their sample variance.
        domains: Their number K.
        kl: The divergence that was paid for, in nats; 0 where the hypothesis does not depend on the domains.
        delta: The probability with which the bound may fail.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    value: float
    mean: float
    variance: float
    domains: int
    kl: float
    delta: float

    @property
    def vacuous(self) -> bool:
        """Whether it says no more than that a risk is at most 1."""
        return self.value >= 1.0


def empirical_bernstein(risks: Sequence[float], delta: float = 0.05) -> DomainBound:
    """Bounds the risk in a new domain of a student that was fixed without these domains.

    With probability 1 - delta: risk <= mean + sqrt(2 V ln(2/delta) / K) + 7 ln(2/delta) / (3 (K - 1)), V the sample
    variance. Source: Maurer & Pontil, Empirical Bernstein Bounds (arXiv 0907.3740), theorem 4.

    Args:
        risks: The risk in each of K domains, in [0, 1].
        delta: The probability of failure, in (0, 1).

    Returns:
        The bound.

    Raises:
        IsodistillError: if there are fewer than two domains, or a number is out of range.
    """
    values = _checked(risks, delta)
    mean, variance, count = float(values.mean()), float(values.var(ddof=1)), len(values)
    value = _bernstein(mean, variance, count, delta)
    return _bound("empirical Bernstein", value, values, 0.0, delta)


def pac_bayes_kl(risks: Sequence[float], kl: float, delta: float = 0.05) -> DomainBound:
    """Bounds the risk of a randomised student in a new domain, from its training domains, by inverting a divergence.

    With probability 1 - delta, for all posteriors at once: kl(mean || risk) <= (KL + ln(2 sqrt(K) / delta)) / K.
    Source: Maurer, A Note on the PAC-Bayesian Theorem (arXiv cs/0411099), theorem 5.

    Args:
        risks: The posterior's mean risk in each of K domains, in [0, 1].
        kl: KL(posterior || prior) in nats, not negative.
        delta: The probability of failure, in (0, 1).

    Returns:
        The bound, at most 1.

    Raises:
        IsodistillError: if there are fewer than two domains, or a number is out of range.
    """
    values = _checked(risks, delta, kl)
    budget = (kl + math.log(2.0 * math.sqrt(len(values)) / delta)) / len(values)
    return _bound("PAC-Bayes kl", _invert_kl(float(values.mean()), budget), values, kl, delta)


def pac_bayes_empirical_bernstein(
    risks: NDArray[np.float64], kl: float, delta: float = 0.05, c1: float = 1.15, c2: float = 1.15
) -> DomainBound:
    """Bounds the risk of a randomised student in a new domain by its spread over the training domains.

    Where the domains agree, this is tighter than `pac_bayes_kl`; that is what an invariant student is promised. The
    variance over domains is bounded first, with half of delta, and enters a Bernstein bound with the other half::

        V  <= V_K + (1 + c2) sqrt(V_K L2 / (2 (K - 1))) + 2 c2 L2 / (K - 1)      L2 = KL + ln(2 nu2 / delta)
        risk <= mean + (1 + c1) sqrt((e - 2) V L1 / K)                           L1 = KL + ln(2 nu1 / delta)
        nu1 = ceil(ln sqrt((e - 2) K / (4 ln(2/delta))) / ln c1) + 1
        nu2 = ceil(ln(sqrt((K - 1) / ln(2/delta) + 1) / 2 + 1/2) / ln c2)

    and, where sqrt(L1 / ((e - 2) V)) > sqrt(K), risk <= mean + 2 L1 / K instead. Source: Tolstikhin & Seldin,
    PAC-Bayes-Empirical-Bernstein Inequality (NeurIPS 2013), theorems 3 and 4.

    Args:
        risks: (samples, K): the risk of each student drawn from the posterior in each domain, in [0, 1].
        kl: KL(posterior || prior) in nats, not negative.
        delta: The probability of failure, in (0, 1).
        c1: The grid's ratio for the first inequality, above 1.
        c2: That for the second.

    Returns:
        The bound.

    Raises:
        IsodistillError: if there are fewer than two domains, or a number is out of range.
    """
    table = np.atleast_2d(np.asarray(risks, dtype=np.float64))
    values = _checked(table.mean(axis=0), delta, kl)
    spread = float(table.var(axis=1, ddof=1).mean())  # the posterior's mean of the sample variance
    value = _pac_bayes_bernstein(float(values.mean()), spread, len(values), kl, delta, c1, c2)
    return _bound("PAC-Bayes empirical Bernstein", value, values, kl, delta, spread)


def gaussian_kl(weights: NDArray[np.float64], prior: NDArray[np.float64], sigma: float) -> float:
    """Computes KL(N(w, sigma² I) || N(w0, sigma² I)) = ||w - w0||² / (2 sigma²).

    Args:
        weights: w, the adapter's trained factors, flattened.
        prior: w0, chosen without the data: their values before training, flattened.
        sigma: The standard deviation of both Gaussians, positive; it must be chosen before training, or from a list
            over which delta is divided.

    Returns:
        The divergence in nats.

    Raises:
        IsodistillError: if sigma is not positive or the shapes differ.
    """
    if not sigma > 0 or weights.shape != prior.shape:
        raise IsodistillError(
            f"sigma={sigma} must be positive, and weights {weights.shape} and prior {prior.shape} of one shape"
        )
    return float(np.square(weights.astype(np.float64) - prior.astype(np.float64)).sum() / (2.0 * sigma**2))


def domains_needed(bound: DomainBound, below: float = 1.0) -> int | None:
    """Finds the number of domains from which a bound says something, if mean, variance and divergence stay as they are.

    Args:
        bound: A bound.
        below: What it is to fall below: 1, or the risk of the best constant answer.

    Returns:
        The smallest K with a bound below that, or ``None`` where the mean alone is not, or K would pass 2^60.
    """

    def at(count: int) -> float:
        if bound.name == "empirical Bernstein":
            return _bernstein(bound.mean, bound.variance, count, bound.delta)
        if bound.name == "PAC-Bayes kl":
            return _invert_kl(bound.mean, (bound.kl + math.log(2.0 * math.sqrt(count) / bound.delta)) / count)
        return _pac_bayes_bernstein(bound.mean, bound.variance, count, bound.kl, bound.delta)

    return None if bound.mean >= below else _smallest(lambda count: at(count) < below)


def _smallest(holds: Callable[[int], bool]) -> int | None:
    """The smallest count from 2 on at which a property holds that, once it holds, stays."""
    high = 2
    while not holds(high):
        high *= 2
        if high > _MAX_DOMAINS:
            return None
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _bernstein(mean: float, variance: float, count: int, delta: float) -> float:
    log = math.log(2.0 / delta)
    return mean + math.sqrt(2.0 * variance * log / count) + 7.0 * log / (3.0 * (count - 1))


def _pac_bayes_bernstein(
    mean: float, variance: float, count: int, kl: float, delta: float, c1: float = 1.15, c2: float = 1.15
) -> float:
    half, e2 = delta / 2.0, math.e - 2.0
    log = math.log(1.0 / half)
    nu2 = math.ceil(math.log(0.5 * math.sqrt((count - 1) / log + 1.0) + 0.5) / math.log(c2))
    price2 = kl + math.log(max(nu2, 1) / half)
    spread = variance + (1.0 + c2) * math.sqrt(variance * price2 / (2.0 * (count - 1)))
    spread += 2.0 * c2 * price2 / (count - 1)
    nu1 = math.ceil(math.log(math.sqrt(e2 * count / (4.0 * log))) / math.log(c1)) + 1
    price1 = kl + math.log(max(nu1, 1) / half)
    if price1 > e2 * spread * count:
        return mean + 2.0 * price1 / count
    return mean + (1.0 + c1) * math.sqrt(e2 * spread * price1 / count)


def _invert_kl(mean: float, budget: float) -> float:
    """The largest risk q with kl(mean || q) <= budget, for Bernoulli distributions."""

    def excess(risk: float) -> float:
        total = -budget
        if mean > 0.0:
            total += mean * math.log(mean / risk)
        if mean < 1.0:
            total += (1.0 - mean) * math.log((1.0 - mean) / (1.0 - risk))
        return total

    top = 1.0 - 1e-15
    if mean >= top or excess(top) <= 0.0:
        return 1.0
    return float(brentq(excess, max(mean, 1e-300), top, xtol=1e-14))


def _checked(risks: Sequence[float] | NDArray[np.float64], delta: float, kl: float = 0.0) -> NDArray[np.float64]:
    values = np.asarray(risks, dtype=np.float64)
    if len(values) < 2:
        raise IsodistillError(f"A bound over domains needs at least two of them, and there is {len(values)}.")
    if not (np.isfinite(values).all() and values.min() >= 0.0 and values.max() <= 1.0):
        raise IsodistillError("A risk is a share between 0 and 1; give one for each domain.")
    if not 0.0 < delta < 1.0 or not kl >= 0.0:
        raise IsodistillError(f"delta={delta} must lie between 0 and 1, and the divergence {kl} must not be negative.")
    return values


def _bound(
    name: str, value: float, values: NDArray[np.float64], kl: float, delta: float, variance: float | None = None
) -> DomainBound:
    return DomainBound(
        name=name,
        value=value,
        mean=float(values.mean()),
        variance=float(values.var(ddof=1)) if variance is None else variance,
        domains=len(values),
        kl=kl,
        delta=delta,
    )
