"""Formulas as JSON: strict, lossless, and safe to read from anyone."""

from __future__ import annotations

from typing import Any

from isodistill.errors import IsodistillError
from isodistill.logic.formula import (
    And,
    Arith,
    Atom,
    Const,
    Equals,
    Exists,
    Forall,
    Formula,
    Iff,
    Implies,
    Int,
    Less,
    Node,
    Not,
    Or,
    Var,
    Xor,
    children,
)

_TAGS: dict[str, type[Any]] = {
    **{cls.__name__.lower(): cls for cls in (Const, Var, Int, Arith, Atom, Not, And, Or, Implies, Iff, Xor)},
    **{cls.__name__.lower(): cls for cls in (Forall, Exists, Equals, Less)},
}
_TERM_TAGS = ("const", "var", "int", "arith")
MAX_JSON_DEPTH = 200
"""How deeply a formula read from JSON may nest; deeper input is refused rather than run into the recursion limit."""


def formula_to_json(node: Node) -> list[Any]:
    """Turns a term or formula into plain lists, strings and numbers that `json.dumps` writes.

    Args:
        node: A term or a formula.

    Returns:
        A list whose first entry is the node's tag, for example ``["atom", "prime", ["var", "x"]]``.
    """
    tag = type(node).__name__.lower()
    match node:
        case Const(name) | Var(name):
            return [tag, name]
        case Int(value):
            return [tag, value]
        case Arith(op, args):
            return [tag, op, *(formula_to_json(arg) for arg in args)]
        case Atom(name, args):
            return [tag, name, *(formula_to_json(arg) for arg in args)]
        case Forall(var, body) | Exists(var, body):
            return [tag, var.name, formula_to_json(body)]
        case _:
            return [tag, *(formula_to_json(child) for child in children(node))]


def formula_from_json(data: object, where: str = "the formula") -> Formula:
    """Reads a formula back from what `formula_to_json` wrote, refusing anything else.

    Args:
        data: Plain JSON data; untrusted.
        where: Named in errors, for example ``"premise 2 of set deduction-3f"``.

    Returns:
        The formula.

    Raises:
        IsodistillError: If the data is not a well-formed formula.
    """
    node = _read(data, where, 0)
    if isinstance(node, Const | Var | Int | Arith):
        raise IsodistillError(f"In {where}, a term stands where a formula is needed: {str(data)[:80]}; give a formula.")
    return node


def _read(data: object, where: str, depth: int) -> Any:
    def fail(problem: str) -> IsodistillError:
        return IsodistillError(
            f"In {where}, {problem}: {str(data)[:80]}; write formulas as formula_to_json does, e.g. "
            '["atom", "p0", ["const", "c0"]].'
        )

    def read_all(parts: list[Any], terms: bool) -> tuple[Any, ...]:
        for part in parts:
            is_term = isinstance(part, list) and bool(part) and part[0] in _TERM_TAGS
            if is_term != terms:
                raise fail(f"a {'term' if terms else 'formula'} is needed in each place of {data[0]!r}")  # type: ignore[index]
        return tuple(_read(part, where, depth + 1) for part in parts)

    if depth > MAX_JSON_DEPTH:
        raise fail(f"formulas nest deeper than {MAX_JSON_DEPTH}")
    if not isinstance(data, list) or not data or not isinstance(data[0], str) or data[0] not in _TAGS:
        raise fail(f"a node must be a list that starts with one of {', '.join(_TAGS)}")
    tag, *rest = data
    cls = _TAGS[tag]
    if tag == "int":
        if len(rest) != 1 or not isinstance(rest[0], int) or isinstance(rest[0], bool):
            raise fail("an int takes one whole number")
        return Int(rest[0])
    if tag in ("const", "var", "atom", "arith", "forall", "exists"):
        if not rest or not isinstance(rest[0], str) or not rest[0]:
            raise fail(f"{tag} takes a name first")
        name, *parts = rest
        if tag in ("const", "var"):
            if parts:
                raise fail(f"{tag} takes a name and nothing else")
            return cls(name)
        if tag in ("forall", "exists"):
            if len(parts) != 1:
                raise fail(f"{tag} takes a variable name and one formula")
            return cls(Var(name), *read_all(parts, terms=False))
        try:
            return cls(name, read_all(parts, terms=True))
        except ValueError as error:
            raise fail(str(error)) from None
    if tag in ("and", "or"):
        return cls(read_all(rest, terms=False))
    if len(rest) != (1 if tag == "not" else 2):
        raise fail(f"{tag} takes {'one part' if tag == 'not' else 'two parts'}")
    return cls(*read_all(rest, terms=tag in ("equals", "less")))
