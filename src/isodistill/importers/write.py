"""Imported problems on disk: isomer sets where the source has them, else rows that are only tagged with a domain."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from isodistill.errors import IsodistillError
from isodistill.importers.problems import Imported, Problem
from isodistill.isomers.card import FORMAT_VERSION, CardInfo, data_digest
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.store import replacing, to_table

Layout = Literal["sets", "rows"]

ROW_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("set_id", "domain", "prompt", "completion", "answer")),
        ("choices", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("family", "formal")),
    ]
)
"""The columns of the layout ``"rows"``; ``set_id`` is left out where the source has no sets."""


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
        card = _card(report, origin, list(families), data_digest(draft))
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


_LAYOUTS = {
    "sets": "Each row is an isomer set: problems that share their logic and their answer, one in each domain.",
    "rows": "Each row is one problem, tagged with its domain.",
}


def _card(report: ImportReport, origin: Origin, families: list[str], digest: str) -> str:
    info = CardInfo(
        title=origin.title,
        family=", ".join(families),
        domains=report.domains,
        unseen_domains=(),
        config={"imported_from": origin.source, **origin.options, "dropped": report.dropped},
    )
    files = [{"split": split, "path": f"data/{split}.parquet"} for split in report.rows]
    metadata = {
        "license": origin.license,
        "language": ["en"],
        "pretty_name": origin.title,
        "task_categories": ["text-generation", "question-answering"],
        # `load_dataset(DIRECTORY)` caches by the directory's last name and this part of the card, not by the files:
        # without their digest it would hand out the data of another directory of that name, or of an earlier import.
        "configs": [{"config_name": "default", "description": f"SHA-256 {digest}", "data_files": files}],
        "isodistill": {"format_version": FORMAT_VERSION, **info.model_dump(mode="json")},
    }
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=120)
    counts = "\n".join(f"| {split} | {rows} | {report.problems[split]} |" for split, rows in report.rows.items())
    dropped = "\n".join(
        f"- {split}: {count} problems, because {reason}"
        for split, reasons in report.dropped.items()
        for reason, count in reasons.items()
    )
    notes = "\n".join(report.notes)
    return f"""---
{front}---

# {origin.title}

Imported from `{origin.source}`. {origin.about} {_LAYOUTS[report.layout]}
{notes}

Domains: {", ".join(report.domains)}. Licence of the source: {origin.license}.

| split | rows | problems |
|---|---|---|
{counts}

Dropped:

{dropped or "- nothing"}

Options of the importer:

```json
{json.dumps(dict(origin.options), indent=2)}
```
"""
