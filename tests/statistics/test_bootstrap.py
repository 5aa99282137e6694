from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.statistics import bootstrap
from isodistill.statistics.bootstrap import bootstrap_mean, bootstrap_mean_of_ratios, bootstrap_ratio


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        # Four members of a set share a draw: treating items as independent would give half the width.
        right = rng.binomial(1, rng.beta(1, 1, size=60)) * 4.0
        interval = bootstrap_ratio(right, np.full(60, 4.0), samples=300, seed=trial)
        assert interval is not None
        hits += interval.low <= 0.5 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_it_equals_a_plain_loop_over_resampled_sets() -> None:
    rng = np.random.default_rng(2)
    top, bottom = rng.integers(0, 5, 40).astype(float), np.full(40, 5.0)
    fast = bootstrap_ratio(top, bottom, samples=4000, seed=0)
    draws = []
    for _ in range(4000):
        index = rng.integers(0, 40, 40)
        draws.append(top[index].sum() / bottom[index].sum())
    assert fast is not None
    assert fast.value == top.sum() / bottom.sum()
    assert (fast.low, fast.high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.01)


def test_seeded_and_independent_of_the_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=30)
    first = bootstrap_mean(values, samples=500, seed=5)
    assert first == bootstrap_mean(values, samples=500, seed=5)
    assert first != bootstrap_mean(values, samples=500, seed=6)
    monkeypatch.setattr(bootstrap, "_CHUNK", 30 * 7)
    assert first == bootstrap_mean(values, samples=500, seed=5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_the_interval_lies_within_the_values(values: list[float]) -> None:
    estimate = bootstrap_mean(np.array(values), samples=100)
    assert estimate is not None
    assert min(values) - 1e-9 <= estimate.low <= estimate.high <= max(values) + 1e-9


def test_what_is_undefined_does_not_count() -> None:
    estimate = bootstrap_mean(np.array([1.0, np.nan, 1.0]))
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)
    assert bootstrap_mean(np.array([np.nan])) is None
    assert bootstrap_mean(np.array([])) is None
    assert bootstrap_ratio(np.zeros(3), np.zeros(3)) is None
    assert bootstrap_mean_of_ratios(np.ones((2, 2)), np.array([[1.0, 0.0], [1.0, 0.0]])) is None


def test_splits_weigh_equally_and_a_shared_set_is_drawn_in_both_together() -> None:
    # 10 sets in split 0 only, 1000 in split 1 only: the mean is over splits, not over sets.
    top = np.zeros((1010, 2))
    bottom = np.zeros((1010, 2))
    bottom[:10, 0], bottom[10:, 1] = 1, 1
    top[:10, 0] = 1
    estimate = bootstrap_mean_of_ratios(top, bottom)
    assert estimate is not None
    assert estimate.value == 0.5
    # Right in one split exactly where wrong in the other: drawn together, the mean cannot move.
    right = np.array([1.0, 0.0] * 10)
    together = bootstrap_mean_of_ratios(np.stack([right, 1 - right], axis=1), np.ones((20, 2)))
    assert together is not None
    assert together.low == pytest.approx(0.5)
    assert together.high == pytest.approx(0.5)
