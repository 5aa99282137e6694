"""Which shapes of formula a sentence may state: the table that renderer, parser and teachers share."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.skeleton import ANSWER_VARIABLE
from isodistill.logic.formula import (
    And,
    Arith,
    Atom,
    Const,
    Equals,
    Exists,
    Forall,
    Formula,
    Implies,
    Int,
    Less,
    Node,
    Not,
    Or,
    Var,
    children,
    constants,
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
        slots: The sort of each slot: a symbol sort, ``"number"``, or ``"individuals"`` for a list of at least two.
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
        elif isinstance(pattern, Var | Int):
            return pattern == node
        parts, others = children(pattern), children(node)
        return len(parts) == len(others) and all(
            self._unify(part, other, filling) for part, other in zip(parts, others, strict=True)
        )


class RowKind(StatementKind):
    """The statement that some individuals fill the places 1 to n of a row, one each: a shape that grows with n.

    Its slots are ``row``, the individuals with blanks between them, and ``n``, their number. Its pattern is unused.
    """

    def build(self, filling: Filling) -> Formula:
        """Fills the slots: see `row_formula`."""
        return row_formula(filling["row"].split(" "), int(filling["n"]))

    def match(self, formula: Formula) -> dict[str, str] | None:
        """Reads the slots off a formula."""
        row = constants(formula)
        if len(row) < 2 or formula != row_formula(row, len(row)):
            return None
        return {"row": " ".join(row), "n": str(len(row))}


def row_formula(row: Sequence[str], places: int) -> Formula:
    """States that individuals fill the places of a row.

    Args:
        row: Their names.
        places: The number of places.

    Returns:
        That each has a place between 1 and `places`, and no two have the same.
    """
    within = [(Not(Less(Const(name), Int(1))), Not(Less(Int(places), Const(name)))) for name in row]
    apart = [Not(Equals(Const(one), Const(other))) for one, other in itertools.combinations(row, 2)]
    return And((*itertools.chain.from_iterable(within), *apart))


X = Var("x")
"""The bound variable of every rule."""


def _rule(negated_left: bool, negated_right: bool) -> Formula:
    left: Formula = Atom("A", (X,))
    right: Formula = Atom("B", (X,))
    return Forall(X, Implies(Not(left) if negated_left else left, Not(right) if negated_right else right))


def _some(negated: bool) -> Formula:
    right = Atom("B", (X,))
    return Exists(X, And((Atom("A", (X,)), Not(right) if negated else right)))


def _exception(applies: bool, negated: bool) -> Formula:
    """A rule that holds unless its exception C applies, or a rule for the case that it does."""
    exception, right = Atom("C", (X,)), Atom("B", (X,))
    condition = And((Atom("A", (X,)), exception if applies else Not(exception)))
    return Forall(X, Implies(condition, Not(right) if negated else right))


_FACT = Atom("A", (Const("i"),))
_FACT_SLOTS = {"i": "individual", "A": "property"}
_RULE_SLOTS = {"A": "property", "B": "property"}
_I, _J, _K, _N = Const("i"), Const("j"), Const("k"), Const("n")
_PAIR = {"i": "agent", "j": "agent", "n": "number"}
_EXCEPTION_SLOTS = {"A": "property", "B": "property", "C": "property"}
_TWO = {"i": "individual", "j": "individual"}
_PLACE = {"i": "individual", "n": "number"}
# In set counting, a property stands for the number of individuals that have it.
_A, _B, _C = Const("A"), Const("B"), Const("C")

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
        StatementKind("some", "premise", _RULE_SLOTS, _some(False)),
        StatementKind("some_not", "premise", _RULE_SLOTS, _some(True)),
        StatementKind("judge_every", "question", _RULE_SLOTS, _rule(False, False)),
        StatementKind("judge_no", "question", _RULE_SLOTS, _rule(False, True)),
        StatementKind("judge_some", "question", _RULE_SLOTS, _some(False)),
        StatementKind("judge_some_not", "question", _RULE_SLOTS, _some(True)),
        StatementKind("unless", "premise", _EXCEPTION_SLOTS, _exception(False, False)),
        StatementKind("unless_not", "premise", _EXCEPTION_SLOTS, _exception(False, True)),
        StatementKind("override", "premise", _EXCEPTION_SLOTS, _exception(True, False)),
        StatementKind("override_not", "premise", _EXCEPTION_SLOTS, _exception(True, True)),
        RowKind("row", "premise", {"row": "individuals", "n": "number"}, And(())),
        StatementKind("at", "premise", _PLACE, Equals(_I, _N)),
        StatementKind("not_at", "premise", _PLACE, Not(Equals(_I, _N))),
        StatementKind("before", "premise", _TWO, Less(_I, _J)),
        StatementKind("next_after", "premise", _TWO, Equals(_I, Arith("+", (_J, Int(1))))),
        StatementKind("places_after", "premise", {**_TWO, "n": "number"}, Equals(_I, Arith("+", (_J, _N)))),
        StatementKind(
            "adjacent",
            "premise",
            _TWO,
            Or((Equals(_I, Arith("+", (_J, Int(1)))), Equals(_J, Arith("+", (_I, Int(1)))))),
        ),
        StatementKind("judge_at", "question", _PLACE, Equals(_I, _N)),
        StatementKind("set_size", "premise", {"A": "property", "n": "number"}, Equals(_A, _N)),
        StatementKind("set_parts", "premise", _EXCEPTION_SLOTS, Equals(_A, Arith("+", (_B, _C)))),
        StatementKind(
            "set_union",
            "premise",
            {**_EXCEPTION_SLOTS, "n": "number"},
            Equals(_A, Arith("-", (Arith("+", (_B, _C)), _N))),
        ),
        StatementKind("set_total", "premise", {**_RULE_SLOTS, "n": "number"}, Equals(Arith("+", (_A, _B)), _N)),
        StatementKind("set_more", "premise", {**_RULE_SLOTS, "n": "number"}, Equals(_A, Arith("+", (_B, _N)))),
        StatementKind("set_count", "question", {"A": "property"}, Equals(_A, ANSWER_VARIABLE)),
    )
}
"""Every statement kind by name. A domain pack must have at least three templates for each.

Kinds of different families may share a shape: "list B has 4 cubes", "the fifth patient has bed 4" and "4 contracts are
sealed" all set something equal to a number. The family's own kinds decide then, see `find_kind`.
"""


def find_kind(
    formula: Formula, role: Literal["premise", "question"], preferred: Collection[str] = ()
) -> tuple[StatementKind, dict[str, str]]:
    """Finds the statement kind that a formula belongs to.

    Args:
        formula: A premise or a question.
        role: Which of the two it is.
        preferred: The kinds to try first: those of the problem's family, where families share a shape.

    Returns:
        The kind and what fills its slots.

    Raises:
        IsodistillError: If no kind has this shape.
    """
    own = [STATEMENT_KINDS[name] for name in preferred]
    for kind in (*own, *STATEMENT_KINDS.values()):
        if kind.role == role and (filling := kind.match(formula)) is not None:
            return kind, filling
    raise IsodistillError(
        f"No sentence can state {format_formula(formula)} as a {role}; use one of the shapes in STATEMENT_KINDS "
        f"({', '.join(name for name, kind in STATEMENT_KINDS.items() if kind.role == role)})."
    )
