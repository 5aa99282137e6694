"""Telling provisions: which of rule and exception applies, one after another, or what stays open."""

from __future__ import annotations

from isodistill.isomers.render import sentence
from isodistill.isomers.statements import find_kind
from isodistill.logic.formula import Atom, Const, Formula, Not
from isodistill.logic.solver import status
from isodistill.teachers.tellings.voice import VERDICTS, Voice


def tell_statute(voice: Voice) -> list[str]:
    """Tells how provisions apply to an individual.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    claim = _unsigned(skeleton.question)
    if not voice.full:
        return [*told, f"Nothing settles whether {voice.say(claim)}."]
    return [*told, *_open(voice, claim), f"So it cannot be concluded whether {voice.say(claim)}."]


def _open(voice: Voice, claim: Atom) -> list[str]:
    """Follows the open question down: what settles it, and what that depends on, until something is just not known."""
    premises, (subject,) = voice.skeleton.premises, claim.args
    told: list[str] = []
    while True:
        provision = _provision(premises, claim.predicate)
        if provision is None:
            return [*told, f"Nothing settles whether {voice.say(claim)}."]
        condition, exception = (Atom(name, (subject,)) for name in provision)
        if status(premises, condition) != "True":
            subjects = f"{voice.word(condition.predicate, 'property')} {voice.pack.kind.plural}"
            open_ = f"nothing shows that {voice.say(condition)}"
            reason = f"whether {voice.say(claim)} depends on a provision for {subjects}, but {open_}"
            return [*told, sentence(reason)]
        told.append(sentence(f"whether {voice.say(claim)} depends on whether {voice.say(exception)}"))
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
