from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from import_helpers import write_jsonl

from isodistill.errors import IsodistillError
from isodistill.importers import local_folder, read_source
from isodistill.importers.source import cell, require_columns, split_of

ROWS = [{"a": "1", "b": "x, y"}, {"a": "2", "b": "z"}]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.jsonl", "train"),
        ("folio-validation.jsonl", "validation"),
        ("my_dev.csv", "validation"),
        ("test-00000-of-00002.parquet", "test"),
        ("questions v2.json", "questions_v2"),
        ("latest.json", "latest"),
    ],
)
def test_splits_by_name(name: str, split: str) -> None:
    assert split_of(Path(name)) == split


def test_every_kind_of_file_reads_alike(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a" / "train.jsonl", ROWS)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "train.json").write_text(json.dumps(ROWS))
    (tmp_path / "b" / "test.csv").write_text('a,b\n1,"x, y"\n2,z\n')
    (tmp_path / "b" / "LICENSE").write_text("MIT")
    assert read_source(str(tmp_path / "a" / "train.jsonl")) == {"train": ROWS}
    assert read_source(str(tmp_path / "b")) == {"train": ROWS, "test": ROWS}


def test_shards_of_a_split_join_in_order(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for shard, row in enumerate(ROWS):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data" / f"train-0000{shard}-of-00002.parquet")
    assert read_source(str(tmp_path)) == {"train": ROWS}


def test_hub_ids_go_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def load(name: str, config: str | None) -> Any:
        asked.append((name, config))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_source("owner/name", "main") == {"train": ROWS}
    assert asked == [("owner/name", "main")]

    def download(name: str, repo_type: str, allow_patterns: list[str]) -> str:
        assert (name, repo_type, allow_patterns) == ("owner/name", "dataset", ["*.json"])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert local_folder("owner/name") == tmp_path


def test_a_hub_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    for read in (read_source, local_folder):
        with pytest.raises(IsodistillError, match=r"'owner/name' is no local path.*no route to host.*local copy"):
            read("owner/name")


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    for name, text in (("a.json", '{"a": 1}'), ("b.json", "["), ("c.parquet", "PAR"), ("d.txt", ""), ("e.csv", "\x00")):
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.csv").write_bytes("a\né\n".encode("latin-1"))
    for name, told in (
        ("a.json", "not a list of JSON objects"),
        ("b.json", "cannot be read"),
        ("c.parquet", "cannot be read"),
        ("d.txt", "none of .jsonl"),
        ("latin.csv", "cannot be read"),
        ("empty", "holds no data file"),
        ("absent.jsonl", "There is no file or folder"),
        ("a/b/c", "There is no file or folder"),
    ):
        with pytest.raises(IsodistillError, match=told):
            read_source(str(tmp_path / name))
    with pytest.raises(IsodistillError, match="is a file"):
        local_folder(str(tmp_path / "a.json"))


def test_columns_and_cells() -> None:
    require_columns(ROWS, ("a", "b"), "here")
    with pytest.raises(IsodistillError, match=r"In here, row 1 has no column 'c' \(it has a, b\)"):
        require_columns([{"a": "1", "c": "2"}, *ROWS[1:]], ("a", "c"), "here")
    with pytest.raises(IsodistillError, match="there are no rows"):
        require_columns([], ("a",), "here")
    row = {"text": " a ", "number": 3, "nothing": None, "chat": [{"role": "user"}]}
    assert [cell(row, name, "here") for name in ("text", "number", "nothing")] == ["a", "3", ""]
    with pytest.raises(IsodistillError, match="'chat' holds list instead of text"):
        cell(row, "chat", "here")
