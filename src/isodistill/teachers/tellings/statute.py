"""Telling provisions: what the statement depends on, down to a fact or to what is not known, and up again."""

from __future__ import annotations

from isodistill.isomers.render import sentence
from isodistill.isomers.statements import find_kind
from isodistill.logic.formula import Atom, Const, Formula, Not
from isodistill.teachers.tellings.voice import VERDICTS, Voice


def tell_statute(voice: Voice) -> list[str]:
    """Tells how provisions apply to an individual.

    In full, the question is followed down first: which exception it depends on, and what settles that one. Where that
    ends in a fact, the provisions are applied one after another.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton, claim = voice.skeleton, _unsigned(voice.skeleton.question)
    told = _tell_down(voice, claim) if voice.full else []
    if skeleton.answer == "Unknown":
        last = "So it cannot be concluded" if voice.full else "Nothing settles"
        return [*told, f"{last} whether {voice.say(claim)}."]
    steps = (_tell_up(voice, place) for place in range(len(skeleton.proof)))
    return [*told, *steps, VERDICTS[skeleton.answer]]


def _tell_up(voice: Voice, place: int) -> str:
    """Tells a step of the proof; that the provision's condition holds was told on the way down."""
    step = voice.skeleton.proof[place]
    if not voice.full:
        return voice.step(place)
    _, known, rule = voice.skeleton.facts(step.uses)
    used = ", and ".join(voice.say(each) for each in ([known] if place == 0 else []) + [rule])
    return sentence(f"{used}, so {voice.say(step.conclusion)}")


def _tell_down(voice: Voice, claim: Atom) -> list[str]:
    """Follows the question down: what settles it, and what that depends on, to a fact or until something is not known.

    No other provision is told: each property is settled by one, and the way down is the same whatever the answer.
    """
    premises, (subject,) = voice.skeleton.premises, claim.args
    provisions = _provisions(premises)
    told: list[str] = []
    while claim.predicate in provisions:
        condition, exception = (Atom(name, (subject,)) for name in provisions[claim.predicate])
        if condition not in premises:
            subjects = f"{voice.word(condition.predicate, 'property')} {voice.pack.kind.plural}"
            reason = f"whether {voice.say(claim)} depends on a provision for {subjects}"
            return [*told, sentence(f"{reason}, but nothing shows that {voice.say(condition)}")]
        reason = f"{voice.say(condition)}, so whether {voice.say(claim)} depends on whether {voice.say(exception)}"
        told.append(sentence(reason))
        claim = exception
    if claim in premises or Not(claim) in premises:
        return told
    return [*told, f"Nothing settles whether {voice.say(claim)}."]


def _provisions(premises: tuple[Formula, ...]) -> dict[str, tuple[str, str]]:
    """Finds the condition and the exception of the provision that decides each property."""
    found = {}
    for premise in premises:
        kind, filling = find_kind(premise, "premise")
        if kind.name in ("unless", "unless_not"):
            found[filling["B"]] = (filling["A"], filling["C"])
    return found


def _unsigned(formula: Formula) -> Atom:
    atom = formula.body if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    assert isinstance(atom.args[0], Const)
    return atom
