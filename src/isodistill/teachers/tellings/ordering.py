"""Telling orders: every comparison that leads up from the first thing, then from the second."""

from __future__ import annotations

from isodistill.isomers.render import sentence
from isodistill.logic.formula import Const, Formula, Less, Term
from isodistill.teachers.tellings.search import tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice

_Place = tuple[Term, Term]
"""One of the two things, and what is known to lie above it: itself, where the search begins."""


def tell_ordering(voice: Voice) -> list[str]:
    """Tells how two things are ordered.

    In full, everything that lies above the first of the two is told, then everything above the second, until the other
    one is found: whatever the answer, the search begins and goes on alike. Both rounds lead upwards, since comparisons
    are looked up more easily by what they begin with.

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
        return (place[0], premise.right) if premise.left == place[1] else None

    def says(place: _Place) -> Formula | None:
        below, thing = place
        return None if thing == below else Less(below, thing)

    rounds = (((first, first), up), ((second, second), up))
    return tell_search(voice, rounds, says, {(first, second), (second, first)}.__contains__)


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
