"""What is measured: accuracy, and consistency within isomer sets, as pure functions of arrays.

Functions named ``*_by_set`` return one value per set, in the order in which the sets first appear;
``nan`` marks a set for which the value is undefined (fewer than two members that count). Their means
over sets are the reported numbers; the per-set values are what the bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from isodistill.answers import same_answer

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)


def accuracy(correct: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Share of items answered right.

    Args:
        correct: One flag per item.

    Returns:
        A share in [0, 1]; ``nan`` without items.
    """
    return _mean(np.asarray(correct, dtype=np.float64))


def grouped_accuracy(correct: Sequence[bool] | NDArray[np.bool_], groups: Sequence[Key]) -> dict[Key, float]:
    """Accuracy within each group, for example each domain or each depth.

    Args:
        correct: One flag per item.
        groups: The group of each item.

    Returns:
        Accuracy by group, in the order in which the groups first appear.
    """
    flags = np.asarray(correct, dtype=np.float64)
    return {group: _mean(flags[index]) for group, index in _indices(groups).items()}


def worst_group_accuracy(correct: Sequence[bool] | NDArray[np.bool_], groups: Sequence[Key]) -> tuple[Key, float]:
    """The lowest accuracy of any group: min over g of the accuracy on the items of group g.

    With domains as groups it is the worst-domain accuracy; with pairs of a domain and whether the cue is right, it
    finds those that a shortcut leaves behind (S. Sagawa et al., 2020, "Distributionally robust neural networks").

    Args:
        correct: One flag per item.
        groups: The group of each item; groups can be compared with each other.

    Returns:
        ``(group, accuracy)``; of equal groups the first in order, so the result does not depend on the items' order.

    Raises:
        ValueError: If there are no items.
    """
    if not len(groups):
        raise ValueError("worst-group accuracy needs at least one item")
    by_group = grouped_accuracy(correct, groups)
    return min(sorted(by_group.items()), key=lambda entry: entry[1])


def flips(first: Sequence[str | None], second: Sequence[str | None]) -> NDArray[np.bool_]:
    """Tells for each item whether two answers to it differ, for example with another cue and otherwise the same text.

    Args:
        first: The student's answer to each item; ``None`` without one.
        second: Its answer to the changed item.

    Returns:
        One flag per item; no answer differs from every answer, and not from none.
    """
    return np.array(
        [
            not (a is None and b is None) and (b is None or not same_answer(a, b))
            for a, b in zip(first, second, strict=True)
        ],
        dtype=np.bool_,
    )


def balanced_accuracy(answers: Sequence[str], predicted: Sequence[str | None]) -> float:
    """Mean over the answers that occur of the share of their items answered right.

    A constant answer scores 1 / (number of answers), however unbalanced the items are.

    Args:
        answers: The verified answer of each item.
        predicted: The student's answer to each item; ``None`` counts as wrong.

    Returns:
        A share in [0, 1]; ``nan`` without items.
    """
    right = [same_answer(given, answer) for given, answer in zip(predicted, answers, strict=True)]
    return _mean(np.array(list(grouped_accuracy(right, answers).values())))


def constant_accuracy(answers: Sequence[str]) -> float:
    """Accuracy of the best constant answer: the share of the commonest answer.

    Args:
        answers: The verified answer of each item.

    Returns:
        A share in (0, 1]; ``nan`` without items. An accuracy below it shows no skill.
    """
    if not len(answers):
        return float("nan")
    return max(len(index) for index in _indices(answers).values()) / len(answers)


def cosine_distance_by_set(states: NDArray[np.floating[Any]], set_ids: Sequence[str]) -> Floats:
    """Mean pairwise cosine distance between the states of each set's members.

    For a set with members 1..K and states h: the mean over pairs i < j of 1 - cos(h_i, h_j), in
    [0, 2]. It does not change when states are scaled by a positive factor. The cosine with a zero
    state is taken as 0, and as 1 between two zero states.

    Args:
        states: One state per item, shape (items, hidden).
        set_ids: The set of each item.

    Returns:
        One distance per set, shape (sets,).
    """
    matrix = np.asarray(states, dtype=np.float64)
    norms = np.linalg.norm(matrix, axis=1)
    zero = norms == 0
    unit = matrix / np.where(zero, 1.0, norms)[:, None]
    values = []
    for index in _indices(set_ids).values():
        cosines = unit[index] @ unit[index].T
        cosines[np.ix_(zero[index], zero[index])] = 1.0
        values.append(_pair_mean(np.clip(1.0 - cosines, 0.0, 2.0)))
    return np.array(values)


