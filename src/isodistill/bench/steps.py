"""The step benchmarks: methods against TRL's own trainer, the one-pass tap against other ways to K gradients."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import nn

from isodistill import GradientAligner
from isodistill.bench.timing import BenchTable, Progress, interleave, lora, ratio_of, repeat, run_trainer, this_machine
from isodistill.bench.workload import Workload
from isodistill.gradients import conflict_mask, domain_moments, find_adapted_layers
from isodistill.gradients.projection import exact_truncated_svd, pull_back
from isodistill.prompting import render_prompt

TRL = "erm (TRL's SFTTrainer)"
"""The reference: plain LoRA training as anybody has it."""

_METHODS = ("pcgrad", "mgda", "groupdro", "vrex", "and_mask")


def step_cases() -> dict[str, dict[str, Any]]:
    """Lists the trainer options of each case of the step benchmark, the reference left out.

    Returns:
        Options by case.
    """
    cases: dict[str, dict[str, Any]] = {"erm": {"method": "erm"}}
    for space in ("factor", "factored", "weight"):
        cases[f"iga ({space})"] = {"method": "iga", "mask_space": space}
    cases["iga (weight, rank 8)"] = {"method": "iga", "mask_space": "weight", "projection_rank": 8}
    cases["iga (directions, rank 32)"] = {"method": "iga", "mask_space": "directions", "direction_rank": 32}
    cases |= {name: {"method": name} for name in _METHODS}
    cases["vrex"]["method_options"] = {"anneal_fraction": 0.0}
    return cases


def bench_step(
    model: Any,
    tokenizer: Any,
    workload: Workload,
    domains: int = 4,
    rounds: int = 3,
    steps: int = 2,
    rank: int = 8,
    progress: Progress = lambda case: None,
) -> BenchTable:
    """Times one optimizer step of each case, relative to TRL's own trainer on the same texts.

    Args:
        model: The base model; it is the same afterwards.
        tokenizer: Its tokenizer.
        workload: The batch.
        domains: K.
        rounds: Counted rounds over all cases.
        steps: Counted steps of a case in a round.
        rank: LoRA's rank.
        progress: Told each case before it runs.

    Returns:
        The table; its figures are the shares of a step outside of the loss and the backward pass.
    """
    sets, flat = workload.sets(domains), workload.flat(tokenizer)
    seen: dict[str, int] = {}
    outside: dict[str, list[float]] = {}

    def case(name: str, plain: bool, options: dict[str, Any]) -> list[float]:
        run = run_trainer(model, tokenizer, flat if plain else sets, steps, rank, plain, **options)
        seen[name] = run.tokens
        outside.setdefault(name, []).extend(each / all_ for each, all_ in zip(run.outside, run.seconds, strict=True))
        return run.seconds

    cases: dict[str, Callable[[], list[float]]] = {TRL: partial(case, TRL, True, {})}
    cases |= {name: partial(case, name, False, options) for name, options in step_cases().items()}
    timings = interleave(cases, TRL, rounds, progress)
    return BenchTable(
        benchmark="step",
        settings={"tokens": seen["erm"], "tokens of TRL": seen[TRL], "sequences": len(flat), "domains": domains}
        | {"rank": rank, "rounds": rounds, "steps": steps, "layers": "all linear"},
        machine=this_machine(),
        reference=TRL,
        timings=timings,
        figures={f"outside of loss and backward, {name}": statistics.median(each) for name, each in outside.items()},
    )


def bench_scaling(
    model: Any,
    tokenizer: Any,
    workload: Workload,
    counts: tuple[int, ...] = (2, 4, 8, 16),
    spaces: tuple[str, ...] = ("factor", "weight"),
    rounds: int = 3,
    steps: int = 2,
    progress: Progress = lambda case: None,
) -> BenchTable:
    """Times a step of each space under more and more domains, on the same texts.

    Args:
        model: The base model; it is the same afterwards.
        tokenizer: Its tokenizer.
        workload: The batch; every count divides its number of sequences.
        counts: Numbers of domains K; 2 is the reference. One domain has nothing to be compared with: plain training
            stands in its place.
        spaces: Mask spaces of IGA.
        rounds: Counted rounds.
        steps: Counted steps of a case in a round.
        progress: Told each case before it runs.

    Returns:
        The table, each space relative to itself at K = 2.
    """
    timings = []

    def plain() -> list[float]:
        return run_trainer(model, tokenizer, workload.sets(2), steps, method="erm").seconds

    for space in spaces:

        def case(count: int, space: str = space) -> list[float]:
            return run_trainer(model, tokenizer, workload.sets(count), steps, method="iga", mask_space=space).seconds

        cases: dict[str, Callable[[], list[float]]] = {f"erm, beside iga ({space})": plain}
        cases |= {f"iga ({space}), K = {count}": partial(case, count) for count in counts}
        timings += interleave(cases, f"iga ({space}), K = 2", rounds, progress)
    return BenchTable(
        benchmark="scaling",
        settings={"tokens": workload.tokens, "sequences": len(workload.sequences), "rounds": rounds, "steps": steps},
        machine=this_machine(),
        reference="the same space at K = 2",
        timings=timings,
    )


def bench_ways(
    model: Any,
    tokenizer: Any,
    workload: Workload,
    domains: int = 4,
    rounds: int = 3,
    steps: int = 2,
    rank: int = 8,
    progress: Progress = lambda case: None,
) -> BenchTable:
    """Times forward, backward and alignment in a bare loop: ours, the naive way, and TorchJD's `jac`.

    The naive way takes K backward passes with gradients of the dense weights, holds all K of them, and decomposes each
    masked matrix by `torch.linalg.svd`. `jac` gives the K factor gradients that the tap gives.

    Args:
        model: The base model; it is the same afterwards.
        tokenizer: Its tokenizer.
        workload: The batch.
        domains: K.
        rounds: Counted rounds.
        steps: Counted repetitions in a round.
        rank: LoRA's rank, and that of the projection.
        progress: Told each case before it runs.

    Returns:
        The table, relative to ours in weight space.
    """
    batch = _encode(tokenizer, workload, domains)
    adapted: Any = get_peft_model(model, lora(rank)).train()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero at the start, where the gradient of A would vanish
            nn.init.normal_(parameter, std=0.02)
    ours = "iga (weight, projected), one pass"
    # As in a training: an aligner lasts, its buffers and the projection's subspaces with it.
    plain: dict[str, Any] = {"mask_stage": "gradient", "statistics_decay": 0.0}
    dense = GradientAligner(adapted, mask_space="weight", projection_rank=rank, **plain)
    factors = GradientAligner(adapted, mask_space="factor", **plain)
    cases: dict[str, Callable[[], None]] = {
        ours: partial(_one_pass, adapted, batch, dense),
        "naive: K passes, dense gradients, full SVD": partial(_naive, adapted, batch, domains, rank),
        "K factor gradients by the tap": partial(_one_pass, adapted, batch, factors),
        "K factor gradients by TorchJD's jac": partial(_jac, adapted, batch, domains),
    }

    timings = interleave({name: partial(repeat, run, steps) for name, run in cases.items()}, ours, rounds, progress)
    dense.close()
    factors.close()
    adapted.unload()
    return BenchTable(
        benchmark="ways",
        settings={"tokens": workload.tokens, "domains": domains, "rank": rank, "rounds": rounds, "steps": steps},
        machine=this_machine(),
        reference=ours,
        timings=timings,
        figures={
            "naive / ours": ratio_of(timings[1], timings[0]),
            "jac / tap": ratio_of(timings[3], timings[2]),
        },
    )


def _encode(tokenizer: Any, workload: Workload, domains: int) -> dict[str, torch.Tensor]:
    """Right-padded ids, mask and labels (S, T) on the completions, and the domain of each sequence (S,)."""
    rows = []
    for prompt, completion in workload.sequences:
        asked = tokenizer(render_prompt(tokenizer, prompt, None), add_special_tokens=False)["input_ids"]
        told = tokenizer(completion, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        rows.append((asked, told))
    length = max(len(asked) + len(told) for asked, told in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for place, (asked, told) in enumerate(rows):
        end = len(asked) + len(told)
        ids[place, :end] = torch.tensor(asked + told)
        mask[place, :end] = 1
        labels[place, len(asked) : end] = torch.tensor(told)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "domain_ids": torch.arange(len(rows)) % domains,
    }


def _losses(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Each sequence's summed loss, (S,); the head sees the labelled positions only, in every case."""
    states = model.base_model.model.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state[:, :-1]
    targets = batch["labels"][:, 1:]
    wanted = targets != -100
    logits = model.base_model.model.lm_head(states[wanted])
    flat = F.cross_entropy(logits, targets[wanted], reduction="none")
    owner = wanted.nonzero()[:, 0]
    return torch.zeros(len(targets)).index_add(0, owner, flat)


