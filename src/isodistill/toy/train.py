"""One training run of one method on the toy problem."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from isodistill.aligner import GradientAligner
from isodistill.methods import Forward, RunInfo
from isodistill.optim import TensorAdamW
from isodistill.toy.problem import Sets, ToyProblem, Variant, difference_weight, token_batch, toy_student

TRAIN_SETS = 512
VALIDATION_SETS = 2000
TEST_SETS = 2000
SETS_PER_STEP = 32


class Trial(BaseModel):
    """One choice of everything that may be tuned.

    Attributes:
        learning_rate: The optimizer's, constant.
        optimizer: ``adamw`` or ``tensor_adamw``.
        options: The method's arguments; what is not named keeps its default.
    """

    learning_rate: float = 0.05
    optimizer: str = "adamw"
    options: dict[str, Any] = {}


class ToyResult(BaseModel):
    """What one run learnt; numbers are rounded to four digits.

    Attributes:
        seed: The seed of data, start and order.
        cue_weight: See `ToyProblem.cue_weight`.
        validation: Accuracy on fresh sets of each training domain, K numbers.
        random_cue: Accuracy where the cue says nothing, over all domains.
        reversed_cue: Accuracy where the cue always contradicts the label, over all domains.
        weight: The learnt weight of the logits' difference in the problem's unrotated features, (d,).
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    seed: int
    cue_weight: float
    validation: list[float]
    random_cue: float
    reversed_cue: float
    weight: list[float]


def train_toy(
    variant: Variant,
    method: str,
    trial: Trial,
    seed: int,
    steps: int = 100,
    shuffle_domains: bool = False,
) -> ToyResult:
    """Trains and measures one student.

    Args:
        variant: See `ToyProblem`.
        method: A name in `isodistill.methods.METHODS`.
        trial: The hyperparameters.
        seed: Equal seeds give the same sets, start and order to every method, and equal results.
        steps: Optimizer steps.
        shuffle_domains: The control: each set's domain labels are permuted at random, once.

    Returns:
        The result.

    Raises:
        IsodistillError: if the variant, the method or an option is wrong.
    """
    problem = ToyProblem(variant, seed)
    train = problem.draw(TRAIN_SETS)
    validation = problem.draw(VALIDATION_SETS)
    random_cue = problem.draw(TEST_SETS, torch.full_like(problem.rates, 0.5))
    reversed_cue = problem.draw(TEST_SETS, torch.zeros_like(problem.rates))
    student = toy_student(problem.features, seed)
    run = RunInfo(num_domains=problem.domains, total_steps=steps, seed=seed)
    aligner = GradientAligner(student, method, run=run, **trial.options)
    parameters = [p for p in student.parameters() if p.requires_grad]
    kind = TensorAdamW if trial.optimizer == "tensor_adamw" else torch.optim.AdamW
    optimizer = kind(parameters, lr=trial.learning_rate, weight_decay=0.0)
    aligner.attach_optimizer(optimizer)
    order = torch.Generator().manual_seed(seed)
    labels = torch.arange(problem.domains).repeat(TRAIN_SETS, 1)
    if shuffle_domains:
        labels = torch.stack([row[torch.randperm(problem.domains, generator=order)] for row in labels])
    for _ in range(steps):
        chosen = torch.randperm(TRAIN_SETS, generator=order)[:SETS_PER_STEP]
        _step(student, aligner, Sets(train.values[chosen], train.labels[chosen]), labels[chosen].flatten())
        optimizer.step()
        optimizer.zero_grad()
    aligner.close()
    weight = difference_weight(student)
    return ToyResult(
        seed=seed,
        cue_weight=round(problem.cue_weight(weight), 4),
        validation=_rounded(_accuracy(weight, validation)),
        random_cue=round(float(_accuracy(weight, random_cue).mean()), 4),
        reversed_cue=round(float(_accuracy(weight, reversed_cue).mean()), 4),
        weight=_rounded(problem.rotation @ weight),
    )


def _step(student: nn.Module, aligner: GradientAligner, sets: Sets, domain_ids: torch.Tensor) -> None:
    values, inputs = token_batch(sets)
    inputs = aligner.augment(inputs)
    set_ids = torch.arange(len(sets.labels)).repeat_interleave(sets.values.shape[1])
    with aligner.record(domain_ids):
        if not aligner.replays:
            logits, hidden = student(values, inputs["attention_mask"])
            forward = Forward.from_logits(logits, inputs["labels"], domain_ids, set_ids, hidden=hidden)
            aligner.objective(forward).backward()

    def closure(domain: int) -> None:
        own = domain_ids == domain
        logits, _ = student(values[own], inputs["attention_mask"][own])
        Forward.from_logits(logits, inputs["labels"][own], domain_ids[own]).log_probs.mean().neg().backward()

    aligner.step(closure)


def _accuracy(weight: torch.Tensor, sets: Sets) -> torch.Tensor:
    right = ((sets.values @ weight > 0) == sets.labels.bool().unsqueeze(1)).double()
    return right.mean(0)  # (K,)


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
