from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import yaml
from report_helpers import make_panel, make_run

from isodistill.errors import IsodistillError
from isodistill.report import Panel, panel_of_runs
from isodistill.report.files import write_figures
from isodistill.report.markdown import escape, model_card, render_markdown


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel()


def test_every_figure_is_written_three_times_and_all_measures_once(panel: Panel, tmp_path: Path) -> None:
    files = write_figures([panel], tmp_path / "report_files")
    names = {file.name for file in files}
    for figure in ("forest", "accuracy", "scatter", "consistency", "conflict", "mask", "learning"):
        assert {f"{figure}.png", f"{figure}.svg", f"{figure}.csv"} <= names
    assert all(file.stat().st_size > 0 for file in files)
    rows = list(csv.DictReader((tmp_path / "report_files" / "measures.csv").open(encoding="utf-8")))
    measure = panel.measure("ood_accuracy")
    assert measure is not None
    row = next(each for each in rows if each["measure"] == "ood_accuracy" and each["group"] == "iga")
    assert float(row["effect"]) == measure.effects["iga"].effect.value
    assert [float(value) for value in row["by_seed"].split()] == measure.groups["iga"].by_seed
    assert len(rows) == 3 * len(panel.effects)


def test_markdown_has_the_verdict_and_bold_only_where_significant(panel: Panel) -> None:
    text = render_markdown([panel], "A <title> | x", "isodistill report `a`")
    assert text.startswith("## A &lt;title&gt; \\| x")
    assert "iga beats erm out of distribution" in text
    bold = [line for line in text.splitlines() if "**" in line]
    assert bold
    assert all(line.startswith("| **iga**") for line in bold)
    assert "````sh\nisodistill report `a`\n````" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_hostile_names_stay_text_in_markdown() -> None:
    run = make_run("<script>alert(1)</script> [x](javascript:1) `|`\n# head")
    text = render_markdown([panel_of_runs([run])], "T")
    assert "<script>" not in text
    assert re.search(r"(?<!\\)\]\(javascript", text) is None
    assert "\n# head" not in text
    assert escape("a|b_*c*") == "a\\|b\\_\\*c\\*"


def test_the_card_holds_the_numbers_as_the_hub_reads_them(panel: Panel) -> None:
    run = panel.groups["iga"][0]
    run.evaluation.student = "HuggingFaceTB/SmolLM2-135M-Instruct"
    text = model_card(run, panel, "isodistill report x")
    _, head, body = text.split("---\n", 2)
    data = yaml.safe_load(head)
    assert data["library_name"] == "peft"
    assert data["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    results = {
        (each["dataset"]["split"], metric["type"]): metric["value"]
        for each in data["model-index"][0]["results"]
        for metric in each["metrics"]
    }
    for split, result in run.evaluation.splits.items():
        assert results[split, "accuracy"] == pytest.approx(result.accuracy.value, abs=1e-4)
    assert "iga beats erm" in body
    assert "**" not in body
    run.evaluation.student = "/home/someone/model"
    assert "base_model" not in yaml.safe_load(model_card(run).split("---\n", 2)[1])
    run.evaluation.splits.clear()
    with pytest.raises(IsodistillError, match="no evaluated split"):
        model_card(run)
