"""An immutable syntax tree for first-order logic with equality and linear integer arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from isodistill.errors import IsodistillError


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

_BINARY: dict[type[Any], str] = {Implies: "->", Iff: "<->", Xor: "xor"}
_TERM_PAIR: dict[type[Any], str] = {Equals: "=", Less: "<"}
_TAGS: dict[str, type[Any]] = {
    **{cls.__name__.lower(): cls for cls in (Const, Var, Int, Arith, Atom, Not, And, Or, Implies, Iff, Xor)},
    **{cls.__name__.lower(): cls for cls in (Forall, Exists, Equals, Less)},
}
_TERM_TAGS = ("const", "var", "int", "arith")
MAX_JSON_DEPTH = 200
"""How deeply a formula read from JSON may nest; deeper input is refused rather than run into the recursion limit."""


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
