"""Telling orders: every comparison that leads on from the first thing, upwards and then downwards."""

from __future__ import annotations

from isodistill.isomers.render import sentence
from isodistill.logic.formula import Const, Formula, Less, Term
from isodistill.teachers.tellings.search import tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice

_Place = tuple[bool, Term]
"""Whether a thing is above the first one, and the thing."""


def tell_ordering(voice: Voice) -> list[str]:
    """Tells how two things are ordered.

    In full, everything that is known to lie above the first of the two is told, then everything below it, until the
    second is found: whatever the answer, the search begins and goes on alike.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton, question = voice.skeleton, voice.skeleton.question
    assert isinstance(question, Less)
    told = _tell_search(voice, question) if voice.full else _tell_proof(voice)
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    first, second = _name(voice, question.left), _name(voice, question.right)
    return [
        *told,
        sentence(f"no chain of comparisons leads from {first} to {second} or back"),
        f"So it cannot be concluded whether {voice.say(question)}.",
    ]


def _tell_search(voice: Voice, question: Less) -> list[str]:
    first, second = question.left, question.right

    def up(place: _Place, premise: Formula) -> _Place | None:
        assert isinstance(premise, Less)
        return (True, premise.right) if premise.left == place[1] else None

    def down(place: _Place, premise: Formula) -> _Place | None:
        assert isinstance(premise, Less)
        return (False, premise.left) if premise.right == place[1] else None

    def says(place: _Place) -> Formula | None:
        above, thing = place
        if thing == first:
            return None
        return Less(first, thing) if above else Less(thing, first)

    rounds = (((True, first), up), ((False, first), down))
    return tell_search(voice, rounds, says, lambda place: place[1] == second).told


def _tell_proof(voice: Voice) -> list[str]:
    skeleton = voice.skeleton
    if not skeleton.proof:
        return []
    chained = [place for place, step in enumerate(skeleton.proof) if step.rule == "transitivity"]
    told = [voice.step(place) for place in chained]
    # At depth 1 a premise says all there is to say.
    return told or [sentence(voice.say(skeleton.premises[skeleton.proof[0].uses[0]]))]


def _name(voice: Voice, term: Term) -> str:
    assert isinstance(term, Const)
    return voice.word(term.name, "individual")
