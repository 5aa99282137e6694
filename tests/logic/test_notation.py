from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.errors import IsodistillError
from isodistill.logic import (
    And,
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
    NotationError,
    Or,
    Var,
    Xor,
    format_notation,
    parse_formula,
)
from isodistill.logic.formula import Node, children, rename
from isodistill.logic.notation import MAX_DEPTH, MAX_LENGTH

A, B, C = (Atom(name, ()) for name in "ABC")


def test_the_notation_of_folio() -> None:
    x, y = Var("x"), Var("y")
    assert parse_formula("∀x (Cat(x) → Mammal(x))") == Forall(x, Implies(Atom("Cat", (x,)), Atom("Mammal", (x,))))
    assert parse_formula("∀x ∃y Knows(x, y)") == Forall(x, Exists(y, Atom("Knows", (x, y))))
    assert parse_formula(" ¬ HaveWings (rock) ") == Not(Atom("HaveWings", (Const("rock"),)))
    assert parse_formula("¬∃x (x = adam ∧ x ≠ eve)") == Not(
        Exists(x, And((Equals(x, Const("adam")), Not(Equals(x, Const("eve"))))))
    )


@pytest.mark.parametrize(
    "name", ["LostToIgaŚwiątek", "GrowthCompanies’Stocks", "y42.3billion", "l-2021", "c++", "b+", "family_History", "9"]
)
def test_names_as_people_write_them(name: str) -> None:
    assert parse_formula(f"Is({name})") == Atom("Is", (Const(name),))
    assert parse_formula(f"∀x ({name}(x) → B)") == Forall(Var("x"), Implies(Atom(name, (Var("x"),)), B))


def test_names_end_where_an_arrow_begins() -> None:
    assert parse_formula("A->B") == Implies(A, B)
    assert parse_formula("A<->B") == Iff(A, B)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        # The equivalence is looser than the implication, on either side of it.
        ("A ↔ B → C", Iff(A, Implies(B, C))),
        ("A → B ↔ C", Iff(Implies(A, B), C)),
        ("A → B → C", Implies(A, Implies(B, C))),
        ("A ↔ B ↔ C", Iff(Iff(A, B), C)),
        # The exclusive or stands between and and or.
        ("A ⊕ B → C", Implies(Xor(A, B), C)),
        ("A → B ⊕ C", Implies(A, Xor(B, C))),
        ("A ⊕ B ∨ C", Or((Xor(A, B), C))),
        ("A ∨ B ⊕ C", Or((A, Xor(B, C)))),
        ("A ⊕ B ∧ C", Xor(A, And((B, C)))),
        ("A ∧ B ⊕ C", Xor(And((A, B)), C)),
        ("A ⊕ B ⊕ C", Xor(Xor(A, B), C)),
        ("A ∨ B ∧ C", Or((A, And((B, C))))),
        ("¬A ∧ B", And((Not(A), B))),
        ("A ∧ B ∧ C", And((A, B, C))),
        ("(A ∧ B) ∧ C", And((And((A, B)), C))),
        ("⊤ → ⊥", Implies(And(()), Or(()))),
    ],
)
def test_ranks(text: str, formula: Formula) -> None:
    assert parse_formula(text) == formula


def test_quantifiers_bind_as_tightly_as_negation() -> None:
    x = Var("x")
    assert parse_formula("∃x P(x) ∧ A") == And((Exists(x, Atom("P", (x,))), A))
    assert parse_formula("∀x ¬P(x) → A") == Implies(Forall(x, Not(Atom("P", (x,)))), A)


