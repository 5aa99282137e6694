from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from isodistill.evaluation.cka import cka_between_domains, linear_cka


def test_rotation_scale_and_shift_change_nothing() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(40, 16))
    turned = 3.0 * states @ ortho_group.rvs(16, random_state=1) + rng.normal(size=16)
    assert linear_cka(states, turned) == pytest.approx(1.0)
    other = rng.normal(size=(40, 5))
    assert linear_cka(states, other) == pytest.approx(linear_cka(turned, other))
    assert linear_cka(states, other) == pytest.approx(linear_cka(other, states))


def test_unrelated_states_score_about_zero_even_in_many_dimensions() -> None:
    rng = np.random.default_rng(1)
    values = [linear_cka(rng.normal(size=(20, 500)), rng.normal(size=(20, 500))) for _ in range(50)]
    assert np.mean(values) == pytest.approx(0.0, abs=4 * np.std(values) / np.sqrt(50))
    assert abs(float(np.mean(values))) < 0.05  # the usual estimator gives about 0.96 here


def test_a_shared_part_of_known_size() -> None:
    # Both sides hold the same signal and noise of their own, all of unit variance: the population's CKA is known.
    rng = np.random.default_rng(2)
    shared, n, width = 6, 4000, 12
    signal = rng.normal(size=(n, shared))
    sides = [np.hstack([signal, rng.normal(size=(n, width - shared))]) for _ in range(2)]
    # ||cov(X, Y)||^2 / (||cov(X)|| ||cov(Y)||) = shared / width.
    assert linear_cka(*sides) == pytest.approx(shared / width, abs=0.02)


def test_hsic_equals_its_definition_over_distinct_indices() -> None:
    from itertools import permutations

    from isodistill.evaluation.cka import _gram, _hsic

    rng = np.random.default_rng(3)
    k, m = _gram(rng.normal(size=(6, 3))), _gram(rng.normal(size=(6, 3)))
    terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)]
    assert _hsic(k, m) == pytest.approx(np.mean(terms))


@given(st.permutations(range(3)))
def test_pairs_are_matched_by_set_whatever_the_order(order: list[int]) -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=(30, 8))
    states = np.stack([base, 2 * base, rng.normal(size=(30, 8))], axis=1)  # math is law, seen twice as large
    names = np.array(["law", "math", "music"])
    found = cka_between_domains(
        states[:, order].reshape(-1, 8), [f"s{n}" for n in range(30) for _ in range(3)], names[order].tolist() * 30
    )
    assert list(found) == [("law", "math"), ("law", "music"), ("math", "music")]
    assert found["law", "math"] == pytest.approx(1.0)
    assert abs(found["law", "music"]) < 0.3


def test_too_little_to_tell() -> None:
    assert math.isnan(linear_cka(np.eye(3), np.eye(3)))
    assert math.isnan(linear_cka(np.full((9, 4), 7.3), np.random.default_rng(0).normal(size=(9, 4))))
    assert cka_between_domains(np.eye(4), list("aabb"), ["law", "math"] * 2) == {}
    with pytest.raises(ValueError, match="same problems"):
        linear_cka(np.eye(4), np.eye(5))
