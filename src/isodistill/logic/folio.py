"""Rows of FOLIO: premises, a conclusion and its label, in English and in first-order logic (arXiv 2209.00840)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isodistill.errors import IsodistillError

LABELS = {"True": "True", "False": "False", "Uncertain": "Unknown", "Unknown": "Unknown"}
"""The labels of both releases, and the answers they stand for."""


@dataclass(frozen=True, slots=True)
class FolioRow:
    """One row.

    Args:
        premises: The premises in English.
        formulas: The premises in FOLIO's notation; their number need not be that of the English ones.
        conclusion: The conclusion in English.
        conclusion_formula: The conclusion in FOLIO's notation; ``None`` where the row has none.
        label: ``"True"``, ``"False"`` or ``"Unknown"``; ``None`` where the row has none.
    """

    premises: tuple[str, ...]
    formulas: tuple[str, ...]
    conclusion: str
    conclusion_formula: str | None
    label: str | None


def read_jsonl(path: Path) -> list[Mapping[str, Any]]:
    """Reads a file of JSON objects, one a line.

    Args:
        path: The file; blank lines are skipped.

    Returns:
        The objects in order.

    Raises:
        IsodistillError: If the file cannot be read, or a line is not a JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise IsodistillError(f"The file {path} cannot be read ({error}); give a UTF-8 file of JSON lines.") from None
    return list(_objects(lines, path))


def _objects(lines: Iterable[str], path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise IsodistillError(f"In {path}, line {number} is not JSON ({error}); mend or drop it.") from None
        if not isinstance(row, dict):
            raise IsodistillError(f"In {path}, line {number} is not a JSON object; mend or drop it.")
        yield row


def folio_row(data: Mapping[str, Any], where: str) -> FolioRow:
    """Reads the fields of a row, in the spelling of either release.

    Args:
        data: A row with ``premises``, ``premises-FOL``, ``conclusion``, ``conclusion-FOL`` and ``label``. Premises
            are lists, or one string with a line for each. The two FOL fields may have an underscore, and the
            conclusion's formula and the label may be missing, as in published splits without them.
        where: Named in errors, for example ``"row 5 of folio.jsonl"``.

    Returns:
        The row.

    Raises:
        IsodistillError: If a field is missing, has another type, or the label is none of FOLIO's.
    """
    formula, label = _field(data, "conclusion-FOL"), data.get("label")
    for name, value in (("conclusion", data.get("conclusion", "")), ("conclusion-FOL", formula)):
        if value is not None and not isinstance(value, str):
            raise IsodistillError(f"In {where}, the field {name!r} must be a string; mend or drop the row.")
    if label is not None and (not isinstance(label, str) or label.strip() not in LABELS):
        raise IsodistillError(
            f"In {where}, the label is {str(label)[:40]!r}, none of {', '.join(LABELS)}; mend or drop the row."
        )
    return FolioRow(
        premises=_lines(data.get("premises", []), "premises", where),
        formulas=_lines(_field(data, "premises-FOL"), "premises-FOL", where),
        conclusion=str(data.get("conclusion") or "").strip(),
        conclusion_formula=formula,
        label=None if label is None else LABELS[label.strip()],
    )


def _field(data: Mapping[str, Any], name: str) -> Any:
    return data.get(name, data.get(name.replace("-", "_")))


def _lines(value: Any, name: str, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise IsodistillError(f"In {where}, the field {name!r} must be a list of strings; mend or drop the row.")
    return tuple(value)
