"""Comparisons over draws: each draw is one value, and the interval is Student's."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from isodistill.errors import IsodistillError
from isodistill.evaluation.effects import GroupValue, MeasureEffects
from isodistill.statistics.draws import compare_over_draws, mean_over_draws
from isodistill.study.results import Result, pool_draws

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@given(SHARES)
def test_the_interval_is_students_inside_the_range(values: list[float]) -> None:
    found = mean_over_draws(values, (0.0, 1.0))
    assert found is not None
    assert found.value == pytest.approx(np.mean(values))
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    if np.std(values) > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert found.low == pytest.approx(max(low, 0), abs=1e-9)
        assert found.high == pytest.approx(min(high, 1), abs=1e-9)


def test_one_draw_has_no_interval() -> None:
    assert mean_over_draws([0.5], (0.0, 1.0)) is None


@example([(0.0, 0.0), (0.0, 5e-324)], Random(0))  # the squares of such differences underflow
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9), st.randoms())
def test_the_order_of_the_draws_does_not_matter(pairs: list[tuple[float, float]], random: object) -> None:
    first = compare_over_draws({"erm": [b for _, b in pairs], "a": [a for a, _ in pairs]}, "erm", (0.0, 1.0), 1)["a"]
    random.shuffle(pairs)  # type: ignore[attr-defined]
    again = compare_over_draws({"erm": [b for _, b in pairs], "a": [a for a, _ in pairs]}, "erm", (0.0, 1.0), 1)["a"]
    assert again.effect.value == pytest.approx(first.effect.value, abs=1e-12)
    assert again.p_value == pytest.approx(first.p_value, abs=1e-9)


def test_what_the_draws_share_is_taken_out_by_the_pairing() -> None:
    base = [0.3, 0.5, 0.6, 0.75, 0.9, 0.4, 0.55]
    gain = [0.04, 0.05, 0.06, 0.05, 0.04, 0.06, 0.05]
    values = {"erm": base, "better": [b + g for b, g in zip(base, gain, strict=True)], "same": base}
    found = compare_over_draws(values, "erm", (0.0, 1.0), 70)
    assert found["better"].effect.value == pytest.approx(0.05)
    assert found["better"].effect.low > 0.04
    assert found["better"].p_value == pytest.approx(2 / 2**7)
    assert found["better"].p_holm == pytest.approx(4 / 2**7)
    assert found["better"].test == "sign flips of draws"
    assert found["better"].significant
    assert found["same"].p_value == 1
    assert not found["same"].significant
    few = compare_over_draws({name: each[:4] for name, each in values.items()}, "erm", (0.0, 1.0), 40)
    assert few["better"].test == "t-test over draws"


@pytest.mark.parametrize("values", [{"a": [1.0, 0.5]}, {"erm": [0.5], "a": [0.5]}, {"erm": [0.5, 0.6], "a": [0.5]}])
def test_unequal_draws_are_refused(values: dict[str, list[float]]) -> None:
    with pytest.raises(IsodistillError, match="the same draws"):
        compare_over_draws(values, "erm", (0.0, 1.0), 1)


def result(data: str, values: dict[str, list[float]], measure: str = "ood_accuracy") -> Result:
    groups = {arm: GroupValue(mean=float(np.mean(each)), low=0, high=1, by_seed=each) for arm, each in values.items()}
    effects = MeasureEffects(
        measure=measure,
        title="accuracy",
        unit="share",
        better="higher",
        splits=["unseen_domain"],
        over="seeds and sets",
        baseline="erm",
        groups=groups,
        effects={},
    )
    return Result(rule="as given", data=data, student=data, controls=["untuned"], effects=[effects])


def test_draws_of_one_thing_are_pooled_and_nothing_else() -> None:
    results = [
        result("one", {"erm": [0.4, 0.6], "iga": [0.7, 0.7], "untuned": [0.5], "late": [0.1]}),
        result("two", {"erm": [0.6, 0.6], "iga": [0.6, 0.8], "untuned": [0.5]}),
        result("other", {"erm": [0.9], "iga": [0.1]}),
        result("alone", {"erm": [0.9], "iga": [0.1]}),
    ]
    (pooled,) = pool_draws(results, {"one": "main", "two": "main", "other": None, "alone": "clean"})
    assert (pooled.data, pooled.student, pooled.controls) == ("main", "2 draws", ["untuned"])
    (measure,) = pooled.effects
    assert measure.over == "draws"
    assert set(measure.groups) == {"erm", "iga", "untuned"}  # one draw lacks the arm "late"
    assert measure.groups["iga"].by_seed == pytest.approx([0.7, 0.7])
    assert measure.effects["iga"].effect.value == pytest.approx(0.15)
    assert measure.effects["iga"].seeds == 2


def test_draws_come_in_the_order_of_the_study() -> None:
    results = [result("second", {"erm": [0.2]}), result("first", {"erm": [0.1]}), result("third", {"erm": [0.3]})]
    (pooled,) = pool_draws(results, {"first": "main", "second": "main", "third": "main"})
    assert pooled.effects[0].groups["erm"].by_seed == [0.1, 0.2, 0.3]


def test_a_measure_that_a_draw_lacks_is_left_out() -> None:
    results = [result("one", {"erm": [0.5]}), result("two", {"erm": [0.5]}, "accuracy:iid")]
    (pooled,) = pool_draws(results, {"one": "main", "two": "main"})
    assert pooled.effects == []
