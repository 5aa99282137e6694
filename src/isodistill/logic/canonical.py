"""Names that do not depend on names: a canonical form up to renaming, and a hash of the structure alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from isodistill.logic.formula import Const, Formula, map_leaves, standard_variables
from isodistill.logic.printer import format_formula


def canonical_form(premises: Sequence[Formula], question: Formula) -> str:
    """Writes premises and question with every symbol renamed by the order of its first appearance.

    Two problems have the same canonical form exactly if a one-to-one renaming of constants and of predicates (and of
    bound variables) turns one into the other, premise by premise: their order counts.

    Args:
        premises: The premises in order.
        question: The question; a free variable in it is what is asked for.

    Returns:
        One line, for example ``p0(c0); forall x0. p0(x0) -> p1(x0) |- p1(c0)``.
    """
    names: dict[tuple[str, str], str] = {}

    def new_name(kind: str, name: str) -> str:
        count = sum(1 for known, _ in names if known == kind)
        return names.setdefault((kind, name), f"{kind}{count}")

    def canonical(formula: Formula) -> str:
        renamed = map_leaves(
            standard_variables(formula),
            lambda leaf: Const(new_name("c", leaf.name)) if isinstance(leaf, Const) else leaf,
            lambda name: new_name("p", name),
        )
        return format_formula(renamed)

    body = "; ".join([canonical(premise) for premise in premises])
    return f"{body} |- {canonical(question)}"


def structure_hash(premises: Sequence[Formula], question: Formula) -> str:
    """Hashes a problem so that neither the names nor the order of the premises matters.

    Colour refinement (Weisfeiler and Leman, 1968) on the symbols: a symbol's colour is refined by the formulas in
    which it stands and the colours of the other symbols there, until the number of colours stays. The hash is that of
    the multiset of coloured premises and the coloured question. Problems that differ by renaming or by premise order
    always have the same hash. The converse may fail for highly symmetric problems, which then fall into the same
    split together: the safe side. Whole numbers are part of the structure.

    Args:
        premises: The premises in any order.
        question: The question.

    Returns:
        64 hexadecimal digits.
    """
    formulas = _pieces(premises, question)
    colours = {symbol: symbol[0] for formula in formulas for symbol in formula.symbols}
    while True:
        refined = _refined(formulas, colours)
        stable = len(set(refined.values())) == len(set(colours.values()))
        colours = refined
        if stable:
            return _digest(sorted(formula.coloured(colours) for formula in formulas))


def symbol_profiles(premises: Sequence[Formula], question: Formula) -> Counter[str]:
    """Counts the symbols that stand in the same places, as the first round of colour refinement does.

    The profile of a symbol is the formulas in which it stands, with its own places marked and all other symbols alike:
    "a fact, and the condition of a rule" is one. Who is connected with whom, no profile tells.

    Args:
        premises: The premises in any order.
        question: The question.

    Returns:
        How many symbols have each profile, under a name that means nothing by itself.
    """
    formulas = _pieces(premises, question)
    colours = {symbol: symbol[0] for formula in formulas for symbol in formula.symbols}
    return Counter(_refined(formulas, colours).values())


_Symbol = tuple[str, str]


class _Piece:
    """A formula cut at its symbols, so that colours can be put in their places quickly."""

    def __init__(self, role: str, formula: Formula) -> None:
        numbers: dict[_Symbol, int] = {}

        def mark(symbol: _Symbol) -> str:
            return f"\0{numbers.setdefault(symbol, len(numbers))}\0"

        marked = map_leaves(
            standard_variables(formula),
            lambda leaf: Const(mark(("c", leaf.name))) if isinstance(leaf, Const) else leaf,
            lambda name: mark(("p", name)),
        )
        self.symbols = list(numbers)
        self._role = role
        # Every second part is the number of a symbol.
        self._parts = format_formula(marked).split("\0")

    def coloured(self, colours: dict[_Symbol, str], marked: _Symbol | None = None) -> str:
        shown = [f"@{colours[symbol]}" if symbol == marked else colours[symbol] for symbol in self.symbols]
        parts = [shown[int(part)] if place % 2 else part for place, part in enumerate(self._parts)]
        return self._role + "|".join(parts)


def _pieces(premises: Sequence[Formula], question: Formula) -> list[_Piece]:
    return [*(_Piece("premise", premise) for premise in premises), _Piece("question", question)]


def _refined(formulas: list[_Piece], colours: dict[_Symbol, str]) -> dict[_Symbol, str]:
    marks: dict[_Symbol, list[str]] = {symbol: [] for symbol in colours}
    for formula in formulas:
        for symbol in formula.symbols:
            marks[symbol].append(formula.coloured(colours, symbol))
    return {symbol: _digest([colours[symbol], *sorted(marks[symbol])]) for symbol in colours}


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
