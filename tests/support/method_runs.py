"""Short training runs of one method after another; as a script, on as many processes as the launcher starts."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from tiny_student import lora, make_model, make_sets, make_tokenizer

from isodistill.methods import METHODS
from isodistill.trainer import IsomerConfig, IsomerTrainer

CASES: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS if name not in ("iga", "koyama")} | {
    "iga_factor": {"method": "iga", "tau": 0.5, "mask_space": "factor"},
    "iga_weight": {"method": "iga", "tau": 0.5, "mask_space": "weight"},
    "iga_factored": {"method": "iga", "tau": 0.5, "mask_space": "factored"},
    "iga_tangent": {"method": "iga", "tau": 0.5, "mask_space": "tangent"},
    "iga_inputs": {"method": "iga", "tau": 0.5, "mask_space": "inputs"},
    "iga_directions": {"method": "iga", "tau": 0.5, "mask_space": "directions"},
    "iga_subspace": {"method": "iga", "tau": 0.5, "mask_space": "directions", "direction_rank": 8},
    "iga_split": {"method": "iga", "tau": 0.5, "mask_space": "directions", "conflict_estimator": "split"},
    # DomainBed's weight of 1000 lets SGD diverge on this model.
    "koyama": {"method": "koyama", "method_options": {"penalty_weight": 0.5}},
    "iga_with_consistency": {"method": "iga", "tau": 0.5, "mask_space": "factor", "penalty": "consistency"},
    "pcgrad_with_vrex": {"method": "pcgrad", "penalty": "vrex"},
}
"""Every method, and two combinations with a penalty."""


def method_of(case: str) -> type[Any]:
    return METHODS[CASES[case]["method"]]


DISTILLED: dict[str, Any] = {"distillation": "jsd", "distillation_weight": 0.6, "distillation_top_k": 12}
"""Distillation from `make_teacher`, over a part of the vocabulary."""


def make_teacher() -> Any:
    """A teacher of the student's own shape that says something else, and clearly."""
    teacher = make_model()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if "proj" in name:  # what an adapter can reach
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return teacher


def run_case(
    folder: Path,
    case: str,
    sets: Dataset | None = None,
    peft: Any = None,
    resume: Any = None,
    teacher: Any = None,
    **more: Any,
):
    options: dict[str, Any] = {
        "max_steps": 2,
        "learning_rate": 0.05,
        "optim": "sgd",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "disable_tqdm": True,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "seed": 3,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
    }
    args = IsomerConfig(output_dir=str(folder), **(options | CASES[case] | more))
    trainer = IsomerTrainer(
        make_model(),
        args,
        sets if sets is not None else make_sets(16),
        processing_class=make_tokenizer(),
        peft_config=peft or lora(),
        teacher_model=teacher,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def adapter_of(trainer: Any) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("module."): p.detach().clone()
        for name, p in trainer.model.named_parameters()
        if p.requires_grad
    }


def taught(case: str) -> tuple[str, dict[str, Any]]:
    """A case, and what "+taught" behind it stands for: a step on the student's own completions, one on the traces."""
    name, plus, _ = case.partition("+")
    return name, DISTILLED | {"teacher": make_teacher(), "on_policy_fraction": 0.55} if plus else {}


def main(folder: Path, cases: list[str]) -> None:
    gc.freeze()  # as in conftest.py
    for case in cases:
        name, more = taught(case)
        trainer = run_case(folder / case, name, per_device_train_batch_size=2, ddp_backend="gloo", **more)
        if trainer.is_world_process_zero():
            save_file(adapter_of(trainer), folder / f"{case}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","))
