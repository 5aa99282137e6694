"""The surface audit: can a linear probe on bare word counts tell the answer? On honest data it cannot."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isodistill.errors import IsodistillError
from isodistill.isomers.sets import IsomerSet

_Z95 = 1.959963984540054
_Z_LEAK = 3.3


@dataclass(frozen=True)
class ProbeResult:
    """How well word counts predict the answer class inside one domain.

    Args:
        domain: The domain.
        texts: The number of texts.
        chance: The share of the most frequent class.
        accuracy: The cross-validated accuracy.
        low: The lower end of its 95% interval (Wilson, 1927).
        high: The upper end.
    """

    domain: str
    texts: int
    chance: float
    accuracy: float
    low: float
    high: float

    @property
    def leaks(self) -> bool:
        """Whether the accuracy is above chance beyond any doubt (3.3 standard errors, p < 0.0005)."""
        return wilson_interval(round(self.accuracy * self.texts), self.texts, _Z_LEAK)[0] > self.chance

    @property
    def beats_chance(self) -> bool:
        """Whether the whole interval lies above chance: the surface gives the answer away."""
        return self.low > self.chance


def surface_probe(
    sets: Sequence[IsomerSet], domain: str, folds: int = 5, penalty: float = 10.0, seed: int = 0
) -> ProbeResult:
    """Fits a ridge classifier on word counts, cross-validated inside a domain.

    The probe sees single words without their order: it finds what a student could learn without any reasoning.

    Args:
        sets: The sets of one split.
        domain: The domain whose members are probed.
        folds: The number of folds.
        penalty: The weight of the ridge penalty.
        seed: The seed of the folds.

    Returns:
        The accuracy with its interval.

    Raises:
        IsodistillError: If there are fewer texts than ten for each fold, or no member has this domain.
    """
    texts = [member.prompt for isomer_set in sets for member in isomer_set.members if member.domain == domain]
    labels = [answer_class(isomer_set) for isomer_set in sets if domain in isomer_set.domains]
    if len(texts) < 10 * folds:
        raise IsodistillError(
            f"The surface probe needs at least {10 * folds} texts of the domain {domain!r}, there are {len(texts)}; "
            "give it a larger split."
        )
    counts = _word_counts(texts)  # (texts, words)
    classes = sorted(set(labels))
    targets = np.array([[label == name for name in classes] for label in labels], dtype=np.float64)  # (texts, classes)
    truth = targets.argmax(axis=1)
    fold = np.random.default_rng(seed).permutation(len(texts)) % folds
    right = 0
    for part in range(folds):
        train, test = fold != part, fold == part
        scores = _ridge(counts[train], targets[train], counts[test], penalty)  # (test texts, classes)
        right += int((scores.argmax(axis=1) == truth[test]).sum())
    low, high = wilson_interval(right, len(texts))
    chance = float(targets.mean(axis=0).max())
    return ProbeResult(domain, len(texts), chance, right / len(texts), low, high)


def answer_class(isomer_set: IsomerSet) -> str:
    """Names the answer class of a set.

    Args:
        isomer_set: The set.

    Returns:
        The answer, or the parity where the answer is a number.
    """
    if isomer_set.choices:
        return isomer_set.answer
    return "odd" if int(isomer_set.answer) % 2 else "even"


def wilson_interval(right: int, total: int, z: float = _Z95) -> tuple[float, float]:
    """Estimates a share from a count, after E. B. Wilson, "Probable inference ..." (1927).

    Args:
        right: The number of successes.
        total: The number of trials, at least 1.
        z: The normal quantile; the default gives 95%.

    Returns:
        The lower and the upper end.
    """
    share = right / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return centre - half, centre + half


def _word_counts(texts: Sequence[str]) -> NDArray[np.float64]:
    split = [re.findall(r"\w+", text.lower()) for text in texts]
    columns = {word: place for place, word in enumerate(sorted({word for words in split for word in words}))}
    counts = np.zeros((len(texts), len(columns)))
    for row, words in enumerate(split):
        for word in words:
            counts[row, columns[word]] += 1
    return counts


def _ridge(
    features: NDArray[np.float64], targets: NDArray[np.float64], unseen: NDArray[np.float64], penalty: float
) -> NDArray[np.float64]:
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    scaled, scaled_unseen = (features - mean) / spread, (unseen - mean) / spread
    gram = scaled.T @ scaled + penalty * np.eye(scaled.shape[1])
    weights = np.linalg.solve(gram, scaled.T @ (targets - targets.mean(axis=0)))  # (words, classes)
    return scaled_unseen @ weights + targets.mean(axis=0)
