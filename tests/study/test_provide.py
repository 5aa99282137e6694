"""Students and data that workers make side by side are those that one process makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tiny_study import GENERATE, save_student, study_values

from isodistill.errors import IsodistillError
from isodistill.lab import build
from isodistill.study.cells import Cell
from isodistill.study.config import parse_study
from isodistill.study.data import StudyData, facts
from isodistill.study.folder import StudyFolder
from isodistill.study.plan import Planner
from isodistill.study.provide import make_some, provide


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_student(tmp_path_factory.mktemp("student"))


def opened(student: Path, out: Path, **changes: Any) -> tuple[StudyFolder, Planner, list[Cell]]:
    data = {
        name: {"generate": GENERATE | {"seed": seed} | changes, "teacher": {"style": "answer"}}
        for seed, name in enumerate(("first", "second"), start=1)
    }
    config = parse_study(study_values(student, data=data, controls=["no_cue"]), "test")
    folder = StudyFolder.create(out, config)
    planner = Planner(config, {name: facts(name, entry) for name, entry in config.data.items()})
    return folder, planner, planner.final_cells([])[0]


def test_two_workers_make_the_data_that_one_process_makes(student: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folders = []
    for workers in (1, 2):
        folder, planner, cells = opened(student, tmp_path / str(workers))
        provide(folder, planner, cells, workers, lambda *step: told.append(step))
        assert all(StudyData(folder).is_made(name, planner.data[name]) for name in planner.data)
        folders.append({file.relative_to(folder.root): file.read_bytes() for file in folder.root.rglob("*.parquet")})
    assert folders[0] == folders[1]
    assert len({path.parts[:3] for path in folders[0]}) == 4, "two data sets, and each without its cue"
    assert not (tmp_path / "1" / "workers").exists()
    assert len(list((tmp_path / "2" / "workers").glob("data-*.txt"))) == 2
    assert ("data", 2, 2) in told


def test_what_a_worker_fails_at_is_told_for_people(student: Path, tmp_path: Path) -> None:
    options = {"distractors": [0, 0], "distractor_kinds": "neutral"}
    folder, planner, cells = opened(
        student, tmp_path, split_by="structure", max_sets_per_skeleton=1, options=options, sets=500
    )
    with pytest.raises(IsodistillError, match="the space of skeletons is too small"):
        provide(folder, planner, cells, 2, None)


def test_what_another_makes_is_left_to_it(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISODISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_SAMPLES", 50)
    folder, _, _ = opened(student, tmp_path / "study")
    names = [f"lab:hidden_size=32,intermediate_size=32,layers=1,heads=2,steps=1,seed={seed}" for seed in (0, 1)]
    make_some(folder, "students", names[:1])
    (lock,) = (tmp_path / "cache" / "students").glob(".making-*")
    assert len(list((tmp_path / "cache" / "students").glob("lab-*"))) == 1
    (tmp_path / "cache" / "students").rename(tmp_path / "cache" / "before")
    (tmp_path / "cache" / "students").mkdir()
    with FileLock(tmp_path / "cache" / "students" / lock.name):
        make_some(folder, "students", names)
    (made,) = (tmp_path / "cache" / "students").glob("lab-*")
    assert made.name not in {path.name for path in (tmp_path / "cache" / "before").glob("lab-*")}
