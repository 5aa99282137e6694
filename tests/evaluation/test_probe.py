from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from isodistill.evaluation.probe import decodability

SETS, DOMAINS, HIDDEN = 60, ("law", "math", "medicine", "science"), 24
SET_IDS = [f"s{n}" for n in range(SETS) for _ in DOMAINS]
ITEM_DOMAINS = list(DOMAINS) * SETS
ANSWERS = [("True", "False", "Unknown")[n % 3] for n in range(SETS) for _ in DOMAINS]


def noise(width: int = HIDDEN) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(SETS * len(DOMAINS), width))


def along(labels: list[str], width: int = HIDDEN) -> NDArray[np.float64]:
    """One random direction for each label."""
    names = sorted(set(labels))
    return np.random.default_rng(1).normal(size=(len(names), width))[[names.index(label) for label in labels]]


def test_what_is_written_into_the_states_is_read_and_nothing_else_is() -> None:
    states = noise() + 3 * along(ITEM_DOMAINS)
    domain = decodability(states, ITEM_DOMAINS, SET_IDS)
    answer = decodability(states, ANSWERS, SET_IDS)
    assert domain is not None
    assert answer is not None
    assert domain.accuracy > 0.99
    assert answer.accuracy == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / len(SET_IDS)))
    assert (domain.chance, answer.chance) == (1 / 4, 1 / 3)


def test_members_of_a_set_never_stand_on_both_sides() -> None:
    # Each set has a state of its own: with another member at hand the answer could be looked up, without one it cannot.
    own = np.random.default_rng(2).normal(size=(SETS, 200))[np.repeat(np.arange(SETS), len(DOMAINS))]
    labels = (
        np.random.default_rng(3)
        .permutation(np.array(["a", "b"] * (SETS // 2)))[np.repeat(np.arange(SETS), len(DOMAINS))]
        .tolist()
    )
    held = decodability(own, labels, SET_IDS)
    leaking = decodability(own, labels, [str(n) for n in range(len(SET_IDS))])
    assert held is not None
    assert leaking is not None
    assert held.accuracy < 0.7
    assert leaking.accuracy > 0.99


def test_an_answer_in_another_direction_for_each_domain_is_read_within_domains_and_not_across() -> None:
    parts = [f"{answer}/{domain}" for answer, domain in zip(ANSWERS, ITEM_DOMAINS, strict=True)]
    by_domain = 5 * np.eye(64)[[sorted(set(parts)).index(part) for part in parts]]  # no direction in common
    shared = along(ANSWERS, 64)
    for signal, expected in ((shared, 1.0), (by_domain, 1 / 3)):
        states = 0.2 * noise(64) + signal
        within = decodability(states, ANSWERS, SET_IDS)
        across = decodability(states, ANSWERS, ITEM_DOMAINS)
        assert within is not None
        assert across is not None
        assert within.accuracy > 0.95
        assert across.accuracy == pytest.approx(expected, abs=0.15)


def test_both_forms_of_the_regression_agree_and_the_scale_does_not_matter() -> None:
    narrow = noise(20) + along(ANSWERS, 20)
    wide = np.concatenate([narrow, np.zeros((len(narrow), 400))], axis=1)  # more dimensions than items: dual form
    first = decodability(narrow, ANSWERS, SET_IDS)
    assert first is not None
    # The penalty is a share of the mean variance, which the empty dimensions lower: the same in both after scaling.
    assert decodability(wide, ANSWERS, SET_IDS) is not None
    assert decodability(1000 * narrow, ANSWERS, SET_IDS) == first
    assert 0.4 < first.accuracy < 1


def test_the_dual_form_is_ridge_regression() -> None:
    from isodistill.evaluation.probe import RIDGE, _fit

    rng = np.random.default_rng(5)
    for items, width in ((30, 8), (8, 30)):
        states, targets = rng.normal(size=(items, width)), rng.normal(size=(items, 2))
        centred = states - states.mean(axis=0)
        penalty = RIDGE * (centred**2).sum() / width
        # Ridge regression is least squares with a row sqrt(penalty) e_j -> 0 added for each dimension.
        rows = np.vstack([centred, np.sqrt(penalty) * np.eye(width)])
        wanted = np.vstack([targets - targets.mean(axis=0), np.zeros((width, 2))])
        weights = np.linalg.lstsq(rows, wanted, rcond=None)[0]
        new = rng.normal(size=(5, width))
        expected = (new - states.mean(axis=0)) @ weights + targets.mean(axis=0)
        np.testing.assert_allclose(_fit(states, targets)(new), expected, rtol=1e-6, atol=1e-8)


def test_too_little_to_tell_is_none() -> None:
    states = np.eye(4)
    assert decodability(states, ["a"] * 4, list("wxyz")) is None
    assert decodability(states, ["a", "a", "b", "b"], ["s"] * 4) is None
    assert decodability(states, ["a", "a", "a", "b"], list("wxyz")) is None
    assert decodability(np.zeros((4, 3)), ["a", "a", "b", "b"], list("wxyz")) is not None  # states that say nothing
