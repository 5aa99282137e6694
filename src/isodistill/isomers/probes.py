"""Linear probes on the surface of texts: can bare words, runs of words, or pairs of words, tell the answer?"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isodistill.errors import IsodistillError
from isodistill.isomers.sets import IsomerSet

_Z95 = 1.959963984540054
NGRAM_FEATURES = 4096
"""How many runs of words a probe sees at most, the most frequent first."""

PAIR_WORDS = (16, 32)
"""How many words of the question, and of the premises, a probe pairs at most: those that sentences are built with.
More would be names and properties, each of which stands in few texts and tells nothing of another."""

PROBE_TEXTS = 2000
"""How many texts a probe with more features than words takes at most; its cost grows with their square."""

Features = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class ProbeResult:
    """How well a probe predicts the answer class inside one domain.

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

    def leaks_at(self, z: float) -> bool:
        """Tells whether the accuracy is above chance beyond doubt.

        Args:
            z: By how many standard errors it must be; the more probes are looked at, the more.

        Returns:
            ``True`` if it is.
        """
        return wilson_interval(round(self.accuracy * self.texts), self.texts, z)[0] > self.chance


def surface_probe(
    sets: Sequence[IsomerSet], domain: str, folds: int = 5, penalty: float = 10.0, seed: int = 0
) -> ProbeResult:
    """Fits a ridge classifier on word counts to the texts of one domain of a split, cross-validated.

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
    return probe_texts(texts, labels, domain, word_counts, folds, penalty, seed)


def probe_texts(
    texts: Sequence[str],
    labels: Sequence[str],
    domain: str,
    features: Features,
    folds: int = 5,
    penalty: float = 10.0,
    seed: int = 0,
) -> ProbeResult:
    """Fits a ridge classifier on features of texts, cross-validated.

    The probe sees words, runs of words or pairs of words, without their places: it finds what a student could learn
    without any reasoning. Features are standardised over all texts, which uses no label.

    Args:
        texts: The texts.
        labels: The answer class of each.
        domain: Their domain, for the result and for errors.
        features: What the probe sees: `word_counts`, `ngram_counts` or `pair_counts`.
        folds: The number of folds.
        penalty: The weight of the ridge penalty.
        seed: The seed of the folds.

    Returns:
        The accuracy with its interval.

    Raises:
        IsodistillError: If there are fewer texts than ten for each fold.
    """
    if len(texts) < 10 * folds:
        raise IsodistillError(
            f"The surface probe needs at least {10 * folds} texts of the domain {domain!r}, there are {len(texts)}; "
            "give it a larger split."
        )
    rng = np.random.default_rng(seed)
    if features is not word_counts and len(texts) > PROBE_TEXTS:
        chosen = sorted(rng.permutation(len(texts))[:PROBE_TEXTS].tolist())
        texts, labels = [texts[place] for place in chosen], [labels[place] for place in chosen]
    counts = features(texts)  # (texts, features)
    scaled = (counts - counts.mean(axis=0)) / (counts.std(axis=0) + 1e-9)
    classes = sorted(set(labels))
    targets = np.array([[label == name for name in classes] for label in labels], dtype=np.float64)  # (texts, classes)
    truth = targets.argmax(axis=1)
    fold = rng.permutation(len(texts)) % folds
    right = 0
    for predicted, test in fold_scores(scaled, targets, fold, folds, penalty):
        right += int((predicted.argmax(axis=1) == truth[test]).sum())
    low, high = wilson_interval(right, len(texts))
    chance = float(targets.mean(axis=0).max())
    return ProbeResult(domain, len(texts), chance, right / len(texts), low, high)


def answer_class(isomer_set: IsomerSet) -> str:
    """Names the answer class of a set.

    Args:
        isomer_set: The set.

    Returns:
        The answer, or the parity where the answer is a whole number.
    """
    if not isomer_set.choices and re.fullmatch(r"-?\d+", isomer_set.answer):
        return "odd" if int(isomer_set.answer) % 2 else "even"
    return isomer_set.answer


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


def word_counts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts single words.

    Args:
        texts: The texts.

    Returns:
        Counts of shape (texts, words), the words in alphabetical order.
    """
    return _counted([Counter(_words(text)) for text in texts])


