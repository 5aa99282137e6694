from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, available_splits, generate, make_config, read_split, store, write_dataset
from isodistill.isomers.card import CardInfo, card_text, read_card


@pytest.fixture
def data(tmp_path: Path) -> Path:
    out = tmp_path / "data set"
    generate(make_config(sets=4, validation_sets=2, test_sets=2, domains=("law", "math")), out)
    return out


def rewrite(directory: Path, change: Any) -> None:
    path = directory / "data" / "train.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=store.SCHEMA), path)


def test_datasets_loads_the_directory(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(data), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == set(available_splits(data))
    row = loaded["train"][0]
    assert (
        IsomerSet.model_validate({**row, "choices": tuple(row["choices"]), "members": tuple(row["members"])})
        == (read_split(data, "train")[0])
    )


def test_writing_what_was_read_gives_the_same_files(data: Path, tmp_path: Path) -> None:
    info, splits = read_card(data / "README.md")
    assert info is not None
    again = tmp_path / "again"
    write_dataset(again, {split: read_split(data, split) for split in splits}, info)
    for split in splits:
        assert pq.read_table(again / "data" / f"{split}.parquet").equals(
            pq.read_table(data / "data" / f"{split}.parquet")
        )
    assert (again / "README.md").read_text(encoding="utf-8") == (data / "README.md").read_text(encoding="utf-8")


def test_an_existing_place_is_respected(data: Path, tmp_path: Path) -> None:
    config = make_config(sets=1, validation_sets=0, test_sets=0, domains=("law",), unseen_domains=())
    with pytest.raises(IsodistillError, match="is not empty; name another or allow overwriting"):
        generate(config, data)
    assert len(read_split(data, "train")) == 4
    generate(config, data, overwrite=True)
    assert available_splits(data) == ("train",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data set"]
    foreign = tmp_path / "photographs"
    foreign.mkdir()
    (foreign / "cat.png").write_bytes(b"meow")
    with pytest.raises(IsodistillError, match="something else than a data set"):
        generate(config, foreign, overwrite=True)
    with pytest.raises(IsodistillError, match="is a file"):
        generate(config, foreign / "cat.png")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs permissions that bind")
def test_an_unwritable_place_is_an_error_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    config = make_config(sets=10**6, domains=("law",))
    with pytest.raises(IsodistillError, match="cannot be written"):
        generate(config, tmp_path / "data")


def test_a_place_below_a_file_is_an_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    config = make_config(sets=10**6, domains=("law",))
    with pytest.raises(IsodistillError, match="cannot be written"):
        generate(config, tmp_path / "file" / "data")


def test_nothing_half_written_is_left(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    before = read_split(data, "train")
    config = make_config(sets=1, validation_sets=0, test_sets=0, domains=("law",))
    with monkeypatch.context() as broken:
        broken.setattr(store.pq, "write_table", fail)
        with pytest.raises(IsodistillError, match="disk full"):
            generate(config, data, overwrite=True)
        with pytest.raises(IsodistillError, match=r"disk full.*run again to go on"):
            generate(config, tmp_path / "new")
    assert read_split(data, "train") == before
    assert not (tmp_path / "new").exists()
    with monkeypatch.context() as broken:
        broken.setattr(store.Path, "rename", fail)
        with pytest.raises(IsodistillError, match="disk full"):
            generate(config, tmp_path / "new")
    # What was finished before the disk failed is taken up again, and then nothing is left of it.
    assert generate(config, tmp_path / "new").resumed == 1
    generate(config, data, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data set", "new"]


def test_unknown_splits_and_directories_are_errors(data: Path, tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="no split 'test'; it has train, validation, iid"):
        read_split(data, "test")
    with pytest.raises(IsodistillError, match="no split"):
        read_split(data, "../data/train")
    with pytest.raises(IsodistillError, match="holds no data set"):
        available_splits(tmp_path)


def drop_member(rows: list[dict[str, Any]]) -> None:
    del rows[2]["members"][1]


def empty_prompt(rows: list[dict[str, Any]]) -> None:
    rows[1]["members"][0]["prompt"] = ""


def null_formal(rows: list[dict[str, Any]]) -> None:
    rows[1]["members"][1]["formal"] = None


def wrong_answer(rows: list[dict[str, Any]]) -> None:
    rows[0]["answer"] = "Perhaps"


def no_members(rows: list[dict[str, Any]]) -> None:
    rows[0]["members"] = []


def same_name(rows: list[dict[str, Any]]) -> None:
    rows[1]["set_id"] = rows[0]["set_id"]


def same_domain(rows: list[dict[str, Any]]) -> None:
    rows[3]["members"][0]["domain"] = "math"


@pytest.mark.parametrize(
    ("change", "place", "told"),
    [
        (drop_member, 2, "no member for the domain 'math'"),
        (empty_prompt, 1, "domain 'law', prompt"),
        (null_formal, 1, "domain 'math', formal"),
        (wrong_answer, 0, "'Perhaps' is not among the choices"),
        (no_members, 0, "members"),
        (same_name, 0, "appears twice"),
        (same_domain, 3, "'math' has two members"),
    ],
)
def test_damaged_rows_are_named(data: Path, change: Any, place: int, told: str) -> None:
    name = read_split(data, "train")[place].set_id
    rewrite(data, change)
    with pytest.raises(IsodistillError, match=told) as caught:
        read_split(data, "train")
    assert name in str(caught.value)


def test_missing_columns_and_foreign_files_are_named(data: Path) -> None:
    path = data / "data" / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["canonical"]), path)
    with pytest.raises(IsodistillError, match="no column 'canonical'"):
        read_split(data, "train")
    pq.write_table(table.set_column(2, "depth", pa.array(["deep"] * len(table))), path)
    with pytest.raises(IsodistillError, match="column of another type"):
        read_split(data, "train")
    path.write_bytes(b"not parquet")
    with pytest.raises(IsodistillError, match="not readable Parquet"):
        read_split(data, "train")


def test_extra_columns_and_a_missing_card_do_no_harm(data: Path) -> None:
    path = data / "data" / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("note", pa.array(["x"] * len(table))), path)
    (data / "README.md").unlink()
    assert len(read_split(data, "train")) == 4
    assert available_splits(data) == ("deeper", "iid", "train", "unseen_domain", "validation")


def test_the_card_is_lossless_and_damage_is_named(tmp_path: Path) -> None:
    info = CardInfo(title="T: x", family="deduction", domains=("law",), unseen_domains=(), config={"a": [1, "b"]})
    path = tmp_path / "README.md"
    path.write_text(card_text(info, {"train": 3}, "0" * 64), encoding="utf-8")
    assert read_card(path) == (info, ("train",))
    path.write_text("---\nconfigs: 5\n---\n", encoding="utf-8")
    with pytest.raises(IsodistillError, match="damaged metadata"):
        read_card(path)
    path.write_text("# A page without metadata\n", encoding="utf-8")
    assert read_card(path) == (None, ())
