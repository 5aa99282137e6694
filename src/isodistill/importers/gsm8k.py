"""GSM8K: grade-school word problems with worked solutions and a final number (arXiv 2110.14168)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from isodistill.answers import format_completion
from isodistill.importers.problems import Imported, Problem
from isodistill.importers.source import cell, require_columns

DOMAIN = "grade_school_math"
_ANNOTATION = re.compile(r"<<[^<>]*>>")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def import_gsm8k(rows: Sequence[Mapping[str, Any]], split: str, where: str) -> Imported:
    """Reads the rows of a split.

    Args:
        rows: Rows with ``question`` and ``answer``; the answer ends in ``#### NUMBER``.
        split: The split's name.
        where: Named in errors.

    Returns:
        One problem for each row, a set of its own. The completion is the solution without its calculator notes
        (``<<48/2=24>>``) and the answer line; the answer has no thousands separators.

    Raises:
        IsodistillError: If a column is missing or holds something else than text.
    """
    require_columns(rows, ("question", "answer"), where)
    imported = Imported()
    for number, row in enumerate(rows):
        place = f"row {number} of {where}"
        rationale, marker, final = cell(row, "answer", place).rpartition("####")
        answer = final.strip().replace(",", "").removeprefix("$")
        if not marker or not _NUMBER.fullmatch(answer):
            imported.dropped["the solution does not end in '#### NUMBER'"] += 1
            continue
        imported.keep(
            Problem(
                domain=DOMAIN,
                prompt=cell(row, "question", place),
                answer=answer,
                completion=format_completion(_ANNOTATION.sub("", rationale), answer),
                set_id=f"gsm8k-{split}-{number}",
                family="gsm8k",
            )
        )
    return imported
