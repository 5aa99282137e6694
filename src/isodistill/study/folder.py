"""A study's folder: where everything stands, and what of it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from isodistill.errors import IsodistillError
from isodistill.files import check_writable, write_text_atomically
from isodistill.study.cells import Cell, Stage
from isodistill.study.config import StudyConfig
from isodistill.validation import first_fault

STUDY_FILE = "study.json"
PLAN_FILE = "plan.json"
TRIALS_FILE = "trials.json"
RESULTS_FILE = "results.json"
CELL_FILE = "cell.json"
METRICS_FILE = "metrics.json"
ERROR_FILE = "error.json"

State = Literal["finished", "failed", "open"]


@dataclass(frozen=True)
class FinalRun:
    """One finished run that counts in the results.

    Attributes:
        arm: The arm's label.
        data: The data set.
        student: The student.
        seed: The training seed; ``None`` for the student that is not trained.
        folder: The run's folder.
        rule: The rule that chose its hyperparameters.
        control: Whether the arm is a control.
    """

    arm: str
    data: str
    student: str
    seed: int | None
    folder: Path
    rule: str
    control: bool = False


class FinalEntry(BaseModel):
    """One place of the final grid and the cell that fills it; cells are shared where two rules agree.

    Attributes:
        rule: The selection rule.
        arm: The arm's label.
        data: The data set.
        student: The student.
        seed: The training seed; ``None`` for the student that is not trained.
        control: Whether the arm is a control.
        cell: The cell's slug.
    """

    model_config = ConfigDict(extra="forbid")

    rule: str
    arm: str
    data: str
    student: str
    seed: int | None
    control: bool
    cell: str


class Plan(BaseModel):
    """The cells of each stage, in their order; the final ones are known once the trials are.

    Attributes:
        cells: The cells by stage.
        finals: What each final cell stands for.
    """

    model_config = ConfigDict(extra="forbid")

    cells: dict[Stage, list[Cell]] = {}
    finals: list[FinalEntry] = []


class StudyFolder:
    """A study on disk.

    Args:
        root: The folder.
        config: The study.
    """

    def __init__(self, root: Path, config: StudyConfig) -> None:
        self.root = Path(root)
        self.config = config

    @classmethod
    def open(cls, root: Path) -> Self:
        """Opens a study that is there.

        Args:
            root: The folder.

        Returns:
            The study.

        Raises:
            IsodistillError: if there is none, or its record is damaged.
        """
        file = Path(root) / STUDY_FILE
        try:
            return cls(Path(root), StudyConfig.model_validate_json(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise IsodistillError(f"{file} cannot be read ({error.strerror}): give the folder of a study") from None
        except ValidationError as error:
            raise IsodistillError(f"{file} is damaged at {': '.join(first_fault(error))}") from None

    @classmethod
    def create(cls, root: Path, config: StudyConfig) -> Self:
        """Opens a study's folder, or makes it.

        Args:
            root: The folder.
            config: The study.

        Returns:
            The study.

        Raises:
            IsodistillError: if the folder cannot be written, or holds a study that differs; the message names where.
        """
        check_writable(root)
        file = Path(root) / STUDY_FILE
        if not file.is_file():
            write_text_atomically(file, config.model_dump_json(indent=1) + "\n")
            return cls(root, config)
        found = cls.open(root)
        field = _difference(found.config.model_dump(mode="json"), config.model_dump(mode="json"))
        if field:
            raise IsodistillError(f"{root} holds a study that differs in {field}: choose another --out, or delete it")
        return found

    def cell_folder(self, slug: str) -> Path:
        """Returns a cell's folder."""
        return self.root / "cells" / slug

    def lock_file(self, name: str) -> Path:
        """Returns the file that is locked by whoever works on a thing."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.lock"

    def state(self, slug: str) -> State:
        """Tells how far a cell is.

        Args:
            slug: The cell's slug.

        Returns:
            ``"finished"``, ``"failed"``, or ``"open"``.
        """
        folder = self.cell_folder(slug)
        if (folder / METRICS_FILE).is_file():
            return "finished"
        return "failed" if (folder / ERROR_FILE).is_file() else "open"

    def metrics(self, slug: str) -> dict[str, Any] | None:
        """Reads a finished cell's numbers.

        Args:
            slug: The cell's slug.

        Returns:
            Its numbers by name, ``None`` for a cell that is not finished.
        """
        file = self.cell_folder(slug) / METRICS_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def reason(self, slug: str) -> str:
        """Reads why a cell failed."""
        file = self.cell_folder(slug) / ERROR_FILE
        return str(json.loads(file.read_text(encoding="utf-8"))["reason"])

    def load_plan(self) -> Plan:
        """Reads the plan; an empty one before the study has begun."""
        file = self.root / PLAN_FILE
        return Plan.model_validate_json(file.read_text(encoding="utf-8")) if file.is_file() else Plan()

    def save_plan(self, plan: Plan) -> None:
        """Writes the plan."""
        write_text_atomically(self.root / PLAN_FILE, plan.model_dump_json(indent=1) + "\n")

    def finals(self, rule: str) -> list[FinalRun]:
        """Lists the finished runs that count under a rule.

        Args:
            rule: One of the study's rules (`StudyConfig.rules`).

        Returns:
            The runs, arm by arm in the study's order, seed by seed.

        Raises:
            IsodistillError: if the study has no such rule.
        """
        if rule not in self.config.rules:
            raise IsodistillError(f"the study has no rule {rule!r}: it has {', '.join(self.config.rules)}")
        return [
            FinalRun(
                entry.arm, entry.data, entry.student, entry.seed, self.cell_folder(entry.cell), rule, entry.control
            )
            for entry in self.load_plan().finals
            if entry.rule == rule and self.state(entry.cell) == "finished"
        ]


def _difference(old: Any, new: Any, place: str = "") -> str:
    """Names the first field in which two configurations differ; empty if there is none."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{place}.{key}" if place else str(key)
            if key not in old or key not in new:
                return inner
            found = _difference(old[key], new[key], inner)
            if found:
                return found
        return ""
    return "" if old == new else place
