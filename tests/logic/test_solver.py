from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.isomers.families import Deduction
from isodistill.logic import (
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
    Var,
    Xor,
    consistent,
    entails,
    solver,
    status,
    unique_value,
)

X, Y = Var("x"), Var("y")
A, B, C = Const("a"), Const("b"), Const("c")


def p(*args: Const | Var) -> Atom:
    return Atom("p", args)


def q(*args: Const | Var) -> Atom:
    return Atom("q", args)


def test_the_three_answers() -> None:
    premises = [p(A), Forall(X, Implies(p(X), Not(q(X))))]
    assert status(premises, q(A)) == "False"
    assert status(premises, Not(q(A))) == "True"
    assert status(premises, q(B)) == "Unknown"


def test_contradictory_premises_are_an_error() -> None:
    premises = [p(A), Forall(X, Not(p(X)))]
    assert not consistent(premises)
    assert entails(premises, q(B))
    with pytest.raises(IsodistillError, match="contradict each other"):
        status(premises, q(A))


def test_a_free_variable_is_an_error() -> None:
    with pytest.raises(IsodistillError, match="'x' is free"):
        entails([p(X)], p(A))


def test_first_order_reasoning() -> None:
    someone = Exists(X, And((p(X), q(X))))
    assert entails([someone], Exists(X, p(X)))
    assert status([someone], p(A)) == "Unknown"
    assert entails([Forall(X, Exists(Y, p(X, Y)))], Exists(Y, p(A, Y)))
    assert not entails([Forall(X, Exists(Y, p(X, Y)))], Exists(Y, Forall(X, p(X, Y))))
    assert entails([Equals(A, B), p(A)], p(B))
    assert entails([Xor(p(A), q(A)), Iff(q(A), q(B)), q(B)], Not(p(A)))
    assert entails([Or((p(A), q(A))), Not(p(A))], q(A))
    # The domain is never empty, even where no constant is named.
    assert entails([Forall(X, p(X))], Exists(X, p(X)))


def test_quantifiers_and_facts_speak_of_the_same_predicate() -> None:
    # One premise is ground and one is not groundable: their atoms must still be the same.
    assert entails([p(A)], Exists(X, p(X)))
    assert not consistent([p(A), Not(Exists(X, p(X)))])


def test_arithmetic() -> None:
    sums = [Equals(A, Int(5)), Equals(B, Arith("*", (Int(3), A))), Equals(C, Arith("-", (B, Int(4))))]
    assert unique_value(sums, C) == 11
    assert unique_value(sums, Arith("+", (A, B, C))) == 31
    assert status([Less(A, B), Less(B, C)], Less(C, A)) == "False"
    with pytest.raises(IsodistillError, match="leave several values open for b"):
        unique_value(sums[:1], B)
    with pytest.raises(IsodistillError, match="contradict"):
        unique_value([*sums, Equals(A, Int(6))], C)
    with pytest.raises(IsodistillError, match="not linear"):
        unique_value([Equals(A, Arith("*", (B, C)))], A)


def test_a_predicate_of_both_sorts_is_an_error() -> None:
    with pytest.raises(IsodistillError, match="'p' is applied to a number in one place"):
        consistent([p(A), p(B), Less(A, C)])


def test_the_same_variable_name_may_have_two_sorts() -> None:
    less = Forall(X, Less(X, Arith("+", (X, Int(1)))))
    assert entails([less, Forall(X, p(X))], p(A))


# A reference that shares nothing with the solver: truth tables over the ground atoms of two individuals.
LITERALS = st.builds(
    lambda name, positive, term: Atom(name, (term,)) if positive else Not(Atom(name, (term,))),
    st.sampled_from(["p", "q", "r"]),
    st.booleans(),
    st.sampled_from([A, B]),
)
OPEN = st.builds(
    lambda name, positive: Atom(name, (X,)) if positive else Not(Atom(name, (X,))),
    st.sampled_from(["p", "q", "r"]),
    st.booleans(),
)
RULES = st.builds(lambda left, right: Forall(X, Implies(left, right)), OPEN, OPEN)


def holds(formula: Formula, model: dict[tuple[str, str], bool], scope: dict[str, str]) -> bool:
    match formula:
        case Atom(name, (Const(who),)):
            return model[name, who]
        case Atom(name, (Var(variable),)):
            return model[name, scope[variable]]
        case Not(body):
            return not holds(body, model, scope)
        case Implies(left, right):
            return not holds(left, model, scope) or holds(right, model, scope)
        case Forall(var, body):
            return all(holds(body, model, {**scope, var.name: who}) for who in ("a", "b"))
    raise AssertionError(formula)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(LITERALS, RULES), min_size=1, max_size=6), LITERALS)
def test_grounding_agrees_with_truth_tables_and_with_quantifiers(premises: list[Formula], question: Formula) -> None:
    cells = list(itertools.product(("p", "q", "r"), ("a", "b")))
    models = [dict(zip(cells, bits, strict=True)) for bits in itertools.product((False, True), repeat=len(cells))]
    left = [model for model in models if all(holds(premise, model, {}) for premise in premises)]
    verdicts = {holds(question, model, {}) for model in left}
    assert consistent(premises) == bool(left)
    assert entails(premises, question) == (False not in verdicts)
    # A tautology with an existential quantifier keeps the solver from grounding: both ways must agree.
    ungroundable = Exists(Y, Implies(Atom("p", (Y,)), Atom("p", (Y,))))
    assert entails([*premises, ungroundable], question) == (False not in verdicts)


def test_a_time_limit_is_an_error_for_people() -> None:
    names = [Const(f"n{i}") for i in range(12)]
    pigeons = [
        Or(tuple(Atom("in", (pigeon, hole)) for hole in names[:11])) for pigeon in (Const(f"m{i}") for i in range(12))
    ]
    alone = [
        Not(And((Atom("in", (Const(f"m{i}"), hole)), Atom("in", (Const(f"m{j}"), hole)))))
        for i, j in itertools.combinations(range(12), 2)
        for hole in names[:11]
    ]
    with pytest.raises(IsodistillError, match="no verdict within 50 ms"):
        consistent([*pigeons, *alone], timeout_ms=50)


def test_two_thousand_short_problems_a_minute_are_easy() -> None:
    skeletons = [Deduction().sample(Random(seed), 2, seed % 3) for seed in range(50)]
    started = time.process_time()
    for skeleton in skeletons:
        assert status(skeleton.premises, skeleton.question) == skeleton.answer
    assert (time.process_time() - started) / len(skeletons) < 0.03


def test_too_many_instances_go_to_z3_with_their_quantifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "MAX_INSTANCES", 1)
    assert status([p(A), q(B), Forall(X, Implies(p(X), q(X)))], q(A)) == "True"


def test_calls_do_not_see_each_other_in_threads_or_across_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "CALLS_PER_CONTEXT", 3)
    skeletons = [Deduction().sample(Random(seed), 2, seed % 3) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda skeleton: status(skeleton.premises, skeleton.question), skeletons))
    assert found == [skeleton.answer for skeleton in skeletons]
    assert not entails([q(A)], p(A))
    assert entails([p(A)], p(A))
    assert not entails([], p(A))
