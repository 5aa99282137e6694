"""Telling syllogisms: each pair of sentences that is joined, or two worlds that differ about the statement."""

from __future__ import annotations

from isodistill.isomers.families.syllogism import Categorical, read_categorical, witnesses
from isodistill.isomers.render import sentence
from isodistill.teachers.tellings.voice import VERDICTS, Voice, listed

_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def tell_syllogism(voice: Voice) -> list[str]:
    """Tells how categorical sentences join.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    if skeleton.answer != "Unknown":
        return [*(voice.step(place) for place in range(len(skeleton.proof))), VERDICTS[skeleton.answer]]
    statement = read_categorical(skeleton.question)
    told = []
    if voice.full:
        told = [_world(voice, statement, "true"), _world(voice, statement.contradictory(), "false")]
    return [*told, f"So it cannot be concluded whether {voice.say(skeleton.question)}."]


def _world(voice: Voice, added: Categorical, verdict: str) -> str:
    """Describes the least world in which the premises and one more sentence hold."""
    premises = [read_categorical(premise) for premise in voice.skeleton.premises]
    world = witnesses([*premises, added])
    assert world is not None
    noun, order = voice.pack.kind, list(voice.lexicon)
    described = [listed(voice.word(name, "property") for name in sorted(one, key=order.index)) for one in world]
    if not described:
        return (
            f"If there were just one {noun.singular}, with none of these properties, the statement would be {verdict}."
        )
    count = _COUNTS[len(world)] if len(world) < len(_COUNTS) else str(len(world))
    only = f"just {count} {noun.singular if len(world) == 1 else noun.plural}"
    who = f"one {voice.pack.who} is only" if len(world) > 1 else f"{voice.pack.who} is only"
    those = listed(f"{who} {terms}" for terms in described)
    return sentence(f"if there were {only}, {those}, all sentences would hold and the statement would be {verdict}")
