"""Makes the students and the data that a study's cells need, side by side where there are several workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from filelock import FileLock, Timeout

from isodistill.students import cache_dir, resolve_student, to_be_pretrained, weights_digest
from isodistill.study.cells import Cell
from isodistill.study.data import StudyData, facts
from isodistill.study.folder import StudyFolder
from isodistill.study.plan import Planner
from isodistill.study.processes import run_workers, threads_of
from isodistill.study.weights import check_weights, recorded_weights

Kind = Literal["students", "data"]
"""What is made."""

KINDS: tuple[Kind, ...] = get_args(Kind)

_Progress = Callable[[str, int, int], None]


def provide(
    folder: StudyFolder, planner: Planner, cells: Sequence[Cell], workers: int, progress: _Progress | None
) -> None:
    """Makes the students and the data that some cells need; other weights are told before any data is made.

    Args:
        folder: The study.
        planner: Its plan.
        cells: The cells.
        workers: How many processes make them; with fewer than two this one does.
        progress: Told the stage, how much is done, and how much there is.

    Raises:
        IsodistillError: if a student cannot be had or is not the one that the study began with, or data cannot be made.
    """
    needed = {cell.student for cell in cells}
    students = [student for student in folder.config.students if student in needed]
    _side_by_side(folder, "students", [each for each in students if to_be_pretrained(each)], workers, progress)
    for student in students:
        resolve_student(student)
    weights = {student: weights_digest(student) for student in students}
    check_weights(recorded_weights(folder), weights, str(folder.root))
    data, names = StudyData(folder), list(dict.fromkeys(cell.data for cell in cells))
    missing = [name for name in names if not data.is_made(name, planner.data[name])]
    _side_by_side(folder, "data", missing, workers, progress)
    for name in names:
        data.make(name, planner.data[name], progress)


def make_some(folder: StudyFolder, kind: Kind, names: Sequence[str]) -> None:
    """Makes what nobody else is making.

    Args:
        folder: The study.
        kind: What.
        names: The students or data sets.

    Raises:
        IsodistillError: if one cannot be made.
    """
    for name in names:
        # Students stand in this machine's cache, and data in the folder that machines may share.
        place = cache_dir() / "students" if kind == "students" else folder.lock_file("data").parent
        place.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]  # a student's name may be a path
        try:
            with FileLock(place / f".making-{digest}.lock", timeout=0):
                if kind == "students":
                    resolve_student(name)
                else:
                    StudyData(folder).make(name, facts(name, folder.config.data[name]))
        except Timeout:
            continue


def _side_by_side(
    folder: StudyFolder, kind: Kind, names: Sequence[str], workers: int, progress: _Progress | None
) -> None:
    """Lets workers make several things at once. What one of them failed at is left: made here, it tells why."""
    if workers < 2 or len(names) < 2:
        return
    made, data = 0, StudyData(folder)

    def watch() -> None:
        nonlocal made
        left = [
            to_be_pretrained(name)
            if kind == "students"
            else not data.is_made(name, facts(name, folder.config.data[name]))
            for name in names
        ]
        if progress is not None and (made == 0 or made != len(names) - sum(left)):
            made = len(names) - sum(left)
            progress(kind, made, len(names))

    logs = folder.root / "workers"
    logs.mkdir(exist_ok=True)
    count = min(workers, len(names))
    commands = {logs / f"{kind}-{place}.txt": [str(folder.root), *names, "--make", kind] for place in range(count)}
    run_workers(commands, threads_of(workers), watch)
