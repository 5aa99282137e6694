"""Linear probes: how well the domain, or the answer, can be read from the states at the answer position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

RIDGE = 1e-2
"""Strength of the ridge penalty, as a share of the states' mean variance."""

FOLDS = 5


class Decodability(BaseModel):
    """How well a linear probe reads a label off held-out states.

    Attributes:
        accuracy: Mean over the labels of the share of their items read right (a constant guess scores `chance`).
        chance: One over the number of labels.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    accuracy: float
    chance: float


def decodability(
    states: NDArray[np.floating[Any]], labels: Sequence[str], groups: Sequence[str], seed: int = 0
) -> Decodability | None:
    """Fits a linear probe on some groups and reads the label in the others, until each group was held out once.

    The probe is ridge regression to one indicator for each label, the largest of which counts. A state of a student
    has more dimensions than a split has items: with the items it was fitted on, any label could be read.

    Args:
        states: One state per item, shape (items, hidden).
        labels: What is to be read: the domain or the answer of each item.
        groups: What is held out together. With isomer sets, no problem is known from another domain; with domains,
            the probe shows whether the domains encode the answer in the same directions.
        seed: Deals the groups to at most `FOLDS` folds.

    Returns:
        The decodability; ``None`` with fewer than two labels, two groups, or two items of a label.
    """
    matrix = np.asarray(states, dtype=np.float64)
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    kinds, members = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2 or len(kinds) < 2 or np.bincount(codes).min() < 2:
        return None
    folds = min(FOLDS, len(kinds))
    fold_of = (np.random.default_rng(seed).permutation(len(kinds)) % folds)[members]  # (items,)
    predicted = np.empty(len(codes), dtype=np.intp)
    for fold in range(folds):
        held = fold_of == fold
        predicted[held] = _fit(matrix[~held], np.eye(len(names))[codes[~held]])(matrix[held]).argmax(axis=1)
    right = (predicted == codes).astype(np.float64)
    accuracy = float(np.mean(np.bincount(codes, weights=right) / np.bincount(codes)))
    return Decodability(accuracy=accuracy, chance=1 / len(names))


def _fit(states: NDArray[np.float64], targets: NDArray[np.float64]) -> Any:
    """Ridge regression with an intercept, in whichever of the two forms has the smaller system."""
    mean = states.mean(axis=0)
    centred, offset = states - mean, targets.mean(axis=0)
    items, width = centred.shape
    penalty = RIDGE * max(float((centred**2).sum()) / width, np.finfo(np.float64).tiny)
    if width <= items:
        weights = np.linalg.solve(centred.T @ centred + penalty * np.eye(width), centred.T @ (targets - offset))
    else:
        weights = centred.T @ np.linalg.solve(centred @ centred.T + penalty * np.eye(items), targets - offset)
    return lambda rows: (rows - mean) @ weights + offset
