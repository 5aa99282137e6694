from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from import_helpers import import_command, write_jsonl
from public_data import public_data

from isodistill.errors import IsodistillError
from isodistill.importers import import_folio
from isodistill.isomers import read_split
from isodistill.logic import parse_formula, status

CATS = ["∀x (Cat(x) → Mammal(x))", "Cat(tom)"]


def row(number: int, conclusion: str | None, label: str | None, formulas: list[str] = CATS) -> dict[str, Any]:
    return {
        "premises": ["All cats are mammals. ", "[BG] Tom is a cat."],
        "premises-FOL": formulas,
        "conclusion": f"Tom is mammal {number}.",
        "conclusion-FOL": conclusion,
        "label": label,
    }


ROWS = [
    row(0, "Mammal(tom)", "True"),
    row(1, "Mammal(tom)", "Uncertain"),  # z3 says True
    row(2, None, "True"),  # cannot be checked
    row(3, "Mammal(tom", "True"),  # after a repair
    row(4, "Mammal(tom) ^ Cat", "True"),  # cannot be read
    row(5, "Mammal(tom)", "True", [*CATS, "¬Mammal(tom)"]),
    row(6, "Mammal(tom)", None),
]


def test_every_row_is_kept_or_accounted_for() -> None:
    imported = import_folio(ROWS, "validation", "here")
    assert [problem.set_id[-1] for problem in imported.problems] == ["0", "2", "3", "4"]
    assert imported.dropped == {
        "z3 does not reproduce its label": 1,
        "its premises contradict each other": 1,
        "there is no label": 1,
    }
    assert imported.notes == [
        "In validation, z3 contradicts the labels of rows 1.",
        "In validation, 2 labels could not be checked and are the annotators' word.",
    ]
    first = imported.problems[0]
    assert first.prompt == (
        "All cats are mammals. Tom is a cat.\nConclusion: Tom is mammal 0.\nTrue, False or Unknown?"
    )
    assert (first.answer, first.choices, first.domain) == ("True", ("True", "False", "Unknown"), "folio")
    # Formulas that are equal up to names have one canonical form, also after a repair.
    assert first.canonical == imported.problems[2].canonical != ""
    assert imported.problems[1].canonical == imported.problems[3].canonical == ""
    formal = json.loads(imported.problems[2].formal)
    assert formal["verified"]
    assert status([parse_formula(text) for text in formal["premises"]], parse_formula(formal["question"])) == "True"
    verified = import_folio(ROWS, "validation", "here", verified_only=True)
    assert [problem.set_id[-1] for problem in verified.problems] == ["0", "3"]
    assert verified.dropped["its label cannot be checked"] == 2


def test_the_same_text_twice_is_one_problem() -> None:
    imported = import_folio([ROWS[0], ROWS[3], ROWS[0]], "train", "here")
    assert [problem.set_id for problem in imported.problems] == ["folio-train-0", "folio-train-1"]
    assert imported.dropped == {"an earlier row has the same text": 1}


def test_missing_columns_are_told() -> None:
    with pytest.raises(IsodistillError, match="row 0 has no column 'label'"):
        import_folio([{"premises": [], "conclusion": ""}], "train", "here")


@pytest.mark.data
def test_the_published_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = public_data("folio") / "folio-validation.jsonl"
    assert import_command(monkeypatch, "folio", source, "--out", tmp_path / "out") == 0
    assert "dropped 9: z3 does not reproduce its label" in capsys.readouterr().out
    sets = read_split(tmp_path / "out", "validation")
    assert len(sets) == 195
    assert all(json.loads(isomer_set.members[0].formal)["verified"] for isomer_set in sets)
    assert not any("[BG]" in isomer_set.members[0].prompt for isomer_set in sets)
    assert "rows 5, 27, 29, 47, 87, 112, 114, 138, 139" in (tmp_path / "out" / "README.md").read_text()


def test_the_place_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_jsonl(tmp_path / "train.jsonl", ROWS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    assert import_command(monkeypatch, "folio", source, "--out", tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["letter.txt"]
    assert import_command(monkeypatch, "folio", source, "--out", tmp_path / "new") == 0
    assert import_command(monkeypatch, "folio", source, "--out", tmp_path / "new") == 2
    assert import_command(monkeypatch, "folio", source, "--out", tmp_path / "new", "--overwrite") == 0
