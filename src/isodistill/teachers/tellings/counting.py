"""Telling counts: each size that is needed, with the sum that gives it."""

from __future__ import annotations

from isodistill.isomers.render import clause, family_kinds, sentence
from isodistill.isomers.statements import find_kind
from isodistill.logic.formula import Const, Equals, Formula, Int
from isodistill.teachers.tellings.voice import Voice


def tell_counting(voice: Voice) -> list[str]:
    """Tells how a size is computed.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    values: dict[str, int] = {}
    told: list[str] = []
    for step in skeleton.proof:
        rule, *sources = skeleton.facts(step.uses)
        for source in sources:
            if isinstance(source, Equals) and isinstance(source.left, Const) and isinstance(source.right, Int):
                if source.left.name not in values and voice.full:
                    told.append(sentence(_say(voice, source)))
                values[source.left.name] = source.right.value
        assert isinstance(step.conclusion, Equals)
        assert isinstance(step.conclusion.left, Const)
        assert isinstance(step.conclusion.right, Int)
        name, result = step.conclusion.left.name, step.conclusion.right.value
        sums = " = ".join([*_sums(rule, name, values), str(result)])
        values[name] = result
        # The domain's own sentence for a size, with the whole sum in the place of the number.
        shown = _say(voice, step.conclusion).replace(str(result), sums, 1)
        told.append(sentence(f"{_say(voice, rule)}, so {shown}" if voice.full else shown))
    return told


def _sums(rule: Formula, unknown: str, values: dict[str, int]) -> list[str]:
    """Writes what is to be computed, one operation after another: "12 + 30 - 5 = 42 - 5"."""
    kind, slots = find_kind(rule, "premise", ("set_parts", "set_union", "set_total", "set_more"))
    number = int(slots.get("n", 0))
    known = [values[slots[slot]] for slot in ("A", "B", "C") if slot in slots and slots[slot] != unknown]
    whole = slots["A"] == unknown
    if kind.name == "set_total":
        return [f"{number} - {known[0]}"]
    if kind.name == "set_more":
        return [f"{known[0]} {'+' if whole else '-'} {number}"]
    first = f"{known[0]} {'+' if whole else '-'} {known[1]}"
    if kind.name == "set_parts":
        return [first]
    then, result = ("-", known[0] + known[1]) if whole else ("+", known[0] - known[1])
    return [f"{first} {then} {number}", f"{result} {then} {number}"]


def _say(voice: Voice, formula: Formula) -> str:
    return clause(formula, voice.pack, voice.lexicon, kinds=family_kinds(voice.skeleton))
