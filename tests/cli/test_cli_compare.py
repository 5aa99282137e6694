"""`isodistill compare` as a user runs it: workers, exit codes, sentences, a dry run, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiny_study import save_student, study_values
from typer.testing import CliRunner

from isodistill.cli.compare import results_table
from isodistill.cli.main import app
from isodistill.lab import build
from isodistill.study import timing
from isodistill.study.config import parse_study
from isodistill.study.results import Results
from isodistill.study.run import run_study

runner = CliRunner()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_student(tmp_path_factory.mktemp("student"))


def write(folder: Path, student: Path, **changes: Any) -> Path:
    values = study_values(student, **changes)
    values["training"]["max_steps"] = 4
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def command(*arguments: Any) -> list[str]:
    program = "from isodistill.cli.main import run; run()"
    return [sys.executable, "-c", program, "compare", *map(str, arguments)]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none.yaml"], "study none.yaml cannot be read"),
        (["none.yaml", "--shard", "2/2"], "--shard '2/2' is not a share"),
    ],
)
def test_a_mistake_is_a_sentence(arguments: list[str], told: str) -> None:
    result = runner.invoke(app, ["compare", *arguments])
    assert told in str(result.exception)


def test_workers_run_the_cells_and_a_failed_one_is_named(student: Path, tmp_path: Path) -> None:
    methods = {"erm": {}, "iga": {"tau": 0.3, "training": {"max_length": 5}}}
    file = write(tmp_path, student, methods=methods, fair=False, seeds=[0], controls=["untuned"])
    found = subprocess.run(
        command(file, "--out", tmp_path / "out", "--workers", 2), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert found.returncode == 1, found.stderr
    assert "untuned student (control)" in found.stdout
    assert found.stdout.count("failed: final-iga-main-") == 1
    assert "--retry-failed runs them again" in found.stdout
    results = Results.model_validate_json((tmp_path / "out" / "results.json").read_text())
    assert len(results.failed) == 1
    assert set(results.results[0].effects[0].groups) == {"erm", "untuned student"}
    log = next((tmp_path / "out").glob("cells/final-iga*/log.txt")).read_text()
    assert "max_length=5" in log


def test_a_dry_run_counts_the_cells_and_measures_once(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"trials": 3, "space": {"learning_rate": {"low": 0.01, "high": 0.1}}, "rules": ["validation", "oracle"]}
    file = write(tmp_path, student, methods={"erm": {}}, seeds=[0, 1], search=search, controls=["untuned", "slow_erm"])
    arguments = ["compare", str(file), "--out", str(tmp_path / "out"), "--dry-run", "--workers", "2"]
    first = runner.invoke(app, arguments)
    assert first.exit_code == 0, first.output
    timings = json.loads((tmp_path / "out" / "timings.json").read_text())
    assert [seconds > 0 for group in ("steps", "problems") for seconds in timings[group].values()] == [True, True]
    assert not (tmp_path / "out" / "cells").exists()

    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("measured twice")

    monkeypatch.setattr(timing, "run_training", never)
    second = runner.invoke(app, arguments)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in second.output.splitlines() if "│" in line]
    counts = {(row[0], row[1]): row[2] for row in rows}
    assert counts["trial", "erm"] == "3"
    assert counts["final", "erm"] == "4"
    assert counts["final", "erm, slow"] == "4"
    assert counts["final", "untuned student"] == "1"
    assert counts["all", ""] == "12"


def test_a_dry_run_pretrains_no_student(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISODISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_SAMPLES", 50)
    monkeypatch.setattr(build, "pretrain", None)
    lab = "lab:hidden_size=32,intermediate_size=32,layers=1,heads=2"
    file = write(tmp_path, student, methods={"erm": {}}, seeds=[0], students=[str(student), lab])
    found = runner.invoke(app, ["compare", str(file), "--out", str(tmp_path / "out"), "--dry-run"])
    assert found.exit_code == 0, found.output
    timings = json.loads((tmp_path / "out" / "timings.json").read_text())
    assert [lab in key for key in timings["steps"]] == [False, True]
    assert "the pretraining of 1 lab student(s)" in found.output
    assert not (tmp_path / "cache").exists()


def test_the_table_is_bold_only_where_the_difference_is_significant(student: Path, tmp_path: Path) -> None:
    outcome = run_study(
        parse_study(study_values(student, methods={"erm": {}, "iga": {}}, seeds=[0, 1]), "test"), tmp_path, workers=0
    )
    assert outcome.results is not None
    (result,) = outcome.results.results
    assert [row.style for row in results_table(result).rows] == [None, None]
    measure = result.effects[0]
    found = measure.effects["iga"].model_copy(update={"significant": True})
    sure = result.model_copy(update={"effects": [measure.model_copy(update={"effects": {"iga": found}})]})
    table = results_table(sure)
    assert [row.style for row in table.rows] == [None, "bold"]
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(table)
    assert f"{100 * measure.groups['erm'].mean:.1f} [" in captured.get()


def numbers(folder: Path) -> dict[str, dict[str, Any]]:
    """The metrics of every cell, apart from times and memory."""
    costs = ("seconds", "peak_memory")
    return {
        file.parent.name: {
            name: value for name, value in json.loads(file.read_text()).items() if not name.startswith(costs)
        }
        for file in sorted(folder.glob("cells/*/metrics.json"))
    }


def workers_of(folder: Path) -> list[int]:
    """The processes that work on a folder, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"isodistill.study.worker" in words and str(folder).encode() in words:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_a_study_killed_twice_gives_the_same_numbers(student: Path, tmp_path: Path) -> None:
    search = {"trials": 2, "space": {"learning_rate": {"low": 0.01, "high": 0.1}}}
    file = write(tmp_path, student, seeds=[0, 1, 2], search=search, controls=["untuned"])
    still, out = tmp_path / "still", tmp_path / "killed"
    subprocess.run(command(file, "--out", still, "--workers", 1), check=True, env=ENVIRONMENT, capture_output=True)
    for finished in (2, 7):
        process = subprocess.Popen(
            command(file, "--out", out, "--workers", 2), env=ENVIRONMENT, stdout=subprocess.DEVNULL
        )
        while len(numbers(out)) < finished:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while workers_of(out):
            assert time.monotonic() < deadline, "workers outlive their parent"
            time.sleep(0.1)
        assert finished <= len(numbers(out)) < 11
    subprocess.run(command(file, "--out", out, "--workers", 2), check=True, env=ENVIRONMENT, capture_output=True)
    assert len(numbers(out)) == 11
    assert numbers(out) == numbers(still)
    for name in ("trials.json", "plan.json", "study.json"):
        assert (out / name).read_bytes() == (still / name).read_bytes()
    assert (out / "results.json").read_bytes() == (still / "results.json").read_bytes()