def logical_consistency_score(states: NDArray[np.floating[Any]], set_ids: Sequence[str]) -> float:
    """Logical Consistency Score (LCS): mean over sets of the mean pairwise cosine distance. Lower is better.

    The paper (arXiv 2606.05025) gives values and no formula; this is our definition. Raw cosines
    are high for any two states of a language model, and an untrained model scores well: read it
    beside accuracy, and prefer the score of `centre_by_domain` states.

    Args:
        states: One state per item, shape (items, hidden).
        set_ids: The set of each item.

    Returns:
        The score in [0, 2]; ``nan`` if no set has two members.
    """
    return _nan_mean(cosine_distance_by_set(states, set_ids))


def centre_by_domain(states: NDArray[np.floating[Any]], domains: Sequence[str]) -> Floats:
    """Subtracts each domain's mean state, so that what remains is what a problem adds to its domain.

    Args:
        states: One state per item, shape (items, hidden).
        domains: The domain of each item.

    Returns:
        Centred states, float64, shape (items, hidden). A domain with one item becomes zero, which
        says nothing: centre over two sets at the least, better over many.
    """
    centred = np.array(states, dtype=np.float64)
    for index in _indices(domains).values():
        centred[index] -= centred[index].mean(axis=0)
    return centred


def agreement_by_set(answers: Sequence[str | None], set_ids: Sequence[str]) -> Floats:
    """Share of each set's member pairs with the same extracted answer, right or wrong.

    Args:
        answers: The student's answer to each item; ``None`` agrees with nothing, itself included.
        set_ids: The set of each item.

    Returns:
        One share per set, shape (sets,).
    """
    values = []
    for index in _indices(set_ids).values():
        given = [answers[position] for position in index]
        same = [[b is not None and same_answer(a, b) for b in given] for a in given]
        values.append(_pair_mean(np.array(same, dtype=np.float64)))
    return np.array(values)


def answer_agreement(answers: Sequence[str | None], set_ids: Sequence[str]) -> float:
    """Mean over sets of the share of member pairs with the same answer. Higher is more consistent.

    Args:
        answers: The student's answer to each item, or ``None``.
        set_ids: The set of each item.

    Returns:
        A share in [0, 1]; ``nan`` if no set has two members.
    """
    return _nan_mean(agreement_by_set(answers, set_ids))


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Jensen-Shannon divergence with the natural logarithm.

    JS(p, q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2. It is symmetric, 0 for equal
    distributions and at most ln 2 (J. Lin, 1991, "Divergence measures based on the Shannon entropy").

    Args:
        p: A distribution, shape (choices,), summing to 1.
        q: Another over the same choices.

    Returns:
        The divergence in nats, in [0, ln 2].
    """
    middle = (p + q) / 2
    value = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.clip(value, 0.0, np.log(2)))


def js_by_set(probabilities: Sequence[Floats | None], set_ids: Sequence[str]) -> Floats:
    """Mean Jensen-Shannon divergence over the pairs of each set's members.

    Args:
        probabilities: The choice distribution of each item, or ``None`` for items without choices.
            The members of one set share their choices.
        set_ids: The set of each item.

    Returns:
        One divergence in nats per set, shape (sets,); ``nan`` where a member has no distribution.
    """
    values = []
    for index in _indices(set_ids).values():
        members = [distribution for position in index if (distribution := probabilities[position]) is not None]
        if len(members) < len(index):
            values.append(float("nan"))
            continue
        values.append(_pair_mean(np.array([[jensen_shannon(p, q) for q in members] for p in members])))
    return np.array(values)


def js_divergence(probabilities: Sequence[Floats | None], set_ids: Sequence[str]) -> float:
    """Mean over sets of the mean pairwise Jensen-Shannon divergence. Lower is more consistent.

    Args:
        probabilities: The choice distribution of each item, or ``None``.
        set_ids: The set of each item.

    Returns:
        The divergence in nats, in [0, ln 2]; ``nan`` if it is defined for no set.
    """
    return _nan_mean(js_by_set(probabilities, set_ids))


def _relative_entropy(p: Floats, q: Floats) -> float:
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / q[inside])))


def _indices(groups: Sequence[Key]) -> dict[Key, NDArray[np.intp]]:
    """Positions of each group, in the order in which the groups first appear."""
    found: dict[Key, list[int]] = {}
    for position, group in enumerate(groups):
        found.setdefault(group, []).append(position)
    return {group: np.array(positions, dtype=np.intp) for group, positions in found.items()}


def _pair_mean(matrix: Floats) -> float:
    """Mean over the pairs i < j of a symmetric (K, K) matrix; nan if K < 2."""
    rows, columns = np.triu_indices(len(matrix), k=1)
    return _mean(matrix[rows, columns])


def _mean(values: Floats) -> float:
    return float(values.mean()) if values.size else float("nan")


def _nan_mean(values: Floats) -> float:
    return _mean(values[~np.isnan(values)])
