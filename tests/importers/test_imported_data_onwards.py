"""What is imported goes on through audit, distillation, training and evaluation as generated data does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from import_helpers import import_command, write_jsonl
from tiny_student import make_model, make_tokenizer

from isodistill.cli.main import run
from isodistill.errors import IsodistillError
from isodistill.evaluation import EvaluationConfig, evaluate, read_items
from isodistill.isomers import IsomerSet, Member, generate, make_config, read_split
from isodistill.isomers.audit import audit_dataset
from isodistill.isomers.card import read_card
from isodistill.teachers import Explainer, Trace
from isodistill.teachers.distil import distil
from isodistill.trainer.data import is_paired, member_rows


class Knowing(Explainer):
    """Knows every answer."""

    name = "knowing"

    def explain(self, isomer_set: IsomerSet, member: Member) -> Trace:
        return Trace(f"As {member.domain} tells.", isomer_set.answer)


def metadata(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1]))


def rows(count: int = 6, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"Question {n}?",
            "completion": f"Old.\nAnswer: {n % 3}",
            "domain": ("law", "art", "law")[n % 3],
            **more,
        }
        for n in range(count)
    ]


@pytest.fixture
def unpaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_jsonl(tmp_path / "in" / "test.jsonl", rows())
    arguments = ("--out", tmp_path / "flat", "--license", "mit")
    assert import_command(monkeypatch, "dataset", tmp_path / "in", *arguments) == 0
    return tmp_path / "flat"


def test_unpaired_rows_are_read_as_problems(unpaired: Path) -> None:
    items = read_items(unpaired, "test")
    assert [(item.prompt, item.domain, item.answer) for item in items] == [
        (f"Question {n}?", ("law", "art", "law")[n % 3], str(n % 3)) for n in range(6)
    ]
    assert len({item.set_id for item in items}) == 6
    few = read_items(unpaired, "test", limit_sets=2)
    assert len(few) == 2
    assert set(few) <= set(items)


def test_unpaired_rows_are_distilled_to_rows_that_train(unpaired: Path, tmp_path: Path) -> None:
    distil(unpaired, Knowing(), tmp_path / "taught")
    before, after = (load_dataset(str(folder), split="test") for folder in (unpaired, tmp_path / "taught"))
    assert after.column_names == before.column_names
    assert after["completion"] == [f"As {row['domain']} tells.\nAnswer: {row['answer']}" for row in before]
    assert after.remove_columns("completion")[:] == before.remove_columns("completion")[:]
    assert not is_paired(after.column_names)
    assert len(member_rows(after, after.column_names)) == 6


def test_rows_with_a_common_set_keep_it(tmp_path: Path) -> None:
    table = [
        {"set_id": f"s{n // 2}", "domain": ("law", "art")[n % 2], "prompt": f"Q{n}?", "answer": str(n)}
        for n in range(6)
    ]
    (tmp_path / "pairs" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "pairs" / "data" / "test.parquet")
    items = read_items(tmp_path / "pairs", "test", limit_sets=2)
    assert len(items) == 4
    assert len({item.set_id for item in items}) == 2
    distil(tmp_path / "pairs", Knowing(), tmp_path / "taught")
    taught = load_dataset(str(tmp_path / "taught"), split="test")
    assert [row["set_id"] for row in taught] == [row["set_id"] for row in table]
    assert [row["answer"] for row in taught] == [row["answer"] for row in table]
    table[1]["domain"] = "law"
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "pairs" / "data" / "test.parquet")
    with pytest.raises(IsodistillError, match="set 's0' has two rows in the domain 'law'"):
        read_split(tmp_path / "pairs", "test")


def test_a_row_without_an_answer_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = pa.Table.from_pylist([{"domain": "law", "prompt": "Q?", "completion": "Nothing to read."}])
    pq.write_table(table, tmp_path / "data" / "test.parquet")
    with pytest.raises(IsodistillError, match="row 0 has neither an answer nor a completion"):
        read_split(tmp_path, "test")


def test_the_card_of_imported_data_stays_true_when_it_is_distilled(unpaired: Path, tmp_path: Path) -> None:
    distil(unpaired, Knowing(), tmp_path / "taught")
    card = (tmp_path / "taught" / "README.md").read_text(encoding="utf-8")
    assert "proved by an SMT solver" not in card
    assert "CC0" not in card
    assert f"Imported from `{tmp_path / 'in'}`" in card
    assert "Each row is one problem, tagged with its domain." in card
    assert "Completions were written by: knowing." in card
    assert metadata(tmp_path / "taught")["license"] == "mit"
    before, after = (read_card(folder / "README.md")[0] for folder in (unpaired, tmp_path / "taught"))
    assert before is not None
    assert after == before.model_copy(update={"teacher": "knowing"})


def test_an_audit_proves_nothing_about_imported_sets_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "in" / "test.jsonl", [{"question": f"How {n}?", "answer": f"#### {n}"} for n in range(4)])
    assert import_command(monkeypatch, "gsm8k", tmp_path / "in", "--out", tmp_path / "out") == 0
    monkeypatch.setattr(sys, "argv", ["isodistill", "audit", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        run()
    assert not stop.value.code
    told = " ".join(capsys.readouterr().out.split())
    assert "0 sets proved and read back, 4 imported sets without a skeleton, so nothing to prove" in told
    assert "0 faults" in told


def test_an_audit_still_finds_what_stands_twice(unpaired: Path, tmp_path: Path) -> None:
    assert audit_dataset(unpaired).faults == []
    table = pq.read_table(unpaired / "data" / "test.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([*table, table[0]]), unpaired / "data" / "test.parquet")
    report = audit_dataset(unpaired)
    assert report.faults == ["Set row 6 of split test has the law text of set row 0 of split test; drop one of them."]
    assert (report.verified, report.without_proof) == (0, 7)


def test_generated_data_cannot_pass_for_imported(tmp_path: Path) -> None:
    generate(make_config(sets=3, validation_sets=0, test_sets=0, domains=("law", "math")), tmp_path / "data")
    path = tmp_path / "data" / "data" / "train.parquet"
    table = pq.read_table(path)
    emptied = [{**row, "skeleton": ""} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(emptied, schema=table.schema), path)
    with pytest.raises(IsodistillError, match="the text is not JSON"):
        audit_dataset(tmp_path / "data")


def test_unpaired_rows_are_evaluated(unpaired: Path) -> None:
    student = make_model(), make_tokenizer()
    config = EvaluationConfig(by="generation", max_new_tokens=2, bootstrap_samples=100)
    result = evaluate(*student, unpaired, config)
    split = result.splits["test"]
    assert (split.n_sets, split.n_items) == (6, 6)
    assert set(split.by_domain) == {"law", "art"}
    assert (split.agreement, split.set_accuracy, split.mean_score) == (None, None, None)
    with pytest.raises(IsodistillError, match="In 'test', set 'row 0' has no choices"):
        evaluate(*student, unpaired, config.model_copy(update={"by": "likelihood"}))
