"""Telling calculations: each amount that is needed, with the sum that gives it."""

from __future__ import annotations

from isodistill.isomers.render import sentence
from isodistill.logic.formula import Arith, Const, Equals, Int
from isodistill.teachers.tellings.voice import Voice


def tell_quantity(voice: Voice) -> list[str]:
    """Tells how an amount is computed.

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
                    told.append(sentence(voice.say(source)))
                values[source.left.name] = source.right.value
        assert isinstance(rule, Equals)
        assert isinstance(rule.left, Const)
        assert isinstance(rule.right, Arith)
        assert isinstance(step.conclusion, Equals)
        assert isinstance(step.conclusion.right, Int)
        terms = [str(values[arg.name]) if isinstance(arg, Const) else str(_int(arg)) for arg in rule.right.args]
        result = step.conclusion.right.value
        values[rule.left.name] = result
        # The domain's own sentence for an amount, with the whole sum in the place of the number.
        stated = voice.say(Equals(rule.left, Int(result)))
        shown = stated.replace(str(result), f"{f' {rule.right.op} '.join(terms)} = {result}", 1)
        told.append(sentence(f"{voice.say(rule)}, so {shown}" if voice.full else shown))
    return told


def _int(term: object) -> int:
    assert isinstance(term, Int)
    return term.value
