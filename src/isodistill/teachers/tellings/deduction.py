"""Telling deductions: each rule that is applied, or why the rules do not reach the statement."""

from __future__ import annotations

from collections.abc import Iterator
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

    Where a condition is open, the rules that conclude it follow in the same way, back to the link that fails; a rule
    that starts from it is named if its conclusion is known, since only then is it a temptation.

    Returns:
        The rule, its condition for the individual in question, and the obstacle.
    """
    atom = skeleton.question.body if isinstance(skeleton.question, Not) else skeleton.question
    assert isinstance(atom, Atom)
    return tuple(_why_open(skeleton.premises, atom, (atom, Not(atom)), frozenset()))


def _why_open(
    premises: tuple[Formula, ...], atom: Atom, wanted: tuple[Formula, ...], seen: frozenset[str]
) -> Iterator[tuple[Formula, Formula, Obstacle]]:
    """Yields the obstacles of every rule that could show one of the wanted literals of an atom."""
    (subject,) = atom.args
    asked = len(wanted) > 1  # the question itself, which either literal would settle
    seen |= {atom.predicate}
    for rule in premises:
        if not isinstance(rule, Forall) or not isinstance(rule.body, Implies):
            continue
        condition, conclusion = (
            map_leaves(side, lambda leaf: subject if isinstance(leaf, Var) else leaf)
            for side in (rule.body.left, rule.body.right)
        )
        if conclusion in wanted:
            refuted = entails(premises, _negated(condition))
            yield rule, condition, "refuted" if refuted else "open"
            below = condition.body if isinstance(condition, Not) else condition
            assert isinstance(below, Atom)
            if not refuted and below.predicate not in seen:
                yield from _why_open(premises, below, (condition,), seen)
        elif atom.predicate in predicates(condition) and (asked or entails(premises, conclusion)):
            yield rule, condition, "backwards"


def _negated(formula: Formula) -> Formula:
    return formula.body if isinstance(formula, Not) else Not(formula)
