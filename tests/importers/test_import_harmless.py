from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isodistill.importers.harmless import is_harmless


@pytest.mark.parametrize(
    "text",
    [
        "42",
        " -3.5 ",
        "(1 + 2) * 3 / 4 - 5",
        "[1, 2, 3]",
        "[['Q', '_'], ['_', 'Q']]",
        '{"a": 1, "b": [true]}',
        "x**2/2 + sin(x) - 3*exp(2*x) + C",
        "(x + 1)**-2",
        "ABCDE",
    ],
)
def test_values_and_arithmetic_pass(text: str) -> None:
    assert is_harmless(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd').read()",
        "exit()",
        "().__class__",
        "x.y",
        "[x for x in (1, 2)]",
        "(lambda: 1)()",
        "x[0]",
        "f'{exit()}'",
        "(y := 1)",
        "sin(x)(1)",
        "sin(exp(x))",
        "print(1)",
        "9**9**9",
        "(9**9)**9",
        "9**1000",
        "2**x",
        "'a' * 999999999",
        "[0] * 999999999",
        "([0] + [0]) * 999999999",
        "answer * 999999999",
        "1 if 1 else 2",
        "10000!",
        "1; 2",
        "import os",
        "x\x00",
        "ｅｘｅｃ",  # full-width letters are normalised to ASCII names
        "(" * 500,
        "1" * 2001,
        "",
    ],
)
def test_all_else_is_refused(text: str) -> None:
    assert not is_harmless(text)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([*"()[]{},.:+-*/ 'x_", "__", "sin(", "exec(", "1", "**", "for x in ", "lambda: "])))
def test_what_passes_has_no_way_to_anything_but_a_value(pieces: list[str]) -> None:
    text = "".join(pieces)
    if is_harmless(text):
        tree = ast.parse(text.strip(), mode="eval")
        called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert all(isinstance(function, ast.Name) and function.id == "sin" for function in called)
        assert not any(isinstance(node, ast.Attribute | ast.Subscript | ast.Lambda) for node in ast.walk(tree))
