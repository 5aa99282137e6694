"""Telling a search: every way from where it begins, in the order of the problem's sentences, whatever the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from isodistill.isomers.render import sentence
from isodistill.logic.formula import Formula
from isodistill.teachers.tellings.voice import Voice

State = TypeVar("State")


def tell_search(
    voice: Voice,
    rounds: Iterable[tuple[State, Callable[[State, Formula], State | None]]],
    says: Callable[[State], Formula | None],
    settled: Callable[[State], bool],
) -> list[str]:
    """Follows the premises depth first, in the order of the problem, and tells each one with what follows from it.

    Which way is taken first does not depend on the answer, so a reader who knows only the problem can tell how a
    solution goes on: a proof alone begins where only its end explains why.

    Args:
        voice: The skeleton and its words.
        rounds: Where each round of the search begins, and what a premise leads to from a place, if anything.
        says: What is known at a place, or ``None`` where nothing is known yet: then the next premise is told alone.
        settled: Whether a place settles the statement, which ends the search.

    Returns:
        The sentences.
    """
    premises = voice.skeleton.premises
    told: list[str] = []
    seen: set[State] = set()
    last: State | None = None

    def follow(place: State, step: Callable[[State, Formula], State | None]) -> bool:
        nonlocal last
        for premise in premises:
            new = step(place, premise)
            if new is None or new in seen:
                continue
            seen.add(new)
            known, found = says(place), says(new)
            assert found is not None
            # What has just been concluded is not repeated; where a way is taken up again, it is.
            recalled = [] if known is None or place == last else [known]
            used = ", and ".join(voice.say(fact) for fact in (*recalled, premise))
            told.append(sentence(used if known is None else f"{used}, so {voice.say(found)}"))
            last = new
            if settled(new) or follow(new, step):
                return True
        return False

    for start, step in rounds:
        seen.add(start)
        if follow(start, step):
            break
    return told
