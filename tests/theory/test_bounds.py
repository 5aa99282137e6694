"""Bounds over domains: their formulas by hand, their limits, and that they hold as often as they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.theory import (
    DomainBound,
    domains_needed,
    empirical_bernstein,
    gaussian_kl,
    pac_bayes_empirical_bernstein,
    pac_bayes_kl,
)

quick = settings(max_examples=50, deadline=None)
risk_lists = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=30)


def test_empirical_bernstein_by_hand() -> None:
    bound = empirical_bernstein([0.1, 0.3], delta=0.1)
    log = math.log(20.0)
    assert bound.value == pytest.approx(0.2 + math.sqrt(2 * 0.02 * log / 2) + 7 * log / 3)
    assert bound.vacuous
    assert bound.mean == pytest.approx(0.2)
    assert bound.variance == pytest.approx(0.02)


def test_pac_bayes_kl_solves_its_equation() -> None:
    bound = pac_bayes_kl([0.1] * 200, kl=5.0, delta=0.05)
    risk, mean = bound.value, 0.1
    divergence = mean * math.log(mean / risk) + (1 - mean) * math.log((1 - mean) / (1 - risk))
    assert divergence == pytest.approx((5.0 + math.log(2 * math.sqrt(200) / 0.05)) / 200, rel=1e-6)
    assert 0.1 < risk < 1.0


def test_without_error_the_divergence_bound_has_a_closed_form() -> None:
    bound = pac_bayes_kl([0.0] * 100, kl=2.0, delta=0.05)
    budget = (2.0 + math.log(2 * 10 / 0.05)) / 100
    assert bound.value == pytest.approx(1 - math.exp(-budget), rel=1e-9)


@quick
@given(risks=risk_lists, kl=st.floats(0.0, 100.0), delta=st.floats(0.01, 0.5))
def test_bounds_lie_above_the_mean_and_grow_with_the_divergence(risks: list[float], kl: float, delta: float) -> None:
    table = np.array([risks])
    for make in (
        lambda price: pac_bayes_kl(risks, price, delta),
        lambda price: pac_bayes_empirical_bernstein(table, price, delta),
    ):
        less, more = make(kl), make(kl + 1.0)
        assert less.value >= less.mean - 1e-12
        assert more.value >= less.value - 1e-9
    assert pac_bayes_kl(risks, kl, delta).value <= 1.0
    assert empirical_bernstein(risks, delta).value > empirical_bernstein(risks, min(0.99, 2 * delta)).value


def test_agreement_of_the_domains_is_worth_something() -> None:
    agreeing = np.full((1, 2000), 0.3)
    split = np.tile([0.1, 0.5], 1000)[None]
    ours, theirs = (pac_bayes_empirical_bernstein(table, kl=10.0) for table in (agreeing, split))
    assert ours.mean == pytest.approx(theirs.mean)
    assert ours.value < theirs.value
    assert ours.value < pac_bayes_kl(agreeing[0].tolist(), kl=10.0).value


@pytest.mark.parametrize("spread", [0.02, 0.3])
def test_the_bounds_hold_at_least_as_often_as_promised(spread: float) -> None:
    """Domains drawn anew 2,000 times: a bound at delta = 0.2 may fail in a fifth of them, and these fail in fewer."""
    rng = np.random.default_rng(0)
    failures = {"bernstein": 0, "kl": 0, "pac bernstein": 0}
    for _ in range(2000):
        risks = np.clip(rng.normal(0.3, spread, size=40), 0.0, 1.0)
        truth = 0.3 if spread == 0.02 else 0.3236  # the mean of the clipped normal, by numerical integration below
        failures["bernstein"] += empirical_bernstein(risks.tolist(), 0.2).value < truth
        failures["kl"] += pac_bayes_kl(risks.tolist(), 0.0, 0.2).value < truth
        failures["pac bernstein"] += pac_bayes_empirical_bernstein(risks[None], 0.0, 0.2).value < truth
    assert all(count <= 0.2 * 2000 for count in failures.values()), failures


def test_the_truth_of_the_coverage_test_is_right() -> None:
    grid = np.linspace(-2.0, 3.0, 2_000_001)
    density = np.exp(-0.5 * ((grid - 0.3) / 0.3) ** 2) / (0.3 * math.sqrt(2 * math.pi))
    assert np.trapezoid(np.clip(grid, 0, 1) * density, grid) == pytest.approx(0.3236, abs=5e-4)


def test_a_chosen_hypothesis_breaks_the_bound_that_does_not_pay_for_the_choice() -> None:
    """Of 500 students that all err half of the time, the one that did best on 10 domains is no better than the rest."""
    rng = np.random.default_rng(1)
    chosen = rng.random((500, 10)).mean(axis=1).argmin()
    risks = np.random.default_rng(1).random((500, 10))[chosen]
    unpaid = pac_bayes_kl(risks.tolist(), 0.0, 0.05).value
    paid = pac_bayes_kl(risks.tolist(), math.log(500), 0.05).value  # KL of a point mass to the uniform prior
    assert paid > unpaid
    assert paid > 0.5


@pytest.mark.parametrize("kl", [0.0, 30.0, 1e5])
def test_the_number_of_domains_needed_is_where_the_bound_crosses(kl: float) -> None:
    risks = [0.2, 0.3, 0.25, 0.35]
    for make in (
        lambda values: pac_bayes_kl(values.tolist(), kl),
        lambda values: pac_bayes_empirical_bernstein(values[None], kl),
    ):
        bound: DomainBound = make(np.array(risks))
        count = domains_needed(bound, below=0.9)
        assert count is not None
        if count > 50_000:
            continue
        for size, crossed in ((count, True), (count - 1, False)):
            if size < 2:
                continue
            # A sample of that size with the same mean and the same sample variance.
            spread = math.sqrt(bound.variance * (size - 1) / size)
            half = size // 2
            values = np.full(size, bound.mean)
            values[:half] += spread * math.sqrt(size / (2 * half))
            values[half : 2 * half] -= spread * math.sqrt(size / (2 * half))
            again = make(values)
            assert again.variance == pytest.approx(bound.variance, rel=1e-9)
            assert (again.value < 0.9) == crossed


def test_no_number_of_domains_makes_up_for_a_bad_mean() -> None:
    assert domains_needed(empirical_bernstein([0.6, 0.5]), below=0.5) is None


def test_the_divergence_of_gaussians() -> None:
    weights, prior = np.array([1.0, 2.0, 2.0]), np.zeros(3)
    assert gaussian_kl(weights, prior, sigma=0.5) == pytest.approx(9.0 / 0.5)
    assert gaussian_kl(prior, prior, sigma=0.1) == 0.0
    with pytest.raises(IsodistillError, match="sigma=0"):
        gaussian_kl(weights, prior, 0)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: empirical_bernstein([0.1]), "at least two"),
        (lambda: empirical_bernstein([0.1, 1.2]), "between 0 and 1"),
        (lambda: empirical_bernstein([0.1, float("nan")]), "between 0 and 1"),
        (lambda: pac_bayes_kl([0.1, 0.2], kl=-1.0), "must not be negative"),
        (lambda: pac_bayes_kl([0.1, 0.2], kl=1.0, delta=1.0), "delta=1.0"),
    ],
)
def test_what_is_out_of_range_is_refused(call, told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        call()
