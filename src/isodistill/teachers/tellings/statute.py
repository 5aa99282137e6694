"""Telling provisions: which of rule and exception applies, one after another, or what stays open."""

from __future__ import annotations

from typing import NamedTuple

from isodistill.isomers.render import sentence
from isodistill.isomers.statements import find_kind
from isodistill.logic.formula import Atom, Const, Formula, Not
from isodistill.teachers.tellings.search import Search, tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice


class _Sentence(NamedTuple):
    """One of the two sentences of a provision, as it applies to the individual in question.

    Args:
        condition: When the provision applies.
        excepted: Whether the exception is made; the sentence speaks of the one or of the other case.
        decided: What holds then.
    """

    condition: Formula
    excepted: Formula
    decided: Formula


def tell_statute(voice: Voice) -> list[str]:
    """Tells how provisions apply to an individual.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    claim = _unsigned(skeleton.question)
    if voice.full:
        search = _tell_search(voice, claim)
        if skeleton.answer == "Unknown":
            told = [*search.told, *_open(voice, claim, search.seen)]
        elif search.settled:
            told = search.told
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    if not voice.full:
        return [*told, f"Nothing settles whether {voice.say(claim)}."]
    return [*told, f"So it cannot be concluded whether {voice.say(claim)}."]


def _tell_search(voice: Voice, claim: Atom) -> Search[Formula]:
    """Applies every provision whose condition holds and whose exception is settled, from the facts on."""
    premises = voice.skeleton.premises
    facts: list[Formula] = []
    provisions: dict[Formula, _Sentence] = {}
    for premise in premises:
        kind, filling = find_kind(premise, "premise")
        if "C" not in filling:
            facts.append(premise)
            continue
        condition, decided, exception = (Atom(filling[slot], claim.args) for slot in "ABC")
        excepted = _signed(exception, kind.name.startswith("override"))
        provisions[premise] = _Sentence(condition, excepted, _signed(decided, not kind.name.endswith("_not")))

    def apply(known: Formula, premise: Formula) -> Formula | None:
        provision = provisions.get(premise)
        if provision is None or known != provision.excepted or provision.condition not in facts:
            return None
        return provision.decided

    rounds = [(fact, apply) for fact in facts if _unsigned(fact).args == claim.args]
    conditions = {premise: (provision.condition,) for premise, provision in provisions.items()}
    return tell_search(
        voice, rounds, lambda known: known, lambda known: _unsigned(known) == claim, conditions.__getitem__
    )


def _signed(atom: Atom, positive: bool) -> Formula:
    return atom if positive else Not(atom)


def _open(voice: Voice, claim: Atom, known: set[Formula]) -> list[str]:
    """Follows the open question down: what settles it, and what that depends on, until something is just not known."""
    premises, (subject,) = voice.skeleton.premises, claim.args
    told: list[str] = []
    while True:
        provision = _provision(premises, claim.predicate)
        if provision is None:
            return [*told, f"Nothing settles whether {voice.say(claim)}."]
        condition, exception = (Atom(name, (subject,)) for name in provision)
        if condition not in known:
            subjects = f"{voice.word(condition.predicate, 'property')} {voice.pack.kind.plural}"
            open_ = f"nothing shows that {voice.say(condition)}"
            reason = f"whether {voice.say(claim)} depends on a provision for {subjects}, but {open_}"
            return [*told, sentence(reason)]
        said = f"{voice.say(condition)}, so whether {voice.say(claim)} depends on whether {voice.say(exception)}"
        told.append(sentence(said))
        claim = exception


def _provision(premises: tuple[Formula, ...], decided: str) -> tuple[str, str] | None:
    """Finds the condition and the exception of the provision that decides a property."""
    for premise in premises:
        kind, filling = find_kind(premise, "premise")
        if kind.name in ("unless", "unless_not") and filling["B"] == decided:
            return filling["A"], filling["C"]
    return None


def _unsigned(formula: Formula) -> Atom:
    atom = formula.body if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    assert isinstance(atom.args[0], Const)
    return atom
