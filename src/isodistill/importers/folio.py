"""FOLIO: stories written by people, with premises and conclusions in English and in logic (arXiv 2209.00840)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from isodistill.importers.problems import Imported, Problem
from isodistill.importers.source import require_columns
from isodistill.logic import canonical_form, format_notation
from isodistill.logic.check import CHECK_TIMEOUT_MS, CheckedRow, Progress, check_row
from isodistill.logic.folio import FolioRow, folio_row

DOMAIN = "folio"
CHOICES = ("True", "False", "Unknown")
_BACKGROUND = "[BG]"


def import_folio(
    rows: Sequence[Mapping[str, Any]],
    split: str,
    where: str,
    timeout_ms: int = CHECK_TIMEOUT_MS,
    verified_only: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Reads the rows of a split, checking each label with z3 where the row has its formulas.

    Args:
        rows: Rows in the format of either release, see `isodistill.logic.folio.folio_row`.
        split: The split's name.
        where: Named in errors.
        timeout_ms: The time limit of each question to z3, in milliseconds.
        verified_only: Whether rows that cannot be checked (no formula for the conclusion, formulas that cannot be
            read, no verdict in time) are dropped, too.
        progress: Called after each row.

    Returns:
        One problem for each row, a set of its own, with its formulas in FOLIO's notation; rows whose label z3 does not
        reproduce are dropped, and a note names them.

    Raises:
        IsodistillError: If a field is missing or has another type.
    """
    require_columns(rows, ("premises", "conclusion", "label"), where)
    read = [folio_row(row, f"row {number} of {where}") for number, row in enumerate(rows)]
    imported = Imported()
    refuted: list[int] = []
    seen: set[tuple[tuple[str, ...], str]] = set()
    unverified = 0
    for number, row in enumerate(read):
        checked = check_row(row, number, timeout_ms)
        verified = checked.agrees
        if row.label is None:
            imported.dropped["there is no label"] += 1
        elif (row.premises, row.conclusion) in seen:
            imported.dropped["an earlier row has the same text"] += 1
        elif checked.outcome == "inconsistent":
            imported.dropped["its premises contradict each other"] += 1
        elif checked.outcome in CHOICES and not verified:
            imported.dropped["z3 does not reproduce its label"] += 1
            refuted.append(number)
        elif verified_only and not verified:
            imported.dropped["its label cannot be checked"] += 1
        else:
            unverified += not verified
            imported.keep(_problem(row, checked, f"folio-{split}-{number}"))
        seen.add((row.premises, row.conclusion))
        if progress is not None:
            progress(split, number + 1, len(read))
    if refuted:
        imported.notes.append(f"In {split}, z3 contradicts the labels of rows {', '.join(map(str, refuted))}.")
    if unverified:
        imported.notes.append(f"In {split}, {unverified} labels could not be checked and are the annotators' word.")
    return imported


def folio_prompt(row: FolioRow) -> str:
    """Writes a row as a problem.

    Args:
        row: The row.

    Returns:
        Premises, conclusion and question; empty where there are no premises.
    """
    premises = " ".join(premise.replace(_BACKGROUND, "").strip() for premise in row.premises)
    return f"{premises}\nConclusion: {row.conclusion}\nTrue, False or Unknown?" if premises else ""


def _problem(row: FolioRow, checked: CheckedRow, set_id: str) -> Problem:
    formal: dict[str, Any] = {"source": "folio", "row": checked.row, "verified": checked.agrees}
    canonical = ""
    if checked.question is not None:
        formal["premises"] = [format_notation(premise) for premise in checked.premises]
        formal["question"] = format_notation(checked.question)
        canonical = canonical_form(checked.premises, checked.question)
    return Problem(
        domain=DOMAIN,
        prompt=folio_prompt(row),
        answer=row.label or "",
        set_id=set_id,
        family="folio",
        choices=CHOICES,
        formal=json.dumps(formal, ensure_ascii=False),
        canonical=canonical,
    )
