"""A study that goes on from small files in another folder gives the same results, and runs nothing again."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_study import save_student, study_values

from isodistill.errors import IsodistillError
from isodistill.evaluation import Evaluation
from isodistill.students import weights_digest
from isodistill.study import StudyFolder, execute, provide
from isodistill.study.archive import restore_cells, store_cells
from isodistill.study.config import StudyConfig, parse_study
from isodistill.study.run import Outcome, run_study
from isodistill.study.weights import WEIGHTS, recorded_weights

SHORT = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 0.05,
    "lora_r": 2,
    "use_cpu": True,
    "bf16": False,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    student = save_student(tmp_path_factory.mktemp("student"))
    search = {
        "trials": 1,
        "space": {"learning_rate": {"low": 0.3, "high": 0.9}},
        "rules": ["validation", "oracle"],
        "oracle_share": 0.4,
    }
    values = study_values(student, methods={"erm": {}}, controls=["untuned"], training=SHORT, search=search)
    return parse_study(values, "test")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def finished(config: StudyConfig, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_study(config, tmp_path_factory.mktemp("finished"), workers=0, archive=archive)


def never(*args: Any, **options: Any) -> None:
    raise AssertionError("a finished cell was run again")


def test_another_folder_goes_on_from_the_archive(
    finished: Outcome, config: StudyConfig, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "run_training", never)
    monkeypatch.setattr(execute, "evaluate", never)
    again = run_study(config, tmp_path, workers=0, archive=archive)
    assert again.results == finished.results
    assert again.results is not None
    for run, other in zip(again.folder.finals("oracle"), finished.folder.finals("oracle"), strict=True):
        assert Evaluation.load(run.folder / "evaluation.json") == Evaluation.load(other.folder / "evaluation.json")
        assert json.loads((run.folder / "metrics.json").read_text()) == json.loads(
            (other.folder / "metrics.json").read_text()
        )
    assert (tmp_path / "cells" / _slug(_trial(archive)) / "oracle.json").is_file()


def test_the_texts_are_stored_once(finished: Outcome, archive: Path) -> None:
    cells = list((finished.folder.root / "cells").glob("*"))
    stored = [file for file in archive.glob("*.json.gz") if not file.name.startswith("problems-")]
    assert {_slug(file) for file in stored} == {place.name for place in cells}
    whole = sum(file.stat().st_size for place in cells for file in place.glob("*.json*"))
    assert sum(file.stat().st_size for file in archive.iterdir()) < 0.2 * whole
    assert len(list(archive.glob("problems-*"))) == 3, "of the trials, of the oracle and of the runs that count"
    assert not any(b'"prompt"' in gzip.decompress(file.read_bytes()) for file in stored)
    assert store_cells(finished.folder, archive) == 0
    place = str(finished.folder.root).encode()
    for file in archive.iterdir():
        text = gzip.decompress(file.read_bytes())
        at = text.find(place)
        assert at < 0, f"it is to be shared: {text[max(0, at - 60) : at + 120]!r}"


def test_what_is_finished_when_a_study_is_cut_off_is_stored(
    config: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = execute.run_training

    def second_is_cut_off(*args: Any, **options: Any) -> Any:
        if list((tmp_path / "out" / "cells").glob("*/metrics.json")):
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(execute, "run_training", second_is_cut_off)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, tmp_path / "out", workers=0, archive=tmp_path / "archive")
    assert [file.name.split("-")[0] for file in sorted((tmp_path / "archive").glob("*.json.gz"))] == [
        "problems"
    ] * 2 + ["trial"]


def test_each_cell_is_stored_once_it_is_finished(config: StudyConfig, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def look(stage: str, done: int, total: int) -> None:
        if stage.endswith(" runs"):
            cells = [file for file in (tmp_path / "archive").glob("*.json.gz") if not file.name.startswith("problems-")]
            seen.append((stage, done, len(cells)))

    run_study(config, tmp_path / "study", workers=0, archive=tmp_path / "archive", progress=look)
    # The trial's cell, then the three that count: a kill at any of these points would have lost nothing finished.
    assert seen == [("trial runs", 0, 0), ("trial runs", 1, 1), *(("final runs", done, 1 + done) for done in range(4))]


@pytest.mark.parametrize("fault", ["half", "name", "texts", "gone"])
def test_a_damaged_archive_is_refused_and_restores_nothing_of_the_file(
    fault: str, finished: Outcome, config: StudyConfig, archive: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "archive"
    copy.mkdir()
    for file in archive.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    trial = _trial(copy)
    if fault == "half":
        trial.write_bytes(trial.read_bytes()[:200])
    elif fault == "name":
        trial = trial.rename(copy / "other.json.gz")
    else:
        for texts in copy.glob("problems-*"):
            if fault == "gone":
                texts.unlink()
            else:
                other = gzip.decompress(texts.read_bytes()).replace(b"True", b"False")
                texts.write_bytes(gzip.compress(other))
    folder = StudyFolder.create(tmp_path / "out", config)
    with pytest.raises(IsodistillError, match="delete it"):
        restore_cells(folder, copy)
    assert not (tmp_path / "out" / "cells" / _slug(trial) / "metrics.json").exists()


def test_a_finished_student_is_neither_pretrained_nor_given_data_again(
    finished: Outcome, config: StudyConfig, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study of many students goes on elsewhere with those that are left."""
    monkeypatch.setattr(provide, "resolve_student", never)
    again = run_study(config, tmp_path, workers=0, archive=archive)
    assert again.results == finished.results
    assert not (tmp_path / "data").exists()


def test_runs_of_other_weights_are_never_mixed(
    finished: Outcome, config: StudyConfig, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student that is pretrained on another machine has the same name and other weights."""
    assert finished.results is not None
    (student,) = config.students
    assert finished.results.students == {student: weights_digest(student)}
    monkeypatch.setattr(execute, "run_training", never)
    monkeypatch.setattr(provide, "weights_digest", lambda name: "0123456789abcdef")
    part = tmp_path / "part"
    shutil.copytree(archive, part)
    sorted(part.glob("final-*"))[-1].unlink()
    with pytest.raises(IsodistillError, match="is another student"):
        run_study(config, tmp_path / "new", workers=0, archive=part)
    assert not (tmp_path / "new" / "data").exists()  # told before the work
    folder = tmp_path / "copied"
    shutil.copytree(finished.folder.root, folder)
    missing = sorted(folder.glob("cells/final-*/metrics.json"))[0]
    kept = missing.read_text()
    missing.unlink()
    with pytest.raises(IsodistillError, match="is another student"):
        run_study(config, folder, workers=0)
    missing.write_text(kept)
    metrics = sorted(folder.glob("cells/*/metrics.json"))[-1]
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {WEIGHTS: "0123456789abcdef"}))
    with pytest.raises(IsodistillError, match=f"{metrics.parent.name} were run with different weights"):
        recorded_weights(StudyFolder.open(folder))
    monkeypatch.setattr(provide, "weights_digest", lambda name: None)  # a hub id says nothing of its weights
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {WEIGHTS: None}))
    assert run_study(config, folder, workers=0).results is not None


def test_the_digest_names_the_weights_and_not_their_place(tmp_path: Path) -> None:
    one, other = (str(save_student(tmp_path / name)) for name in ("one", "other"))
    assert weights_digest(one) == weights_digest(other)
    file = Path(other) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert weights_digest(one) != weights_digest(other)
    assert weights_digest("org/model") is None


def _slug(file: Path) -> str:
    return file.name.removesuffix(".json.gz")


def _trial(archive: Path) -> Path:
    (file,) = archive.glob("trial-*.json.gz")
    return file
