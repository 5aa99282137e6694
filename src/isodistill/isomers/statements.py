"""Which shapes of formula a sentence may state: the table that renderer, parser and teachers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.skeleton import ANSWER_VARIABLE
from isodistill.logic.formula import (
    Arith,
    Atom,
    Const,
    Equals,
    Forall,
    Formula,
    Implies,
    Int,
    Less,
    Node,
    Not,
    Var,
    children,
    map_leaves,
)
from isodistill.logic.printer import format_formula

Filling = Mapping[str, str]
"""What fills the slots of a statement kind: a symbol or word for each slot, digits for a number."""


@dataclass(frozen=True)
class StatementKind:
    """A shape of formula with named slots.

    Args:
        name: The kind's name; domain packs list templates under it.
        role: Whether the sentence is a premise or the problem's question.
        slots: The sort of each slot: a symbol sort, or ``"number"``.
        pattern: The formula; constants and predicates named like a slot stand for what fills it, and so does a
            constant named like a number slot.
        theme: The sort of the theme word that its templates also contain, if any.
    """

    name: str
    role: Literal["premise", "question"]
    slots: Mapping[str, str]
    pattern: Formula
    theme: str | None = None

    def build(self, filling: Filling) -> Formula:
        """Fills the slots.

        Args:
            filling: A symbol (or digits) for each slot.

        Returns:
            The formula.
        """

        def term(leaf: Const | Var | Int) -> Const | Var | Int:
            if not isinstance(leaf, Const):
                return leaf
            value = filling[leaf.name]
            return Int(int(value)) if self.slots[leaf.name] == "number" else Const(value)

        result: Formula = map_leaves(self.pattern, term, lambda name: filling[name])
        return result

    def match(self, formula: Formula) -> dict[str, str] | None:
        """Reads the slots off a formula.

        Args:
            formula: Any formula.

        Returns:
            What fills each slot, or ``None`` if the formula has another shape.
        """
        filling: dict[str, str] = {}
        return filling if self._unify(self.pattern, formula, filling) else None

    def _unify(self, pattern: Node, node: Node, filling: dict[str, str]) -> bool:
        if isinstance(pattern, Const):
            if self.slots[pattern.name] == "number":
                return isinstance(node, Int) and filling.setdefault(pattern.name, str(node.value)) == str(node.value)
            return isinstance(node, Const) and filling.setdefault(pattern.name, node.name) == node.name
        if type(pattern) is not type(node):
            return False
        if isinstance(pattern, Atom) and isinstance(node, Atom):
            if filling.setdefault(pattern.predicate, node.predicate) != node.predicate:
                return False
        elif isinstance(pattern, Arith) and isinstance(node, Arith):
            if pattern.op != node.op:
                return False
        elif isinstance(pattern, Var):
            return pattern == node
        parts, others = children(pattern), children(node)
        return len(parts) == len(others) and all(
            self._unify(part, other, filling) for part, other in zip(parts, others, strict=True)
        )


X = Var("x")
"""The bound variable of every rule."""


def _rule(negated_left: bool, negated_right: bool) -> Formula:
    left: Formula = Atom("A", (X,))
    right: Formula = Atom("B", (X,))
    return Forall(X, Implies(Not(left) if negated_left else left, Not(right) if negated_right else right))


_FACT = Atom("A", (Const("i"),))
_FACT_SLOTS = {"i": "individual", "A": "property"}
_RULE_SLOTS = {"A": "property", "B": "property"}
_I, _J, _K, _N = Const("i"), Const("j"), Const("k"), Const("n")
_PAIR = {"i": "agent", "j": "agent", "n": "number"}

STATEMENT_KINDS: dict[str, StatementKind] = {
    kind.name: kind
    for kind in (
        StatementKind("fact", "premise", _FACT_SLOTS, _FACT),
        StatementKind("fact_not", "premise", _FACT_SLOTS, Not(_FACT)),
        StatementKind("rule", "premise", _RULE_SLOTS, _rule(False, False)),
        StatementKind("rule_then_not", "premise", _RULE_SLOTS, _rule(False, True)),
        StatementKind("rule_if_not", "premise", _RULE_SLOTS, _rule(True, False)),
        StatementKind("rule_if_not_then_not", "premise", _RULE_SLOTS, _rule(True, True)),
        StatementKind("judge", "question", _FACT_SLOTS, _FACT),
        StatementKind("judge_not", "question", _FACT_SLOTS, Not(_FACT)),
        StatementKind("less", "premise", {"i": "individual", "j": "individual"}, Less(_I, _J), "relation"),
        StatementKind("judge_less", "question", {"i": "individual", "j": "individual"}, Less(_I, _J), "relation"),
        StatementKind("amount", "premise", {"i": "agent", "n": "number"}, Equals(_I, _N), "item"),
        StatementKind("more", "premise", _PAIR, Equals(_I, Arith("+", (_J, _N))), "item"),
        StatementKind("fewer", "premise", _PAIR, Equals(_I, Arith("-", (_J, _N))), "item"),
        StatementKind("times", "premise", _PAIR, Equals(_I, Arith("*", (_N, _J))), "item"),
        StatementKind(
            "together",
            "premise",
            {"i": "agent", "j": "agent", "k": "agent"},
            Equals(_I, Arith("+", (_J, _K))),
            "item",
        ),
        StatementKind("how_many", "question", {"i": "agent"}, Equals(_I, ANSWER_VARIABLE), "item"),
    )
}
"""Every statement kind by name. A domain pack must have at least three templates for each."""


def find_kind(formula: Formula, role: Literal["premise", "question"]) -> tuple[StatementKind, dict[str, str]]:
    """Finds the statement kind that a formula belongs to.

    Args:
        formula: A premise or a question.
        role: Which of the two it is.

    Returns:
        The kind and what fills its slots.

    Raises:
        IsodistillError: If no kind has this shape.
    """
    for kind in STATEMENT_KINDS.values():
        if kind.role == role and (filling := kind.match(formula)) is not None:
            return kind, filling
    raise IsodistillError(
        f"No sentence can state {format_formula(formula)} as a {role}; use one of the shapes in STATEMENT_KINDS "
        f"({', '.join(name for name, kind in STATEMENT_KINDS.items() if kind.role == role)})."
    )
