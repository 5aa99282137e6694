"""IsomerTrainer against TRL itself, under accumulation, over a resume, and as plain PEFT files."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_student import DOMAINS, lora, make_model, make_sets, make_tokenizer
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from isodistill.errors import IsodistillError
from isodistill.trainer import ALIGNER_FILE, DIAGNOSTICS_FILE, IsomerConfig, IsomerTrainer

COMMON: dict[str, Any] = {
    "max_steps": 10,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "train_sampling_strategy": "sequential",
    "disable_tqdm": True,
    "seed": 3,
}


def train(tmp_path: Path, sets: Dataset | None = None, peft: Any = None, resume: Any = None, **options: Any) -> Any:
    args = IsomerConfig(
        output_dir=str(tmp_path),
        **{**COMMON, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1} | options,
    )
    trainer = IsomerTrainer(
        make_model(),
        args,
        sets if sets is not None else make_sets(24),
        processing_class=make_tokenizer(),
        peft_config=peft or lora(),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def adapter_of(trainer: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def train_with_trl(tmp_path: Path, sets: Dataset) -> dict[str, torch.Tensor]:
    rows = [
        {"prompt": m["prompt"] + "\n", "completion": m["completion"]}
        for row in sets
        for m in sorted(row["members"], key=lambda m: m["domain"])
    ]
    args = SFTConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=2 * len(DOMAINS), completion_only_loss=True, **COMMON
    )
    trainer = SFTTrainer(
        make_model(), args, train_dataset=Dataset.from_list(rows), processing_class=make_tokenizer(), peft_config=lora()
    )
    trainer.train()
    return adapter_of(trainer)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "erm"},
        {"method": "iga", "tau": 0.0, "mask_space": "weight"},
        {"method": "iga", "tau": 0.0, "mask_space": "factor", "mask_stage": "gradient"},
        {"method": "iga", "tau": 0.0, "mask_space": "factor", "mask_stage": "update"},
    ],
    ids=["erm", "weight", "factor", "update"],
)
def test_without_a_mask_the_weights_are_those_of_plain_sft(tmp_path: Path, options: dict[str, Any]) -> None:
    sets = make_sets(24)
    plain = train_with_trl(tmp_path / "trl", sets)
    ours = adapter_of(train(tmp_path / "ours", sets, **options))
    assert difference(plain, ours) <= 1e-5
    fresh = adapter_of(train(tmp_path / "fresh", sets, max_steps=1, learning_rate=0.0, method="erm"))
    assert difference(fresh, plain) > 1e-3  # the runs compared above did learn something


def test_a_mask_changes_the_weights(tmp_path: Path) -> None:
    erm = adapter_of(train(tmp_path / "erm", method="erm"))
    iga = adapter_of(train(tmp_path / "iga", method="iga", tau=1.0, mask_space="weight", projection_rank=4))
    assert difference(erm, iga) > 1e-4


@pytest.mark.parametrize("space", ["factor", "weight"])
def test_splitting_into_micro_batches_changes_nothing(tmp_path: Path, space: str) -> None:
    whole = train(tmp_path / "a", tau=0.5, mask_space=space, optim="tensor_adamw")
    split = train(
        tmp_path / "b",
        tau=0.5,
        mask_space=space,
        optim="tensor_adamw",
        per_device_train_batch_size=1,
        gradient_accumulation_steps=2,
    )
    assert difference(adapter_of(whole), adapter_of(split)) <= 1e-5


def test_a_compiled_student_learns_the_same(tmp_path: Path) -> None:
    # The taps break the graph where they read; a penalty reads the forward pass besides.
    options = {
        "max_steps": 3,
        "optim": "sgd",
        "learning_rate": 0.1,
        "mask_space": "weight",
        "tau": 0.5,
        "penalty": "vrex",
    }
    plain = adapter_of(train(tmp_path / "plain", **options))
    torch.compiler.reset()
    compiled = train(tmp_path / "compiled", **options, torch_compile=True, torch_compile_backend="aot_eager")
    assert difference(plain, adapter_of(compiled)) < 1e-5


@pytest.mark.parametrize("space", ["factor", "weight"])
def test_the_loop_engine_trains_to_the_same_weights(tmp_path: Path, space: str) -> None:
    tap = train(tmp_path / "a", tau=0.5, mask_space=space, max_steps=5)
    loop = train(tmp_path / "b", tau=0.5, mask_space=space, max_steps=5, engine="loop")
    assert difference(adapter_of(tap), adapter_of(loop)) <= 2e-5
    losses = [[row["loss"] for row in run.state.log_history if "loss" in row] for run in (tap, loop)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"mask_space": "factor"},
        {"mask_space": "weight", "projection_rank": 4, "optim": "tensor_adamw"},
        {"mask_space": "directions", "optim": "masked_adamw"},
        {"method": "erm"},
    ],
    ids=["factor", "weight", "directions", "erm"],
)
def test_a_resumed_run_ends_bit_identical(tmp_path: Path, options: dict[str, Any]) -> None:
    options = {
        "tau": 0.5,
        "save_strategy": "steps",
        "save_steps": 4,
        "train_sampling_strategy": "random",
        "warmup_steps": 2,
        **options,
    }
    peft = lora(lora_dropout=0.1)  # the random state must be restored too
    whole = train(tmp_path / "whole", peft=peft, **options)

    class Kill(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                raise KeyboardInterrupt

    args = IsomerConfig(
        output_dir=str(tmp_path / "cut"),
        **{**COMMON, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1} | options,
    )
    cut = IsomerTrainer(
        make_model(), args, make_sets(24), processing_class=make_tokenizer(), peft_config=peft, callbacks=[Kill()]
    )
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed = train(tmp_path / "cut", peft=peft, resume=True, **options)
    assert difference(adapter_of(whole), adapter_of(resumed)) == 0.0
    if options.get("method") != "erm":
        lines = [(tmp_path / run / DIAGNOSTICS_FILE).read_text() for run in ("whole", "cut")]
        assert lines[0] == lines[1]
        assert [json.loads(line)["step"] for line in lines[0].splitlines()] == list(range(1, 11))


def test_resume_refuses_a_checkpoint_of_another_method(tmp_path: Path) -> None:
    train(tmp_path, method="erm", max_steps=2, save_strategy="steps", save_steps=2)
    with pytest.raises(IsodistillError, match=ALIGNER_FILE):
        train(tmp_path, method="iga", max_steps=4, resume=True)


def test_diagnostics_reach_the_log(tmp_path: Path) -> None:
    trainer = train(tmp_path, tau=0.5, mask_space="weight", projection_rank=2, max_steps=2)
    row = next(row for row in trainer.state.log_history if "loss" in row)
    assert 0 < row["mean_mask"] < 1
    assert 0 < row["kept_energy"] < 1
    assert 0 <= row["projection_residual"] < 1
    assert 0 < row["conflict/model.layers.1.mlp.up_proj"] < 1


@pytest.mark.parametrize("bar", [True, False])
def test_the_terminal_is_spared_the_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str], bar: bool) -> None:
    train(tmp_path, tau=0.5, max_steps=2, disable_tqdm=not bar)
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "mean_mask" in shown
    assert "conflict/" not in shown


def test_a_run_that_moves_nothing_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="no adapter weight moved"):
        train(tmp_path, tau=1e6, mask_space="weight", optim="sgd", weight_decay=0.0)


def test_the_adapter_loads_with_plain_peft(tmp_path: Path) -> None:
    trainer = train(tmp_path / "run", max_steps=3, learning_rate=1e-2)
    make_model().save_pretrained(tmp_path / "base")
    trainer.model.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7, 8]])
    trainer.model.eval()
    with torch.no_grad():
        torch.save(trainer.model(input_ids=ids).logits, tmp_path / "logits.pt")
    script = f"""
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained({str(tmp_path / "base")!r})
ids = torch.tensor([[5, 6, 7, 8]])
with torch.no_grad():
    plain = base(input_ids=ids).logits
    model = PeftModel.from_pretrained(base, {str(tmp_path / "adapter")!r}).eval()
    unmerged = model(input_ids=ids).logits
    merged = model.merge_and_unload()(input_ids=ids).logits
