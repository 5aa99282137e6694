"""What a look at the premises nearest to the question answers: the measure of shortcuts that no bag of words shows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from isodistill.errors import IsodistillError
from isodistill.isomers.probes import wilson_interval
from isodistill.isomers.skeleton import Skeleton
from isodistill.logic.canonical import structure_hash
from isodistill.logic.formula import Formula, constants, predicates

FITTED = 0.75
"""The share of the problems that fills the table; the rest is asked."""


@dataclass(frozen=True)
class LookupResult:
    """How well a table of neighbourhoods answers problems that it was not made from.

    Args:
        asked: The number of problems asked.
        chance: The share of the most frequent answer among them.
        accuracy: The share that the table answers rightly.
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
    if len(skeletons) < 100:
        raise IsodistillError(f"A table of neighbourhoods needs at least 100 problems, there are {len(skeletons)}.")
    rows = [(structure_hash(neighbourhood(one, steps), one.question), one.answer) for one in skeletons]
    cut = round(FITTED * len(rows))
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, answer in rows[:cut]:
        table[key][answer] += 1
    overall = Counter(answer for _, answer in rows[:cut])
    asked = rows[cut:]
    right = sum((table.get(key) or overall).most_common(1)[0][0] == answer for key, answer in asked)
    low, high = wilson_interval(right, len(asked))
    chance = max(Counter(answer for _, answer in asked).values()) / len(asked)
    return LookupResult(len(asked), chance, right / len(asked), low, high)


def _symbols(formula: Formula) -> set[str]:
    return {*predicates(formula), *constants(formula)}
