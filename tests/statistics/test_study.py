from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from isodistill.errors import IsodistillError
from isodistill.statistics import compare_with_baseline

STUDIES, SETS, MEMBERS = 200, 200, 4


def simulate(rng: np.random.Generator, seeds: int, effect: float, methods: int = 2) -> dict[str, NDArray[np.float64]]:
    """Right answers by seed and set: sets differ in difficulty, every run has a level of its own (3 points)."""
    difficulty = rng.normal(0, 0.15, (1, SETS))
    runs = {}
    for number in range(methods):
        level = 0.7 + (effect if number else 0.0) + rng.normal(0, 0.03, (seeds, 1))
        right = rng.binomial(MEMBERS, np.clip(level + difficulty, 0, 1))
        runs["erm" if number == 0 else f"method-{number}"] = right[:, :, None].astype(float)
    return runs


def significant(seeds: int, effect: float, methods: int = 2, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    counts = np.full((SETS, 1), float(MEMBERS))
    found = 0
    for _ in range(STUDIES):
        runs = simulate(rng, seeds, effect, methods)
        effects = compare_with_baseline(runs, counts, samples=300).values()
        found += any(each.significant for each in effects)
    return found / STUDIES


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_same_method_twice_is_rarely_called_different(seeds: int) -> None:
    # 5% and two standard errors of 200 studies.
    assert significant(seeds, effect=0.0) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / STUDIES)


def test_ten_methods_like_the_baseline_raise_no_more_alarms_than_one() -> None:
    assert significant(8, effect=0.0, methods=11) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / STUDIES)


def test_five_points_are_found() -> None:
    # Two runs differ by 4.2 points (one standard deviation) from their own levels alone.
    assert significant(15, effect=0.05) >= 0.8


def test_the_effect_is_the_paired_difference_in_points() -> None:
    runs = simulate(np.random.default_rng(4), 10, effect=0.05)
    result = compare_with_baseline(runs, np.full((SETS, 1), float(MEMBERS)))["method-1"]
    assert result.effect.value == pytest.approx(result.mean.value - result.baseline.value)
    assert result.points.value == pytest.approx(100 * result.effect.value)
    assert result.effect.low < 0.05 < result.effect.high
    assert (result.seeds, result.sets, result.test) == (10, SETS, "sign flips of seeds")


def test_the_test_follows_the_number_of_seeds() -> None:
    counts = np.full((SETS, 1), float(MEMBERS))
    tests = [
        compare_with_baseline(simulate(np.random.default_rng(0), seeds, 0.0), counts)["method-1"].test
        for seeds in (1, 2, 5, 6)
    ]
    assert tests == ["sign flips of sets", "t-test over seeds", "t-test over seeds", "sign flips of seeds"]


def test_seeds_that_coincide_by_chance_prove_nothing() -> None:
    """Two seeds, both one problem of forty worse: the t-test's p-value is 0, since nothing varies between them."""
    base = np.ones((2, 40, 1))
    ours = base.copy()
    ours[0, 3] = ours[1, 8] = 0.0
    result = compare_with_baseline({"erm": base, "other": ours}, np.ones((40, 1)))["other"]
    assert result.effect.value == pytest.approx(-0.025)
    assert result.p_value == pytest.approx(0.5, abs=0.02), "two sets differ: all of four sign patterns but two"
    ours = base.copy()
    ours[:, :20] = 0.0
    assert compare_with_baseline({"erm": base, "other": ours}, np.ones((40, 1)))["other"].p_value < 1e-3
    by_run = {"erm": np.array([[[0.5]], [[0.6]]]), "other": np.array([[[0.1]], [[0.2]]])}
    assert compare_with_baseline(by_run, np.ones((1, 1)))["other"].p_value < 0.01, "one value a run: seeds alone"


def test_splits_weigh_alike_and_a_set_may_stand_in_some_of_them() -> None:
    counts = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 1.0]])
    base = np.zeros((2, 3, 2))
    ours = base.copy()
    ours[:, 2, 1] = 1.0  # all of split 1, nothing of split 0
    result = compare_with_baseline({"erm": base, "other": ours}, counts)["other"]
    assert result.effect.value == 0.5


def test_no_bold_without_both_interval_and_p_value() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        for each in compare_with_baseline(simulate(rng, 6, 0.03, 4), np.full((SETS, 1), 4.0), samples=300).values():
            assert each.p_holm >= each.p_value
            if each.significant:
                assert each.p_holm <= 0.05
                assert each.effect.low > 0 or each.effect.high < 0


@pytest.mark.parametrize(
    ("runs", "counts", "message"),
    [
        ({"iga": np.ones((1, 2, 1))}, np.ones((2, 1)), "no run of the baseline 'erm'"),
        ({"erm": np.ones((1, 2, 1)), "iga": np.ones((2, 2, 1))}, np.ones((2, 1)), "same seeds, sets and splits"),
        ({"erm": np.ones((1, 2, 1))}, np.zeros((2, 1)), "no item"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    runs: dict[str, NDArray[np.float64]], counts: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(IsodistillError, match=message):
        compare_with_baseline(runs, counts)
