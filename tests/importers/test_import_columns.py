from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from import_helpers import import_command, write_jsonl

from isodistill.errors import IsodistillError
from isodistill.importers import Columns, Imported, Origin, Problem, import_columns, write_import
from isodistill.isomers import read_split
from isodistill.isomers.card import read_card
from isodistill.trainer.data import member_rows


def row(number: int, domain: str, **more: Any) -> dict[str, Any]:
    completion = f"Because.\nAnswer: {number}"
    return {"prompt": f"Question {number} on {domain}?", "completion": completion, "domain": domain, **more}


def test_without_sets_the_rows_are_only_tagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(n, domain) for n, domain in enumerate(["law", "math", "law", "art"])]
    write_jsonl(tmp_path / "in" / "train.jsonl", rows)
    assert import_command(monkeypatch, "dataset", tmp_path / "in", "--out", tmp_path / "out", "--license", "mit") == 0
    loaded = load_dataset(str(tmp_path / "out"), split="train")
    assert "set_id" not in loaded.column_names
    for wanted, found in zip(rows, loaded, strict=True):
        assert wanted.items() <= found.items()
    assert [found["answer"] for found in loaded] == ["0", "1", "2", "3"]
    info, splits = read_card(tmp_path / "out" / "README.md")
    assert splits == ("train",)
    assert info is not None
    assert info.domains == ("law", "math", "art")


def test_with_sets_whole_ones_become_isomer_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"prompt": "q", "completion": "a", "domain": "field"}
    rows = [
        {**{names[key]: value for key, value in row(n, domain).items()}, "group": n}
        for n, domains in enumerate([("law", "math"), ("math", "law"), ("law",), ("law", "law", "math")])
        for domain in domains
    ]
    write_jsonl(tmp_path / "test.jsonl", rows)
    columns = ("--prompt", "q", "--completion", "a", "--domain", "field", "--set-id", "group")
    assert import_command(monkeypatch, "dataset", tmp_path / "test.jsonl", "--out", tmp_path / "out", *columns) == 0
    told = capsys.readouterr().out
    assert "test: 2 isomer sets, 4 problems" in told
    assert "dropped 1: the set has no member in the domain 'math'" in told
    assert "dropped 3: the set has two members in one domain" in told
    sets = read_split(tmp_path / "out", "test")
    assert [(isomer_set.set_id, isomer_set.answer) for isomer_set in sets] == [("0", "0"), ("1", "1")]
    loaded = load_dataset(str(tmp_path / "out"), split="test")
    assert len(member_rows(loaded, loaded.column_names)) == 4


def test_sets_whose_members_differ_in_their_answers_stay_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(n, domain, set_id="one") for n, domain in enumerate(["law", "math"])]
    write_jsonl(tmp_path / "train.jsonl", rows)
    arguments = ("--set-id", "set_id", "--out", tmp_path / "out")
    assert import_command(monkeypatch, "dataset", tmp_path / "train.jsonl", *arguments) == 0
    loaded = load_dataset(str(tmp_path / "out"), split="train")
    assert loaded["set_id"] == ["one", "one"]
    assert len(member_rows(loaded, loaded.column_names)) == 2


def test_a_new_import_is_not_mistaken_for_an_old_one(tmp_path: Path) -> None:
    # `datasets` caches by the directory's last name and the card, not by path or content.
    origin = Origin("T", "here", "unknown", "", {})
    for place, prompt, overwrite in (("a", "One?", False), ("b", "Two?", False), ("a", "Three?", True)):
        out = tmp_path / place / "data set"
        write_import(out, {"train": Imported([Problem("law", prompt, "1")])}, origin, "rows", overwrite)
        assert load_dataset(str(out), split="train")["prompt"] == [prompt]


def test_what_is_dropped_is_counted() -> None:
    rows = [
        row(1, "law"),
        row(2, "art"),
        {**row(3, "law"), "prompt": None},
        {**row(4, "law"), "completion": " "},
        {**row(5, "math"), "answer": "two\nlines"},
    ]
    columns = Columns(answer="answer")
    imported = import_columns([{"answer": "yes", **entry} for entry in rows], "here", columns, ("law",))
    assert [problem.answer for problem in imported.problems] == ["yes"]
    assert imported.dropped == {
        "its domain was not asked for": 2,
        "the prompt is empty": 1,
        "the completion is empty": 1,
    }
    everything = import_columns([{"answer": "yes", **entry} for entry in rows], "here", columns)
    assert everything.dropped["the answer has more than one line"] == 1


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IsodistillError, match=r"row 0 has no column 'topic' \(it has prompt, completion, domain\)"):
        import_columns([row(1, "law")], "here", Columns(domain="topic"))
    with pytest.raises(IsodistillError, match="no row has the domain 'art'"):
        import_columns([row(1, "law")], "here", Columns(), ("art",))
    with pytest.raises(IsodistillError, match="holds list instead of text"):
        import_columns([{**row(1, "law"), "prompt": [{"role": "user"}]}], "here", Columns())
    write_jsonl(tmp_path / "train.jsonl", [{**row(1, "law"), "completion": ""}])
    assert import_command(monkeypatch, "dataset", tmp_path / "train.jsonl", "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_the_writer_drops_sets_with_two_answers(tmp_path: Path) -> None:
    problems = [Problem(domain, f"{domain}?", answer, set_id="s") for domain, answer in (("a", "1"), ("b", "2"))]
    good = [Problem(domain, f"{domain}!", "1", set_id="t") for domain in ("a", "b")]
    none = [Problem(domain, f"{domain}.", "", set_id="u") for domain in ("a", "b")]
    origin = Origin("T", "here", "unknown", "", {})
    report = write_import(tmp_path / "out", {"train": Imported([*problems, *good, *none])}, origin, "sets")
    assert report.rows == {"train": 1}
    assert report.dropped["train"] == {"the members of the set have different answers": 2, "there is no answer": 2}
    assert "2 problems, because there is no answer" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(IsodistillError, match="Nothing of the split 'train' of here is left: 2 because there is no"):
        write_import(tmp_path / "no", {"train": Imported(none)}, origin, "sets")
