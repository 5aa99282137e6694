"""Telling deductions: back from the statement, rule by rule, to a fact or to what nothing shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from isodistill.isomers.render import sentence
from isodistill.logic.formula import Atom, Forall, Formula, Implies, Not, Var, map_leaves
from isodistill.teachers.tellings.voice import VERDICTS, Voice


class _Rule(NamedTuple):
    """A rule as it applies to the individual in question.

    Args:
        premise: The rule as it is told.
        condition: What it asks for.
        conclusion: What follows.
    """

    premise: Formula
    condition: Formula
    conclusion: Formula


def tell_deduction(voice: Voice) -> list[str]:
    """Tells a deduction.

    In full, every rule that concludes on the statement is followed back, until one of them starts from a fact.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton, claim = voice.skeleton, _atom(voice.skeleton.question)
    rules = _rules(skeleton.premises, claim)
    ways = [rule for rule in rules if rule.conclusion in (claim, Not(claim))]
    if skeleton.answer == "Unknown":
        if not voice.full:
            return [f"Nothing settles whether {voice.say(claim)}."]
        searched, _ = _tell_search(voice, rules, ways)
        return [*searched, f"So it cannot be concluded whether {voice.say(claim)}."]
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    # Where one rule alone concludes on the statement there is nothing to search for: the proof begins with the fact.
    if voice.full and len(ways) > 1:
        searched, found = _tell_search(voice, rules, ways)
        # A proof may need a rule backwards, from what its conclusion excludes; the search does not go there.
        told = searched if found else told
    return [*told, VERDICTS[skeleton.answer]]


def _tell_search(voice: Voice, rules: list[_Rule], ways: Iterable[_Rule]) -> tuple[list[str], bool]:
    """Follows rules back depth first, in the order of the problem, whatever the answer.

    Returns:
        The sentences, and whether a fact was found.
    """
    facts = set(voice.skeleton.premises)
    told: list[str] = []

    def show(rule: _Rule, after: tuple[_Rule, ...]) -> bool:
        told.append(sentence(voice.say(rule.premise)))
        chain = (rule, *after)  # in the order in which they are applied
        if rule.condition in facts:
            steps = (rule.condition, *(each.conclusion for each in chain))
            told.append(sentence(", so ".join(voice.say(step) for step in steps)))
            return True
        below = [each for each in rules if each.conclusion == rule.condition and each not in chain]
        if not below:
            told.append(sentence(f"nothing shows that {voice.say(rule.condition)}"))
        return any(show(each, chain) for each in below)

    return told, any(show(rule, ()) for rule in ways)


def _rules(premises: Iterable[Formula], claim: Atom) -> list[_Rule]:
    """Reads the rules as they apply to the individual of the claim."""
    (subject,) = claim.args
    rules = []
    for premise in premises:
        if isinstance(premise, Forall) and isinstance(premise.body, Implies):
            sides = (premise.body.left, premise.body.right)
            of_it = (map_leaves(side, lambda leaf: subject if isinstance(leaf, Var) else leaf) for side in sides)
            rules.append(_Rule(premise, *of_it))
    return rules


def _atom(formula: Formula) -> Atom:
    atom = formula.body if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    return atom
