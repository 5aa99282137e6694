"""How long a study will take, from a few measured steps of each method."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from transformers import TrainerCallback

from isodistill.evaluation import evaluate, list_splits, read_items
from isodistill.evaluation.items import TRAINING_SPLITS
from isodistill.files import write_text_atomically
from isodistill.isomers.store import count_sets
from isodistill.students import load_for_timing
from isodistill.study.arms import arm_on, job_options, trainer_config
from isodistill.study.cells import Arm, Cell, Stage
from isodistill.study.data import StudyData
from isodistill.study.execute import Students
from isodistill.study.folder import StudyFolder
from isodistill.study.plan import Planner, Tuning
from isodistill.study.run import Progress
from isodistill.trainer import TrainJob, run_training

TIMINGS_FILE = "timings.json"
TIMED_STEPS = 4
"""Steps of each measurement; the first is not counted."""


class Timings(BaseModel):
    """Measured times in seconds; stands as ``timings.json`` in the study's folder.

    Attributes:
        threads: The threads that were used; other numbers of threads are measured anew.
        steps: Of one optimizer step, by method, data and student.
        starts: Of what comes before the first step, alike.
        problems: Of answering one problem untrained, by data and student. A trained student stops sooner.
    """

    model_config = ConfigDict(extra="forbid")

    threads: int
    steps: dict[str, float] = {}
    starts: dict[str, float] = {}
    problems: dict[str, float] = {}


@dataclass(frozen=True)
class Estimate:
    """What is left of one arm in one stage.

    Attributes:
        stage: The stage.
        arm: The arm's label.
        cells: Its cells; before the trials are scored the most that the final stage can have.
        left: Those that are not finished.
        seconds: Their time, one after the other.
    """

    stage: Stage
    arm: str
    cells: int
    left: int
    seconds: float


def measure_times(folder: StudyFolder, planner: Planner, threads: int = 1, progress: Progress | None = None) -> Timings:
    """Runs a few steps of each method on each data set and student; what was measured before is kept.

    A lab student that is not pretrained yet is measured with its first weights, and its pretraining is not counted.

    Args:
        folder: The study, its data made.
        planner: Its plan.
        threads: The threads of a worker.
        progress: Told the stage, how many measurements are done, and how many there are.

    Returns:
        The times.
    """
    file = folder.root / TIMINGS_FILE
    timings = Timings(threads=threads)
    if file.is_file():
        known = Timings.model_validate_json(file.read_text(encoding="utf-8"))
        timings = known if known.threads == threads else timings
    torch.set_num_threads(threads)
    students, data = Students(load_for_timing), StudyData(folder)
    methods = [arm for arm in planner.arms if arm.kind == "method"]
    pairs = folder.config.pairs
    for done, (student, name, arm) in enumerate([(s, n, arm) for s, n in pairs for arm in [None, *methods]]):
        if progress is not None:
            progress("measure", done, len(pairs) * (len(methods) + 1))
        if arm is None:
            if _key(name, student) not in timings.problems:
                timings.problems[_key(name, student)] = _time_problem(folder, data.whole(name), student, students)
        elif _key(arm.label, name, student) not in timings.steps:
            times = _time_steps(arm_on(arm, folder.config, name), data.whole(name), student, students)
            timings.starts[_key(arm.label, name, student)], timings.steps[_key(arm.label, name, student)] = times
        write_text_atomically(file, timings.model_dump_json(indent=1) + "\n")
    return timings


def estimate(folder: StudyFolder, planner: Planner, timings: Timings) -> list[Estimate]:
    """Adds up what is left of a study.

    Args:
        folder: The study.
        planner: Its plan.
        timings: The measured times.

    Returns:
        One entry for each stage and arm.
    """
    trials = planner.trial_cells()
    scored = all(folder.state(cell.slug) != "open" for cell in trials)
    tunings = planner.tune(folder)
    if scored:
        finals, copies = planner.final_cells(tunings)[0], 1
    else:
        # Whatever the rules will choose: as many runs, of about the same length.
        finals, copies = planner.final_cells([_first(tuning) for tuning in tunings])[0], len(folder.config.rules)
    sizes = _Sizes(folder)
    found = []
    for stage, cells, times in (("trial", trials, 1), ("final", finals, copies)):
        for arm in planner.arms:
            own = [cell for cell in cells if cell.arm.label == arm.label]
            left = [cell for cell in own if folder.state(cell.slug) == "open"]
            several = 1 if arm.kind == "untuned" else times
            if own:
                seconds = several * sum(sizes.seconds(cell, timings) for cell in left)
                found.append(Estimate(stage, arm.label, several * len(own), several * len(left), seconds))  # type: ignore[arg-type]
    return found


class _Sizes:
    """Counts the steps and problems of a cell."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._data = StudyData(folder)
        self._known: dict[tuple[Path, tuple[str, ...]], int] = {}

    def seconds(self, cell: Cell, timings: Timings) -> float:
        problems = self._problems(cell) * timings.problems[_key(cell.data, cell.student)]
        if cell.arm.kind == "untuned":
            return problems
        method = cell.arm.label.removesuffix(", shuffled domains") if cell.arm.searched else cell.arm.trials_of
        key = _key(method, cell.data, cell.student)
        return timings.starts[key] + self._steps(cell) * timings.steps[key] + problems

    def _steps(self, cell: Cell) -> int:
        config = trainer_config(cell.arm, cell.arm.training, "unused", cell.seed)
        if config.max_steps > 0:
            return int(config.max_steps)
        batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
        return math.ceil(config.num_train_epochs * math.ceil(count_sets(self._data.whole(cell.data), "train") / batch))

    def _problems(self, cell: Cell) -> int:
        if cell.stage == "final":
            return self._count(self._data.test(cell), cell.evaluation.splits, cell)
        aside = self._count(self._data.oracle(cell), None, cell) if cell.oracle_share else 0
        return self._count(self._data.validation(cell), ["validation"], cell) + aside

    def _count(self, data: Path, splits: Iterable[str] | None, cell: Cell) -> int:
        if splits is None:
            splits = [split for split in list_splits(data) if split not in TRAINING_SPLITS]
        key = (data, tuple(splits))
        if key not in self._known:
            self._known[key] = sum(len(read_items(data, split, cell.evaluation.limit_sets)) for split in key[1])
        return self._known[key]


class _Clock(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.monotonic())


def _time_steps(arm: Arm, data: Path, student: str, students: Students) -> tuple[float, float]:
    pair = students.fresh(student)
    clock, begun = _Clock(), time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        training = arm.training | {"max_steps": TIMED_STEPS}
        job = TrainJob(data=str(data), student=student, **job_options(training))
        run_training(job, trainer_config(arm, training, out, 0), pair, [clock])
    step = (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1)
    return max(0.0, clock.ends[0] - begun - step), step


def _time_problem(folder: StudyFolder, data: Path, student: str, students: Students) -> float:
    config = folder.config.evaluation
    splits = config.splits or [split for split in list_splits(data) if split not in TRAINING_SPLITS]
    options = config.model_copy(update={"limit_sets": 4, "splits": splits[:1]})
    model, tokenizer = students.fresh(student)
    found = evaluate(model, tokenizer, data, options)
    return found.seconds / len(found.items)


def _first(tuning: Tuning) -> Tuning:
    return tuning.model_copy(update={"chosen": dict.fromkeys(tuning.chosen, 0)})


def _key(*parts: str) -> str:
    return " / ".join(parts)
