"""What a look near the question, or a count over the problem, answers: shortcuts that no bag of words shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isodistill.errors import IsodistillError
from isodistill.isomers.probes import wilson_interval
from isodistill.isomers.skeleton import Skeleton
from isodistill.logic.canonical import structure_hash, symbol_profiles
from isodistill.logic.formula import Formula, constants, predicates

FITTED = 0.75
"""The share of the problems that fills the table, or fits the counts; the rest is asked."""

_LEAST = 5  # a profile that fewer of the fitted problems have is left out
_PENALTY = 10.0  # as the probes of words have


@dataclass(frozen=True)
class LookupResult:
    """How well a measure answers problems that it was not made from.

    Args:
        asked: The number of problems asked.
        chance: The share of the most frequent answer among them.
        accuracy: The share that it answers rightly.
        low: The lower end of its 95% interval (Wilson, 1927).
        high: The upper end.
    """

    asked: int
    chance: float
    accuracy: float
    low: float
    high: float


def neighbourhood(skeleton: Skeleton, steps: int) -> tuple[Formula, ...]:
    """Picks the premises that so many steps from the question reach.

    A step goes from a symbol to every premise in which it stands, and to the other symbols there.

    Args:
        skeleton: The problem.
        steps: How many steps are taken, at least 1: with one, the premises that share a symbol with the question.

    Returns:
        The premises, in the order of the problem.
    """
    reached = _symbols(skeleton.question)
    near: set[int] = set()
    for _ in range(steps):
        found = {place for place, premise in enumerate(skeleton.premises) if reached & _symbols(premise)}
        near |= found
        reached = reached.union(*(_symbols(skeleton.premises[place]) for place in found))
    return tuple(skeleton.premises[place] for place in sorted(near))


def lookup_accuracy(skeletons: Sequence[Skeleton], steps: int) -> LookupResult:
    """Answers problems by the most frequent answer of the problems whose question has the same neighbourhood.

    The table holds whole neighbourhoods up to renaming. It is a bound from below on what a student that looks no
    further than so many steps may learn: where neighbourhoods vary much it has not seen most of them, and then gives
    the most frequent answer of all, where a student may generalise.

    Args:
        skeletons: Problems with closed answers; the first three quarters fill the table.
        steps: As in `neighbourhood`.

    Returns:
        The accuracy on the rest.

    Raises:
        IsodistillError: If there are fewer than 100 problems.
    """
    _check_number(skeletons)
    rows = [(structure_hash(neighbourhood(one, steps), one.question), one.answer) for one in skeletons]
    cut = round(FITTED * len(rows))
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, answer in rows[:cut]:
        table[key][answer] += 1
    overall = Counter(answer for _, answer in rows[:cut])
    told = [(table.get(key) or overall).most_common(1)[0][0] for key, _ in rows[cut:]]
    return _result(told, [answer for _, answer in rows[cut:]])


def count_accuracy(skeletons: Sequence[Skeleton]) -> LookupResult:
    """Answers problems by counting the symbols that stand in the same places, without following any chain.

    A ridge classifier is fitted to the counts. Where each answer leaves its own traces anywhere in a problem (a symbol
    that stands alone, one property more among the conclusions than among the conditions), it finds them.

    Args:
        skeletons: Problems with closed answers; the classifier is fitted to the first three quarters.

    Returns:
        The accuracy on the rest.

    Raises:
        IsodistillError: If there are fewer than 100 problems.
    """
    _check_number(skeletons)
    profiles = [symbol_profiles(one.premises, one.question) for one in skeletons]
    answers = [one.answer for one in skeletons]
    cut = round(FITTED * len(skeletons))
    having = Counter(profile for counted in profiles[:cut] for profile in counted)
    kept = sorted(profile for profile, number in having.items() if number >= _LEAST)
    counts = np.array([[counted[profile] for profile in kept] for counted in profiles], dtype=np.float64)  # (N, P)
    scaled = (counts - counts[:cut].mean(axis=0)) / (counts[:cut].std(axis=0) + 1e-9)
    classes = sorted(set(answers))
    targets = np.array([[answer == name for name in classes] for answer in answers[:cut]], dtype=np.float64)  # (N, C)
    fitted, level = scaled[:cut], targets.mean(axis=0)
    weights = np.linalg.solve(fitted.T @ fitted + _PENALTY * np.eye(len(kept)), fitted.T @ (targets - level))
    told = [classes[place] for place in (scaled[cut:] @ weights + level).argmax(axis=1)]
    return _result(told, answers[cut:])


def _check_number(skeletons: Sequence[Skeleton]) -> None:
    if len(skeletons) < 100:
        raise IsodistillError(f"At least 100 problems are needed to fit a measure, there are {len(skeletons)}.")


def _result(told: Sequence[str], answers: Sequence[str]) -> LookupResult:
    right = sum(one == other for one, other in zip(told, answers, strict=True))
    low, high = wilson_interval(right, len(answers))
    return LookupResult(len(answers), max(Counter(answers).values()) / len(answers), right / len(answers), low, high)


def _symbols(formula: Formula) -> set[str]:
    return {*predicates(formula), *constants(formula)}
