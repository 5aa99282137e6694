"""First-order formulas in the notation of textbooks and of FOLIO: a grammar, a parser and a printer.

From the loosest to the tightest: ``↔`` (left to right), ``→`` (right to left), ``∨``, ``⊕`` (left to right), ``∧``,
then ``¬`` and the quantifiers, which reach over the next atom, negation, quantifier or parenthesis only. That ``⊕``
stands between ``∨`` and ``∧`` is the convention of most programming languages; FOLIO mixes them only with parentheses.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from isodistill.errors import IsodistillError
from isodistill.logic.formula import (
    And,
    Atom,
    Const,
    Equals,
    Exists,
    Forall,
    Formula,
    Iff,
    Implies,
    Node,
    Not,
    Or,
    Var,
    Xor,
    children,
    with_children,
)
from isodistill.logic.printer import format_formula

MAX_LENGTH = 20_000
"""The most characters of a formula."""

MAX_DEPTH = 100
"""How deeply a formula may nest; deeper text is refused rather than run into the recursion limit."""

_NAME = r"\w(?:[\w’'+]|[.-](?=\w))*"
_VARIABLE_NAME = re.compile(r"[u-z]\d?")
"""Names that stand for variables by convention, so that one which no quantifier binds is a mistake, not a constant."""

_GRAMMAR = rf"""
?start: equivalence
?equivalence: implication
    | equivalence ("↔" | "⟷" | "⇔" | "<->" | "<=>") implication -> iff
?implication: disjunction
    | disjunction ("→" | "⟶" | "⇒" | "->" | "=>") implication -> implies
?disjunction: exclusive
    | exclusive (("∨" | "|") exclusive)+ -> any_of
?exclusive: conjunction
    | exclusive ("⊕" | "⊻") conjunction -> xor
?conjunction: prefixed
    | prefixed (("∧" | "&") prefixed)+ -> all_of
?prefixed: atom
    | ("¬" | "~") prefixed -> negation
    | _FORALL VARIABLE prefixed -> forall
    | _EXISTS VARIABLE prefixed -> exists
?atom: NAME [ "(" term ("," term)* ")" ] -> predication
    | term "=" term -> equals
    | term ("≠" | "!=") term -> differs
    | "⊤" -> truth
    | "⊥" -> falsehood
    | "(" equivalence ")"
