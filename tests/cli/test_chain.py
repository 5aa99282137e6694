"""The whole chain through the command line, on a tiny student; and ten mistakes, each told in one sentence."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, load_dataset
from peft import LoraConfig, get_peft_model
from tiny_student import lora
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.cli.main import run
from isodistill.runs import RUN_FILE

TRAIN_FLAGS = ("--max_steps", "3", "--per_device_train_batch_size", "2", "--report_to", "none", "--use_cpu", "true")


def isodistill(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["isodistill", *map(str, arguments)])
    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def make_student(folder: Path, texts: list[str]) -> Path:
    words = sorted({word for text in texts for word, _ in Whitespace().pre_tokenize_str(text)})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated and distilled sets, and a student whose vocabulary covers them."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        sizes = ("--sets", "12", "--validation-sets", "2", "--test-sets", "4", "--depth", "1-2", "--cue-rate", "0.9")
        assert isodistill(patch, "generate", *sizes, "--out", folder / "data") == 0
        assert isodistill(patch, "distill", folder / "data", "--teacher", "symbolic", "--out", folder / "traces") == 0
    rows = [row for split in load_dataset(str(folder / "traces")).values() for row in split]
    make_student(folder / "student", [m["prompt"] + " " + m["completion"] for row in rows for m in row["members"]])
    return folder


def test_chain(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "iga.yaml"
    options = {"data": str(workspace / "traces"), "student": str(workspace / "student"), "method": "iga", "tau": 3.0}
    config.write_text(yaml.safe_dump({**options, "output_dir": str(tmp_path / "iga"), "logging_steps": 1}))
    assert isodistill(monkeypatch, "train", config, "--tau", "0.5", "--optim", "tensor_adamw", *TRAIN_FLAGS) == 0
    record = json.loads((tmp_path / "iga" / RUN_FILE).read_text())
    assert record["settings"]["tau"] == 0.5  # the flag won over the file
    assert record["domains"] == ["law", "math", "medicine", "science"]
    assert record["tokens"] > 0
    assert record["settings"]["optim"] == "tensor_adamw"
    erm = ("--data", workspace / "traces", "--student", workspace / "student", "--output_dir", tmp_path / "erm")
    assert isodistill(monkeypatch, "train", "--method", "erm", *erm, *TRAIN_FLAGS) == 0
    for run_name in ("iga", "erm"):
        arguments = ("--adapter", tmp_path / run_name, "--data", workspace / "data", "--max-new-tokens", "8")
        assert isodistill(monkeypatch, "evaluate", *arguments, "--bootstrap-samples", "100") == 0
    evaluation = json.loads((tmp_path / "iga" / "evaluation.json").read_text())
    assert set(evaluation["splits"]) >= {"iid", "cue_absent", "cue_reversed", "unseen_domain", "deeper"}
    page = tmp_path / "report.html"
    assert isodistill(monkeypatch, "report", tmp_path / "erm", tmp_path / "iga", "--out", page) == 0
    assert "<html" in page.read_text()


def without_column(source: Path, out: Path) -> Path:
    rows = Dataset.from_parquet(str(source / "data" / "train.parquet"))
    flat = [
        {"set_id": row["set_id"], "prompt": m["prompt"], "completion": m["completion"]}
        for row in rows
        for m in row["members"]
    ]
    (out / "data").mkdir(parents=True)
    Dataset.from_list(flat).to_parquet(out / "data" / "train.parquet")
    return out


def without_member(source: Path, out: Path) -> Path:
    rows = Dataset.from_parquet(str(source / "data" / "train.parquet")).to_list()
    rows[3]["members"] = rows[3]["members"][:-1]
    (out / "data").mkdir(parents=True)
    Dataset.from_list(rows).to_parquet(out / "data" / "train.parquet")
    return out


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("unknown domain", "alchemy"),
        ("unknown family", "sudoku"),
        ("one domain with iga", "only 'math'"),
        ("no domain column", "'domain' column"),
        ("missing member", "has no member in domain"),
        ("empty completion", "completion is empty"),
        ("missing adapter", "adapter_config.json is missing"),
        ("packing", "packing=True"),
        ("dora", "use_dora=True"),
        ("unwritable", "writ"),
        ("unwritable training", "cannot be written"),
        ("unknown option", "learning_speed"),
        ("unknown split", "no split 'testing'"),
        ("unknown student", "is not known"),
    ],
)
def test_mistakes(
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mistake: str,
    words: str,
) -> None:
    out = tmp_path / "out"
    train = ("train", "--student", workspace / "student", "--output_dir", out, *TRAIN_FLAGS)
    traces = workspace / "traces"
    small = ("--sets", "4", "--validation-sets", "0", "--test-sets", "0")
    if mistake == "unknown domain":
        arguments: tuple[str | Path, ...] = ("generate", "--domains", "math,alchemy", "--out", out)
    elif mistake == "unknown family":
        arguments = ("generate", "--family", "sudoku", "--out", out)
    elif mistake == "one domain with iga":
        alone, told = tmp_path / "alone", tmp_path / "told"
        isodistill(monkeypatch, "generate", "--domains", "math", "--unseen-domains", "", *small, "--out", alone)
        isodistill(monkeypatch, "distill", alone, "--out", told)
        arguments = (*train, "--data", told)
    elif mistake == "no domain column":
        arguments = (*train, "--data", without_column(traces, tmp_path / "bad"))
    elif mistake == "missing member":
        arguments = (*train, "--data", without_member(traces, tmp_path / "bad"))
    elif mistake == "empty completion":
        arguments = (*train, "--data", workspace / "data")
    elif mistake == "missing adapter":
        student = ("--student", workspace / "student")
        arguments = ("evaluate", *student, "--adapter", tmp_path / "none", "--data", traces, "--out", out)
    elif mistake == "packing":
        arguments = (*train, "--data", traces, "--packing", "true")
    elif mistake == "dora":
        model = LlamaForCausalLM.from_pretrained(workspace / "student")
        dora: LoraConfig = lora(use_dora=True)
        get_peft_model(model, dora).save_pretrained(tmp_path / "dora")
        arguments = (*train, "--data", traces, "--adapter", tmp_path / "dora")
    elif mistake == "unwritable":
        (tmp_path / "file").touch()
        arguments = ("generate", *small, "--out", tmp_path / "file" / "out")
    elif mistake == "unwritable training":
        (tmp_path / "file").touch()
        arguments = (*train[:3], "--data", traces, "--output_dir", tmp_path / "file" / "out", *TRAIN_FLAGS)
    elif mistake == "unknown option":
        config = tmp_path / "config.yaml"
        config.write_text("learning_speed: 3\n")
        arguments = ("train", config, "--data", traces, "--output_dir", out)
    elif mistake == "unknown split":
        student = ("--student", workspace / "student")
        arguments = ("evaluate", *student, "--data", traces, "--split", "testing", "--out", out)
    else:
        arguments = ("evaluate", "--student", "gpt-9", "--data", traces, "--out", out)
    capsys.readouterr()
    assert isodistill(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("isodistill: error:")]
    assert len(lines) == 1, error
    assert words in lines[0]
    assert "Traceback" not in error
    leftovers = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert leftovers == [], leftovers


def test_a_second_generate_leaves_the_first_alone(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(workspace / "data", data)
    before = sorted(path.name for path in data.rglob("*"))
    assert isodistill(monkeypatch, "generate", "--sets", "2", "--out", data) == 2
    assert sorted(path.name for path in data.rglob("*")) == before
