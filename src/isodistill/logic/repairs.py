"""Slips of notation that leave one reading only, mended one by one and each reported."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isodistill.logic.formula import Formula
from isodistill.logic.notation import NotationError, parse_formula

MAX_REPAIRS = 8
"""A text with more slips than this is refused: it is no slip any more."""

_PREFIX = re.compile(r"\s*(?:[∀∃]\s*\w+\s*)*")


@dataclass(frozen=True, slots=True)
class Repair:
    """One change to a text.

    Args:
        what: What was done, for example ``"added a closing parenthesis"``.
        column: Where, counted from 1 in the text as it stood at that time.
    """

    what: str
    column: int


def parse_with_repairs(text: str, where: str = "the formula") -> tuple[Formula, tuple[Repair, ...]]:
    """Reads a formula, mending what is safe to mend.

    Only these slips are mended, and only where the text is no formula without it:

    - a closing parenthesis too many: its partner is put at the beginning, behind the quantifiers that lead;
    - closing parentheses that lack at the very end;
    - a comma between two formulas, which is read as ``∧``;
    - a full stop at the very end;
    - a universal quantifier in front of a rule without parentheses (``∀x Cat(x) → Mammal(x)``), whose variable would
      be unbound behind the first atom: its scope becomes the rest. An existential one is never widened.

    Names are never touched: whether ``Meeting`` and ``Meetings`` are meant to be one predicate is for people to say.

    Args:
        text: The formula; untrusted.
        where: Named in errors, for example ``"premise 2 of row 5"``.

    Returns:
        The formula, and the repairs in the order in which they were made (none for a text without a slip).

    Raises:
        NotationError: If the text cannot be read even so; it tells the first mistake of the text as it was given.
    """
    repairs: list[Repair] = []
    first: NotationError | None = None
    while True:
        try:
            return parse_formula(text, where), tuple(repairs)
        except NotationError as error:
            first = first or error
            mended = _mend(text, error) if len(repairs) < MAX_REPAIRS else None
            if mended is None:
                raise first from None
            text, repair = mended
            repairs.append(repair)


def _mend(text: str, error: NotationError) -> tuple[str, Repair] | None:
    at = error.column
    lead = _PREFIX.match(text)
    scope = lead.end() if lead else 0
    if error.found == ")" and "$END" in error.wanted:
        return f"{text[:scope]}({text[scope:]}", Repair("added an opening parenthesis", scope + 1)
    if not error.found and "RPAR" in error.wanted:
        return f"{text})", Repair("added a closing parenthesis", len(text) + 1)
    if error.found == ",":
        return f"{text[:at]} ∧ {text[at + 1 :]}", Repair("read a comma between formulas as ∧", at + 1)
    if error.found == "." and not text[at + 1 :].strip():
        return text[:at], Repair("dropped a full stop at the end", at + 1)
    if error.unbound and "∃" not in text[:scope] and re.search(rf"∀\s*{re.escape(error.unbound)}\b", text[:scope]):
        return f"{text[:scope]}({text[scope:]})", Repair("widened the leading quantifiers to the whole", scope + 1)
    return None