expected = torch.load({str(tmp_path / "logits.pt")!r}, weights_only=True)
assert not any(name.startswith("isodistill") for name in sys.modules)
assert (plain - expected).abs().max() > 1e-3, "the adapter does nothing"
assert torch.allclose(unmerged, expected, atol=1e-6)
assert torch.allclose(merged, expected, atol=1e-5)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "adapter").glob("*.bin"))


def test_evaluation_loss_and_gradient_checkpointing(tmp_path: Path) -> None:
    args = IsomerConfig(
        output_dir=str(tmp_path),
        **{**COMMON, "max_steps": 2, "gradient_checkpointing": True, "eval_strategy": "steps", "eval_steps": 1},
        per_device_train_batch_size=2,
        mask_space="weight",
    )
    trainer = IsomerTrainer(
        make_model(), args, make_sets(8), make_sets(4, seed=1), processing_class=make_tokenizer(), peft_config=lora()
    )
    trainer.train()
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len(losses) == 2
    assert all(loss > 0 for loss in losses)
    plain = train(tmp_path / "plain", make_sets(8), max_steps=2, mask_space="weight")
    assert difference(adapter_of(trainer), adapter_of(plain)) <= 1e-6


def test_checkpoints_hold_no_base_weights(tmp_path: Path) -> None:
    train(tmp_path, max_steps=2, save_strategy="steps", save_steps=2)
    checkpoint = tmp_path / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert (checkpoint / ALIGNER_FILE).is_file()
    assert not (checkpoint / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        ({"mask_space": "weight"}, True),
        ({"mask_space": "directions"}, True),
        ({}, True),
        ({"mask_space": "factor", "mask_stage": "gradient"}, True),
        ({"mask_space": "factor"}, False),
        ({"mask_space": "weight", "tau": 0.0}, False),
        ({"mask_space": "weight", "optim": "sgd"}, False),
        ({"method": "erm", "mask_space": "weight"}, False),
        ({"method": "fishr"}, False),
    ],
)
def test_the_optimizer_follows_the_method(tmp_path: Path, options: dict[str, Any], masked: bool) -> None:
    config = IsomerConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, **options)
    plain = SFTConfig(output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False).optim
    expected = "masked_adamw" if masked else options.get("optim", plain)
    assert str(getattr(config.optim, "value", config.optim)) == getattr(expected, "value", expected)


def test_adam_on_a_masked_gradient_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="masked_adamw"):
        train(tmp_path / "a", tau=0.5, mask_space="weight", optim="adamw_torch", max_steps=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*masked_adamw.*")
        for number, options in enumerate(({}, {"optim": "tensor_adamw"}, {"tau": 0.0}, {"method": "erm"})):
            train(tmp_path / str(number), **({"tau": 0.5, "mask_space": "weight", "max_steps": 1} | options))
        train(tmp_path / "factor", tau=0.5, mask_space="factor", optim="adamw_torch", max_steps=1)