?term: NAME -> name
_FORALL.1: /∀|forall(?=\s)/
_EXISTS.1: /∃|exists(?=\s)/
VARIABLE: /\w+/
NAME: /{_NAME}/
%ignore /\s+/
"""


class NotationError(IsodistillError):
    """A text that is no formula.

    Args:
        message: The sentence for people.
        column: Where the text goes wrong, counted from 0; its length where it ends too early.
        found: What stands there; empty at the end of the text.
        wanted: The grammar's names of what could have stood there.
        unbound: The variable that no quantifier binds, where that is the mistake.
    """

    def __init__(
        self,
        message: str,
        column: int = 0,
        found: str = "",
        wanted: frozenset[str] = frozenset(),
        unbound: str = "",
    ) -> None:
        super().__init__(message)
        self.column, self.found, self.wanted, self.unbound = column, found, wanted, unbound


class _Builder(Transformer[Token, Formula]):
    """Builds formulas while the text is parsed; every name is a constant until `_bind` has seen the quantifiers."""

    def iff(self, parts: list[Any]) -> Formula:
        return Iff(*parts)

    def implies(self, parts: list[Any]) -> Formula:
        return Implies(*parts)

    def any_of(self, parts: list[Any]) -> Formula:
        return Or(tuple(parts))

    def xor(self, parts: list[Any]) -> Formula:
        return Xor(*parts)

    def all_of(self, parts: list[Any]) -> Formula:
        return And(tuple(parts))

    def negation(self, parts: list[Any]) -> Formula:
        return Not(*parts)

    def forall(self, parts: list[Any]) -> Formula:
        return Forall(Var(str(parts[0])), parts[1])

    def exists(self, parts: list[Any]) -> Formula:
        return Exists(Var(str(parts[0])), parts[1])

    def predication(self, parts: list[Any]) -> Formula:
        return Atom(str(parts[0]), tuple(part for part in parts[1:] if part is not None))

    def equals(self, parts: list[Any]) -> Formula:
        return Equals(*parts)

    def differs(self, parts: list[Any]) -> Formula:
        return Not(Equals(*parts))

    def truth(self, parts: list[Any]) -> Formula:
        return And(())

    def falsehood(self, parts: list[Any]) -> Formula:
        return Or(())

    def name(self, parts: list[Any]) -> Const:
        return Const(str(parts[0]))


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Builder())


def parse_formula(text: str, where: str = "the formula") -> Formula:
    """Reads a closed formula, for example ``∀x (Cat(x) → Mammal(x))``.

    A name that a quantifier binds is a variable, any other a constant. A name may hold digits, ``_``, ``'``, ``’`` and
    ``+``, and inside it ``.`` and ``-``. In ASCII: ``forall x``, ``exists x``, ``~``, ``&``, ``|``, ``->``, ``<->``,
    ``!=``.

    Args:
        text: The formula; untrusted.
        where: Named in errors, for example ``"premise 2 of row 5"``.

    Returns:
        The formula; chains of ``∧`` and of ``∨`` become one node with several parts.

    Raises:
        NotationError: If the text is no formula, has a variable that no quantifier binds, or is too long or too deep.
    """
    if len(text) > MAX_LENGTH:
        raise NotationError(f"In {where}, the formula has {len(text)} characters; at most {MAX_LENGTH} are read.")
    try:
        formula: Any = _parser().parse(text)
    except UnexpectedInput as error:
        raise _explained(error, text, where) from None
    if _depth(formula) > MAX_DEPTH:
        raise NotationError(f"In {where}, the formula nests deeper than {MAX_DEPTH}; write a flatter one.")
    bound: Formula = _bind(formula, frozenset(), where)
    return bound


def format_notation(formula: Formula) -> str:
    """Writes a formula so that `parse_formula` reads an equal one, with no more parentheses than FOLIO puts.

    Args:
        formula: A closed formula without arithmetic. A conjunction or disjunction of one part is written as that part.

    Returns:
        One line, for example ``∀x (Cat(x) → Mammal(x))``.

    Raises:
        IsodistillError: If the notation has no way to write the formula: it holds arithmetic or an order of numbers,
            a free variable, a name with other characters, or a constant that would be read as a variable.
    """
    return _written(formula, frozenset())[0]


def _explained(error: UnexpectedInput, text: str, where: str) -> NotationError:
    at = error.pos_in_stream if error.pos_in_stream is not None else len(text)
    found, wanted = "", frozenset[str]()
    if isinstance(error, UnexpectedToken):
        wanted = frozenset(error.accepts or error.expected)
        found = "" if error.token.type == "$END" else str(error.token)
        at = at if found else len(text)
    elif isinstance(error, UnexpectedCharacters):
        found = text[at]
    stopper = f"{found!r} at column {at + 1} does not fit" if found else "the text ends too early"
    return NotationError(
        f"In {where}, {stopper}: {_excerpt(text)}; write formulas such as ∀x (Cat(x) → Mammal(x)).", at, found, wanted
    )


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:120]}...")


def _depth(formula: Formula) -> int:
    # Not recursive: the depth is what decides whether recursion is safe.
    deepest, open_nodes = 0, [(1, formula)]
    while open_nodes:
        depth, node = open_nodes.pop()
        deepest = max(deepest, depth)
        open_nodes.extend((depth + 1, child) for child in children(node))  # type: ignore[misc]
    return deepest


def _bind(node: Node, scope: frozenset[str], where: str) -> Any:
    if isinstance(node, Const):
        if node.name in scope:
            return Var(node.name)
        if _VARIABLE_NAME.fullmatch(node.name):
            raise NotationError(
                f"In {where}, no quantifier binds the variable {node.name!r}; put its whole scope in parentheses.",
                unbound=node.name,
            )
        return node
    if isinstance(node, Forall | Exists):
        return type(node)(node.var, _bind(node.body, scope | {node.var.name}, where))
    return with_children(node, [_bind(child, scope, where) for child in children(node)])


_TIGHTNESS: dict[type[Any], int] = {Iff: 1, Implies: 2, Or: 3, Xor: 4, And: 5}
_PREFIXED, _ATOM = 6, 7


def _written(formula: Formula, scope: frozenset[str]) -> tuple[str, int]:
    """Writes a formula and tells how tightly it holds together."""

    def inside(part: Formula, least: int) -> str:
        text, tightness = _written(part, scope)
        return text if tightness >= least else f"({text})"

    rank = _TIGHTNESS.get(type(formula), _ATOM)
    match formula:
        case And(()) | Or(()):
            return ("⊤" if isinstance(formula, And) else "⊥"), _ATOM
        case And((part,)) | Or((part,)):
            return _written(part, scope)
        case And(parts) | Or(parts):
            sign = " ∧ " if isinstance(formula, And) else " ∨ "
            return sign.join(inside(part, rank + 1) for part in parts), rank
        case Xor(left, right):
            return f"{inside(left, rank)} ⊕ {inside(right, rank + 1)}", rank
        case Implies(left, right):
            return f"{inside(left, rank + 1)} → {inside(right, rank)}", rank
        case Iff(left, right):
            return f"{inside(left, rank)} ↔ {inside(right, rank + 1)}", rank
        case Not(Equals(left, right)):
            return f"{_term(left, scope, formula)} ≠ {_term(right, scope, formula)}", _ATOM
        case Equals(left, right):
            return f"{_term(left, scope, formula)} = {_term(right, scope, formula)}", _ATOM
        case Not(body):
            return f"¬{inside(body, _PREFIXED)}", _PREFIXED
        case Forall(var, body) | Exists(var, body):
            text, tightness = _written(body, scope | {var.name})
            sign = "∀" if isinstance(formula, Forall) else "∃"
            _check(bool(re.fullmatch(r"\w+", var.name)), formula, f"the variable {var.name!r}")
            return f"{sign}{var.name} {text if tightness == _PREFIXED else f'({text})'}", _PREFIXED
        case Atom(name, args):
            _check(bool(re.fullmatch(_NAME, name)), formula, f"the name {name!r}")
            terms = ", ".join(_term(arg, scope, formula) for arg in args)
            return (f"{name}({terms})" if args else name), _ATOM
        case _:
            raise _unwritable(formula, "an order of numbers")


def _term(term: Node, scope: frozenset[str], formula: Formula) -> str:
    if not isinstance(term, Const | Var):
        raise _unwritable(formula, "arithmetic")
    name, is_variable = term.name, isinstance(term, Var)
    # Reading the name back must give the same kind of term.
    free = name not in scope and not _VARIABLE_NAME.fullmatch(name)
    fits = bool(re.fullmatch(_NAME, name)) and (name in scope if is_variable else free)
    _check(fits, formula, f"the {'variable' if is_variable else 'constant'} {name!r}")
    return name


def _check(condition: bool, formula: Formula, what: str) -> None:
    if not condition:
        raise _unwritable(formula, what)


def _unwritable(formula: Formula, what: str) -> IsodistillError:
    return IsodistillError(
        f"The formula {format_formula(formula)} has no form in this notation because of {what}; rename or replace it."
    )
