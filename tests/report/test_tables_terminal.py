from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from report_helpers import make_panel, make_run
from rich.console import Console

from isodistill.errors import IsodistillError
from isodistill.report import Panel, RunSummary, judge, panel_of_runs, summary_table
from isodistill.report.runs import flatten, number
from isodistill.report.tables import (
    accuracy_table,
    difference_table,
    domain_table,
    measure_table,
    measures_table,
    settings_table,
)
from isodistill.report.verdict import interval, percent


def test_the_accuracy_table_ends_with_the_ood_mean() -> None:
    runs = [make_run("erm"), make_run("iga", "iga", seed=1)]
    del runs[1].evaluation.splits["deeper"]
    runs[1].evaluation.items = [item for item in runs[1].evaluation.items if item.split != "deeper"]
    table = accuracy_table(panel_of_runs(runs))
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
    assert table.rows[4][1] == interval(runs[0].evaluation.splits["deeper"].accuracy)
    # The mean is taken over what both answered.
    shared = ["cue_absent", "cue_reversed", "unseen_domain"]
    mean = np.mean([runs[0].evaluation.splits[split].accuracy.value for split in shared])
    assert table.rows[-1][1].startswith(percent(float(mean)))
    assert all(len(row) == len(table.header) for row in table.rows)


def test_many_groups_stand_in_rows() -> None:
    runs = [make_run(f"m{number}", f"m{number}", seed=number, n_sets=12) for number in range(5)]
    table = accuracy_table(panel_of_runs(runs, "m0"))
    assert table.header == [
        "Group",
        "iid",
        "cue_absent",
        "cue_reversed",
        "unseen_domain",
        "deeper",
        "mean out of distribution",
    ]
    assert [row[0] for row in table.rows] == ["m0", "m1", "m2", "m3", "m4", "Best constant answer", "Sets"]


def test_the_other_tables_have_a_cell_for_every_head() -> None:
    panel = make_panel(seeds=2)
    settings = settings_table(panel)
    measures = [measure_table(measure) for measure in panel.effects]
    verdict = judge(panel)
    for table in (measures_table(panel), domain_table(panel), settings, difference_table(verdict), *measures):
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows)
    by_key = {row[0]: (row[1:], place in settings.marked) for place, row in enumerate(settings.rows)}
    assert by_key["lora.r"] == (["8"] * 3, False)
    assert by_key["seed"] == (["0, 1", "100, 101", "200, 201"], True)
    assert by_key["evaluation.max_new_tokens"] == (["256"] * 3, False)


def test_a_measure_marks_what_is_significant_over_seeds_alone() -> None:
    panel = make_panel()
    measure = panel.measure("ood_accuracy")
    assert measure is not None
    table = measure_table(measure)
    assert table.marked == {
        place
        for place, label in enumerate(measure.groups)
        if label in measure.effects and measure.effects[label].significant
    }
    assert table.rows[0][4] == "baseline"
    single = Panel("", {label: runs[:1] for label, runs in panel.groups.items()}, "erm", samples=300)
    assert not any(measure_table(each).marked for each in single.effects)


def test_the_terminal_table_shows_the_same_and_follows_no_markup() -> None:
    runs = [make_run("erm"), make_run("[red]iga[/red]", "iga", seed=1)]
    console = Console(width=200, record=True, file=StringIO())
    console.print(summary_table(runs))
    text = console.export_text()
    assert "[red]iga[/red]" in text
    for row in accuracy_table(panel_of_runs(runs)).rows:
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
    with pytest.raises(IsodistillError, match="not a run summary of this version: name: is missing"):
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
