"""`isodistill theory` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_study import GENERATE, save_student
from typer.testing import CliRunner

from isodistill.cli.main import app
from isodistill.isomers.config import make_config
from isodistill.isomers.generate import generate
from isodistill.theory.rate import RateReport
from isodistill.theory.runs import ADAPTER_FILE, BoundOptions, BoundReport, bound_runs

runner = CliRunner(env={"COLUMNS": "160"})
DEMO = Path(__file__).parents[2] / "docs" / "demo"


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isodistill.cli.progress._console._width", 160)


@pytest.mark.usefixtures("wide")
def test_the_recorded_runs_stand_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "made" / "bounds.json"
    result = runner.invoke(app, ["theory", "bound", str(DEMO / "erm"), str(DEMO / "iga"), "--json", str(out)])
    assert result.exit_code == 0, result.exception
    report = BoundReport.model_validate_json(out.read_text())
    assert report.bounds == bound_runs([DEMO / "erm", DEMO / "iga"], BoundOptions()).bounds
    assert {row.method for row in report.bounds} == {"erm", "iga"}
    assert report.versions["isodistill"]
    assert "unseen_domain, domains never trained on: empirical Bernstein" in result.output
    assert result.output.count("vacuous") == len(report.bounds)  # two domains cannot say anything
    assert "no PAC-Bayes bound over the training domains" in result.output


@pytest.mark.usefixtures("wide")
def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    values = json.loads((DEMO / "erm" / "evaluation.json").read_text())
    values["splits"] = {"unseen_domain[red]": values["splits"]["unseen_domain"]}
    file = tmp_path / "[bold].json"
    file.write_text(json.dumps(values))
    result = runner.invoke(app, ["theory", "bound", str(file)])
    assert "unseen_domain[red]" in result.output
    assert "[bold].json" in result.output.replace("\n", "")


@pytest.mark.usefixtures("wide")
def test_the_rate_is_measured_printed_kept_and_drawn(tmp_path: Path) -> None:
    out, svg = tmp_path / "rate.json", tmp_path / "rate.svg"
    arguments = ["theory", "rate", "--steps", "8,16", "--seeds", "2", "--json", str(out), "--figure", str(svg)]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    report = RateReport.model_validate_json(out.read_text())
    assert [rate.direction for rate in report.rates] == ["sgd", "mask", "mask and projection"]
    for rate in report.rates:
        assert f"{rate.slope[0]:.3f}" in result.output
    assert svg.read_text().startswith("<svg")
    again = runner.invoke(app, [*arguments[:-1], str(tmp_path / "rate.png")])
    assert again.exit_code == 0, again.exception
    assert RateReport.model_validate_json(out.read_text()).rates == report.rates
    assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["bound", "none"], "Cannot read the evaluation none"),
        (["bound", str(DEMO / "erm"), "--split", "iid"], "trained on (law, math, medicine, science)"),
        (["bound", str(DEMO / "erm"), "--sigma", "0"], "sigma=0.0"),
        (["rate", "--steps", "8,many"], "--steps '8,many' is not a list"),
        (["rate", "--steps", "8"], "at least two different"),
        (["rate", "--figure", "rate.pdf"], "an .svg or a .png"),
    ],
)
def test_a_mistake_is_a_sentence(arguments: list[str], told: str) -> None:
    result = runner.invoke(app, ["theory", *arguments])
    assert result.exit_code == 1
    assert told in str(result.exception)


def test_a_real_run_pays_for_what_it_moved_from_its_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step at learning rate 0 leaves the adapter that the same seed starts from, which is the prior's centre."""
    student = save_student(tmp_path / "student")
    generate(make_config(**GENERATE | {"unseen_domains": ["finance", "cooking"]}), tmp_path / "data")
    result = runner.invoke(app, ["distill", str(tmp_path / "data"), "--style", "answer", "--out", str(tmp_path / "t")])
    assert result.exit_code == 0, result.exception
    shared = ["train", "--student", student, "--data", tmp_path / "t", "--per_device_train_batch_size", 2]
    shared += ["--lora_r", 2, "--report_to", "none", "--use_cpu", "true", "--bf16", "false", "--seed", 3]
    for name, steps, rate in (("start", 1, 0.0), ("erm", 4, 0.05), ("iga", 4, 0.05)):
        own = ["--method", "iga" if name == "iga" else "erm", "--max_steps", steps, "--learning_rate", rate]
        result = runner.invoke(app, [str(part) for part in (*shared, *own, "--output_dir", tmp_path / name)])
        assert result.exit_code == 0, result.exception
        if name == "start":
            continue
        asked = ["evaluate", "--adapter", tmp_path / name, "--data", tmp_path / "t", "--by", "likelihood"]
        result = runner.invoke(app, [str(part) for part in (*asked, "--bootstrap-samples", 100)])
        assert result.exit_code == 0, result.exception
    start, moved = (
        {k: v.double() for k, v in load_file(tmp_path / n / ADAPTER_FILE).items()} for n in ("start", "erm")
    )
    assert all(bool(v.any()) == ("lora_A" in k) for k, v in start.items())
    out = tmp_path / "bounds.json"
    runs = [str(tmp_path / "erm"), str(tmp_path / "iga")]
    result = runner.invoke(app, ["theory", "bound", *runs, "--start", str(tmp_path / "start"), "--json", str(out)])
    assert result.exit_code == 0, result.exception
    rows = BoundReport.model_validate_json(out.read_text()).bounds
    assert [row.method for row in rows if row.bound.name == "PAC-Bayes kl"] == ["erm", "iga"]
    price = sum(float((moved[name] - start[name]).square().sum()) for name in start) / (2 * 0.01**2)
    first = next(row for row in rows if row.domains == "training")
    assert first.bound.kl == pytest.approx(price)
    assert set(first.risks) == set(GENERATE["domains"])
    from_zero = bound_runs([tmp_path / "erm"], BoundOptions()).bounds[-1].bound.kl
    assert first.bound.kl < from_zero
