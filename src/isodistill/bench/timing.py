"""Clocks: interleaved rounds, medians and ratios, with what is needed to judge them."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import LoraConfig
from pydantic import BaseModel, Field
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from isodistill.trainer import IsomerConfig, IsomerTrainer

Progress = Callable[[str], None]
"""Told the name of each case before it runs."""


class Timing(BaseModel):
    """One case.

    Attributes:
        case: What was timed.
        seconds: The times, round by round, in seconds.
        median: Their median over all rounds.
        ratio: The median over rounds of (this case's median / the reference's median in the same round).
        ratio_low: The smallest of those ratios.
        ratio_high: The largest.
    """

    case: str
    seconds: list[list[float]]
    median: float
    ratio: float
    ratio_low: float
    ratio_high: float


class Machine(BaseModel):
    """Where it ran.

    Attributes:
        processor: The processor's name.
        cores: Cores that this process may use.
        threads: Torch's threads.
        device: The device of the tensors.
        versions: Versions of the libraries.
    """

    processor: str
    cores: int
    threads: int
    device: str = "cpu"
    versions: dict[str, str]


class BenchTable(BaseModel):
    """What one benchmark found.

    Attributes:
        benchmark: Its name.
        settings: What was timed: student, tokens, domains, ranks.
        machine: Where.
        reference: The case that ratios are relative to.
        timings: One entry for each case.
        figures: Other numbers by name.
    """

    benchmark: str
    settings: dict[str, Any]
    machine: Machine
    reference: str = ""
    timings: list[Timing] = Field(default_factory=list)
    figures: dict[str, float] = Field(default_factory=dict)


def this_machine() -> Machine:
    """Describes the machine."""
    packages = ("isodistill", "torch", "transformers", "trl", "peft", "torchjd")
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        processor=_processor(), cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        threads=torch.get_num_threads(), versions=versions,
    )  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def interleave(
    cases: Mapping[str, Callable[[], list[float]]], reference: str, rounds: int, progress: Progress = lambda case: None
) -> list[Timing]:
    """Runs every case once a round and forms ratios within each round.

    A first round is not counted: it pays for page faults, caches and the processor's changing clock.

    Args:
        cases: Functions that return the times of a few repetitions, in seconds.
        reference: The case that ratios are relative to.
        rounds: Counted rounds.
        progress: Told each case before it runs.

    Returns:
        One timing for each case, in order.
    """
    times: dict[str, list[list[float]]] = {case: [] for case in cases}
    for number in range(rounds + 1):
        for case, run in cases.items():
            progress(f"round {number} of {rounds}: {case}")
            found = run()
            if number:
                times[case].append(found)
    base = [statistics.median(each) for each in times[reference]]
    timings = []
    for case, by_round in times.items():
        ratios = [statistics.median(each) / against for each, against in zip(by_round, base, strict=True)]
        timings.append(
            Timing(
                case=case,
                seconds=by_round,
                median=statistics.median(value for each in by_round for value in each),
                ratio=statistics.median(ratios),
                ratio_low=min(ratios),
                ratio_high=max(ratios),
            )
        )
    return timings


def ratio_of(first: Timing, second: Timing) -> float:
    """Compares two cases of one run round by round, as `interleave` does with the reference.

    Args:
        first: A case.
        second: Another one.

    Returns:
        The median over the rounds of the first's time by the second's.
    """
    rounds = zip(first.seconds, second.seconds, strict=True)
    return statistics.median(statistics.median(ours) / statistics.median(theirs) for ours, theirs in rounds)


def repeat(run: Callable[[], object], times: int) -> list[float]:
    """Times a function again and again.

    Args:
        run: The function.
        times: How often.

    Returns:
        The time of each call, in seconds.
    """
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return seconds


class StepClock(TrainerCallback):
    """Notes the time of each optimizer step of a Trainer, data loading included, and how much of it is no pass.

    Attributes:
        seconds: The time of each step.
        outside: The part of it that is neither the loss (the model's forward pass and what is made of its logits) nor
            the backward pass.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.outside: list[float] = []
        self._start = 0.0
        self._inside = 0.0

    def watch(self, trainer: Any) -> None:
        """Times the trainer's loss and backward pass.

        Args:
            trainer: A transformers `Trainer`, before it trains.
        """
        trainer.compute_loss = self._timed(trainer.compute_loss)
        trainer.accelerator.backward = self._timed(trainer.accelerator.backward)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)  # the Trainer reads the signature of some of its own methods
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside += time.perf_counter() - started

        return timed

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the clock."""
        self._start, self._inside = time.perf_counter(), 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops it."""
        self.seconds.append(time.perf_counter() - self._start)
        self.outside.append(self.seconds[-1] - self._inside)


class Run(NamedTuple):
    """A few timed steps of a trainer.

    Attributes:
        seconds: The time of each.
        outside: The part of it outside of loss and backward pass.
        tokens: The tokens of a step.
    """

    seconds: list[float]
    outside: list[float]
    tokens: int


def lora(rank: int = 8) -> LoraConfig:
    """The adapter of every case: all linear maps.

    Args:
        rank: r.

    Returns:
        PEFT's configuration.
    """
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def run_trainer(
    model: Any,
    tokenizer: Any,
    rows: Dataset,
    steps: int,
    rank: int = 8,
    plain: bool = False,
    sets: int | None = None,
    inspect: Callable[[], None] = lambda: None,
    **options: Any,
) -> Run:
    """Trains a few steps and times them; the first step is not counted.

    Args:
        model: The base model; it is the same afterwards.
        tokenizer: Its tokenizer.
        rows: Isomer sets; for TRL's own trainer, prompts and completions.
        steps: Counted steps.
        rank: LoRA's rank.
        plain: Whether TRL's `SFTTrainer` trains, and not ours.
        sets: Rows in a step; by default all of them.
        inspect: Called when the last step is over and nothing is taken down yet.
        **options: Trainer options.

    Returns:
        The times, and the tokens of a step.
    """
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "max_steps": steps + 1,
            "per_device_train_batch_size": len(rows) if sets is None else sets,
            "learning_rate": 1e-4,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "logging_strategy": "no",
            "gradient_checkpointing": False,
            "train_sampling_strategy": "sequential",
        }
        trainer: Any
        if plain:
            config = SFTConfig(**common, completion_only_loss=True, bf16=False)
            trainer = SFTTrainer(
                model, config, train_dataset=rows, processing_class=tokenizer, peft_config=lora(rank), callbacks=[clock]
            )
        else:
            trainer = IsomerTrainer(
                model,
                IsomerConfig(**common, **options),
                rows,
                processing_class=tokenizer,
                peft_config=lora(rank),
                callbacks=[clock],
            )
        trainer.remove_callback(PrinterCallback)
        clock.watch(trainer)
        trainer.train()
        inspect()
        if not plain:
            trainer.aligner.close()
        trainer.model.unload()
        tokens = int(trainer._total_train_tokens) // (steps + 1)
        return Run(clock.seconds[1:], clock.outside[1:], tokens)
