"""Centred kernel alignment: whether two domains lay out the same problems alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_SETS = 4
"""The debiased estimator needs this many problems."""


def linear_cka(first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]) -> float:
    """Similarity of two sets of states of the same problems, whatever the rotation, scale and shift of either.

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = X X^T and L = Y Y^T. HSIC is the unbiased estimator (L.
    Song et al., 2012, "Feature selection via dependence maximization", eq. 4): with the usual one, few problems in many
    dimensions look alike whatever they are. Source: S. Kornblith et al. (2019), "Similarity of neural network
    representations revisited"; debiased as in T. Nguyen, M. Raghu and S. Kornblith (2021), appendix A.

    Args:
        first: States X, shape (problems, hidden).
        second: States Y of the same problems in the same order, shape (problems, any width).

    Returns:
        At most about 1, about 0 for unrelated states (it may fall below); ``nan`` with fewer than 4 problems or where a
        side does not vary.

    Raises:
        ValueError: If the two differ in the number of problems.
    """
    if len(first) != len(second):
        raise ValueError("both sides must hold the same problems")
    if len(first) < MIN_SETS:
        return float("nan")
    k, m = _gram(first), _gram(second)
    scale = _hsic(k, k) * _hsic(m, m)
    return _hsic(k, m) / float(np.sqrt(scale)) if scale > 0 else float("nan")


def cka_between_domains(
    states: NDArray[np.floating[Any]], set_ids: Sequence[str], domains: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Linear CKA of each pair of domains over the sets that stand in both.

    Args:
        states: One state per item, shape (items, hidden).
        set_ids: The set of each item.
        domains: The domain of each item; a set has at most one item in each.

    Returns:
        The CKA by pair of domains, each pair in alphabetical order; pairs for which it is undefined are left out.
    """
    place = {(domain, set_id): row for row, (set_id, domain) in enumerate(zip(set_ids, domains, strict=True))}
    order = list(dict.fromkeys(set_ids))
    found = {}
    for pair in combinations(sorted(set(domains)), 2):
        shared = [set_id for set_id in order if all((domain, set_id) in place for domain in pair)]
        sides = [np.asarray(states)[[place[domain, set_id] for set_id in shared]] for domain in pair]
        value = linear_cka(*sides)
        if np.isfinite(value):
            found[pair] = value
    return found


def _gram(states: NDArray[np.floating[Any]]) -> Floats:
    matrix = np.asarray(states, dtype=np.float64)
    matrix = matrix - matrix.mean(axis=0)  # changes nothing in exact arithmetic and spares digits
    gram = matrix @ matrix.T
    # What is left of states that do not vary is round-off, and no direction.
    gram[np.abs(gram) < 1e-12 * max(float((np.asarray(states, dtype=np.float64) ** 2).sum()), 1e-300)] = 0.0
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(k: Floats, m: Floats) -> float:
    """The unbiased estimator; both matrices have zeros on the diagonal."""
    n = len(k)
    value = (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return float(value) / (n * (n - 3))
