from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from evaluation_helpers import DOMAINS, set_row, write_split

from isodistill.errors import IsodistillError
from isodistill.evaluation.items import list_splits, read_items


def test_items_follow_the_rows(data_dir: Path) -> None:
    items = read_items(data_dir, "cue_reversed")
    assert len(items) == 6 * len(DOMAINS)
    first = items[0]
    assert (first.split, first.set_id, first.domain) == ("cue_reversed", "reversed-0004", "law")
    assert first.choices == ("True", "False", "Unknown")
    assert (first.answer, first.cue, first.depth, first.family) == ("True", "Unknown", 2, "deduction")
    assert first.prompt == "The judge number 4 is what?"


def test_splits_come_in_reporting_order(data_dir: Path) -> None:
    write_split(data_dir / "data" / "another.parquet", [set_row(0)])
    assert list_splits(data_dir) == ["train", "iid", "cue_reversed", "unseen_domain", "another"]


def test_a_limit_takes_whole_sets_and_is_nested(data_dir: Path) -> None:
    two = {item.set_id for item in read_items(data_dir, "iid", 2)}
    four = {item.set_id for item in read_items(data_dir, "iid", 4)}
    assert len(two) == 2
    assert len(four) == 4
    assert two < four
    assert len(read_items(data_dir, "iid", 2)) == 2 * len(DOMAINS)
    assert len(read_items(data_dir, "iid", 100)) == 6 * len(DOMAINS)


@pytest.mark.parametrize("column", ["answer", "choices", "members"])
def test_a_missing_column_is_named(data_dir: Path, column: str) -> None:
    path = data_dir / "data" / "iid.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(IsodistillError, match=rf"iid\.parquet has no column '{column}'"):
        read_items(data_dir, "iid")


def spoil(row: dict[str, Any], what: str) -> dict[str, Any]:
    if what == "member":
        row["members"] = [member for member in row["members"] if member["domain"] != "medicine"]
    elif what == "all members":
        row["members"] = []
    elif what == "twice":
        row["members"].append(row["members"][0])
    elif what == "prompt":
        row["members"][1]["prompt"] = ""
    elif what == "answer":
        row["answer"] = "Perhaps"
    elif what == "choices":
        row["choices"] = ["True", "True", "False"]
    elif what == "set_id":
        row["set_id"] = "deduction-0000"
    elif what == "depth":
        row["depth"] = None
    return row


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("member", "set 'deduction-0001' has no member for the domain 'medicine'"),
        ("all members", "set 'deduction-0001', members"),
        ("twice", "set 'deduction-0001'.*the domain 'law' has two members"),
        ("prompt", "set 'deduction-0001', domain 'medicine', prompt"),
        ("answer", "set 'deduction-0001'.*the answer 'Perhaps' is not among the choices"),
        ("choices", "'deduction-0001': 'choices' has an empty or repeated entry"),
        ("set_id", "the set 'deduction-0000' appears twice"),
        ("depth", "set 'deduction-0001', depth"),
    ],
)
def test_a_broken_row_is_an_error_with_its_place(tmp_path: Path, what: str, message: str) -> None:
    write_split(tmp_path / "data" / "iid.parquet", [set_row(0), spoil(set_row(1), what)])
    with pytest.raises(IsodistillError, match=message):
        read_items(tmp_path, "iid")


def test_missing_empty_and_damaged_files(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="has no split 'deeper'"):
        read_items(data_dir, "deeper")
    with pytest.raises(IsodistillError, match="holds no data set"):
        list_splits(tmp_path / "nowhere")
    write_split(data_dir / "data" / "deeper.parquet", [])
    with pytest.raises(IsodistillError, match="has no rows"):
        read_items(data_dir, "deeper")
    (data_dir / "data" / "deeper.parquet").write_text("not parquet")
    with pytest.raises(IsodistillError, match="not readable Parquet"):
        read_items(data_dir, "deeper")
