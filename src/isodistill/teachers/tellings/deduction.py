"""Telling deductions: each rule that is applied, or why the rules do not reach the statement."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from isodistill.isomers.render import sentence
from isodistill.isomers.skeleton import Skeleton
from isodistill.logic.formula import Atom, Forall, Formula, Implies, Not, Var, map_leaves, predicates
from isodistill.logic.solver import entails
from isodistill.teachers.tellings.voice import VERDICTS, Voice

Obstacle = Literal["backwards", "refuted", "open"]


def tell_deduction(voice: Voice) -> list[str]:
    """Tells a deduction.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    statement = skeleton.question
    claim = statement.body if isinstance(statement, Not) else statement
    if not voice.full:
        return [*told, f"Nothing settles whether {voice.say(claim)}."]
    for rule, condition, obstacle in _obstacles(skeleton):
        reason = {
            "backwards": "this rule cannot be used backwards",
            "refuted": voice.say(_negated(condition)),
            "open": f"nothing shows that {voice.say(condition)}",
        }[obstacle]
        told.append(sentence(f"{voice.say(rule)}, but {reason}"))
    return [*told, f"So it cannot be concluded whether {voice.say(claim)}."]


@lru_cache(maxsize=1024)
def _obstacles(skeleton: Skeleton) -> tuple[tuple[Formula, Formula, Obstacle], ...]:
    """Finds for each rule about the property in question why it does not settle the statement.

    A rule that concludes the property, or its absence, would settle it if its condition held: so its condition is
    known to fail, or is open. A rule that starts from the property says nothing about who has it, except by
    contraposition where its conclusion is known to fail, and then the statement would be settled.

    Returns:
        The rule, its condition for the individual in question, and the obstacle.
    """
    atom = skeleton.question.body if isinstance(skeleton.question, Not) else skeleton.question
    assert isinstance(atom, Atom)
    (subject,) = atom.args
    found: list[tuple[Formula, Formula, Obstacle]] = []
    for rule in skeleton.premises:
        if not isinstance(rule, Forall) or not isinstance(rule.body, Implies) or atom.predicate not in predicates(rule):
            continue
        condition: Formula = map_leaves(rule.body.left, lambda leaf: subject if isinstance(leaf, Var) else leaf)
        if atom.predicate in predicates(rule.body.left):
            found.append((rule, condition, "backwards"))
        elif entails(skeleton.premises, _negated(condition)):
            found.append((rule, condition, "refuted"))
        else:
            found.append((rule, condition, "open"))
    return tuple(found)


def _negated(formula: Formula) -> Formula:
    return formula.body if isinstance(formula, Not) else Not(formula)
