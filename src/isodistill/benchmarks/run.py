"""Benchmarks are evaluated one after another, and each joins the run's evaluation under a name of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from isodistill.benchmarks.base import Benchmark
from isodistill.evaluation.evaluate import check_items, evaluate_items
from isodistill.evaluation.generation import Progress
from isodistill.evaluation.items import limited
from isodistill.evaluation.results import BenchmarkRecord, Evaluation, EvaluationConfig, ItemRecord, SplitResult


def check_ways(benchmarks: Sequence[Benchmark], config: EvaluationConfig) -> None:
    """Refuses what cannot be evaluated as asked, before a student is loaded.

    Args:
        benchmarks: The benchmarks.
        config: How they will be evaluated.

    Raises:
        IsodistillError: If only likelihoods are wanted, and a benchmark has problems without choices.
    """
    for benchmark in benchmarks:
        check_items(benchmark.items, config)


def add_benchmark(
    evaluation: Evaluation,
    model: Any,
    tokenizer: Any,
    benchmark: Benchmark,
    config: EvaluationConfig,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates a benchmark and adds what comes of it.

    Args:
        evaluation: What is known so far; it is not changed.
        model: A transformers causal language model, or a PEFT model around one.
        tokenizer: Its tokenizer.
        benchmark: The benchmark.
        config: How to evaluate; ``splits`` does not matter, and ``limit_sets`` holds for each split.
        progress: Called as ``progress(stage, done, total)`` after each batch.

    Returns:
        The evaluation with the benchmark's splits and items, in place of those of an earlier time.
    """
    started = time.monotonic()
    results: dict[str, SplitResult] = {}
    records: list[ItemRecord] = []
    for split, items in benchmark.splits.items():
        few = limited(items, config.limit_sets)
        results[split], written = evaluate_items(
            model, tokenizer, few, config, progress, instruction=benchmark.instruction
        )
        records += written
    record = BenchmarkRecord(
        title=benchmark.title,
        source=benchmark.source,
        license=benchmark.license,
        instruction=benchmark.instruction,
        config=config.model_copy(update={"splits": None}),
        splits=list(results),
        seconds=time.monotonic() - started,
    )
    return join(evaluation, benchmark.name, record, results, records)


def join(
    evaluation: Evaluation,
    name: str,
    record: BenchmarkRecord,
    results: Mapping[str, SplitResult] | None = None,
    items: Sequence[ItemRecord] = (),
) -> Evaluation:
    """Adds a benchmark to an evaluation.

    Args:
        evaluation: The evaluation; it is not changed.
        name: The benchmark's name.
        record: What is known of it.
        results: The measures by split.
        items: Its problems.

    Returns:
        The evaluation with the benchmark, in place of what stood under its name or in its splits.
    """
    results = results or {}
    earlier = evaluation.benchmarks.get(name)
    gone = {*(earlier.splits if earlier is not None else ()), *results}
    others = {
        other: old.model_copy(update={"splits": [split for split in old.splits if split not in gone]})
        for other, old in evaluation.benchmarks.items()
        if other != name and not (old.splits and gone.issuperset(old.splits))
    }
    return evaluation.model_copy(
        update={
            "seconds": evaluation.seconds + record.seconds,
            "splits": {split: old for split, old in evaluation.splits.items() if split not in gone} | {**results},
            "items": [*(item for item in evaluation.items if item.split not in gone), *items],
            "benchmarks": {**others, name: record},
        }
    )
