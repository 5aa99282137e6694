"""Telling allocations: one place after another, with the clues that fix it."""

from __future__ import annotations

from isodistill.isomers.render import clause, family_kinds, sentence
from isodistill.logic.formula import And, Equals, Formula
from isodistill.teachers.tellings.voice import VERDICTS, Voice


def tell_allocation(voice: Voice) -> list[str]:
    """Tells how the places are found.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton, told = voice.skeleton, []
    before = -1
    for place, step in enumerate(skeleton.proof):
        if step.rule == "another place":
            continue
        # The row itself is not repeated, nor is what the step before has just concluded.
        cited = [use for use in step.uses if not isinstance(skeleton.facts((use,))[0], And) and use != before]
        if step.rule == "elimination":
            cited = [use for use in cited if not isinstance(skeleton.facts((use,))[0], Equals)]
        used = ", and ".join(_say(voice, fact) for fact in skeleton.facts(tuple(cited)))
        concluded = _say(voice, step.conclusion)
        before = len(skeleton.premises) + place
        if not voice.full:
            told.append(sentence(concluded))
        elif step.rule == "elimination":
            told.append(sentence(f"{used}, and only one of the other places is free, so {concluded}"))
        else:
            told.append(sentence(f"{used}, so {concluded}"))
    otherwise = "The statement says otherwise, so it is false."
    return [*told, VERDICTS["True"] if skeleton.answer == "True" else otherwise]


def _say(voice: Voice, formula: Formula) -> str:
    return clause(formula, voice.pack, voice.lexicon, kinds=family_kinds(voice.skeleton))
