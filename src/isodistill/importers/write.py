"""Imported problems on disk: isomer sets where the source has them, else rows that are only tagged with a domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from isodistill.errors import IsodistillError
from isodistill.importers.problems import Imported, Problem
from isodistill.isomers.card import CardInfo, card_text, data_digest
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.store import ROW_SCHEMA, replacing, to_table

Layout = Literal["sets", "rows"]


@dataclass(frozen=True)
class Origin:
    """Where imported data comes from.

    Args:
        title: The data set's title.
        source: The path or hub id.
        license: Its licence, an SPDX identifier in the hub's spelling, or ``"unknown"``.
        about: What the rows are, a sentence or two for the card.
        options: The importer's options as plain data.
    """

    title: str
    source: str
    license: str
    about: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class ImportReport:
    """What was written, and what was not.

    Args:
        out: The data set's directory.
        layout: ``"sets"`` or ``"rows"``.
        rows: How many rows each split has: isomer sets or problems.
        problems: How many problems each split has.
        domains: The domains, in order of appearance.
        dropped: How many problems of each split were dropped, by reason.
        notes: What else a reader should know.
    """

    out: Path
    layout: Layout
    rows: dict[str, int]
    problems: dict[str, int]
    domains: tuple[str, ...]
    dropped: dict[str, dict[str, int]]
    notes: tuple[str, ...]


def write_import(
    out: Path,
    splits: Mapping[str, Imported],
    origin: Origin,
    layout: Layout,
    overwrite: bool = False,
) -> ImportReport:
    """Writes imported problems as a data set with a card.

    In the layout ``"sets"`` a set that is not whole is dropped and counted: each must have one member in every domain
    of its split, and all members share one answer.

    Args:
        out: The directory.
        splits: What was imported, by split.
        origin: Where it comes from.
        layout: ``"sets"`` for isomer sets (the format of generated data), ``"rows"`` for flat rows.
        overwrite: Whether a data set that is already there may be replaced.

    Returns:
        What was written.

    Raises:
        IsodistillError: If nothing is left of a split, or the directory cannot be written.
    """
    tables: dict[str, pa.Table] = {}
    problems: dict[str, list[Problem]] = {}
    dropped = {split: Counter(imported.dropped) for split, imported in splits.items()}
    for split, imported in splits.items():
        if layout == "sets":
            sets = _whole_sets(imported.problems, dropped[split])
            problems[split] = [problem for members in sets for problem in members]
            tables[split] = to_table([_isomer_set(members) for members in sets])
        else:
            problems[split] = imported.problems
            tables[split] = _flat(imported.problems)
        if not problems[split]:
            reasons = "; ".join(f"{count} because {reason}" for reason, count in dropped[split].items()) or "no rows"
            raise IsodistillError(f"Nothing of the split {split!r} of {origin.source} is left: {reasons}.")
    report = ImportReport(
        out=out,
        layout=layout,
        rows={split: table.num_rows for split, table in tables.items()},
        problems={split: len(kept) for split, kept in problems.items()},
        domains=tuple(dict.fromkeys(problem.domain for kept in problems.values() for problem in kept)),
        dropped={split: dict(counter) for split, counter in dropped.items()},
        notes=tuple(dict.fromkeys(note for imported in splits.values() for note in imported.notes)),
    )
    families = dict.fromkeys(problem.family for kept in problems.values() for problem in kept)
    with replacing(out, overwrite) as draft:
        (draft / "data").mkdir()
        for split, table in tables.items():
            file = draft / "data" / f"{split}.parquet"
            pq.write_table(table, file)
        card = card_text(_card_info(report, origin, list(families)), report.rows, data_digest(draft))
        (draft / "README.md").write_text(card, encoding="utf-8")
    return report


def shared_answers(problems: Sequence[Problem]) -> bool:
    """Tells whether every problem has an answer and the members of each set share one, as isomer sets must.

    Args:
        problems: The problems of a split.

    Returns:
        ``True`` if they can be written as isomer sets.
    """
    answers: dict[str, str] = {}
    return all(
        problem.answer and problem.set_id and answers.setdefault(problem.set_id, problem.answer) == problem.answer
        for problem in problems
    )


def drop_partial_sets(imported: Imported) -> None:
    """Drops the problems of sets that have no member in one of the domains, or two in one, and counts them.

    Args:
        imported: A split; it is changed.
    """
    sets = _grouped(imported.problems)
    domains = dict.fromkeys(problem.domain for problem in imported.problems)
    kept: set[str] = set()
    for set_id, members in sets.items():
        reason = _partial(members, domains)
        if reason:
            imported.dropped[reason] += len(members)
        else:
            kept.add(set_id)
    imported.problems = [problem for problem in imported.problems if problem.set_id in kept]


def _grouped(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    sets: dict[str, list[Problem]] = {}
    for problem in problems:
        sets.setdefault(problem.set_id, []).append(problem)
    return sets


def _partial(members: Sequence[Problem], domains: Mapping[str, Any]) -> str:
    present = Counter(problem.domain for problem in members)
    if any(count > 1 for count in present.values()):
        return "the set has two members in one domain"
    missing = [domain for domain in domains if domain not in present]
    return f"the set has no member in the domain {missing[0]!r}" if missing else ""


def _whole_sets(problems: Sequence[Problem], dropped: Counter[str]) -> list[list[Problem]]:
    domains = dict.fromkeys(problem.domain for problem in problems)
    whole = []
    for members in _grouped(problems).values():
        reason = _partial(members, domains)
        if not members[0].answer:
            reason = "there is no answer"
        elif any((problem.answer, problem.choices) != (members[0].answer, members[0].choices) for problem in members):
            reason = "the members of the set have different answers"
        if reason:
            dropped[reason] += len(members)
        else:
            whole.append(members)
    return whole


def _isomer_set(members: Sequence[Problem]) -> IsomerSet:
    first = members[0]
    return IsomerSet(
        set_id=first.set_id,
        family=first.family,
        depth=0,
        skeleton="",
        canonical=first.canonical,
        answer=first.answer,
        choices=first.choices,
        members=tuple(
            Member(domain=p.domain, prompt=p.prompt, completion=p.completion, formal=p.formal) for p in members
        ),
    )


def _flat(problems: Sequence[Problem]) -> pa.Table:
    paired = any(problem.set_id for problem in problems)
    schema = ROW_SCHEMA if paired else ROW_SCHEMA.remove(ROW_SCHEMA.get_field_index("set_id"))
    rows = [{name: getattr(problem, name) for name in schema.names} for problem in problems]
    return pa.Table.from_pylist([{**row, "choices": list(row["choices"])} for row in rows], schema=schema)


def _card_info(report: ImportReport, origin: Origin, families: list[str]) -> CardInfo:
    return CardInfo(
        title=origin.title,
        family=", ".join(families),
        domains=report.domains,
        unseen_domains=(),
        config={
            "imported_from": origin.source,
            "layout": report.layout,
            **origin.options,
            "dropped": {split: reasons for split, reasons in report.dropped.items() if reasons},
        },
        license=origin.license,
        about=origin.about,
        notes=report.notes,
    )
