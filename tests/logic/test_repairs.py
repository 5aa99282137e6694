from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.logic import NotationError, parse_formula, parse_with_repairs
from isodistill.logic.notation import MAX_LENGTH


@pytest.mark.parametrize(
    ("text", "mended", "repairs"),
    [
        ("A → B ∧ C)", "(A → B ∧ C)", [("added an opening parenthesis", 1)]),
        # The partner stands behind the quantifiers, else the variable would be unbound.
        ("∀x (P(x) ∧ Q(x)) → R(x))", "∀x ((P(x) ∧ Q(x)) → R(x))", [("added an opening parenthesis", 4)]),
        ("A ∨ B) ∧ C", "(A ∨ B) ∧ C", [("added an opening parenthesis", 1)]),
        ("∀x (P(x) → (Q(x) ∨ R(x))", "∀x (P(x) → (Q(x) ∨ R(x)))", [("added a closing parenthesis", 25)]),
        ("∀x (P(x", "∀x (P(x))", [("added a closing parenthesis", 8), ("added a closing parenthesis", 9)]),
        ("∀x (P(x), Q(x, b) → R(x))", "∀x (P(x) ∧ Q(x, b) → R(x))", [("read a comma between formulas as ∧", 9)]),
        ("A → B. ", "A → B", [("dropped a full stop at the end", 6)]),
        (
            "∀x Cat(x) → Mammal(x)",
            "∀x (Cat(x) → Mammal(x))",
            [("widened the leading quantifiers to the whole", 4)],
        ),
        (
            "∀x ∀y P(x) → Q(y)).",
            "∀x ∀y (P(x) → Q(y))",
            [("added an opening parenthesis", 7), ("dropped a full stop at the end", 20)],
        ),
    ],
)
def test_safe_repairs_are_reported_one_by_one(text: str, mended: str, repairs: list[tuple[str, int]]) -> None:
    with pytest.raises(NotationError):
        parse_formula(text)
    formula, made = parse_with_repairs(text)
    assert formula == parse_formula(mended)
    assert [(repair.what, repair.column) for repair in made] == repairs


def test_a_formula_without_a_slip_is_left_alone() -> None:
    assert parse_with_repairs("∀x (Cat(x) → Mammal(x))") == (parse_formula("∀x (Cat(x) → Mammal(x))"), ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A B",
        "A ^ B",
        "A ∧",
        "P(captain america)",
        "A. B",
        "P(a,, b)",
        "∃x Cat(x) → Mammal(x)",  # widening would say next to nothing
        "∀x ∃y (P(x, y)) → Q(x)",
        "∀x P(x) → Q(y)",
        "P(x)",
        ")" * 20,
        "(" * 20 + "A",
    ],
)
def test_what_is_not_safe_is_refused_with_the_first_mistake(text: str) -> None:
    with pytest.raises(NotationError) as strict:
        parse_formula(text, "premise 1")
    with pytest.raises(NotationError) as lenient:
        parse_with_repairs(text, "premise 1")
    assert str(lenient.value) == str(strict.value)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from([*"()∀∃¬∧⊕→,. ", "P(x)", "Q(a", "x ", "A"]), max_size=25).map("".join))
def test_repairs_end_in_a_formula_or_an_error(text: str) -> None:
    try:
        formula, repairs = parse_with_repairs(text)
    except NotationError:
        return
    if not repairs:
        assert formula == parse_formula(text)
    else:
        with pytest.raises(NotationError):
            parse_formula(text)


@pytest.mark.parametrize("text", ["(" * MAX_LENGTH, "A→" * (MAX_LENGTH // 2 - 2) + "A)", "A," * (MAX_LENGTH // 2)])
def test_monstrous_text_is_refused(text: str) -> None:
    with pytest.raises(NotationError):
        parse_with_repairs(text)
