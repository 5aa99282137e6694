"""Telling provisions: which of rule and exception applies, one after another, or what stays open."""

from __future__ import annotations

from isodistill.isomers.render import sentence
from isodistill.isomers.statements import find_kind
from isodistill.logic.formula import Atom, Const, Formula, Not
from isodistill.logic.solver import status
from isodistill.teachers.tellings.search import tell_search
from isodistill.teachers.tellings.voice import VERDICTS, Voice


def tell_statute(voice: Voice) -> list[str]:
    """Tells how provisions apply to an individual.

    Args:
        voice: The skeleton and its words.

    Returns:
        The sentences in order, without the answer line.
    """
    skeleton = voice.skeleton
    told = [voice.step(place) for place in range(len(skeleton.proof))]
    if voice.full:
        searched, settled = _tell_search(voice)
        if settled or skeleton.answer == "Unknown":
            told = searched
    if skeleton.answer != "Unknown":
        return [*told, VERDICTS[skeleton.answer]]
    claim = _unsigned(skeleton.question)
    if not voice.full:
        return [*told, f"Nothing settles whether {voice.say(claim)}."]
    return [*told, *_open(voice, claim), f"So it cannot be concluded whether {voice.say(claim)}."]


def _tell_search(voice: Voice) -> tuple[list[str], bool]:
    """Applies every provision whose condition holds and whose exception is settled, from the facts on."""
    premises, claim = voice.skeleton.premises, _unsigned(voice.skeleton.question)

    def condition(premise: Formula) -> tuple[Atom, ...]:
        _, filling = find_kind(premise, "premise")
        return (Atom(filling["A"], claim.args),) if "C" in filling else ()

    def apply(known: Formula, premise: Formula) -> Formula | None:
        kind, filling = find_kind(premise, "premise")
        if "C" not in filling or not set(condition(premise)) <= set(premises):
            return None
        excepted = _signed(Atom(filling["C"], claim.args), kind.name.startswith("override"))
        return _signed(Atom(filling["B"], claim.args), not kind.name.endswith("_not")) if known == excepted else None

    facts = [premise for premise in premises if find_kind(premise, "premise")[0].name.startswith("fact")]
    rounds = [(fact, apply) for fact in facts if _unsigned(fact).args == claim.args]
    return tell_search(voice, rounds, lambda known: known, lambda known: _unsigned(known) == claim, condition)


def _signed(atom: Atom, positive: bool) -> Formula:
    return atom if positive else Not(atom)


def _open(voice: Voice, claim: Atom) -> list[str]:
    """Follows the open question down: what settles it, and what that depends on, until something is just not known."""
    premises, (subject,) = voice.skeleton.premises, claim.args
    told: list[str] = []
    while True:
        provision = _provision(premises, claim.predicate)
        if provision is None:
            return [*told, f"Nothing settles whether {voice.say(claim)}."]
        condition, exception = (Atom(name, (subject,)) for name in provision)
        if status(premises, condition) != "True":
            subjects = f"{voice.word(condition.predicate, 'property')} {voice.pack.kind.plural}"
            open_ = f"nothing shows that {voice.say(condition)}"
            reason = f"whether {voice.say(claim)} depends on a provision for {subjects}, but {open_}"
            return [*told, sentence(reason)]
        said = f"{voice.say(condition)}, so whether {voice.say(claim)} depends on whether {voice.say(exception)}"
        told.append(sentence(said))
        claim = exception


def _provision(premises: tuple[Formula, ...], decided: str) -> tuple[str, str] | None:
    """Finds the condition and the exception of the provision that decides a property."""
    for premise in premises:
        kind, filling = find_kind(premise, "premise")
        if kind.name in ("unless", "unless_not") and filling["B"] == decided:
            return filling["A"], filling["C"]
    return None


def _unsigned(formula: Formula) -> Atom:
    atom = formula.body if isinstance(formula, Not) else formula
    assert isinstance(atom, Atom)
    assert isinstance(atom.args[0], Const)
    return atom
