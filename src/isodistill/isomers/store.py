"""Data sets on disk: a card and one Parquet file per split, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.card import CardInfo, card_text, data_digest, read_card
from isodistill.isomers.packs import register_packs, write_packs
from isodistill.isomers.sets import IsomerSet
from isodistill.validation import first_fault

MEMBER_TYPE = pa.struct([(name, pa.string()) for name in ("domain", "prompt", "completion", "formal", "cue")])

SCHEMA = pa.schema(
    [
        ("set_id", pa.string()),
        ("family", pa.string()),
        ("depth", pa.int32()),
        ("skeleton", pa.string()),
        ("canonical", pa.string()),
        ("answer", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("members", pa.list_(MEMBER_TYPE)),
    ]
)
"""The columns of every split; one row per isomer set."""

ROW_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("set_id", "domain", "prompt", "completion", "answer")),
        ("choices", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("family", "formal")),
    ]
)
"""The columns of flat rows, one row per problem; ``set_id`` is left out where the source has no sets."""

PACKS_FOLDER = "packs"
"""Where a data set keeps the domain packs that do not come with isodistill."""

BATCH = 256
"""How many rows are read at a time."""


def check_target(out: Path, overwrite: bool = False) -> None:
    """Makes sure that a data set can be written, before any work is done for it.

    Args:
        out: The directory to be written.
        overwrite: Whether a data set that is already there may be replaced.

    Raises:
        IsodistillError: If the place is taken by something that may not be replaced, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise IsodistillError(f"The place {out} is a file; name a directory for the data set.")
    if out.exists() and any(out.iterdir()):
        if not overwrite:
            raise IsodistillError(f"The directory {out} is not empty; name another or allow overwriting.")
        if not (out / "README.md").is_file() or not (out / "data").is_dir():
            raise IsodistillError(f"The directory {out} holds something else than a data set; name another.")
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise IsodistillError(f"The directory {parent} cannot be written; name another place for the data set.")


