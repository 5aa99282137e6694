"""Which premise plays which part: two problems compared up to renaming and the order of the premises, exactly."""

from __future__ import annotations

from collections.abc import Sequence

from isodistill.logic.canonical import canonical_form
from isodistill.logic.formula import Formula, constants, predicates

MAX_STEPS = 10_000
"""After so many tries the search gives up: highly symmetric problems would take for ever."""

_Symbols = tuple[tuple[str, str], ...]


def premise_order(
    wanted: Sequence[Formula], wanted_question: Formula, premises: Sequence[Formula], question: Formula
) -> tuple[int, ...] | None:
    """Finds the order in which premises have the canonical form of other premises.

    `structure_hash` tells no more than that there may be one. Formulas of one shape fix each other's symbols place by
    place, so a search with backtracking over the premises settles it.

    Args:
        wanted: The premises in the order that is asked for.
        wanted_question: Their question.
        premises: The premises to be put in order.
        question: Their question.

    Returns:
        The places: `premises` taken in this order, with `question`, have the canonical form of the wanted problem.
        ``None`` where there is no such order, or none was found within `MAX_STEPS`.
    """
    if len(wanted) != len(premises) or _shape(wanted_question) != _shape(question):
        return None
    start = _extended({}, _symbols(wanted_question), _symbols(question))
    if start is None:
        return None
    shapes = [_shape(premise) for premise in premises]
    found = [_symbols(premise) for premise in premises]
    goals = [(_shape(premise), _symbols(premise)) for premise in wanted]
    steps = 0

    def search(place: int, names: dict[tuple[str, str], tuple[str, str]], used: tuple[int, ...]) -> tuple[int, ...]:
        nonlocal steps
        if place == len(goals):
            return used
        shape, symbols = goals[place]
        for other, other_shape in enumerate(shapes):
            steps += 1
            if steps > MAX_STEPS:
                break
            if other in used or other_shape != shape:
                continue
            extended = _extended(names, symbols, found[other])
            if extended is not None and (order := search(place + 1, extended, (*used, other))):
                return order
        return ()

    return search(0, start, ()) or None


def _shape(formula: Formula) -> str:
    return canonical_form([], formula)


def _symbols(formula: Formula) -> _Symbols:
    return (*(("p", name) for name in predicates(formula)), *(("c", name) for name in constants(formula)))


def _extended(
    names: dict[tuple[str, str], tuple[str, str]], ours: _Symbols, theirs: _Symbols
) -> dict[tuple[str, str], tuple[str, str]] | None:
    """Adds a formula's symbols to a one-to-one renaming; ``None`` where they do not fit."""
    extended = dict(names)
    taken = {other: symbol for symbol, other in names.items()}
    for symbol, other in zip(ours, theirs, strict=True):
        if extended.setdefault(symbol, other) != other or taken.setdefault(other, symbol) != symbol:
            return None
    return extended
