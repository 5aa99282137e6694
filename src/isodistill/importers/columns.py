"""Any data set with a prompt, a completion and a domain for each row, with or without sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.importers.problems import Imported, Problem
from isodistill.importers.source import cell, require_columns
from isodistill.importers.write import drop_partial_sets


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Args:
        prompt: The problem's text.
        completion: What the student is to write.
        domain: The domain.
        set_id: The isomer set, or ``None`` where the data has no sets (unpaired mode).
        answer: The answer, or ``None`` to read it from the completion's last line ``Answer: X``.
    """

    prompt: str = "prompt"
    completion: str = "completion"
    domain: str = "domain"
    set_id: str | None = None
    answer: str | None = None


def import_columns(
    rows: Sequence[Mapping[str, Any]],
    where: str,
    columns: Columns,
    domains: Collection[str] = (),
) -> Imported:
    """Reads the rows of a split.

    Args:
        rows: The rows.
        where: Named in errors.
        columns: Which columns hold what.
        domains: Keeps only these domains, or all if there is none.

    Returns:
        One problem for each row. With sets, those that have no member in one of the domains, or two, are dropped whole.

    Raises:
        IsodistillError: If a column is missing or holds something else than text, or a domain asked for has no row.
    """
    named = (columns.prompt, columns.completion, columns.domain, columns.set_id, columns.answer)
    require_columns(rows, [column for column in named if column is not None], where)
    imported = Imported()
    for number, row in enumerate(rows):
        place = f"row {number} of {where}"
        domain, completion = cell(row, columns.domain, place), cell(row, columns.completion, place)
        set_id = "" if columns.set_id is None else cell(row, columns.set_id, place)
        answer = (split_completion(completion)[1] or "") if columns.answer is None else cell(row, columns.answer, place)
        if domains and domain not in domains:
            imported.dropped["its domain was not asked for"] += 1
        elif not completion:
            imported.dropped["the completion is empty"] += 1
        elif columns.set_id is not None and not set_id:
            imported.dropped["the set's name is empty"] += 1
        else:
            prompt = cell(row, columns.prompt, place)
            imported.keep(
                Problem(
                    domain=domain, prompt=prompt, answer=answer, completion=completion, set_id=set_id, family="imported"
                )
            )
    present = {problem.domain for problem in imported.problems}
    for domain in domains:
        if domain not in present:
            raise IsodistillError(f"In {where}, no row has the domain {domain!r}; the column is {columns.domain!r}.")
    if columns.set_id is not None:
        drop_partial_sets(imported)
    return imported
