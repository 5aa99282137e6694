"""What the trainer refuses, before the first step and by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tiny_student import lora, make_model, make_sets, make_tokenizer

from isodistill.errors import IsodistillError
from isodistill.trainer import IsomerConfig, IsomerTrainer
from isodistill.trainer.data import member_rows


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"packing": True}, "packing"),
        ({"padding_free": True}, "padding_free"),
        ({"fp16": True}, "fp16"),
        ({"assistant_only_loss": True}, "assistant_only_loss"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size"),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": True}}, "use_reentrant"),
        ({"completion_only_loss": False}, "completion_only_loss"),
        ({"remove_unused_columns": True}, "remove_unused_columns"),
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    with pytest.raises(IsodistillError, match=name):
        IsomerConfig(output_dir=str(tmp_path), **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "nonsense"}, "method='nonsense'"),
        ({"tau": -1.0}, "tau=-1.0"),
        ({"mask_space": "dense"}, "mask_space='dense'"),
        ({"mask_space": "weight", "mask_stage": "update"}, "mask_stage='update'"),
        ({"statistics_decay": 1.0}, "statistics_decay"),
        ({"projection_rank": 4}, "projection_rank"),
        ({"engine": "magic"}, "engine='magic'"),
        ({"domain_weighting": "size"}, "domain_weighting='size'"),
        ({"conflict_normalization": "none"}, "conflict_normalization"),
    ],
)
def test_method_options(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(IsodistillError, match=match):
        build(tmp_path, make_sets(2), **options)


@pytest.mark.parametrize(
    ("peft", "match"),
    [
        (lora(use_dora=True), "use_dora=True"),
        (lora(lora_bias=True), "lora_bias=True"),
        (lora(modules_to_save=["lm_head"]), "modules_to_save"),
    ],
    ids=["dora", "bias", "modules_to_save"],
)
def test_adapters(tmp_path: Path, peft: Any, match: str) -> None:
    with pytest.raises(IsodistillError, match=match):
        build(tmp_path, make_sets(2), peft=peft)


def build(tmp_path: Path, sets: Dataset, peft: Any = None, **options: Any) -> IsomerTrainer:
    args = IsomerConfig(
        output_dir=str(tmp_path), report_to="none", use_cpu=True, **{"gradient_checkpointing": False} | options
    )
    return IsomerTrainer(make_model(), args, sets, processing_class=make_tokenizer(), peft_config=peft or lora())


def test_one_domain_needs_erm(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="only 'math'"):
        build(tmp_path, make_sets(2, ("math",)))
    build(tmp_path, make_sets(2, ("math",)), method="erm")


def test_a_prompt_that_fills_the_length(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="max_length=8"):
        build(tmp_path, make_sets(2), max_length=8)


def test_unknown_evaluation_domain(tmp_path: Path) -> None:
    args = IsomerConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, gradient_checkpointing=False)
    with pytest.raises(IsodistillError, match="'sport'"):
        IsomerTrainer(
            make_model(),
            args,
            make_sets(2),
            make_sets(2, ("law", "sport")),
            processing_class=make_tokenizer(),
            peft_config=lora(),
        )


def rows_without(column: str) -> Dataset:
    row = {"set_id": "s0", "domain": "law", "prompt": "w1", "completion": "w2"}
    del row[column]
    return Dataset.from_list([row])


@pytest.mark.parametrize("column", ["domain", "prompt", "completion"])
def test_missing_column(column: str) -> None:
    rows = rows_without(column)
    with pytest.raises(IsodistillError, match=f"no '{column}' column"):
        member_rows(rows, rows.column_names)


def test_faulty_sets() -> None:
    sets = make_sets(3).to_list()
    sets[1]["members"].pop()
    with pytest.raises(IsodistillError, match="set s1 has no member in domain 'science'"):
        member_rows(sets, ["set_id", "members"])
    sets = make_sets(3).to_list()
    sets[2]["members"][1]["completion"] = "  "
    with pytest.raises(IsodistillError, match="set s2, domain 'math': the completion is empty"):
        member_rows(sets, ["set_id", "members"])
    sets = make_sets(3).to_list()
    sets[0]["members"].append(sets[0]["members"][0])
    with pytest.raises(IsodistillError, match="more than one member in domain 'law'"):
        member_rows(sets, ["set_id", "members"])
    with pytest.raises(IsodistillError, match="empty"):
        member_rows([], ["set_id", "members"])
