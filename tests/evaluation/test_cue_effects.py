"""Worst groups, flips and gaps on constructed evaluations whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from isodistill.evaluation import Evaluation, EvaluationConfig, ItemRecord, flip_rate, metrics, ood_gap

DOMAINS = ("law", "math")


def record(split: str, number: int, domain: str, extracted: str | None, cue: str = "") -> ItemRecord:
    answer = "True" if number % 2 else "False"
    return ItemRecord(
        split=split,
        set_id=f"s{number}",
        domain=domain,
        family="deduction",
        depth=1,
        prompt=f"{domain} {number} {cue}",
        cue=cue,
        answer=answer,
        completion="",
        extracted=extracted,
        correct=extracted == answer,
        probabilities=None,
    )


def evaluation(items: list[ItemRecord]) -> Evaluation:
    return Evaluation(
        student="s", adapter=None, data="d", config=EvaluationConfig(), versions={}, seconds=1.0, splits={}, items=items
    )


def student_that_follows_the_cue_in(domain: str) -> Evaluation:
    """Right without a cue; follows it in one domain, ignores it in the other."""
    items = []
    for number in range(40):
        right, wrong = ("True", "False") if number % 2 else ("False", "True")
        for each in DOMAINS:
            items.append(record("iid", number, each, right, cue=right))
            items.append(record("cue_absent", number, each, right))
            items.append(record("cue_reversed", number, each, wrong if each == domain else right, cue=wrong))
    return evaluation(items)


def test_the_flip_rate_counts_answers_that_the_cue_turned() -> None:
    rate = flip_rate(student_that_follows_the_cue_in("law"))
    assert rate.estimate is not None
    assert (rate.estimate.value, rate.n_sets, rate.splits) == (0.5, 40, ["cue_absent", "cue_reversed"])
    assert flip_rate(student_that_follows_the_cue_in("none")).estimate.value == 0  # type: ignore[union-attr]
    assert flip_rate(student_that_follows_the_cue_in("law"), "cue_absent", "iid").estimate.value == 0  # type: ignore[union-attr]
    assert flip_rate(evaluation([record("iid", 0, "law", "True")])).estimate is None


def test_flips_by_hand() -> None:
    first = ["True", "True", None, None, "1,000", "True"]
    second = ["true", "False", None, "True", "1000", None]
    assert metrics.flips(first, second).tolist() == [False, True, False, True, False, True]


def test_the_gap_is_iid_less_the_mean_outside() -> None:
    gap = ood_gap(student_that_follows_the_cue_in("law"))
    assert gap.estimate is not None
    assert gap.estimate.value == pytest.approx(1 - (1 + 0.5) / 2)
    assert gap.splits == ["iid", "cue_absent", "cue_reversed"]
    items = student_that_follows_the_cue_in("law").items
    assert ood_gap(evaluation([item for item in items if item.split == "iid"])).estimate is None
    assert ood_gap(evaluation([item for item in items if item.split != "iid"])).estimate is None


def test_the_gap_of_a_student_that_is_right_on_the_same_sets_everywhere_is_zero_without_doubt() -> None:
    rng = np.random.default_rng(0)
    items = []
    for number, right in enumerate(rng.random(60) < 0.6):
        given = ("True" if number % 2 else "False") if right else None
        items += [record(split, number, domain, given) for split in ("iid", "cue_absent") for domain in DOMAINS]
    gap = ood_gap(evaluation(items)).estimate
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == pytest.approx((0, 0, 0))


def test_the_worst_group_is_the_one_the_shortcut_leaves_behind() -> None:
    correct = [True, True, True, False, True, True]
    groups = [
        ("law", "right"),
        ("law", "right"),
        ("law", "wrong"),
        ("law", "wrong"),
        ("math", "wrong"),
        ("math", "right"),
    ]
    assert metrics.worst_group_accuracy(correct, groups) == (("law", "wrong"), 0.5)
    assert metrics.worst_group_accuracy(correct, [group[0] for group in groups]) == ("law", 0.75)
