from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
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
    format_formula,
    formula_from_json,
    formula_to_json,
)
from isodistill.logic.formula import constants, free_variables, predicates, rename, standard_variables, walk

NAMES = st.sampled_from(["a", "b", "zoë", "p q", "0"])
LEAVES = st.one_of(st.builds(Const, NAMES), st.builds(Var, NAMES), st.builds(Int, st.integers()))
TERMS = st.recursive(
    LEAVES,
    lambda inner: st.builds(Arith, st.sampled_from(["+", "-", "*"]), st.tuples(inner, inner)),
    max_leaves=4,
)
ATOMS = st.one_of(
    st.builds(Atom, NAMES, st.lists(TERMS, max_size=3).map(tuple)),
    st.builds(Equals, TERMS, TERMS),
    st.builds(Less, TERMS, TERMS),
)
FORMULAS: st.SearchStrategy[Formula] = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        *(st.builds(kind, inner, inner) for kind in (Implies, Iff, Xor)),
        *(st.builds(kind, st.builds(Var, NAMES), inner) for kind in (Forall, Exists)),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(FORMULAS)
def test_json_is_lossless(formula: Formula) -> None:
    assert formula_from_json(json.loads(json.dumps(formula_to_json(formula)))) == formula


@settings(deadline=None)
@given(FORMULAS)
def test_renaming_back_and_forth_changes_nothing(formula: Formula) -> None:
    there = {name: f"new {name}" for name in (*constants(formula), *predicates(formula))}
    back = {new: old for old, new in there.items()}
    assert rename(rename(formula, there), back) == formula
    assert set(constants(rename(formula, there))) == {there[name] for name in constants(formula)}


@settings(deadline=None)
@given(FORMULAS)
def test_standard_variables_keep_free_variables_apart(formula: Formula) -> None:
    renamed = standard_variables(formula)
    assert {f"?{name}" for name in free_variables(formula)} == set(free_variables(renamed))
    bound = [node.var.name for node in walk(renamed) if isinstance(node, Forall | Exists)]
    assert len(set(bound)) == len(bound)


def test_printing() -> None:
    x, a, b = Var("x"), Const("a"), Const("b")
    rule = Forall(x, Implies(Atom("prime", (x,)), Atom("odd", (x,))))
    assert format_formula(rule) == "forall x. prime(x) -> odd(x)"
    assert format_formula(And((Not(rule), Atom("rain", ())))) == "(not (forall x. prime(x) -> odd(x))) and rain"
    assert format_formula(Equals(a, Arith("+", (b, Arith("*", (Int(2), a)))))) == "a = (b + (2 * a))"
    assert format_formula(Or(())) == "or()"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("p", "must be a list"),
        (["nothing", "p"], "must be a list that starts with one of"),
        (["const", "a"], "a term stands where a formula is needed"),
        (["atom", 3], "takes a name first"),
        (["atom", "p", ["atom", "q"]], "a term is needed"),
        (["not", ["const", "a"]], "a formula is needed"),
        (["not", ["atom", "p"], ["atom", "p"]], "takes one part"),
        (["equals", ["int", True], ["int", 1]], "one whole number"),
        (["equals", ["arith", "/", ["int", 1], ["int", 1]], ["int", 1]], "unknown arithmetic operation"),
        (["forall", "x"], "one formula"),
    ],
)
def test_damaged_json_is_refused(data: Any, told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        formula_from_json(data, "premise 3")


def test_errors_name_the_place_and_deep_nesting_is_refused() -> None:
    deep: Any = ["atom", "p"]
    for _ in range(500):
        deep = ["not", deep]
    with pytest.raises(IsodistillError, match=r"premise 3.*deeper"):
        formula_from_json(deep, "premise 3")
