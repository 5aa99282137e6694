from __future__ import annotations

import pytest

from isodistill.importers.scoring import has_scorer, same_number, same_quantity, score_answer


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ("18", "18", True),
        ("$18.00", "18", True),
        ("1,024 clips", "1024", True),
        ("3 + 4 = 7", "7", True),
        ("-3.50", "-3.5", True),
        (".5", "0.5", True),
        ("18.5", "18", False),
        ("eighteen", "18", False),
        ("", "18", False),
        ("9" * 5000, "18", False),
        ("1e999", "18", False),
    ],
)
def test_numbers_count_by_value(given: str, expected: str, same: bool) -> None:
    assert same_number(given, expected) is same


@pytest.mark.parametrize(
    ("given", "expected", "same"),
    [
        ("3 m", "3 m", True),
        ("3.02 M", "3 m", True),
        ("3", "3 m", True),
        ("3.1 m", "3 m", False),
        ("3 mol", "3 m", False),
        ("m", "3 m", False),
        ("Increases", "increases", True),
        ("decreases", "increases", False),
        ("1.5e3 J / mol", "1500 J/mol", True),
        ("0", "0 K", True),
        ("0.001", "0 K", False),
    ],
)
def test_quantities_need_their_unit(given: str, expected: str, same: bool) -> None:
    assert same_quantity(given, expected) is same


def test_the_source_of_a_problem_picks_its_scorer() -> None:
    assert score_answer("gsm8k", "", "18", "", "18.0 dollars") == 1
    assert score_answer("isosci/ratio", "", "18 m", "", "18.1 m") == 1
    assert score_answer("quantity", "", "18", "", "18.0 dollars") == 0
    assert score_answer("deduction", "", "True", "", "true") == 1
    assert score_answer("gsm8k", "", "18", "", None) == 0
    assert has_scorer("reasoning-gym/chain_sum")
    assert not has_scorer("gsm8k")