@contextmanager
def replacing(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """Opens a fresh directory beside the target, which takes the target's place when the block ends well.

    Args:
        out: The directory to be written.
        overwrite: Whether a data set that is already there may be replaced.

    Yields:
        The directory to write into. It is removed if the block raises.

    Raises:
        IsodistillError: If the target cannot be written.
    """
    check_target(out, overwrite)
    out = out.absolute()
    draft = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        draft.mkdir(parents=True)
        yield draft
        if out.exists():
            old = draft.with_suffix(".old")
            out.rename(old)
            draft.rename(out)
            shutil.rmtree(old)
        else:
            draft.rename(out)
    except OSError as error:
        raise IsodistillError(f"The data set {out} could not be written: {error}; mend that and try again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_dataset(
    out: Path, splits: Mapping[str, Sequence[IsomerSet]], info: CardInfo, overwrite: bool = False
) -> None:
    """Writes a data set.

    Args:
        out: The directory.
        splits: The sets of each split.
        info: What the card tells.
        overwrite: Whether a data set that is already there may be replaced.

    Raises:
        IsodistillError: If the target cannot be written.
    """
    with replacing(out, overwrite) as draft:
        (draft / "data").mkdir()
        for split, sets in splits.items():
            pq.write_table(to_table(sets), draft / "data" / f"{split}.parquet")
        write_packs(
            frozenset(domain for sets in splits.values() for isomer_set in sets for domain in isomer_set.domains),
            draft / PACKS_FOLDER,
        )
        counts = {split: len(sets) for split, sets in splits.items()}
        (draft / "README.md").write_text(card_text(info, counts, data_digest(draft)), encoding="utf-8")


def to_table(sets: Sequence[IsomerSet]) -> pa.Table:
    """Turns sets into a table of the columns of a split.

    Args:
        sets: The sets, all of one layout.

    Returns:
        One row for each, of `SCHEMA`, or of `ROW_SCHEMA` for sets that were read from flat rows.
    """
    if sets and sets[0].layout != "set":
        drop = () if sets[0].layout == "pair" else ("set_id",)
        schema = pa.schema([field for field in ROW_SCHEMA if field.name not in drop])
        return pa.Table.from_pylist([_flat_row(isomer_set) for isomer_set in sets], schema=schema)
    return pa.Table.from_pylist([isomer_set.model_dump() for isomer_set in sets], schema=SCHEMA)


def available_splits(directory: Path) -> tuple[str, ...]:
    """Lists the splits of a data set.

    Args:
        directory: The data set.

    Returns:
        Their names in the card's order; splits that the card does not name come last, in alphabetical order.

    Raises:
        IsodistillError: If the directory holds no data set.
    """
    files = {path.stem for path in (directory / "data").glob("*.parquet")}
    if not files:
        raise IsodistillError(f"The directory {directory} holds no data set; it needs data/<split>.parquet files.")
    named = [split for split in read_card(directory / "README.md")[1] if split in files]
    return (*named, *sorted(files - set(named)))


def read_split(directory: Path, split: str) -> list[IsomerSet]:
    """Reads a split and checks every row.

    Args:
        directory: The data set.
        split: The split's name.

    Returns:
        The sets in order; a flat row (``domain``, ``prompt``, ``answer``) is a set of one member, see `Layout`.

    Raises:
        IsodistillError: If there is no such split, a column is missing or has another type, a row breaks a rule, a
            name appears twice, or a set lacks a domain that others have.
    """
    sets = list(iterate_split(directory, split))
    if any(isomer_set.layout != "set" for isomer_set in sets):
        _check_rows(sets, split)
    else:
        _check_split(sets, split)
    return sets


def count_sets(directory: Path, split: str) -> int:
    """Counts the sets of a split without reading them.

    Args:
        directory: The data set.
        split: The split's name.

    Returns:
        The number of sets.

    Raises:
        IsodistillError: If the file is not readable Parquet.
    """
    path = directory / "data" / f"{split}.parquet"
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise IsodistillError(f"The file {path} is not readable Parquet ({error}); generate it again.") from None


def iterate_split(directory: Path, split: str) -> Iterator[IsomerSet]:
    """Reads a split a few rows at a time and checks each row for itself.

    Args:
        directory: The data set; packs that it brings along become known.
        split: The split's name.

    Yields:
        The sets in order.

    Raises:
        IsodistillError: If there is no such split, a column is missing or has another type, or a row breaks a rule.
    """
    path = directory / "data" / f"{split}.parquet"
    if split not in available_splits(directory):
        raise IsodistillError(
            f"The data set {directory} has no split {split!r}; it has {', '.join(available_splits(directory))}."
        )
    register_packs(directory / PACKS_FOLDER)
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        if "members" not in names and {"domain", "prompt"} <= set(names):
            yield from _read_flat(file, path)
            return
        for field in SCHEMA:
            if field.name not in names:
                raise IsodistillError(
                    f"The file {path} has no column {field.name!r}; add it or generate the data again."
                )
        for batch in file.iter_batches(BATCH, columns=SCHEMA.names):
            table = _cast(pa.Table.from_batches([batch]).select(SCHEMA.names), SCHEMA, path)
            for row in table.to_pylist():
                yield _read_row(row, path)
    except (OSError, pa.ArrowException) as error:
        raise IsodistillError(f"The file {path} is not readable Parquet ({error}); generate it again.") from None


def _read_flat(file: pq.ParquetFile, path: Path) -> Iterator[IsomerSet]:
    schema = pa.schema([field for field in ROW_SCHEMA if field.name in file.schema_arrow.names])
    paired = "set_id" in schema.names
    number = 0
    for batch in file.iter_batches(BATCH, columns=schema.names):
        for row in _cast(pa.Table.from_batches([batch]).select(schema.names), schema, path).to_pylist():
            name = row.get("set_id") if paired else f"row {number}"
            text = {column: row.get(column) or "" for column in ("domain", "prompt", "completion", "formal")}
            answer = row.get("answer") or split_completion(text["completion"])[1]
            if not answer:
                raise IsodistillError(
                    f"In {path}, row {number} has neither an answer nor a completion that ends in 'Answer: X', so "
                    "nothing can be checked against it; add the column 'answer'."
                )
            yield _read_row(
                {
                    "set_id": name or "",
                    "family": row.get("family") or "",
                    "depth": 0,
                    "skeleton": "",
                    "canonical": "",
                    "answer": answer,
                    "choices": row.get("choices"),
                    "members": [text],
                    "layout": "pair" if paired else "row",
                },
                path,
            )
            number += 1


def _flat_row(isomer_set: IsomerSet) -> dict[str, Any]:
    member = isomer_set.members[0]
    columns = {name: getattr(isomer_set, name) for name in ("set_id", "answer", "family")}
    return {**columns, "choices": list(isomer_set.choices), **member.model_dump(exclude={"cue"})}


def _cast(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    try:
        return table.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IsodistillError(f"The file {path} has a column of another type ({reason}); generate it again.") from None


def _read_row(row: dict[str, Any], path: Path) -> IsomerSet:
    name = row.get("set_id")
    for field in ("choices", "members"):
        row[field] = tuple(row[field] or ())
    try:
        return IsomerSet.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        place = list(first["loc"])
        domain = ""
        if len(place) > 1 and place[0] == "members" and isinstance(place[1], int):
            domain = f", domain {(row['members'][place[1]] or {}).get('domain')!r}"
        field = str(place[-1]) if place else "the row"
        reason = first_fault(error)[1]
        raise IsodistillError(
            f"In {path}, set {name!r}{domain}, {field}: {reason}; mend the row or generate the data again."
        ) from None


def _check_rows(sets: Sequence[IsomerSet], split: str) -> None:
    seen: set[tuple[str, str]] = set()
    for isomer_set in sets:
        place = (isomer_set.set_id, isomer_set.members[0].domain)
        if place in seen:
            raise IsodistillError(
                f"In split {split!r} the set {place[0]!r} has two rows in the domain {place[1]!r}; drop one of the two."
            )
        seen.add(place)


def _check_split(sets: Sequence[IsomerSet], split: str) -> None:
    domains = dict.fromkeys(domain for isomer_set in sets for domain in isomer_set.domains)
    sizes = {len(isomer_set.domains) for isomer_set in sets}
    told_in_some = len(sizes) == 1 and min(sizes) > 1  # by design (`told_in`); with a member lost they would differ
    seen: set[str] = set()
    for isomer_set in sets:
        if isomer_set.set_id in seen:
            raise IsodistillError(
                f"In split {split!r} the set {isomer_set.set_id!r} appears twice; drop one of the two."
            )
        seen.add(isomer_set.set_id)
        for domain in domains:
            if domain not in isomer_set.domains and not told_in_some:
                raise IsodistillError(
                    f"In split {split!r} the set {isomer_set.set_id!r} has no member for the domain {domain!r}, which "
                    "other sets have; add the member or drop the set."
                )
