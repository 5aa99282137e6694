"""A study's finished cells in small files, so that it can go on on another machine, on another day.

A cell's folder holds a megabyte, most of it the problems' texts, which all cells share, and the log of each step. The
archive keeps one compressed file for each finished cell and one for each list of problems; what is restored gives the
same results to the last digit. Adapters, logs and learning curves stay behind.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from isodistill.errors import IsodistillError
from isodistill.evaluation.results import Evaluation
from isodistill.files import check_writable, write_bytes_atomically, write_text_atomically
from isodistill.runs import EVALUATION_FILE, RUN_FILE, RunRecord
from isodistill.study.cells import Cell
from isodistill.study.execute import ORACLE_FILE, TRAINING_FILE
from isodistill.study.folder import CELL_FILE, METRICS_FILE, StudyFolder
from isodistill.study.weights import WEIGHTS, check_weights, recorded_weights

_PROBLEMS = "problems-"
_ENDING = ".json.gz"
_DAMAGED = (OSError, EOFError, zlib.error, ValueError)  # a pydantic ValidationError is a ValueError
_PROBLEM_FIELDS = ("split", "set_id", "domain", "family", "depth", "prompt", "cue", "answer")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PackedEvaluation(_Model):
    """An evaluation without the problems' texts.

    Attributes:
        head: All of it but the items.
        problems: The digest that names the file with the problems.
        completion: What the student wrote, item by item; ``None`` where it wrote nothing.
        extracted: The answers read.
        correct: Whether they are right.
        choices: The choices of each kind of item that has any.
        kind: For each item its place in `choices`, or ``None``.
        probabilities: For each item the probabilities of its choices.
    """

    head: dict[str, Any]
    problems: str = Field(pattern="^[0-9a-f]{16}$")
    completion: list[str] | None
    extracted: list[str | None]
    correct: list[bool]
    choices: list[list[str]]
    kind: list[int | None]
    probabilities: list[list[float] | None]


class ArchivedCell(_Model):
    """One finished cell.

    Attributes:
        cell: What determines it.
        metrics: Its numbers.
        training: What its training left.
        run: The training's record without its log; ``None`` for the untuned student.
        evaluations: Its evaluations by file name.
    """

    cell: Cell
    metrics: dict[str, Any]
    training: dict[str, Any]
    run: RunRecord | None
    evaluations: dict[str, PackedEvaluation]


def store_cells(folder: StudyFolder, archive: Path) -> int:
    """Adds a study's finished cells to an archive.

    Args:
        folder: The study.
        archive: The archive's folder; it is made where it is missing. Cells that it holds are left as they are.

    Returns:
        How many cells were added.

    Raises:
        IsodistillError: if the archive cannot be written, or a cell's files are damaged.
    """
    check_writable(archive)
    added = 0
    for place in sorted((folder.root / "cells").glob("*")):
        file = archive / f"{place.name}{_ENDING}"
        if file.is_file() or folder.state(place.name) != "finished":
            continue
        names = [name for name in (EVALUATION_FILE, ORACLE_FILE) if (place / name).is_file()]
        run = RunRecord.load(place) if (place / RUN_FILE).is_file() else None
        stored = ArchivedCell(
            cell=Cell.model_validate_json((place / CELL_FILE).read_text(encoding="utf-8")),
            metrics=json.loads((place / METRICS_FILE).read_text(encoding="utf-8")),
            training=json.loads((place / TRAINING_FILE).read_text(encoding="utf-8")),
            run=None if run is None else _portable(run, folder.root),
            evaluations={name: _pack(Evaluation.load(place / name), archive) for name in names},
        )
        _write(file, stored.model_dump_json())
        added += 1
    return added


def restore_cells(folder: StudyFolder, archive: Path) -> int:
    """Puts the cells of an archive that a study lacks into its folder, as finished.

    Args:
        folder: The study; nobody else may be working on it.
        archive: The archive's folder; one that is not there holds nothing.

    Returns:
        How many cells were restored.

    Raises:
        IsodistillError: if a file of the archive is damaged, does not belong to its name, or holds a run of other
            weights than the study's cells; nothing of it is restored.
    """
    restored = 0
    weights = recorded_weights(folder)
    for file in sorted(archive.glob(f"*{_ENDING}")):
        slug = file.name.removesuffix(_ENDING)
        if file.name.startswith(_PROBLEMS) or folder.state(slug) == "finished":
            continue
        try:
            stored = ArchivedCell.model_validate_json(_read(file))
        except _DAMAGED as error:
            raise IsodistillError(
                f"{file} is damaged ({type(error).__name__}): delete it, and its cell runs again"
            ) from None
        if stored.cell.slug != slug:
            raise IsodistillError(f"{file} holds the cell {stored.cell.slug}: give it that name, or delete it")
        if stored.metrics.get(WEIGHTS) is not None:
            digest = stored.metrics[WEIGHTS]
            check_weights({stored.cell.student: digest}, weights, str(file))
            weights[stored.cell.student] = digest
        evaluations = {name: _unpack(packed, file) for name, packed in stored.evaluations.items()}
        place = folder.cell_folder(stored.cell.slug)
        place.mkdir(parents=True, exist_ok=True)
        write_text_atomically(place / CELL_FILE, stored.cell.model_dump_json(indent=1) + "\n")
        write_text_atomically(place / TRAINING_FILE, json.dumps(stored.training, indent=1) + "\n")
        if stored.run is not None:
            write_text_atomically(place / RUN_FILE, stored.run.model_dump_json(indent=1) + "\n")
        for name in (EVALUATION_FILE, ORACLE_FILE):
            if name in evaluations:
                evaluations[name].save(place / name)
        write_text_atomically(place / METRICS_FILE, json.dumps(stored.metrics, indent=1) + "\n")
        restored += 1
    return restored


def _portable(run: RunRecord, root: Path) -> RunRecord:
    """Leaves out the log, and where on this machine the study stands."""
    settings = dict(run.settings)
    data = Path(str(settings.get("job.data", "")))
    if data.is_relative_to(root):
        settings["job.data"] = data.relative_to(root).as_posix()
    return run.model_copy(update={"log_history": [], "settings": settings})


def _pack(evaluation: Evaluation, archive: Path) -> PackedEvaluation:
    items = evaluation.items
    problems = [[getattr(item, name) for name in _PROBLEM_FIELDS] for item in items]
    text = json.dumps(problems, ensure_ascii=False, separators=(",", ":"))
    digest = _digest(text)
    file = archive / f"{_PROBLEMS}{digest}{_ENDING}"
    if not file.is_file():
        _write(file, text)
    choices: list[list[str]] = []
    kinds: list[int | None] = []
    for item in items:
        named = None if item.probabilities is None else list(item.probabilities)
        if named is not None and named not in choices:
            choices.append(named)
        kinds.append(None if named is None else choices.index(named))
    return PackedEvaluation(
        head=evaluation.model_dump(mode="json", exclude={"items"}),
        problems=digest,
        completion=[item.completion for item in items] if any(item.completion for item in items) else None,
        extracted=[item.extracted for item in items],
        correct=[item.correct for item in items],
        choices=choices,
        kind=kinds,
        probabilities=[None if item.probabilities is None else list(item.probabilities.values()) for item in items],
    )


def _unpack(packed: PackedEvaluation, file: Path) -> Evaluation:
    place = file.parent / f"{_PROBLEMS}{packed.problems}{_ENDING}"
    try:
        text = _read(place)
        if _digest(text) != packed.problems:
            raise ValueError("other problems")
        problems = json.loads(text)
        items = []
        for number, (problem, kind) in enumerate(zip(problems, packed.kind, strict=True)):
            values = packed.probabilities[number]
            items.append(
                dict(zip(_PROBLEM_FIELDS, problem, strict=True))
                | {
                    "completion": packed.completion[number] if packed.completion else "",
                    "extracted": packed.extracted[number],
                    "correct": packed.correct[number],
                    "probabilities": None
                    if kind is None or values is None
                    else dict(zip(packed.choices[kind], values, strict=True)),
                }
            )
        return Evaluation.model_validate(packed.head | {"items": items})
    except (*_DAMAGED, IndexError, TypeError) as error:
        raise IsodistillError(
            f"{file} cannot be put together with {place.name} ({type(error).__name__}): delete it, and its cell runs"
            " again"
        ) from None


def _write(file: Path, text: str) -> None:
    write_bytes_atomically(file, gzip.compress(text.encode(), mtime=0))  # the same text gives the same file


def _read(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
