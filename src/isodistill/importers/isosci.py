"""IsoSci: pairs of science problems with one structure in two domains (arXiv 2607.01431, hub id ``isosci/isosci``).

The format is that of the published split files (flat rows), and of the nested file that these were made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from isodistill.importers.problems import Imported, Problem
from isodistill.importers.source import Rows, cell, require_columns

SIDES = ("source", "target")
WHOLE = "verified_pairs"
"""The file that repeats the pairs of all splits."""


def import_isosci(splits: Mapping[str, Rows], where: str, mapping: str | None = None) -> dict[str, Imported]:
    """Reads every split.

    The two problems of a pair ask for different values, so they are no isomer set with one answer: each row keeps its
    own answer, and ``set_id`` names its pair. Without `mapping`, different pairs join different domains.

    Args:
        splits: The rows of each split: ``pair_id``, ``mapping``, and ``domain``, ``question`` and ``answer`` of
            ``source`` and ``target`` (``source_question``, or ``question`` in an object ``source``). A split
            ``verified_pairs`` beside others repeats their pairs and is left out.
        where: Named in errors.
        mapping: Keeps only pairs of this mapping, for example ``"physics_to_chemistry"``, or ``None``.

    Returns:
        The problems of each split.

    Raises:
        IsodistillError: If a column is missing or holds something else than text.
    """
    names = [split for split in splits if split != WHOLE] or list(splits)
    return {split: _split(splits[split], f"{where}, split {split!r}", mapping) for split in names}


def _split(rows: Sequence[Mapping[str, Any]], where: str, mapping: str | None) -> Imported:
    flat = [_flattened(row) for row in rows]
    require_columns(flat, ("pair_id", "mapping", *(f"{s}_{c}" for s in SIDES for c in _CELLS)), where)
    imported = Imported()
    seen: set[str] = set()
    for number, row in enumerate(flat):
        place = f"row {number} of {where}"
        pair, kind = cell(row, "pair_id", place), cell(row, "mapping", place)
        sides = [{column: cell(row, f"{side}_{column}", place) for column in _CELLS} for side in SIDES]
        reason = ""
        if mapping is not None and kind != mapping:
            reason = f"the mapping is not {mapping!r}"
        elif not pair or pair in seen:
            reason = "the pair's name is empty or appears twice"
        elif sides[0]["domain"] == sides[1]["domain"]:
            reason = "both problems of the pair are of one domain"
        elif not all(side["question"] and side["answer"] for side in sides):
            reason = "a problem of the pair has no question or no answer"
        elif any("\n" in side["answer"] for side in sides):
            reason = "an answer of the pair has more than one line"
        if reason:
            imported.dropped[reason] += len(SIDES)
            continue
        seen.add(pair)
        structure = cell(row, "structure_type", place) if "structure_type" in row else ""
        for side in sides:
            imported.keep(
                Problem(
                    domain=side["domain"],
                    prompt=side["question"],
                    answer=side["answer"],
                    set_id=pair,
                    family=f"isosci/{structure or 'unknown'}",
                    formal=json.dumps({"source": "isosci", "mapping": kind}),
                )
            )
    return imported


_CELLS = ("domain", "question", "answer")


def _flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(row)
    for side in SIDES:
        problem = row.get(side)
        if isinstance(problem, Mapping):
            flat.update({f"{side}_{name}": value for name, value in problem.items() if f"{side}_{name}" not in row})
            flat.setdefault("structure_type", problem.get("structure_type"))
    return flat