def test_other_signs_mean_the_same() -> None:
    for text in ("A <-> ~B & C | A -> B", "A ⟷ ¬B ∧ C ∨ A ⟶ B", "A ⇔ ¬B ∧ C ∨ A ⇒ B", "A <=> ~B & C | A => B"):
        assert parse_formula(text) == parse_formula("A ↔ ¬B ∧ C ∨ A → B")
    assert parse_formula("forall x (exists y P(x, y))") == parse_formula("∀x (∃y P(x, y))")
    assert parse_formula("exists x (x != a)") == parse_formula("∃x (x ≠ a)")
    # Words are signs only where a sign may stand.
    assert parse_formula("existsNow(forall) ∧ forallOfUs") == And(
        (Atom("existsNow", (Const("forall"),)), Atom("forallOfUs", ()))
    )


def test_an_inner_quantifier_takes_the_name_over() -> None:
    x = Var("x")
    px = Atom("P", (x,))
    assert parse_formula("∀x (P(x) ∧ ∃x P(x))") == Forall(x, And((px, Exists(x, px))))
    # Outside its scope the name is a constant again.
    assert parse_formula("∃a P(a) ∧ P(a)") == And((Exists(Var("a"), Atom("P", (Var("a"),))), Atom("P", (Const("a"),))))


def python_value(text: str, values: dict[str, int]) -> int:
    """A reference that shares nothing with the grammar: Python ranks ``&``, ``^`` and ``|`` in the same way."""
    if "↔" in text:
        left, right = text.rsplit("↔", 1)
        return int(python_value(left, values) == python_value(right, values))
    if "→" in text:
        left, right = text.split("→", 1)
        return int(python_value(left, values) <= python_value(right, values))
    for sign, python in (("∧", "&"), ("∨", "|"), ("⊕", "^"), ("¬", "~")):
        text = text.replace(sign, python)
    return eval(text, {}, values) & 1


def value(formula: Formula, values: dict[str, int]) -> int:
    match formula:
        case Atom(name, ()):
            return values[name]
        case Not(body):
            return 1 - value(body, values)
        case And(parts):
            return min(value(part, values) for part in parts)
        case Or(parts):
            return max(value(part, values) for part in parts)
        case Xor(left, right):
            return int(value(left, values) != value(right, values))
        case Iff(left, right):
            return int(value(left, values) == value(right, values))
        case Implies(left, right):
            return int(value(left, values) <= value(right, values))
    raise AssertionError(formula)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "C", "¬A", "¬¬B"]), st.sampled_from("∧∨⊕→↔")), min_size=2, max_size=8)
)
def test_ranks_agree_with_an_independent_reading(chain: list[tuple[str, str]]) -> None:
    text = " ".join(part for pair in chain for part in pair)[:-1]
    formula = parse_formula(text)
    for bits in itertools.product((0, 1), repeat=3):
        values = dict(zip("ABC", bits, strict=True))
        assert value(formula, values) == python_value(text, values), text


NAMES = st.sampled_from(["a", "Cat", "l-2021", "c++", "Świątek", "n'est", "s42.3b", "forallOf"])
VARIABLES = st.sampled_from(["x", "y", "z", "a", "n1"])
TERMS = st.one_of(st.builds(Const, NAMES), st.builds(Var, VARIABLES))
ATOMS = st.one_of(
    st.builds(Atom, NAMES, st.lists(TERMS, max_size=3).map(tuple)),
    st.builds(Equals, TERMS, TERMS),
    st.sampled_from([And(()), Or(())]),
)
FORMULAS: st.SearchStrategy[Formula] = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.builds(kind, st.lists(inner, min_size=2, max_size=3).map(tuple)) for kind in (And, Or)),
        *(st.builds(kind, inner, inner) for kind in (Implies, Iff, Xor)),
        *(st.builds(kind, st.builds(Var, VARIABLES), inner) for kind in (Forall, Exists)),
    ),
    max_leaves=10,
)


def has_a_notation(node: Node, scope: frozenset[str] = frozenset()) -> bool:
    """Whether every variable is bound and no constant has the name of a variable whose scope it stands in."""
    if isinstance(node, Var | Const):
        return isinstance(node, Var) == (node.name in scope)
    if isinstance(node, Forall | Exists):
        return has_a_notation(node.body, scope | {node.var.name})
    return all(has_a_notation(child, scope) for child in children(node))


