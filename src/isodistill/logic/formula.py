"""An immutable syntax tree for first-order logic with equality and linear integer arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Const:
    """A named individual, or a named whole number where it stands in arithmetic.

    Args:
        name: The constant's name, for example ``"c0"``.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Var:
    """A variable: bound by a quantifier, or free where a question asks for its value.

    Args:
        name: The variable's name, for example ``"x"``.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number.

    Args:
        value: The number.
    """

    value: int


@dataclass(frozen=True, slots=True)
class Arith:
    """An arithmetic term.

    Args:
        op: ``"+"``, ``"-"`` or ``"*"``. A product must have a number (`Int`) among its two factors, so that it
            stays linear; the solver refuses any other.
        args: Two or more terms for ``"+"``, exactly two otherwise.

    Raises:
        ValueError: If the number of arguments does not fit the operation.
    """

    op: Literal["+", "-", "*"]
    args: tuple[Term, ...]

    def __post_init__(self) -> None:
        if self.op not in ("+", "-", "*"):
            raise ValueError(f"unknown arithmetic operation {self.op!r}")
        if len(self.args) < 2 or (self.op != "+" and len(self.args) != 2):
            raise ValueError(f"operation {self.op!r} cannot take {len(self.args)} arguments")


Term = Const | Var | Int | Arith


@dataclass(frozen=True, slots=True)
class Atom:
    """A predicate applied to terms.

    Args:
        predicate: The predicate's name.
        args: Its arguments; none for a proposition.
    """

    predicate: str
    args: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Negation.

    Args:
        body: What is denied.
    """

    body: Formula


@dataclass(frozen=True, slots=True)
class And:
    """Conjunction.

    Args:
        parts: The conjuncts; an empty conjunction is true.
    """

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Disjunction (inclusive).

    Args:
        parts: The disjuncts; an empty disjunction is false.
    """

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Implies:
    """Material implication.

    Args:
        left: The condition.
        right: The consequence.
    """

    left: Formula
    right: Formula


@dataclass(frozen=True, slots=True)
class Iff:
    """Equivalence.

    Args:
        left: One side.
        right: The other side.
    """

    left: Formula
    right: Formula


@dataclass(frozen=True, slots=True)
class Xor:
    """Exclusive disjunction.

    Args:
        left: One side.
        right: The other side.
    """

    left: Formula
    right: Formula


@dataclass(frozen=True, slots=True)
class Forall:
    """Universal quantification.

    Args:
        var: The bound variable.
        body: Its scope.
    """

    var: Var
    body: Formula


@dataclass(frozen=True, slots=True)
class Exists:
    """Existential quantification.

    Args:
        var: The bound variable.
        body: Its scope.
    """

    var: Var
    body: Formula


@dataclass(frozen=True, slots=True)
class Equals:
    """Equality of two terms.

    Args:
        left: One term.
        right: The other term.
    """

    left: Term
    right: Term


@dataclass(frozen=True, slots=True)
class Less:
    """The strict order of the whole numbers.

    Args:
        left: The smaller term.
        right: The larger term.
    """

    left: Term
    right: Term


Formula = Atom | Not | And | Or | Implies | Iff | Xor | Forall | Exists | Equals | Less
Node = Term | Formula


def children(node: Node) -> tuple[Node, ...]:
    """Lists what stands directly below a node.

    Args:
        node: A term or a formula.

    Returns:
        Its arguments, parts or sides from left to right, the bound variable of a quantifier first.
    """
    match node:
        case Const() | Var() | Int():
            return ()
        case Arith(_, args) | Atom(_, args):
            return args
        case Not(body):
            return (body,)
        case And(parts) | Or(parts):
            return parts
        case Forall(var, body) | Exists(var, body):
            return (var, body)
        case Implies(left, right) | Iff(left, right) | Xor(left, right):
            return (left, right)
        case Equals(left, right) | Less(left, right):
            return (left, right)


