from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from isodistill.statistics import holm, mcnemar, paired_t_test, sign_flip_test, significance


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_equals_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = np.array(pairs, dtype=bool).T
    table = [[(ours & theirs).sum(), (ours & ~theirs).sum()], [(~ours & theirs).sum(), (~ours & ~theirs).sum()]]
    assert mcnemar(ours, theirs) == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue)


def test_mcnemar_needs_the_same_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        mcnemar([True], [True, False])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=9))
def test_sign_flips_equal_scipys_exact_permutation_test(differences: list[int]) -> None:
    values = np.array(differences, dtype=float)  # whole numbers: scipy takes a sum's rounding around 0 for a difference
    reference = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    # scipy doubles the smaller tail; the distribution under flips is symmetric, so that is the same.
    assert sign_flip_test(values) == pytest.approx(min(1.0, reference.pvalue))


def test_drawn_sign_flips_come_near_the_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 14)
    exact = sign_flip_test(values)
    monkeypatch.setattr(significance, "EXACT_SIGNS", 0)
    drawn = sign_flip_test(values, samples=40_000)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))
    assert sign_flip_test(values, samples=500, seed=1) == sign_flip_test(values, samples=500, seed=1)
    assert sign_flip_test(np.ones(200), samples=99) == 0.01  # never zero


def test_six_seeds_are_the_fewest_that_sign_flips_can_tell_apart() -> None:
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 32
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2 / 64
    assert sign_flip_test([0.0, 0.0]) == 1.0
    assert sign_flip_test([np.nan]) == 1.0


def test_the_t_test_equals_scipys_on_pairs() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(2, 5))
    assert paired_t_test(ours - theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert paired_t_test([0.0, 0.0]) == 1.0
    assert paired_t_test([0.1, 0.1]) == 0.0
    with pytest.raises(ValueError, match="two"):
        paired_t_test([0.1])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())