@settings(max_examples=3000, deadline=None)
@given(FORMULAS)
def test_thousands_of_formulas_read_back(formula: Formula) -> None:
    if has_a_notation(formula):
        assert parse_formula(format_notation(formula)) == formula
    else:
        with pytest.raises(IsodistillError, match=r"has no form in this notation because of the (variable|constant)"):
            format_notation(formula)


@settings(max_examples=1000, deadline=None)
@given(FORMULAS)
def test_closed_formulas_read_back(formula: Formula) -> None:
    # Renamed apart and closed, so that every one of them has a notation.
    formula = rename(formula, {"a": "anna"})
    for name in ("x", "y", "z", "a", "n1"):
        formula = Forall(Var(name), formula)
    assert parse_formula(format_notation(formula)) == formula


@pytest.mark.parametrize(
    ("formula", "told"),
    [
        (Less(Int(1), Int(2)), "an order of numbers"),
        (Equals(Const("a"), Int(2)), "arithmetic"),
        (Atom("P", (Var("x"),)), "the variable 'x'"),
        (Atom("P", (Const("x"),)), "the constant 'x'"),
        (Forall(Var("a"), Atom("P", (Const("a"),))), "the constant 'a'"),
        (Atom("p q", ()), "the name 'p q'"),
        (Forall(Var("the x"), A), "the variable 'the x'"),
    ],
)
def test_what_has_no_notation_is_refused(formula: Formula, told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        format_notation(formula)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "ends too early"),
        ("A ∧", "ends too early"),
        ("A B", "'B' at column 3 does not fit"),
        ("P(f(a))", r"'\(' at column 4 does not fit"),
        ("A ^ B", r"'\^' at column 3"),
        ("P()", r"'\)' at column 3"),
        ("∀x Cat(x) → Mammal(x)", "no quantifier binds the variable 'x'"),
        ("P(y2)", "no quantifier binds the variable 'y2'"),
        ("¬" * (MAX_DEPTH + 1) + "A", f"deeper than {MAX_DEPTH}"),
        ("A" * (MAX_LENGTH + 1), "at most 20000 are read"),
        ("__import__('os').system('true')", r"'\(' at column 11 does not fit|does not fit"),
    ],
)
def test_what_is_no_formula_is_told_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(NotationError, match=told) as caught:
        parse_formula(text, "premise 3 of row 5")
    assert "premise 3 of row 5" in str(caught.value)
    assert "\n" not in str(caught.value)


PIECES = st.lists(
    st.sampled_from([*"()∀∃¬∧∨⊕→↔=≠,.⊤⊥xyABab ", "->", "<->", "forall ", "P(x)", "Q(a, b)", "\n", "\x00", "’", "☃"]),
    max_size=40,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(st.one_of(PIECES, st.text(max_size=60)))
def test_any_text_is_a_formula_or_an_error_for_people(text: str) -> None:
    column = 0
    try:
        formula = parse_formula(text)
    except NotationError as error:
        column = error.column
    else:
        assert parse_formula(format_notation(formula)) == formula
    assert 0 <= column <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * MAX_LENGTH,
        "¬" * (MAX_LENGTH - 1) + "A",
        "∀x " * (MAX_LENGTH // 3 - 1) + "A",
        "A→" * (MAX_LENGTH // 2 - 1) + "A",
        "A→" * (MAX_LENGTH // 2 - 2) + "A)",
        "A,B " * (MAX_LENGTH // 4),
    ],
)
def test_monstrous_text_neither_hangs_nor_overflows(text: str) -> None:
    started = time.process_time()
    with pytest.raises(NotationError):
        parse_formula(text)
    assert time.process_time() - started < 5


def test_long_flat_chains_are_fine() -> None:
    formula = parse_formula("A ∧ " * 4000 + "A")
    assert isinstance(formula, And)
    assert len(formula.parts) == 4001
