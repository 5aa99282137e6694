"""Rules that look at one step answer much of some families; docs/isomers.md says how much, under Limits.

These are known faults of the data: a change that mends one changes its figure here and there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from isodistill.isomers.families import make_family
from isodistill.isomers.skeleton import Skeleton
from isodistill.isomers.statements import find_kind
from isodistill.logic.formula import Atom, Forall, Formula, Implies, Less, Not

LIMITS = (Path(__file__).resolve().parents[2] / "docs" / "isomers.md").read_text(encoding="utf-8").split("## Limits")[1]
DRAWS = 600


def literal(formula: Formula) -> tuple[str, bool]:
    atom = formula.body if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    return atom.predicate, atom is formula


def by_the_last_rule(skeleton: Skeleton) -> str:
    """Compares the statement's sign with that of the one rule that concludes on its property."""
    asked, sign = literal(skeleton.question)
    votes = set()
    for premise in skeleton.premises:
        if isinstance(premise, Forall):
            assert isinstance(premise.body, Implies)
            concluded, positive = literal(premise.body.right)
            if concluded == asked:
                votes.add(positive == sign)
    return "Unknown" if len(votes) != 1 else str(votes.pop())


def by_degrees(skeleton: Skeleton) -> str:
    """Counts how often each of the two things is the lesser and the greater one."""
    asked = skeleton.question
    assert isinstance(asked, Less)
    score = 0
    for premise in skeleton.premises:
        assert isinstance(premise, Less)
        score += (premise.left == asked.left) - (premise.right == asked.left)
        score += (premise.right == asked.right) - (premise.left == asked.right)
    return "True" if score > 0 else "False" if score < 0 else "Unknown"


def by_one_clue(skeleton: Skeleton) -> str:
    """Looks for a clue that says not here, or that somebody else is here."""
    kinds = make_family("allocation").kinds
    _, asked = find_kind(skeleton.question, "question", kinds)
    for premise in skeleton.premises:
        kind, slots = find_kind(premise, "premise", kinds)
        same_place = kind.name in ("at", "not_at") and slots["n"] == asked["n"]
        if same_place and (kind.name == "at") != (slots["i"] == asked["i"]):
            return "False"
    return "True"


@pytest.mark.parametrize(
    ("family", "rule", "depth"),
    [
        ("deduction", by_the_last_rule, 1),
        ("deduction", by_the_last_rule, 3),
        ("ordering", by_degrees, 1),
        ("ordering", by_degrees, 3),
        ("allocation", by_one_clue, 1),
        ("allocation", by_one_clue, 3),
    ],
)
def test_a_shallow_rule_answers_as_much_as_the_docs_say(
    family: str, rule: Callable[[Skeleton], str], depth: int
) -> None:
    sampler = make_family(family)
    draws = DRAWS if family != "allocation" else DRAWS // 2
    drawn = [sampler.sample(Random(f"shallow/{n}"), depth, n % len(sampler.classes)) for n in range(draws)]
    share = 100 * sum(rule(skeleton) == skeleton.answer for skeleton in drawn) / draws
    assert f"{family} {share:.0f}% at depth {depth}" in " ".join(LIMITS.split())
