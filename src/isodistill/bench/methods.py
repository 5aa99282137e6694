"""The cost of one training step of each method, relative to plain fine-tuning in the same run."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from datasets import Dataset
from pydantic import BaseModel

from isodistill.bench.timing import run_trainer
from isodistill.methods import METHODS


class MethodCost(BaseModel):
    """One method's step time.

    Attributes:
        case: The method, and what distinguishes the case.
        seconds: The step times, one for each timed step.
        median: Their median, in seconds.
        ratio: The median over rounds of (this method's median / ERM's median in the same round).
    """

    case: str
    seconds: list[float]
    median: float
    ratio: float


class CostTable(BaseModel):
    """What `measure_method_costs` found.

    Attributes:
        student: The student's name.
        tokens: Tokens in one step, prompts included.
        domains: K.
        rounds: How often all methods were run.
        steps: Timed steps of a method in a round, after one untimed.
        threads: Torch's threads.
        machine: The processor.
        versions: Library versions.
        costs: One entry for each case, ERM first.
    """

    student: str
    tokens: int
    domains: int
    rounds: int
    steps: int
    threads: int
    machine: str
    versions: dict[str, str]
    costs: list[MethodCost]


def cost_cases() -> dict[str, dict[str, Any]]:
    """Lists what is timed: every registered method at its defaults, and IGA in each space.

    Returns:
        Trainer options by case, ERM first.
    """
    cases: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS if name != "iga"}
    for space in ("factor", "weight", "factored", "tangent", "inputs"):
        cases[f"iga ({space})"] = {"method": "iga", "mask_space": space}
    cases["iga (weight, rank 8)"] = {"method": "iga", "mask_space": "weight", "projection_rank": 8}
    cases["iga (directions, rank 32)"] = {"method": "iga", "mask_space": "directions", "direction_rank": 32}
    # At its switch a penalty costs what it costs ever after; before, some cost nothing.
    for name in ("irm", "vrex"):
        cases[name]["method_options"] = {"anneal_fraction": 0.0}
    return cases


def measure_method_costs(
    student: str, model: Any, tokenizer: Any, rows: Dataset, sets_per_step: int, rounds: int, steps: int,
    progress: Callable[[str], None] = lambda case: None,
) -> CostTable:  # fmt: skip
    """Times training steps of every method on one model, method after method, in several rounds.

    Args:
        student: The student's name, for the record.
        model: The base model; it is the same afterwards.
        tokenizer: Its tokenizer.
        rows: Isomer sets with completions.
        sets_per_step: Sets in one step.
        rounds: Rounds over all methods.
        steps: Timed steps of a method in a round.
        progress: Called with the name of each case before it runs.

    Returns:
        The table; ratios are formed within a round, so that a machine that changes its speed hurts less.
    """
    cases = cost_cases()
    seconds: dict[str, list[list[float]]] = {case: [] for case in cases}
    # The first training of a process is slower than any other, whatever it trains.
    tokens = run_trainer(model, tokenizer, rows, 1, sets=sets_per_step, **cases["erm"]).tokens
    for _ in range(rounds):
        for case, options in cases.items():
            progress(case)
            seconds[case].append(run_trainer(model, tokenizer, rows, steps, sets=sets_per_step, **options).seconds)
    base = [statistics.median(times) for times in seconds["erm"]]
    costs = []
    for case, by_round in seconds.items():
        ratios = [statistics.median(times) / erm for times, erm in zip(by_round, base, strict=True)]
        flat = [value for times in by_round for value in times]
        costs.append(
            MethodCost(case=case, seconds=flat, median=statistics.median(flat), ratio=statistics.median(ratios))
        )
    return CostTable(
        student=student,
        tokens=tokens,
        domains=len(rows[0]["members"]),
        rounds=rounds,
        steps=steps,
        threads=torch.get_num_threads(),
        machine=platform.processor() or platform.machine(),
        versions={name: metadata.version(name) for name in ("isodistill", "torch", "transformers", "trl", "peft")},
        costs=costs,
    )
