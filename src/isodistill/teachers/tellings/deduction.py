"""Telling deductions: every rule that can be applied, and why the rest do not settle the statement."""

from __future__ import annotations

from typing import NamedTuple

from isodistill.isomers.render import sentence
from isodistill.logic.formula import Atom, Forall, Formula, Implies, Not, Var, map_leaves, predicates
from isodistill.teachers.tellings.search import Search, tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice


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
    skeleton, claim = voice.skeleton, _atom(voice.skeleton.question)
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    if voice.full:
        search = _tell_search(voice, claim)
        if skeleton.answer == "Unknown":
            told = [*search.told, *_tell_obstacles(voice, claim, search.seen)]
        elif search.settled:
            # A proof may need a rule backwards, from what its conclusion excludes; the search does not go there.
            told = search.told
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    last = "So it cannot be concluded" if voice.full else "Nothing settles"
    return [*told, f"{last} whether {voice.say(claim)}."]


def _tell_search(voice: Voice, claim: Atom) -> Search[Formula]:
    def apply(known: Formula, premise: Formula) -> Formula | None:
        rule = _applied(premise, claim)
        return rule.conclusion if rule is not None and rule.condition == known else None

    facts = [premise for premise in voice.skeleton.premises if not isinstance(premise, Forall)]
    rounds = [(fact, apply) for fact in facts if _atom(fact).args == claim.args]
    return tell_search(voice, rounds, lambda known: known, lambda known: _atom(known) == claim)


def _tell_obstacles(voice: Voice, claim: Atom, known: set[Formula]) -> list[str]:
    """Tells for each rule about the property in question why it does not settle the statement.

    A rule that concludes the property, or its absence, would settle it if its condition held: so its condition is
    known to fail, or is open. A rule that starts from the property says nothing about who has it, except by
    contraposition where its conclusion is known to fail, and then the statement would be settled; it is named if its
    conclusion is known, since only then is it a temptation.
    """
    told = []
    for premise in voice.skeleton.premises:
        rule = _applied(premise, claim)
        if rule is None:
            continue
        if rule.conclusion in (claim, Not(claim)):
            refuted = _negated(rule.condition)
            reason = voice.say(refuted) if refuted in known else f"nothing shows that {voice.say(rule.condition)}"
        elif claim.predicate in predicates(rule.condition) and rule.conclusion in known:
            reason = f"this does not show that {voice.say(claim)}"
        else:
            continue
        told.append(sentence(f"{voice.say(premise)}, but {reason}"))
    return told


def _applied(premise: Formula, claim: Atom) -> _Rule | None:
    """Reads a premise as a rule about the individual of the claim."""
    if not isinstance(premise, Forall) or not isinstance(premise.body, Implies):
        return None
    (subject,) = claim.args
    sides = (premise.body.left, premise.body.right)
    return _Rule(*(map_leaves(side, lambda leaf: subject if isinstance(leaf, Var) else leaf) for side in sides))


def _atom(formula: Formula) -> Atom:
    atom = _negated(formula) if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    return atom


def _negated(formula: Formula) -> Formula:
    return formula.body if isinstance(formula, Not) else Not(formula)
