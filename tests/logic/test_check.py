from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from public_data import public_data

from isodistill.cli.main import run
from isodistill.errors import IsodistillError
from isodistill.logic.check import check_rows
from isodistill.logic.folio import folio_row, read_jsonl


def row(formulas: list[str], conclusion: str | None, label: str | None) -> dict[str, Any]:
    return {
        "premises": ["..."] * len(formulas),
        "premises-FOL": formulas,
        "conclusion": "Something holds.",
        "conclusion-FOL": conclusion,
        "label": label,
    }


CATS = ["∀x (Cat(x) → Mammal(x))", "Cat(tom)"]
PIGEONS = [
    "∀x ∀y ∀z (Less(x, y) ∧ Less(y, z) → Less(x, z))",
    "∀x ¬Less(x, x)",
    "∀x ∃y (Less(x, y) ∧ Odd(y))",
    "∀x ∃y (Less(x, y) ∧ ¬Odd(y))",
]
"""Only infinite models: z3 has no way to find one."""


def test_every_outcome() -> None:
    rows = [
        row(CATS, "Mammal(tom)", "True"),
        row(CATS, "¬Mammal(tom)", "False"),
        row(CATS, "Mammal(felix)", "Uncertain"),
        row(CATS, "Cat(tom", "True"),
        row(CATS, "Mammal(tom)", "Unknown"),
        row([*CATS, "¬Mammal(tom)"], "Mammal(tom)", "True"),
        row([*CATS, "Cat ^ Dog"], "Mammal(tom)", "True"),
        row(PIGEONS, "Odd(zero)", "Unknown"),
        row(CATS, None, "True"),
        row(CATS, "Mammal(tom)", None),
    ]
    report = check_rows(rows, "here", timeout_ms=300)
    outcomes = [checked.outcome for checked in report.rows]
    assert outcomes[:7] == ["True", "False", "Unknown", "True", "True", "inconsistent", "unparsed"]
    assert outcomes[7:] == ["timeout", "unchecked", "True"]
    data = report.to_json()
    counts = {name: value for name, value in data.items() if isinstance(value, int)}
    assert counts == {
        "rows": 10,
        "parsed_strict": 8,
        "parsed": 9,
        "repairs": 1,
        "checked": 8,
        "agree": 4,
        "timeouts": 1,
        "inconsistent": 1,
        "timeout_ms": 300,
    }
    assert [entry["row"] for entry in data["disagreeing"]] == [4, 5, 6, 7]
    assert data["disagreeing"][3]["problem"].startswith("z3 reached no verdict within 300 ms")
    assert data["repaired"] == [
        {
            "row": 3,
            "formula": "conclusion",
            "what": "added a closing parenthesis",
            "column": 8,
            "text": "Cat(tom",
        }
    ]
    assert data["unparsed"][0]["row"] == 6


def test_both_spellings_of_the_fields() -> None:
    lists = folio_row(row(CATS, "Mammal(tom)", "Uncertain"), "row 0")
    lines = folio_row(
        {
            "premises": "...\n...",
            "premises_FOL": "\n".join(CATS) + "\n",
            "conclusion": "Something holds.",
            "conclusion_FOL": "Mammal(tom)",
            "label": "Unknown",
        },
        "row 0",
    )
    assert lists == lines
    assert lists.label == "Unknown"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"premises-FOL": None}, "'premises-FOL' must be a list of strings"),
        ({"premises-FOL": [1]}, "'premises-FOL' must be a list of strings"),
        ({"premises": {"a": 1}}, "'premises' must be a list of strings"),
        ({"conclusion-FOL": ["P"]}, "'conclusion-FOL' must be a string"),
        ({"label": "maybe"}, "the label is 'maybe'"),
        ({"label": 1}, "the label is '1'"),
    ],
)
def test_damaged_rows_are_errors_before_anything_is_solved(change: dict[str, Any], told: str) -> None:
    done: list[int] = []
    rows = [row(CATS, "Mammal(tom)", "True"), {**row(CATS, "Mammal(tom)", "True"), **change}]
    with pytest.raises(IsodistillError, match=f"row 1 of here.*{told}"):
        check_rows(rows, "here", progress=lambda stage, number, total: done.append(number))
    assert not done


@pytest.mark.parametrize(
    ("text", "told"),
    [("{}\n\nnot json\n", "line 3 is not JSON"), ("[1]\n", "line 1 is not a JSON object"), ("[" * 100_000, "line 1")],
)
def test_damaged_files_are_errors(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(text)
    with pytest.raises(IsodistillError, match=told):
        read_jsonl(file)
    with pytest.raises(IsodistillError, match="cannot be read"):
        read_jsonl(tmp_path / "absent.jsonl")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["isodistill", "logic", "check", *map(str, arguments)])
    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out" / "check.json"
    hostile = {**row(CATS, "¬Cat(tom)", "True"), "conclusion": "[red]Tom[/red] is no cat."}
    file.write_text("".join(json.dumps(entry) + "\n" for entry in [row(CATS, "Mammal(tom)", "True"), hostile]))
    assert command(monkeypatch, file, "--json", out) == 0
    told = capsys.readouterr().out
    for line in ("rows           2", "parsed_strict  2", "agree          1", "timeouts       0", "inconsistent   0"):
        assert line in told
    assert "disagrees: row 1: label True, z3 False: [red]Tom[/red] is no cat." in told
    data = json.loads(out.read_text())
    assert (data["rows"], data["agree"], data["file"]) == (2, 1, str(file))
    assert command(monkeypatch, tmp_path / "absent.jsonl") == 2
    assert "cannot be read" in capsys.readouterr().err


FAULTY = [5, 27, 29, 47, 87, 112, 114, 138, 139]
"""Rows of FOLIO's validation split whose formulas do not say what the English says; see docs/logic.md."""


@pytest.mark.data
def test_folio_validation() -> None:
    report = check_rows(read_jsonl(public_data("folio") / "folio-validation.jsonl"), "folio").to_json()
    assert report["rows"] == report["parsed"] == report["checked"] == 204
    assert report["parsed_strict"] == 199
    assert (report["timeouts"], report["inconsistent"]) == (0, 0)
    assert report["agree"] == 195
    assert [entry["row"] for entry in report["disagreeing"]] == FAULTY


@pytest.mark.data
def test_folio_train_parses_nearly_everywhere() -> None:
    report = check_rows(read_jsonl(public_data("folio") / "folio-train.jsonl"), "folio").to_json()
    assert (report["rows"], report["parsed"], report["parsed_strict"], report["timeouts"]) == (1004, 980, 952, 0)
