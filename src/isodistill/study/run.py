"""Runs a study, or what is left of it: data, trials, the choice, the runs that count, the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.files import check_writable
from isodistill.students import resolve_student, to_be_pretrained
from isodistill.study.archive import restore_cells, store_cells
from isodistill.study.cells import Cell, Stage
from isodistill.study.config import StudyConfig
from isodistill.study.costs import write_costs
from isodistill.study.data import StudyData, check_data, facts
from isodistill.study.execute import Students, clear, study_benchmarks
from isodistill.study.folder import ERROR_FILE, Plan, StudyFolder
from isodistill.study.plan import Planner, record_trials
from isodistill.study.processes import run_workers, threads_of
from isodistill.study.provide import provide
from isodistill.study.results import Results, sum_up
from isodistill.study.worker import take_shard, work

Progress = Callable[[str, int, int], None]
_RUNS = ("trial runs", "final runs")
"""What the progress of runs is called."""


@dataclass
class Outcome:
    """How a study went.

    Attributes:
        folder: The study.
        missing: Cells of the stage it stands at that are not finished and belong to other shards or processes.
        stage: That stage.
        failed: Why cells failed, by their slugs.
        results: What was found, ``None`` while cells are missing.
    """

    folder: StudyFolder
    stage: Stage = "trial"
    missing: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    results: Results | None = None


def prepare_study(config: StudyConfig, out: Path, progress: Progress | None = None) -> tuple[StudyFolder, Planner]:
    """Opens a study to look at it: its data is made where it is missing, and a student that is not here is named.

    Lab students are not pretrained.

    Args:
        config: The study.
        out: Its folder.
        progress: Told the stage, how much is done, and how much there is.

    Returns:
        The folder, and the plan of the cells.

    Raises:
        IsodistillError: if anything is wrong with the study; nothing costly has been done then.
    """
    folder, planner = _open_study(config, out)
    for student in config.students:
        if not to_be_pretrained(student):
            resolve_student(student)
    for name in config.data:
        StudyData(folder).make(name, planner.data[name], progress)
    return folder, planner


def _open_study(config: StudyConfig, out: Path) -> tuple[StudyFolder, Planner]:
    for name, entry in config.data.items():
        check_data(name, entry)
    study_benchmarks(config.benchmarks, config.evaluation)
    planner = Planner(config, {name: facts(name, entry) for name, entry in config.data.items()})
    return StudyFolder.create(out, config), planner


def run_study(
    config: StudyConfig,
    out: Path,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    retry_failed: bool = False,
    archive: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Runs what is missing of a study. Finished cells are never run again.

    Args:
        config: The study.
        out: Its folder; several processes may share it.
        workers: The number of worker processes, each with its share of the cores; 0 works in this process.
        shard: (i, n): only every n-th cell of each stage, beginning with the i-th.
        retry_failed: Whether cells that failed are run again.
        archive: A folder of finished cells in small files (`isodistill.study.archive`): what it holds counts as
            finished here, and each cell is added to it once it is finished.
        progress: Told the stage, how many cells are done, and how many there are.

    Returns:
        How it went.

    Raises:
        IsodistillError: if anything is wrong with the study, or a worker cannot work.
    """
    folder, planner = _open_study(config, out)
    if archive is None:
        return _run(folder, planner, workers, shard, retry_failed, progress)
    restore_cells(folder, check_writable(archive))  # told before the work, not after it
    told = progress or _silent
    finished = -1

    def store(stage: str, done: int, total: int) -> None:
        nonlocal finished
        if stage in _RUNS and done != finished:  # making data tells its progress too
            store_cells(folder, archive)
            finished = done
        told(stage, done, total)

    try:
        return _run(folder, planner, workers, shard, retry_failed, store)
    finally:
        store_cells(folder, archive)


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _run(
    folder: StudyFolder,
    planner: Planner,
    workers: int,
    shard: tuple[int, int],
    retry_failed: bool,
    progress: Progress | None,
) -> Outcome:
    outcome = Outcome(folder)
    plan = Plan(cells={"trial": planner.trial_cells()})
    _run_stage(folder, planner, plan, "trial", workers, shard, retry_failed, progress)
    outcome.missing = _open(folder, plan.cells["trial"])
    if not outcome.missing:
        outcome.stage = "final"
        tunings = planner.tune(folder)
        if tunings:
            record_trials(folder, tunings)
        plan.cells["final"], plan.finals = planner.final_cells(tunings)
        _run_stage(folder, planner, plan, "final", workers, shard, retry_failed, progress)
        outcome.missing = _open(folder, plan.cells["final"])
    outcome.failed = {
        cell.slug: folder.reason(cell.slug)
        for cells in plan.cells.values()
        for cell in cells
        if folder.state(cell.slug) == "failed"
    }
    if outcome.stage == "final" and not outcome.missing:
        outcome.results = sum_up(folder, outcome.failed)
        write_costs(folder)
    return outcome


def _open(folder: StudyFolder, cells: Sequence[Cell]) -> int:
    return sum(folder.state(cell.slug) == "open" for cell in cells)


def _run_stage(
    folder: StudyFolder,
    planner: Planner,
    plan: Plan,
    stage: Stage,
    workers: int,
    shard: tuple[int, int],
    retry_failed: bool,
    progress: Progress | None,
) -> None:
    folder.save_plan(plan)
    cells = take_shard(plan.cells[stage], shard)
    if retry_failed:
        for cell in cells:
            if folder.state(cell.slug) == "failed":
                place = folder.cell_folder(cell.slug)
                (place / ERROR_FILE).unlink(missing_ok=True)
                clear(place)
    told = progress or _silent
    left = [cell for cell in cells if folder.state(cell.slug) == "open"]
    if not left:
        return
    provide(folder, planner, left, workers, progress)
    if workers:
        _launch(folder, stage, cells, workers, shard, told)
        return
    students = Students()
    for cell in cells:
        told(f"{stage} runs", len(cells) - _open(folder, cells), len(cells))
        work(folder, [cell], students)
    told(f"{stage} runs", len(cells) - _open(folder, cells), len(cells))


def _launch(
    folder: StudyFolder, stage: Stage, cells: Sequence[Cell], workers: int, shard: tuple[int, int], told: Progress
) -> None:
    logs = folder.root / "workers"
    logs.mkdir(exist_ok=True)
    places = range(min(workers, len(cells)))
    files = [logs / f"{stage}-{shard[0]}-{place}.txt" for place in places]
    shared = [str(folder.root), "--stage", stage, "--shard", *map(str, shard)]
    codes = run_workers(
        {files[place]: [*shared, "--place", str(place)] for place in places},
        threads_of(workers),
        lambda: told(f"{stage} runs", len(cells) - _open(folder, cells), len(cells)),
    )
    broken = [place for place, code in enumerate(codes) if code]
    if broken and _open(folder, cells):
        log = files[broken[0]]
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it was killed"]
        raise IsodistillError(
            f"a worker ended with code {codes[broken[0]]} ({lines[-1]}; see {log}): run the same command"
            " again, finished cells are kept"
        )