def ngram_counts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts words and runs of two and three words; runs that stand in fewer than three texts are left out.

    Args:
        texts: The texts.

    Returns:
        Counts of shape (texts, runs), at most `NGRAM_FEATURES` runs.
    """
    counted = []
    for text in texts:
        words = _words(text)
        runs = (" ".join(words[place : place + n]) for n in (1, 2, 3) for place in range(len(words) - n + 1))
        counted.append(Counter(runs))
    spread = Counter(run for runs in counted for run in runs)
    common = [run for run, count in sorted(spread.items(), key=lambda item: (-item[1], item[0])) if count >= 3]
    kept = set(common[:NGRAM_FEATURES])
    return _counted([Counter({run: count for run, count in runs.items() if run in kept}) for runs in counted])


def pair_counts(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts the words of the premises for each word of the question: what comparing the two would tell.

    The premises are the first line of a text and the question is the second. Signs cancel in twos, which no count
    tells a linear probe: so the parity of each count stands beside it. Numbers are left out: what follows from one and
    another is what such a problem asks, and the likelier of two places is no fault of its words.

    Args:
        texts: The texts.

    Returns:
        Features of shape (texts, pairs): for each pair of a word of the question and one of the premises how often
        the latter stands there, and whether that is odd; both 0 where the question lacks the former. At most
        2 (`PAIR_WORDS` [0] + 1) `PAIR_WORDS` [1] columns, since any question counts as a word of its own.
    """
    lines = [text.split("\n") for text in texts]
    told = _counted([Counter(_bare_words(parts[0])) for parts in lines])
    asked = _counted([Counter(_bare_words(parts[1] if len(parts) > 1 else "")) for parts in lines]) > 0
    # A word of every question, or of hardly any, sets no questions apart.
    share = asked.mean(axis=0)
    asked = asked[:, np.argsort(-share * (1 - share), kind="stable")[: PAIR_WORDS[0]]]
    asked = np.concatenate([np.ones((len(texts), 1), dtype=bool), asked], axis=1)
    told = told[:, np.argsort(-told.sum(axis=0), kind="stable")[: PAIR_WORDS[1]]]
    both = np.concatenate([told, told % 2], axis=1)
    return (asked[:, :, None] * both[:, None, :]).reshape(len(texts), -1).astype(np.float32)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _bare_words(text: str) -> list[str]:
    return [word for word in _words(text) if not word.isdecimal()]


def _counted(rows: Sequence[Counter[str]]) -> NDArray[np.float32]:
    columns = {name: place for place, name in enumerate(sorted({name for row in rows for name in row}))}
    counts = np.zeros((len(rows), len(columns)), dtype=np.float32)
    for place, row in enumerate(rows):
        for name, count in row.items():
            counts[place, columns[name]] = count
    return counts


def fold_scores(
    scaled: NDArray[np.float32], targets: NDArray[np.float64], fold: NDArray[np.int64], folds: int, penalty: float
) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Solves the ridge problem of each fold, in the dual where features outnumber texts: the same solution, cheaper.

    Args:
        scaled: Standardised features, of shape (texts, features).
        targets: One column for each class, of shape (texts, classes).
        fold: The fold of each text.
        folds: The number of folds.
        penalty: The weight of the ridge penalty.

    Returns:
        For each fold the scores of its texts, of shape (texts of the fold, classes), and which texts they are.
    """
    texts, features = scaled.shape
    dual = features > texts
    gram = (scaled @ scaled.T if dual else scaled.T @ scaled).astype(np.float64)
    results = []
    for part in range(folds):
        train, test = fold != part, fold == part
        mean = targets[train].mean(axis=0)
        if dual:
            inner = gram[np.ix_(train, train)] + penalty * np.eye(int(train.sum()))
            scores = gram[np.ix_(test, train)] @ np.linalg.solve(inner, targets[train] - mean)
        else:
            # The gram matrix of the training texts is that of all texts less that of the left-out ones.
            inner = gram - (scaled[test].T @ scaled[test]).astype(np.float64) + penalty * np.eye(features)
            weights = np.linalg.solve(inner, scaled[train].T @ (targets[train] - mean))
            scores = scaled[test] @ weights
        results.append((scores + mean, test))
    return results
