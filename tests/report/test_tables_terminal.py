from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from report_helpers import make_run
from rich.console import Console

from isodistill.errors import IsodistillError
from isodistill.evaluation.compare import ood_accuracy
from isodistill.report import RunSummary, summary_table
from isodistill.report.runs import flatten, number
from isodistill.report.tables import accuracy_table, consistency_table, domain_table, settings_table
from isodistill.report.verdict import interval


def test_the_accuracy_table_ends_with_the_ood_mean() -> None:
    runs = [make_run("erm"), make_run("iga", "iga", seed=1)]
    del runs[1].evaluation.splits["deeper"]
    table = accuracy_table(runs)
    assert table.header == ["Split", "erm", "iga", "Best constant answer", "Sets"]
    assert [row[0] for row in table.rows] == [
        "iid",
        "cue_absent",
        "cue_reversed",
        "unseen_domain",
        "deeper",
        "mean out of distribution",
    ]
    assert table.rows[4][2] == "–"
    assert table.rows[-1][1] == interval(ood_accuracy(runs[0].evaluation).estimate)
    assert all(len(row) == len(table.header) for row in table.rows)


def test_the_other_tables_have_a_cell_for_every_head() -> None:
    runs = [make_run("erm"), make_run("iga", "iga", seed=1)]
    settings, differing = settings_table(runs)
    for table in (consistency_table(runs), domain_table(runs), settings):
        assert all(len(row) == len(table.header) for row in table.rows)
    assert len(consistency_table(runs).rows) == 10
    by_key = {row[0]: (row[1:], differs) for row, differs in zip(settings.rows, differing, strict=True)}
    assert by_key["lora.r"] == (["8", "8"], False)
    assert by_key["seed"] == (["0", "1"], True)
    assert by_key["evaluation.max_new_tokens"] == (["256", "256"], False)


def test_the_terminal_table_shows_the_same_and_follows_no_markup() -> None:
    runs = [make_run("erm"), make_run("[red]iga[/red]", "iga", seed=1)]
    console = Console(width=200, record=True, file=StringIO())
    console.print(summary_table(runs))
    text = console.export_text()
    assert "[red]iga[/red]" in text
    for row in accuracy_table(runs).rows:
        for cell in row:
            assert cell in text
    with pytest.raises(IsodistillError, match="at least one run"):
        summary_table([])


def test_summaries_survive_a_round_trip(tmp_path: Path) -> None:
    run = make_run("iga", "iga", diagnostics=True)
    path = run.save(tmp_path / "run.json")
    assert RunSummary.load(path) == run
    run.log_history.append({"step": 99, "loss": float("nan")})
    assert "NaN" not in run.save(path).read_text()
    assert RunSummary.load(path).log_history[-1] == {"step": 99, "loss": None}
    path.write_text("{}")
    with pytest.raises(IsodistillError, match="not a run summary of this version: Field required at name"):
        RunSummary.load(path)
    with pytest.raises(IsodistillError, match="Cannot read the run summary"):
        RunSummary.load(tmp_path / "none.json")


def test_numbers_and_settings_are_read_with_care() -> None:
    assert number({"a": 1}, "a") == 1.0
    assert [number({"a": value}, "a") for value in (True, "1", None, float("nan"), float("inf"))] == [None] * 5
    assert number({}, "a") is None
    assert flatten({"a": {"b": {"c": 1}, "d": None}, "e": {}, "f": [1, 2]}) == {
        "a.b.c": "1",
        "a.d": "none",
        "e": "{}",
        "f": "[1, 2]",
    }
