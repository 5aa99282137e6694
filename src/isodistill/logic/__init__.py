"""Formulas, their canonical forms, and the solver that labels them: the bottom room, which imports no other."""

from isodistill.logic.canonical import canonical_form, structure_hash
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
    Not,
    Or,
    Term,
    Var,
    Xor,
)
from isodistill.logic.notation import NotationError, format_notation, parse_formula
from isodistill.logic.printer import format_formula
from isodistill.logic.repairs import Repair, parse_with_repairs
from isodistill.logic.serialise import formula_from_json, formula_to_json
from isodistill.logic.solver import UndecidedError, consistent, entails, status, unique_value

__all__ = [
    "And",
    "Arith",
    "Atom",
    "Const",
    "Equals",
    "Exists",
    "Forall",
    "Formula",
    "Iff",
    "Implies",
    "Int",
    "Less",
    "Not",
    "NotationError",
    "Or",
    "Repair",
    "Term",
    "UndecidedError",
    "Var",
    "Xor",
    "canonical_form",
    "consistent",
    "entails",
    "format_formula",
    "format_notation",
    "formula_from_json",
    "formula_to_json",
    "parse_formula",
    "parse_with_repairs",
    "status",
    "structure_hash",
    "unique_value",
]
