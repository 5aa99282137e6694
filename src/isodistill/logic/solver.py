"""What follows from what, decided by z3: labels, entailment, consistency and the value of a term."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import z3

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
    Term,
    Var,
    Xor,
    constants,
    free_variables,
    map_leaves,
    standard_variables,
    walk,
)
from isodistill.logic.printer import format_formula

DEFAULT_TIMEOUT_MS = 5000
"""How long one call to z3 may take, in milliseconds."""

CALLS_PER_CONTEXT = 500
"""How many calls of one thread share a z3 context."""

MAX_INSTANCES = 20_000
"""Above this number of ground instances a problem goes to z3 with its quantifiers."""


class UndecidedError(IsodistillError):
    """z3 reached no verdict: the time is up, or the quantifiers are beyond it."""


def status(premises: Sequence[Formula], question: Formula, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> str:
    """Decides what the premises say about a statement.

    Args:
        premises: The premises.
        question: A closed formula.
        timeout_ms: The limit for each of the three checks, in milliseconds.

    Returns:
        ``"True"`` if the premises entail the statement, ``"False"`` if they entail its negation, else ``"Unknown"``.

    Raises:
        IsodistillError: If the premises contradict each other, a formula is ill-formed, or z3 reaches no verdict.
    """
    problem = _Problem(premises, (question, Not(question)), timeout_ms)
    if not problem.satisfiable():
        raise IsodistillError(
            f"The premises contradict each other ({_excerpt(premises)}), so any statement would follow; mend a premise."
        )
    if not problem.satisfiable(1):
        return "True"
    return "Unknown" if problem.satisfiable(0) else "False"


def entails(premises: Sequence[Formula], conclusion: Formula, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> bool:
    """Tells whether a conclusion follows; from contradictory premises everything does.

    Args:
        premises: The premises.
        conclusion: A closed formula.
        timeout_ms: The limit, in milliseconds.

    Returns:
        ``True`` if no model of the premises falsifies the conclusion.

    Raises:
        IsodistillError: If a formula is ill-formed or z3 reaches no verdict.
    """
    return not _Problem(premises, (Not(conclusion),), timeout_ms).satisfiable(0)


def consistent(premises: Sequence[Formula], timeout_ms: int = DEFAULT_TIMEOUT_MS) -> bool:
    """Tells whether the premises have a model.

    Args:
        premises: The premises.
        timeout_ms: The limit, in milliseconds.

    Returns:
        ``True`` if they do.

    Raises:
        IsodistillError: If a formula is ill-formed or z3 reaches no verdict.
    """
    return _Problem(premises, (), timeout_ms).satisfiable()


def unique_value(premises: Sequence[Formula], term: Term, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> int:
    """Finds the one whole number that a term must equal.

    Args:
        premises: The premises.
        term: A numeric term, for example a constant that stands in the premises' arithmetic.
        timeout_ms: The limit for each of the two checks, in milliseconds.

    Returns:
        The value.

    Raises:
        IsodistillError: If the premises contradict each other, leave several values open, or z3 reaches no verdict.
    """
    # The sum makes sure that the term is read as a number.
    numeric = Equals(Arith("+", (term, Int(0))), Int(0))
    translator = _Translator([*premises, numeric], timeout_ms)
    for premise in premises:
        translator.solver.add(translator.formula(premise))
    wanted = translator.term(term)
    if not translator.check():
        raise IsodistillError(f"The premises contradict each other ({_excerpt(premises)}); mend a premise.")
    value = translator.solver.model().eval(wanted, model_completion=True).as_long()
    translator.solver.add(wanted != value)
    if translator.check():
        raise IsodistillError(
            f"The premises leave several values open for {format_formula(term)} ({_excerpt(premises)}); add a premise "
            "that fixes it."
        )
    return int(value)


class _Problem:
    """Premises asserted once, against which each of several extra formulas can be checked."""

    def __init__(self, premises: Sequence[Formula], extras: Sequence[Formula], timeout_ms: int) -> None:
        for formula in (*premises, *extras):
            if free := free_variables(formula):
                raise IsodistillError(
                    f"The variable {free[0]!r} is free in {format_formula(formula)}; bind it with forall or exists."
                )
        grounded = _ground(premises, extras)
        if grounded is not None:
            premises, extras = grounded
        else:
            # Each quantifier gets a variable of its own, so that x may be a number in one and an individual in another.
            numbers = itertools.count()
            premises = [standard_variables(premise, numbers) for premise in premises]
            extras = [standard_variables(extra, numbers) for extra in extras]
        self._translator = _Translator([*premises, *extras], timeout_ms)
        for premise in premises:
            self._translator.solver.add(self._translator.formula(premise))
        self._extras = [self._translator.formula(extra) for extra in extras]

    def satisfiable(self, extra: int | None = None) -> bool:
        """Checks the premises, together with one of the extra formulas if its index is given."""
        return self._translator.check(*([] if extra is None else [self._extras[extra]]))


def _ground(premises: Sequence[Formula], extras: Sequence[Formula]) -> tuple[list[Formula], tuple[Formula, ...]] | None:
    """Replaces leading universal quantifiers of the premises by their instances over the constants, where exact.

    It is exact for premises of the shape ``forall x. ... forall y. M`` with M free of quantifiers, without equality,
    arithmetic or function symbols, and extras without quantifiers: by Herbrand's theorem such a set has a model
    exactly if its instances over the constants that occur in it (one fresh constant if there is none) have a
    propositional model. For anything else ``None`` is returned and z3 gets the quantifiers themselves.
    """
    names = tuple(dict.fromkeys(name for formula in (*premises, *extras) for name in constants(formula)))
    universe = [Const(name) for name in names] or [Const("some individual")]
    instances: list[Formula] = []
    for formula in (*premises, *extras):
        for node in walk(formula):
            if isinstance(node, Equals | Less | Arith | Int):
                return None
    for extra in extras:
        if any(isinstance(node, Forall | Exists) for node in walk(extra)):
            return None
    for premise in premises:
        variables: list[str] = []
        matrix = premise
        while isinstance(matrix, Forall):
            variables.append(matrix.var.name)
            matrix = matrix.body
        if any(isinstance(node, Forall | Exists) for node in walk(matrix)):
            return None
        if len(instances) + len(universe) ** len(variables) > MAX_INSTANCES:
            return None
        for values in itertools.product(universe, repeat=len(variables)):
            # Of two quantifiers over the same name the inner one binds: dict() lets the later entry win.
            chosen = dict(zip(variables, values, strict=True))
            instances.append(
                map_leaves(matrix, lambda leaf, chosen=chosen: chosen[leaf.name] if isinstance(leaf, Var) else leaf)  # type: ignore[misc]
                if variables
                else matrix
            )
    return instances, tuple(extras)


class _Contexts(threading.local):
    """A z3 context for each thread, because z3's contexts may not be shared between threads.

    Calls share a context but no solver, so no assertion of one is seen by another. Making a context is the costliest
    part of a short problem; a fresh one every few hundred calls keeps its tables of names small.
    """

    def __init__(self) -> None:
        self._calls, self._context = 0, z3.Context()

    def take(self) -> Any:
        self._calls += 1
        if self._calls > CALLS_PER_CONTEXT:
            self._calls, self._context = 1, z3.Context()
        return self._context


_CONTEXTS = _Contexts()


class _Translator:
    """Turns formulas into z3 expressions for a solver of its own."""

    def __init__(self, formulas: Sequence[Formula], timeout_ms: int) -> None:
        self._context = _CONTEXTS.take()
        self.solver = z3.Solver(ctx=self._context)
        self.solver.set("timeout", timeout_ms)
        self._timeout_ms = timeout_ms
        self._numeric = _numeric_names(formulas)
        self._sort: Any = None
        self._terms: dict[Any, Any] = {}
        self._atoms: dict[Atom, Any] = {}
        self._signatures: dict[tuple[str, int], tuple[bool, ...]] = {}
        # Without quantifiers and equality, ground atoms are plain propositions: no sort, no function symbol needed.
        self._propositional = not any(
            isinstance(node, Forall | Exists | Equals) for formula in formulas for node in walk(formula)
        )

    def check(self, *assumptions: Any) -> bool:
        """Runs z3 and tells whether what was added, with the assumptions, is satisfiable."""
        if assumptions:
            self.solver.push()
            self.solver.add(*assumptions)
        verdict = self.solver.check()
        reason = self.solver.reason_unknown() if verdict == z3.unknown else ""
        if assumptions:
            self.solver.pop()
        if verdict == z3.unknown:
            raise UndecidedError(
                f"z3 reached no verdict within {self._timeout_ms} ms ({reason}); simplify the premises or raise the "
                "time limit."
            )
        return bool(verdict == z3.sat)

    def term(self, term: Term) -> Any:
        """Translates a term: numbers and what is computed with become integers, all else an uninterpreted sort."""
        match term:
            case Int(value):
                return z3.IntVal(value, self._context)
            case Const(name) | Var(name):
                key = (type(term), name)
                if key not in self._terms:
                    sort = z3.IntSort(self._context) if key in self._numeric else self._individuals()
                    self._terms[key] = z3.Const(f"{type(term).__name__} {name}", sort)
                return self._terms[key]
            case Arith(op, args):
                values = [self.term(arg) for arg in args]
                if op == "+":
                    return z3.Sum(*values)
                if op == "-":
                    return values[0] - values[1]
                if not any(isinstance(arg, Int) for arg in args):
                    raise IsodistillError(
                        f"The product {format_formula(term)} is not linear; one factor must be a number."
                    )
                return values[0] * values[1]

    def formula(self, formula: Formula) -> Any:
        """Translates a formula."""
        match formula:
            case Atom():
                if formula not in self._atoms:
                    self._atoms[formula] = self._atom(formula)
                return self._atoms[formula]
            case Not(body):
                return z3.Not(self.formula(body))
            case And(parts):
                return z3.And(*(self.formula(part) for part in parts)) if parts else z3.BoolVal(True, self._context)
            case Or(parts):
                return z3.Or(*(self.formula(part) for part in parts)) if parts else z3.BoolVal(False, self._context)
            case Implies(left, right):
                return z3.Implies(self.formula(left), self.formula(right))
            case Iff(left, right):
                return self.formula(left) == self.formula(right)
            case Xor(left, right):
                return z3.Xor(self.formula(left), self.formula(right))
            case Forall(var, body):
                return z3.ForAll([self.term(var)], self.formula(body))
            case Exists(var, body):
                return z3.Exists([self.term(var)], self.formula(body))
            case Less(left, right):
                return self.term(left) < self.term(right)
            case Equals(left, right):
                sides = self.term(left), self.term(right)
                if sides[0].sort() != sides[1].sort():
                    raise IsodistillError(
                        f"In {format_formula(formula)} a number is set equal to an individual; compare like with like."
                    )
                return sides[0] == sides[1]

    def _individuals(self) -> Any:
        if self._sort is None:
            self._sort = z3.DeclareSort("Individual", self._context)
        return self._sort

    def _atom(self, atom: Atom) -> Any:
        signature = tuple(_is_numeric(arg, self._numeric) for arg in atom.args)
        known = self._signatures.setdefault((atom.predicate, len(signature)), signature)
        if known != signature:
            raise IsodistillError(
                f"The predicate {atom.predicate!r} is applied to a number in one place and to an individual in "
                f"another ({format_formula(atom)}); use two predicates."
            )
        if not signature or (self._propositional and not any(signature)):
            return z3.Bool(f"Atom {len(self._atoms)}", self._context)
        sorts = [z3.IntSort(self._context) if numeric else self._individuals() for numeric in signature]
        function = z3.Function(f"Predicate {atom.predicate}", *sorts, z3.BoolSort(self._context))
        return function(*(self.term(arg) for arg in atom.args))


def _is_numeric(term: Term, numeric: set[tuple[type, str]]) -> bool:
    if isinstance(term, Const | Var):
        return (type(term), term.name) in numeric
    return True


def _numeric_names(formulas: Sequence[Formula]) -> set[tuple[type, str]]:
    """Finds the constants and variables that stand in arithmetic, in an order, or are set equal to such a term."""
    numeric: set[tuple[type, str]] = set()
    equations: list[Equals] = []

    def mark(node: Node) -> None:
        numeric.update((type(part), part.name) for part in walk(node) if isinstance(part, Const | Var))

    for formula in formulas:
        for node in walk(formula):
            if isinstance(node, Less | Arith):
                mark(node)
            elif isinstance(node, Equals):
                equations.append(node)
    changed = True
    while changed:
        before = len(numeric)
        for equation in equations:
            if _is_numeric(equation.left, numeric) or _is_numeric(equation.right, numeric):
                mark(equation)
        changed = len(numeric) != before
    return numeric


def _excerpt(premises: Sequence[Formula]) -> str:
    text = "; ".join(format_formula(premise) for premise in premises)
    return text if len(text) <= 200 else f"{text[:200]}..."
