"""A study's folder read into panels, and the command on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_helpers import make_run
from typer.testing import CliRunner

from isodistill.cli.main import app
from isodistill.errors import IsodistillError
from isodistill.report.study import is_study, panels_of_study
from isodistill.report.tables import accuracy_table
from isodistill.report.verdict import judge
from isodistill.runs import RunRecord
from isodistill.study.config import StudyConfig
from isodistill.study.folder import FinalEntry, Plan, StudyFolder


def write_run(folder: Path, method: str, seed: int, shift: float, trained: bool = True, data: str = "demo") -> None:
    run = make_run(f"{method}-{seed}", method, seed=seed, shift=shift, n_sets=12)
    folder.mkdir(parents=True)
    run.evaluation.model_copy(update={"data": data}).save(folder / "evaluation.json")
    (folder / "metrics.json").write_text("{}")
    if trained:
        record = RunRecord(
            method=method,
            student="lab",
            domains=["law", "medicine"],
            system_prompt=None,
            settings={"seed": seed, "method": method},
            versions={},
            seconds=1.0,
            tokens=10,
            log_history=run.log_history,
        )
        (folder / "run.json").write_text(record.model_dump_json())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    root = tmp_path_factory.mktemp("studies") / "one"
    config = StudyConfig.model_validate(
        {
            "name": "one",
            "data": {"main": {"path": "data"}},
            "methods": {"erm": {}, "iga": {}},
            "search": {
                "trials": 1,
                "rules": ["validation", "oracle"],
                "space": {"learning_rate": {"low": 1e-4, "high": 1e-3}},
            },
            "controls": ["untuned"],
        }
    )
    folder = StudyFolder.create(root, config)
    finals = []
    for rule in config.rules:
        for place, arm in enumerate(("erm", "iga", "untuned")):
            for seed in (None,) if arm == "untuned" else (0, 1, 2):
                # The baseline's cells are shared by both rules, the others' are not.
                slug = f"final-{arm}-{seed}" + ("" if arm == "erm" else f"-{rule}")
                finals.append(
                    FinalEntry(
                        rule=rule, arm=arm, data="main", student="lab", seed=seed, control=arm == "untuned", cell=slug
                    )
                )
                if arm == "iga" and seed == 1 and rule == "oracle":
                    continue  # not finished
                if not folder.cell_folder(slug).exists():
                    shift = 0.4 if arm == "iga" else 0.0
                    write_run(folder.cell_folder(slug), arm, 50 * place + (seed or 0), shift, arm != "untuned")
    folder.save_plan(Plan(finals=finals))
    return folder


def test_a_panel_for_each_rule_with_its_runs_paired_by_seed(study: StudyFolder) -> None:
    assert is_study(study.root)
    panels = panels_of_study(study)
    assert [panel.title for panel in panels] == ["selection: validation", "selection: oracle"]
    first, second = panels
    assert first.baseline == "erm"
    assert first.seeds == {"erm": [0, 1, 2], "iga": [0, 1, 2], "untuned": [None]}
    assert second.seeds == {"erm": [0, 1, 2], "iga": [0, 2], "untuned": [None]}
    assert list(second.notes) == ["1 of 7 final runs are not finished."]
    assert first.groups["erm"][0] is second.groups["erm"][0]  # read once
    measure = second.measure("ood_accuracy")
    assert measure is not None
    assert measure.effects["iga"].seeds == 2
    assert measure.effects["untuned"].seeds == 3
    assert first.groups["untuned"][0].domains == []
    assert first.groups["iga"][0].domains == ["law", "medicine"]


@pytest.fixture(scope="module")
def draws(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    root = tmp_path_factory.mktemp("studies") / "draws"
    generate = {"family": "deduction", "sets": 8}
    config = StudyConfig.model_validate(
        {
            "name": "draws",
            "data": {f"draw_{n}": {"draw_of": "both", "generate": generate | {"seed": n}} for n in (1, 2)},
            "methods": {"erm": {}, "iga": {}},
            "controls": ["untuned"],
            "seeds": [0],
        }
    )
    folder = StudyFolder.create(root, config)
    finals = []
    for number, data in enumerate(config.data):
        for place, arm in enumerate(("erm", "iga", "untuned")):
            untuned = arm == "untuned"
            slug = f"final-{arm}-{data}"
            finals.append(
                FinalEntry(
                    rule="as given",
                    arm=arm,
                    data=data,
                    student="lab",
                    seed=None if untuned else 0,
                    control=untuned,
                    cell=slug,
                )
            )
            if not (untuned and number):  # the second draw's is not finished
                write_run(folder.cell_folder(slug), arm, 50 * place + number, 0.4 * (arm == "iga"), not untuned, data)
    folder.save_plan(Plan(finals=finals))
    return folder


def test_draws_are_compared_together_before_each_by_itself(draws: StudyFolder, tmp_path: Path) -> None:
    together, *each = panels_of_study(draws)
    assert [panel.title for panel in (together, *each)] == ["both, over 2 draws", "data: draw_1", "data: draw_2"]
    assert list(together.groups) == ["erm", "iga"]  # what a draw lacks is not pooled
    assert together.notes == ("data: draw_2: 1 of 3 final runs are not finished.",)
    measure = together.measure("ood_accuracy")
    alone = [panel.measure("ood_accuracy") for panel in each]
    assert measure is not None
    assert measure.over == "draws"
    means = [found.groups["iga"].mean - found.groups["erm"].mean for found in alone if found is not None]
    assert measure.effects["iga"].effect.value == pytest.approx(sum(means) / 2)
    counts = [[row[-1] for row in accuracy_table(panel).rows] for panel in (together, each[0])]
    assert [int(count) for count in counts[0]] == [2 * int(count) for count in counts[1]]
    verdict = judge(together)
    assert verdict.comparisons[0].by_seed == pytest.approx(means)
    assert "paired over 2 draws and" in verdict.sentence
    assert any("Only 2 draws were paired" in caveat for caveat in verdict.caveats)
    out = tmp_path / "page.html"
    arguments = ["report", str(draws.root), "--out", str(out)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    page = out.read_text(encoding="utf-8")
    assert "Bold: significant over draws after Holm" in page
    assert "Each draw alone" in page
    assert "95% intervals over draws" in page


def test_a_study_without_a_finished_run_is_refused(study: StudyFolder, tmp_path: Path) -> None:
    empty = StudyFolder.create(tmp_path / "empty", study.config)
    with pytest.raises(IsodistillError, match="holds no finished final run yet"):
        panels_of_study(empty)


def test_the_command_shows_a_study(study: StudyFolder, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["report", str(study.root), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "iga beats erm out of distribution" in " ".join(result.output.split())
    page = out.read_text(encoding="utf-8")
    assert "Study one" in page
    assert "isodistill compare STUDY.yaml" in page
    assert "selection: oracle" in page
    assert out.with_suffix(".md").is_file()
    assert (tmp_path / "page_files" / "1-forest.png").is_file()


def test_the_command_on_runs_writes_a_card_and_refuses_what_it_cannot_do(study: StudyFolder, tmp_path: Path) -> None:
    runs = [str(study.cell_folder(f"final-erm-{seed}")) for seed in (0, 1)]
    out = tmp_path / "page.html"
    adapter = study.cell_folder("final-erm-0")
    invoke = CliRunner().invoke
    arguments = ["report", *runs, "--out", str(out), "--format", "md"]
    refused = invoke(app, [*arguments, "--card", str(adapter)])
    assert isinstance(refused.exception, IsodistillError)
    assert "holds no adapter" in str(refused.exception)
    (adapter / "adapter_config.json").write_text(json.dumps({}))
    assert invoke(app, [*arguments, "--card", str(adapter)], catch_exceptions=False).exit_code == 0
    assert (adapter / "README.md").read_text(encoding="utf-8").startswith("---\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.md"]
    unknown = invoke(app, ["report", *runs, "--format", "pdf"])
    assert "'pdf' is not known: give some of html, md, figures" in str(unknown.exception)
    both = invoke(app, ["report", str(study.root), runs[0]])
    assert "is a study: give it alone" in str(both.exception)