def _one_pass(model: Any, batch: dict[str, torch.Tensor], aligner: GradientAligner) -> None:
    items = (batch["labels"][:, 1:] != -100).sum(1)
    with aligner.record(batch["domain_ids"], items, tokens=batch["attention_mask"]):
        (_losses(model, batch).sum() / items.sum()).backward()
    aligner.step()
    model.zero_grad()


def _naive(model: Any, batch: dict[str, torch.Tensor], domains: int, rank: int) -> None:
    layers = find_adapted_layers(model)
    bases = [layer.module.get_base_layer().weight for layer in layers]
    factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in factors:
        parameter.requires_grad_(False)
    for weight in bases:
        weight.requires_grad_(True)
    gradients: list[list[torch.Tensor]] = []
    for domain in range(domains):
        rows = batch["domain_ids"] == domain
        part = {name: value[rows] for name, value in batch.items()}
        loss = _losses(model, part).sum() / (part["labels"][:, 1:] != -100).sum()
        gradients.append(list(torch.autograd.grad(loss, bases)))
    for weight in bases:
        weight.requires_grad_(False)
    for parameter in factors:
        parameter.requires_grad_(True)
    weights = [1.0 / domains] * domains
    for place, layer in enumerate(layers):
        moments = domain_moments([each[place] for each in gradients], weights)
        masked = conflict_mask(moments.mean, moments.variance, 3.0) * moments.mean
        grad_a, grad_b = pull_back(exact_truncated_svd(masked, rank), layer.A.detach(), layer.B.detach(), layer.scaling)
        layer.A.grad, layer.B.grad = grad_a, grad_b
    model.zero_grad()


def _jac(model: Any, batch: dict[str, torch.Tensor], domains: int) -> None:
    from torchjd.autojac import jac

    losses = _losses(model, batch)
    items = (batch["labels"][:, 1:] != -100).sum(1)
    member = F.one_hot(batch["domain_ids"], domains).to(losses.dtype)
    means = (member.T @ losses) / (member.T @ items.to(losses.dtype))  # (K,)
    jac(means, [parameter for parameter in model.parameters() if parameter.requires_grad])
