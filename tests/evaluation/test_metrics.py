from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine, jensenshannon

from isodistill.evaluation import metrics

settings.register_profile("metrics", deadline=None, max_examples=60)
settings.load_profile("metrics")

K, HIDDEN = 3, 4
SETS = st.integers(2, 5)


@st.composite
def states(draw: Any) -> tuple[np.ndarray, list[str], list[str]]:
    """States of 2 to 5 sets in 3 domains, with their set ids and domains."""
    n = draw(SETS)
    values = draw(arrays(np.float64, (n * K, HIDDEN), elements=st.floats(-10, 10, width=32)))
    return values, [f"set-{i // K}" for i in range(n * K)], [f"domain-{i % K}" for i in range(n * K)]


@st.composite
def distributions(draw: Any, choices: int = 3) -> np.ndarray:
    raw = draw(arrays(np.float64, (choices,), elements=st.floats(0, 1, width=32)))
    raw = raw if raw.sum() > 1e-6 else np.ones(choices)
    return raw / raw.sum()


def test_accuracy_by_hand() -> None:
    correct = [True, False, True, True]
    domains = ["law", "law", "medicine", "medicine"]
    assert metrics.accuracy(correct) == 0.75
    assert math.isnan(metrics.accuracy([]))
    assert metrics.grouped_accuracy(correct, domains) == {"law": 0.5, "medicine": 1.0}
    assert metrics.worst_group_accuracy(correct, domains) == ("law", 0.5)
    assert metrics.worst_group_accuracy([True, True], ["z", "a"]) == ("a", 1.0)
    with pytest.raises(ValueError, match="at least one item"):
        metrics.worst_group_accuracy([], [])


def test_balanced_accuracy_gives_a_constant_answer_its_due() -> None:
    answers = ["True"] * 8 + ["False"] * 2
    assert metrics.balanced_accuracy(answers, ["true"] * 10) == 0.5
    assert metrics.constant_accuracy(answers) == 0.8
    assert metrics.balanced_accuracy(answers, [*answers[:9], None]) == 0.75
    assert math.isnan(metrics.balanced_accuracy([], []))
    assert math.isnan(metrics.constant_accuracy([]))


def test_lcs_is_the_mean_pairwise_cosine_distance() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, HIDDEN))
    expected = [
        np.mean([cosine(values[i], values[j]) for i, j in ((s, s + 1), (s, s + 2), (s + 1, s + 2))]) for s in (0, 3)
    ]
    ids = ["a"] * 3 + ["b"] * 3
    np.testing.assert_allclose(metrics.cosine_distance_by_set(values, ids), expected)
    assert metrics.logical_consistency_score(values, ids) == pytest.approx(np.mean(expected))
    shuffled = [0, 3, 1, 4, 2, 5]  # members of a set need not stand together
    np.testing.assert_allclose(metrics.cosine_distance_by_set(values[shuffled], [ids[i] for i in shuffled]), expected)


