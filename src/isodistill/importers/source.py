"""Where imported data comes from: a local file, a local folder, or a data set on the Hugging Face hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from isodistill.errors import IsodistillError
from isodistill.logic.folio import read_jsonl

Rows = list[Mapping[str, Any]]

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
"""The files that are read."""

_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation"}
_SPLITS |= {"dev": "validation", "test": "test"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def read_source(source: str, config: str | None = None) -> dict[str, Rows]:
    """Reads every split of a data set.

    Args:
        source: A file (JSON lines, JSON list, Parquet, CSV), a folder of such files, or a hub id ``owner/name``.
            Of a file's name, the word train, validation, valid, val, dev or test names the split, else the whole name.
        config: The configuration of a hub data set that has several.

    Returns:
        The rows of each split, in order.

    Raises:
        IsodistillError: If there is no such data, or it cannot be read.
    """
    path = Path(source)
    if not path.exists():
        return _read_hub(_hub_id(source), config)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise IsodistillError(f"The file {path} is none of {', '.join(SUFFIXES)}; convert it first.")
        return {split_of(path): _read_file(path)}
    files = [file for place in (path, path / "data") if place.is_dir() for file in sorted(place.iterdir())]
    splits: dict[str, Rows] = {}
    for file in files:
        if file.is_file() and file.suffix.lower() in SUFFIXES:
            splits.setdefault(split_of(file), []).extend(_read_file(file))
    if not splits:
        raise IsodistillError(f"The folder {path} holds no data file ({', '.join(SUFFIXES)}); name another.")
    return splits


def local_folder(source: str) -> Path:
    """Finds a folder, downloading the JSON files of a hub data set into the hub's cache where it is not a local one.

    Args:
        source: A folder or a hub id ``owner/name``.

    Returns:
        The folder.

    Raises:
        IsodistillError: If there is no such folder, or it cannot be downloaded.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise IsodistillError(f"The place {path} is a file; name the folder that holds the data set.")
    from huggingface_hub import snapshot_download

    name = _hub_id(source)
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=["*.json"]))
    except Exception as error:
        raise _unreachable(name, error) from None


def require_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], where: str) -> None:
    """Makes sure that a split has the columns that an importer needs.

    Args:
        rows: The split's rows.
        columns: The columns.
        where: Named in errors.

    Raises:
        IsodistillError: If the split is empty, or a row lacks a column.
    """
    if not rows:
        raise IsodistillError(f"In {where}, there are no rows; give data that has some.")
    for number, row in enumerate(rows):
        for column in columns:
            if column not in row:
                present = ", ".join(map(str, row)) or "none"
                raise IsodistillError(
                    f"In {where}, row {number} has no column {column!r} (it has {present}); name the right columns or "
                    "data set."
                )


def cell(row: Mapping[str, Any], column: str, where: str) -> str:
    """Reads a cell as text.

    Args:
        row: The row.
        column: The column.
        where: Named in errors.

    Returns:
        The text without blanks around it; empty for an empty cell. Numbers and truth values are written out.

    Raises:
        IsodistillError: If the cell holds a list or an object.
    """
    value = row[column]
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise IsodistillError(
        f"In {where}, the column {column!r} holds {type(value).__name__} instead of text; make it plain text first."
    )


def split_of(path: Path) -> str:
    """Names the split that a file holds.

    Args:
        path: The file.

    Returns:
        ``train``, ``validation`` or ``test`` where a word of the name says so, else the name without its ending.
    """
    stem = _SHARD.sub("", path.stem)
    for word in re.split(r"[\W_]+", stem.lower()):
        if word in _SPLITS:
            return _SPLITS[word]
    return re.sub(r"\W+", "_", stem)


def _read_file(path: Path) -> Rows:
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return read_jsonl(path)
    try:
        if suffix == ".parquet":
            return list(pq.read_table(path).to_pylist())
        with path.open(encoding="utf-8", newline="") as file:
            data: Any = list(csv.DictReader(file)) if suffix == ".csv" else json.load(file)
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise IsodistillError(f"The file {path} cannot be read ({reason}); mend or drop it.") from None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise IsodistillError(f"The file {path} is not a list of JSON objects; write one object for each row.")
    return data


def _hub_id(source: str) -> str:
    if not _HUB_ID.fullmatch(source) or source.lower().endswith(SUFFIXES):
        raise IsodistillError(f"There is no file or folder {source!r}; give one, or a hub id such as openai/gsm8k.")
    return source


def _read_hub(name: str, config: str | None) -> dict[str, Rows]:
    from datasets import load_dataset

    try:
        loaded = load_dataset(name, config)
    except Exception as error:
        # The hub, its client and the readers each have errors of their own.
        raise _unreachable(name, error) from None
    return {str(split): list(rows) for split, rows in loaded.items()}


def _unreachable(name: str, error: Exception) -> IsodistillError:
    reason = " ".join(str(error).split())[:300]
    return IsodistillError(
        f"The data set {name!r} is no local path and could not be had from the hub ({type(error).__name__}: {reason}); "
        "check the name, the connection and your access, or give a local copy."
    )
