"""Telling orders: each comparison that is chained, or why no chain connects the two things."""

from __future__ import annotations

from isodistill.isomers.packs import Relation
from isodistill.isomers.render import sentence
from isodistill.logic.formula import Const, Less, Term
from isodistill.teachers.tellings.voice import VERDICTS, Voice, listed


def tell_ordering(voice: Voice) -> list[str]:
    """Tells how two things are ordered.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    if skeleton.answer == "Unknown":
        return _tell_unknown(voice)
    chained = [place for place, step in enumerate(skeleton.proof) if step.rule == "transitivity"]
    told = [voice.step(place) for place in chained]
    if not told:
        # At depth 1 a premise says all there is to say.
        told = [sentence(voice.say(skeleton.premises[skeleton.proof[0].uses[0]]))]
    return [*told, VERDICTS[skeleton.answer]]


def _tell_unknown(voice: Voice) -> list[str]:
    question = voice.skeleton.question
    relation = voice.pack.word("relation", voice.lexicon["theme"])
    assert isinstance(question, Less)
    assert isinstance(relation, Relation)
    edges = [(less.left, less.right) for less in voice.skeleton.premises if isinstance(less, Less)]
    swapped = [(right, left) for left, right in edges]
    told = []
    if voice.full:
        known = [
            f"that {_name(voice, term)} {phrase} {listed(_name(voice, found) for found in reached)}"
            for term in (question.left, question.right)
            for phrase, pairs in ((relation.less, edges), (relation.greater, swapped))
            if (reached := _reached(pairs, term))
        ]
        told.append(sentence(f"of these two it follows only {listed(known)}"))
    first, second = _name(voice, question.left), _name(voice, question.right)
    return [
        *told,
        sentence(f"no chain of comparisons leads from {first} to {second} or back"),
        f"So it cannot be concluded whether {voice.say(question)}.",
    ]


def _reached(pairs: list[tuple[Term, Term]], start: Term) -> list[Term]:
    """Follows comparisons in one direction; lists what is reached, nearest first."""
    found: dict[Term, None] = {}
    border = [start]
    while border:
        border = [after for place in border for before, after in pairs if before == place and after not in found]
        found.update(dict.fromkeys(border))
    return list(found)


def _name(voice: Voice, term: Term) -> str:
    assert isinstance(term, Const)
    return voice.word(term.name, "individual")