@given(states(), st.permutations(range(K)))
def test_permuting_the_domains_changes_nothing(drawn: Any, order: list[int]) -> None:
    values, ids, domains = drawn
    index = [s * K + d for s in range(len(ids) // K) for d in order]
    for centred in (False, True):
        before = metrics.centre_by_domain(values, domains) if centred else values
        moved = [domains[i] for i in index]
        after = metrics.centre_by_domain(values[index], moved) if centred else values[index]
        if not np.all((np.linalg.norm(before, axis=1) > 1e-6) | (np.linalg.norm(before, axis=1) == 0)):
            return  # round-off of a state that is zero has no direction
        assert metrics.logical_consistency_score(before, ids) == pytest.approx(
            metrics.logical_consistency_score(after, ids), abs=1e-6
        )


@given(states(), st.floats(0.01, 100))
def test_lcs_ignores_the_scale_and_is_bounded(drawn: Any, scale: float) -> None:
    values, ids, _ = drawn
    by_set = metrics.cosine_distance_by_set(values, ids)
    assert (by_set >= 0).all()
    assert (by_set <= 2).all()
    scales = np.linspace(scale, 2 * scale, len(values))[:, None]  # each state by its own factor
    assert metrics.logical_consistency_score(values * scales, ids) == pytest.approx(
        metrics.logical_consistency_score(values, ids), abs=1e-9
    )


@given(states())
def test_identical_members_are_perfectly_consistent(drawn: Any) -> None:
    values, ids, domains = drawn
    same = np.repeat(values[::K], K, axis=0)
    assert metrics.logical_consistency_score(same, ids) == pytest.approx(0, abs=1e-12)
    # A shift that is the domain's own is taken out by centring.
    shifted = same + np.tile(np.eye(K, HIDDEN) * 5, (len(ids) // K, 1))
    centred = metrics.centre_by_domain(shifted, domains)
    norms = np.linalg.norm(centred, axis=1)
    if (norms > 1e-3).all():
        assert metrics.logical_consistency_score(centred, ids) == pytest.approx(0, abs=1e-9)


def test_centring_takes_each_domains_mean_off() -> None:
    values = np.array([[1.0, 0.0], [0.0, 4.0], [3.0, 0.0], [0.0, 8.0]])
    centred = metrics.centre_by_domain(values, ["law", "art", "law", "art"])
    np.testing.assert_array_equal(centred, [[-1, 0], [0, -2], [1, 0], [0, 2]])
    assert values[0, 0] == 1.0  # the argument is left alone


def test_zero_states_and_single_members() -> None:
    values = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    by_set = metrics.cosine_distance_by_set(values, ["a", "a", "b", "b", "c"])
    np.testing.assert_array_equal(by_set, [0.0, 1.0, np.nan])
    assert metrics.logical_consistency_score(values, ["a", "a", "b", "b", "c"]) == 0.5
    assert math.isnan(metrics.logical_consistency_score(values, list("abcde")))


def test_agreement_by_hand() -> None:
    ids = ["a"] * 3 + ["b"] * 3 + ["c"] * 2
    answers = ["True", "true", "False", None, None, "1,000", "1000", "1,000"]
    np.testing.assert_allclose(metrics.agreement_by_set(answers, ids), [1 / 3, 0, 1])
    assert metrics.answer_agreement(answers, ids) == pytest.approx(4 / 9)


@given(st.lists(st.sampled_from(["True", "False", "Unknown", None]), min_size=2, max_size=6), st.randoms())
def test_agreement_is_bounded_and_blind_to_order(answers: list[str | None], random: Any) -> None:
    ids = ["a"] * len(answers)
    value = metrics.answer_agreement(answers, ids)
    assert 0 <= value <= 1
    shuffled = list(answers)
    random.shuffle(shuffled)
    assert metrics.answer_agreement(shuffled, ids) == pytest.approx(value)
    assert metrics.answer_agreement(["True"] * len(answers), ids) == 1
    assert metrics.answer_agreement([None] * len(answers), ids) == 0


@given(distributions(), distributions())
def test_jensen_shannon_equals_scipys_and_keeps_its_bounds(p: np.ndarray, q: np.ndarray) -> None:
    value = metrics.jensen_shannon(p, q)
    assert 0 <= value <= math.log(2)
    assert value == pytest.approx(float(jensenshannon(p, q)) ** 2, abs=1e-7)
    assert value == pytest.approx(metrics.jensen_shannon(q, p), abs=1e-12)
    assert metrics.jensen_shannon(p, p) == 0


def test_jensen_shannon_of_opposites_is_ln_2() -> None:
    assert metrics.jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(math.log(2))


@given(st.lists(distributions(), min_size=K, max_size=K), st.permutations(range(K)))
def test_js_of_sets(members: list[np.ndarray], order: list[int]) -> None:
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([metrics.jensen_shannon(members[i], members[j]) for i, j in pairs])
    assert metrics.js_divergence(members, ["a"] * K) == pytest.approx(expected)
    assert metrics.js_divergence([members[i] for i in order], ["a"] * K) == pytest.approx(expected)


def test_js_skips_sets_without_distributions() -> None:
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    ids = ["a", "a", "b", "b", "c"]
    by_set = metrics.js_by_set([p, q, None, p, p], ids)
    assert by_set[0] == pytest.approx(metrics.jensen_shannon(p, q))
    assert np.isnan(by_set[1:]).all()
    assert metrics.js_divergence([p, q, None, p, p], ids) == pytest.approx(by_set[0])
    assert math.isnan(metrics.js_divergence([None] * 5, ids))
