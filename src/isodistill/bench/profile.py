"""Where one step's time goes, by torch's own profiler."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PrinterCallback, TrainerCallback

from isodistill.bench.timing import BenchTable, lora, this_machine
from isodistill.bench.workload import Workload
from isodistill.trainer import IsomerConfig, IsomerTrainer


def bench_profile(model: Any, tokenizer: Any, workload: Workload, domains: int = 4, **options: Any) -> BenchTable:
    """Profiles the third step of a short training.

    Args:
        model: The base model; it is the same afterwards.
        tokenizer: Its tokenizer.
        workload: The batch.
        domains: K.
        **options: Trainer options.

    Returns:
        The table; its figures are the shares of the ten costliest operators.
    """
    watch = _Watch()
    with tempfile.TemporaryDirectory() as folder:
        config = IsomerConfig(
            output_dir=folder,
            max_steps=3,
            per_device_train_batch_size=len(workload.sequences) // domains,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            gradient_checkpointing=False,
            **options,
        )
        rows = workload.sets(domains)
        trainer = IsomerTrainer(model, config, rows, processing_class=tokenizer, peft_config=lora(), callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.aligner.close()
        adapted: Any = trainer.model
        adapted.unload()
    events = sorted(watch.events, key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    top = {event.key: event.self_cpu_time_total / total for event in events[:10]}
    return BenchTable(
        benchmark="profile",
        settings={"tokens": workload.tokens, "domains": domains} | options,
        machine=this_machine(),
        figures={"profiled seconds": total / 1e6} | top,
    )


class _Watch(TrainerCallback):
    """Profiles the third step."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._profile: profile | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts at the third step."""
        if state.global_step == 2:
            activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
            self._profile = profile(activities=activities)
            self._profile.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stops after it."""
        if self._profile is not None:
            self._profile.__exit__(None, None, None)
            self.events = list(self._profile.key_averages())
            self._profile = None
