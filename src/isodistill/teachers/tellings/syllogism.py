"""Telling syllogisms: every sentence that leads on from the statement's first term."""

from __future__ import annotations

from isodistill.isomers.families.syllogism import Categorical, read_categorical
from isodistill.isomers.render import sentence
from isodistill.logic.formula import Formula
from isodistill.teachers.tellings.search import tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice


def tell_syllogism(voice: Voice) -> list[str]:
    """Tells how categorical sentences join.

    In full, all that joins on from the statement's first term is told, until its second term is reached in the form of
    the statement or of its contradictory.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    statement = read_categorical(skeleton.question)
    told = _tell_search(voice, statement) if voice.full else [voice.step(n) for n in range(len(skeleton.proof))]
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    if voice.full:
        who = f"{voice.word(statement.subject, 'property')} {voice.pack.kind.plural}"
        told.append(sentence(f"none of the other sentences leads on from {who}"))
    return [*told, f"So it cannot be concluded whether {voice.say(skeleton.question)}."]


def _tell_search(voice: Voice, statement: Categorical) -> list[str]:
    first = statement.subject
    wanted = {statement, statement.contradictory()}
    start = Categorical("all", first, first)
    read = {premise: read_categorical(premise) for premise in voice.skeleton.premises}

    def step(known: Categorical, premise: Formula) -> Categorical | None:
        return join(known, read[premise], first)

    def says(known: Categorical) -> Formula | None:
        return None if known == start else known.formula

    return tell_search(voice, ((start, step),), says, wanted.__contains__)


def join(known: Categorical, link: Categorical, first: str) -> Categorical | None:
    """Joins what is known about a term and another with a sentence about the other.

    Args:
        known: A sentence about `first` and another term; "all" with `first` on both sides where nothing is known yet.
        link: A premise.
        first: The term that the search began with.

    Returns:
        What follows about `first` and the premise's other term, with `first` before it wherever that says the same;
        ``None`` if nothing does.
    """
    middle = known.predicate if known.subject == first else known.subject
    if middle not in (link.subject, link.predicate):
        return None
    away = link.subject == middle  # the premise speaks of the middle term first
    other = link.predicate if away else link.subject
    if other == first:
        return None
    over = known.form == "all" and known.subject == first  # all of the first term are the middle one
    under = known.form == "all" and known.predicate == first
    symmetric = link.form in ("no", "some")
    if (link.form == "all" and away and (over or known.form == "some")) or (
        link.form == "all" and not away and known.form in ("no", "some not")
    ):
        return Categorical(known.form, first, other)
    if link.form == "all" and not away and under:
        return Categorical("all", other, first)
    if link.form == "no" and (over or known.form == "some"):
        return Categorical("no" if over else "some not", first, other)
    if under and (symmetric or away) and link.form in ("some", "some not"):
        return Categorical(link.form, first, other)
    return None
