from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from isodistill.statistics import bootstrap, bootstrap_mean_of_ratios, bootstrap_over_seeds
from isodistill.statistics.bootstrap import small_sample_stretch


def draw(rng: np.random.Generator, seeds: int, sets: int, seed_sd: float, set_sd: float) -> NDArray[np.float64]:
    """Values around zero with an effect of the seed, one of the set that all seeds share, and noise."""
    by_seed, by_set = rng.normal(0, seed_sd, (seeds, 1, 1)), rng.normal(0, set_sd, (1, sets, 1))
    return by_seed + by_set + rng.normal(0, 0.2, (seeds, sets, 1))


@pytest.mark.parametrize(("seeds", "seed_sd", "set_sd"), [(3, 0.3, 0.1), (3, 0.0, 1.0), (5, 0.1, 0.5), (10, 0.3, 0.1)])
def test_the_interval_covers_the_truth_whether_seeds_or_sets_vary_more(
    seeds: int, seed_sd: float, set_sd: float
) -> None:
    rng = np.random.default_rng(seeds)
    covered = 0
    for trial in range(200):
        values = draw(rng, seeds, 60, seed_sd, set_sd)
        estimate = bootstrap_over_seeds(values, np.ones((60, 1)), samples=400, seed=trial)
        assert estimate is not None
        covered += estimate.low <= 0 <= estimate.high
    assert covered / 200 >= 0.90  # 95% less three standard errors; wider than needed is allowed


def test_seeds_alone_give_about_the_t_interval() -> None:
    rng = np.random.default_rng(0)
    by_seed = rng.normal(0.6, 0.05, 10)
    estimate = bootstrap_over_seeds(np.repeat(by_seed, 50).reshape(10, 50, 1), np.ones((50, 1)), samples=20_000)
    assert estimate is not None
    exact = stats.t.interval(0.95, 9, loc=by_seed.mean(), scale=stats.sem(by_seed))
    half = (exact[1] - exact[0]) / 2
    assert (estimate.low, estimate.high) == pytest.approx(exact, abs=0.15 * half)


def test_sets_that_all_seeds_share_do_not_average_out_over_seeds() -> None:
    # Ten equal seeds know no more of the sets than one does.
    top = np.random.default_rng(1).integers(0, 2, (80, 1)).astype(float)
    one = bootstrap_mean_of_ratios(top, np.ones((80, 1)), samples=2000)
    ten = bootstrap_over_seeds(np.repeat(top[None], 10, axis=0), np.ones((80, 1)), samples=2000)
    assert one is not None
    assert ten is not None
    assert (ten.value, ten.low, ten.high) == pytest.approx((one.value, one.low, one.high))


def test_it_equals_a_plain_loop_over_seeds_and_sets() -> None:
    rng = np.random.default_rng(2)
    top = rng.integers(0, 5, (4, 30, 2)).astype(float)
    counts = np.full((30, 2), 4.0)
    fast = bootstrap_over_seeds(top, counts, samples=4000)
    means = (top / 4).mean(axis=(1, 2))
    stretched = (top / 4).mean(axis=2) + ((small_sample_stretch(4) - 1) * (means - means.mean()))[:, None]
    draws = [stretched[np.ix_(rng.integers(0, 4, 4), rng.integers(0, 30, 30))].mean() for _ in range(4000)]
    assert fast is not None
    assert fast.value == pytest.approx(means.mean())
    assert (fast.low, fast.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.02)


def test_the_chunking_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    top = np.random.default_rng(3).normal(size=(5, 20, 2))
    first = bootstrap_over_seeds(top, np.ones((20, 2)), samples=300, seed=4)
    monkeypatch.setattr(bootstrap, "_CHUNK", 20 * 7)
    assert bootstrap_over_seeds(top, np.ones((20, 2)), samples=300, seed=4) == first


def test_the_stretch_is_one_for_one_seed_and_goes_back_to_one() -> None:
    assert small_sample_stretch(1) == 1
    assert small_sample_stretch(2) == pytest.approx(np.sqrt(2) * 12.706 / 1.95996, rel=1e-4)
    assert small_sample_stretch(1000) == pytest.approx(1, abs=0.01)


def test_nothing_to_average_is_none() -> None:
    assert bootstrap_over_seeds(np.zeros((0, 3, 1)), np.ones((3, 1))) is None
    assert bootstrap_over_seeds(np.zeros((2, 3, 1)), np.zeros((3, 1))) is None
