"""Formulas as text for people."""

from __future__ import annotations

from typing import Any

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
)

_BINARY: dict[type[Any], str] = {Implies: "->", Iff: "<->", Xor: "xor"}
_TERM_PAIR: dict[type[Any], str] = {Equals: "=", Less: "<"}


def format_formula(node: Node) -> str:
    """Writes a term or formula for people, for example ``forall x. prime(x) -> odd(x)``.

    Quantifiers reach as far to the right as they can; every other compound part stands in parentheses.

    Args:
        node: A term or a formula.

    Returns:
        One line of text.
    """
    match node:
        case Const(name) | Var(name):
            return name
        case Int(value):
            return str(value)
        case Arith(op, args):
            return f" {op} ".join(_wrapped(arg) for arg in args)
        case Atom(name, args):
            return f"{name}({', '.join(format_formula(arg) for arg in args)})" if args else name
        case Not(body):
            return f"not {_wrapped(body)}"
        case And(parts):
            return " and ".join(_wrapped(part) for part in parts) if len(parts) > 1 else f"and({_inside(parts)})"
        case Or(parts):
            return " or ".join(_wrapped(part) for part in parts) if len(parts) > 1 else f"or({_inside(parts)})"
        case Forall(var, body):
            return f"forall {var.name}. {format_formula(body)}"
        case Exists(var, body):
            return f"exists {var.name}. {format_formula(body)}"
        case Equals(left, right) | Less(left, right):
            return f"{_wrapped(left)} {_TERM_PAIR[type(node)]} {_wrapped(right)}"
        case Implies(left, right) | Iff(left, right) | Xor(left, right):
            return f"{_wrapped(left)} {_BINARY[type(node)]} {_wrapped(right)}"


def _inside(parts: tuple[Formula, ...]) -> str:
    return ", ".join(format_formula(part) for part in parts)


def _wrapped(node: Node) -> str:
    text = format_formula(node)
    atomic = isinstance(node, Const | Var | Int | Atom) or (isinstance(node, And | Or) and len(node.parts) < 2)
    return text if atomic else f"({text})"