def walk(node: Node) -> Iterator[Node]:
    """Visits a node and all below it, left to right.

    Args:
        node: A term or a formula.

    Yields:
        The node itself, then every node below it in reading order.
    """
    yield node
    for child in children(node):
        yield from walk(child)


def constants(node: Node) -> tuple[str, ...]:
    """Names the constants of a term or formula in the order of their first appearance.

    Args:
        node: A term or a formula.

    Returns:
        The names, each once.
    """
    return tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, Const)))


def predicates(node: Node) -> tuple[str, ...]:
    """Names the predicates of a formula in the order of their first appearance.

    Args:
        node: A term or a formula.

    Returns:
        The names, each once.
    """
    return tuple(dict.fromkeys(part.predicate for part in walk(node) if isinstance(part, Atom)))


def free_variables(node: Node) -> tuple[str, ...]:
    """Names the variables of a term or formula that no quantifier binds.

    Args:
        node: A term or a formula.

    Returns:
        The names in the order of their first appearance, each once.
    """
    if isinstance(node, Var):
        return (node.name,)
    if isinstance(node, Forall | Exists):
        return tuple(name for name in free_variables(node.body) if name != node.var.name)
    return tuple(dict.fromkeys(name for child in children(node) for name in free_variables(child)))


def with_children(node: Node, parts: Sequence[Any]) -> Any:
    """Rebuilds a node around other children.

    Args:
        node: A term or a formula.
        parts: What takes the place of `children(node)`, as many and in the same order.

    Returns:
        A node of the same type, operation and predicate as `node`.
    """
    match node:
        case Const() | Var() | Int():
            return node
        case Arith(op, _):
            return Arith(op, tuple(parts))
        case Atom(name, _):
            return Atom(name, tuple(parts))
        case And() | Or():
            return type(node)(tuple(parts))
        case _:
            return type(node)(*parts)


def map_leaves(
    node: Node,
    term: Callable[[Const | Var | Int], Term],
    predicate: Callable[[str], str] = lambda name: name,
) -> Any:
    """Rebuilds a term or formula with its leaves replaced.

    Bound variables are handed to `term` like the others and must stay variables where a quantifier binds them.

    Args:
        node: A term or a formula.
        term: What each constant, variable and number becomes.
        predicate: What each predicate name becomes.

    Returns:
        The new node, of the same type as `node`, or what `term` returned where `node` is a leaf.
    """
    if isinstance(node, Const | Var | Int):
        return term(node)
    rebuilt = with_children(node, [map_leaves(child, term, predicate) for child in children(node)])
    return Atom(predicate(rebuilt.predicate), rebuilt.args) if isinstance(rebuilt, Atom) else rebuilt


def rename(node: Node, names: Mapping[str, str]) -> Any:
    """Renames constants and predicates.

    Args:
        node: A term or a formula.
        names: The new name of each symbol; a symbol that is not in it keeps its name.

    Returns:
        The renamed node.
    """
    return map_leaves(
        node,
        lambda leaf: Const(names.get(leaf.name, leaf.name)) if isinstance(leaf, Const) else leaf,
        lambda name: names.get(name, name),
    )


def standard_variables(formula: Formula, numbers: Iterator[int] | None = None) -> Formula:
    """Gives every quantifier a variable of its own: x0, x1, ... in reading order; free variables get a question mark.

    Args:
        formula: The formula.
        numbers: Where the numbers come from; share one `itertools.count()` to keep several formulas apart.

    Returns:
        The formula with its variables renamed.
    """
    numbers = itertools.count() if numbers is None else numbers

    def visit(node: Node, scope: dict[str, str]) -> Any:
        if isinstance(node, Forall | Exists):
            scope = {**scope, node.var.name: f"x{next(numbers)}"}
        if isinstance(node, Var):
            return Var(scope.get(node.name, f"?{node.name}"))
        return with_children(node, [visit(child, scope) for child in children(node)])

    result: Formula = visit(formula, {})
    return result
