"""The students' weights that a study's finished cells were run with: one set of them for each name."""

from __future__ import annotations

import json
from collections.abc import Mapping

from isodistill.errors import IsodistillError
from isodistill.study.cells import Cell
from isodistill.study.folder import CELL_FILE, METRICS_FILE, StudyFolder

WEIGHTS = "student_weights"
"""The entry of a cell's metrics with the digest of its student's weights (`isodistill.students.weights_digest`)."""


def recorded_weights(folder: StudyFolder) -> dict[str, str]:
    """Reads which weights the finished cells were run with.

    Args:
        folder: The study.

    Returns:
        The digest by student; students whose cells hold none (a hub id, a study of an older version) are left out.

    Raises:
        IsodistillError: if the cells of a student were run with different weights.
    """
    found: dict[str, tuple[str, str]] = {}
    for file in sorted((folder.root / "cells").glob(f"*/{METRICS_FILE}")):
        digest = json.loads(file.read_text(encoding="utf-8")).get(WEIGHTS)
        if digest is None:
            continue
        student = Cell.model_validate_json((file.parent / CELL_FILE).read_text(encoding="utf-8")).student
        first, slug = found.setdefault(student, (digest, file.parent.name))
        if digest != first:
            raise IsodistillError(
                f"{folder.root}: the cells {slug} and {file.parent.name} were run with different weights of the student"
                f" {student!r} ({first} and {digest}): delete those of one of them, and they run again"
            )
    return {student: digest for student, (digest, _) in found.items()}


def check_weights(recorded: Mapping[str, str], present: Mapping[str, str | None], place: str) -> None:
    """Refuses to go on with students other than those that finished cells were run with.

    Args:
        recorded: The digests of finished cells by student.
        present: The digests of the students as they are here; ``None`` where they are not known.
        place: What holds the finished cells, for the message.

    Raises:
        IsodistillError: if a student differs.
    """
    for student, digest in recorded.items():
        here = present.get(student)
        if here is not None and here != digest:
            raise IsodistillError(
                f"{place} holds runs of the student {student!r} with other weights ({digest}; here they are {here}):"
                " a student pretrained on another machine is another student. Bring that machine's folder of it"
                f" (`isodistill student {student}` prints where it stands), or begin anew elsewhere"
            )
