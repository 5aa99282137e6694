"""Telling deductions: every rule that can be applied, and why the rest do not settle the statement."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from isodistill.isomers.render import sentence
from isodistill.isomers.skeleton import Skeleton
from isodistill.logic.formula import Atom, Forall, Formula, Implies, Not, Var, map_leaves, predicates
from isodistill.logic.solver import entails
from isodistill.teachers.tellings.search import tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice

Obstacle = Literal["backwards", "refuted", "open"]


class _Rule(NamedTuple):
    """A rule as it applies to the individual in question."""

    condition: Formula
    conclusion: Formula


def tell_deduction(voice: Voice) -> list[str]:
    """Tells a deduction.

    In full, every rule that can be applied is, fact by fact, until one of them settles the statement.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    if voice.full:
        searched, settled = _tell_search(voice)
        # A proof may need a rule backwards, from what its conclusion excludes; the search does not go there.
        if settled or skeleton.answer == "Unknown":
            told = searched
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    claim = _claim(skeleton)
    if not voice.full:
        return [*told, f"Nothing settles whether {voice.say(claim)}."]
    for rule, condition, obstacle in _obstacles(skeleton):
        reason = {
            "backwards": f"this does not show that {voice.say(claim)}",
            "refuted": voice.say(_negated(condition)),
            "open": f"nothing shows that {voice.say(condition)}",
        }[obstacle]
        told.append(sentence(f"{voice.say(rule)}, but {reason}"))
    return [*told, f"So it cannot be concluded whether {voice.say(claim)}."]


def _tell_search(voice: Voice) -> tuple[list[str], bool]:
    skeleton = voice.skeleton
    claim = _claim(skeleton)

    def apply(known: Formula, premise: Formula) -> Formula | None:
        rule = _applied(premise, claim)
        return rule.conclusion if rule is not None and rule.condition == known else None

    facts = [premise for premise in skeleton.premises if not isinstance(premise, Forall)]
    rounds = [(fact, apply) for fact in facts if _atom(fact).args == claim.args]
    return tell_search(voice, rounds, lambda known: known, lambda known: _atom(known) == claim)


@lru_cache(maxsize=1024)
def _obstacles(skeleton: Skeleton) -> tuple[tuple[Formula, Formula, Obstacle], ...]:
    """Finds for each rule about the property in question why it does not settle the statement.

    A rule that concludes the property, or its absence, would settle it if its condition held: so its condition is
    known to fail, or is open. A rule that starts from the property says nothing about who has it, except by
    contraposition where its conclusion is known to fail, and then the statement would be settled; it is named if its
    conclusion is known, since only then is it a temptation.

    Returns:
        The rule, its condition for the individual in question, and the obstacle.
    """
    claim, found = _claim(skeleton), list[tuple[Formula, Formula, Obstacle]]()
    for premise in skeleton.premises:
        rule = _applied(premise, claim)
        if rule is None:
            continue
        if rule.conclusion in (claim, Not(claim)):
            refuted = entails(skeleton.premises, _negated(rule.condition))
            found.append((premise, rule.condition, "refuted" if refuted else "open"))
        elif claim.predicate in predicates(rule.condition) and entails(skeleton.premises, rule.conclusion):
            found.append((premise, rule.condition, "backwards"))
    return tuple(found)


def _applied(premise: Formula, claim: Atom) -> _Rule | None:
    """Reads a premise as a rule about the individual of the claim."""
    if not isinstance(premise, Forall) or not isinstance(premise.body, Implies):
        return None
    (subject,) = claim.args
    sides = (premise.body.left, premise.body.right)
    return _Rule(*(map_leaves(side, lambda leaf: subject if isinstance(leaf, Var) else leaf) for side in sides))


def _claim(skeleton: Skeleton) -> Atom:
    return _atom(skeleton.question)


def _atom(formula: Formula) -> Atom:
    atom = _negated(formula) if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    return atom


def _negated(formula: Formula) -> Formula:
    return formula.body if isinstance(formula, Not) else Not(formula)
