"""`isodistill evaluate`: everything is checked before the student is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from isodistill.cli.progress import bars, console
from isodistill.errors import IsodistillError
from isodistill.runs import EVALUATION_FILE, RUN_FILE, RunRecord
from isodistill.validation import first_fault

if TYPE_CHECKING:
    from isodistill.benchmarks import Benchmark
    from isodistill.benchmarks.harness import HarnessTask
    from isodistill.evaluation import Evaluation, EvaluationConfig


def evaluate_adapter(
    data: Path | None,
    student: str | None,
    adapter: Path | None,
    out: Path | None,
    options: dict[str, Any],
    benchmarks: Sequence[str] = (),
    include: Path | None = None,
) -> None:
    """Evaluates a student, with or without an adapter, and writes the result as JSON after each data set.

    Args:
        data: The data set's directory, or ``None`` for benchmarks alone, which then join what the JSON file holds.
        student: The student's name, or ``None`` for the one the adapter was trained on.
        adapter: The adapter's folder, or ``None``.
        out: The JSON file, or ``None`` for ``evaluation.json`` beside the adapter.
        options: The fields of `EvaluationConfig`.
        benchmarks: Benchmarks, ``NAME`` or ``NAME:ARGUMENT``.
        include: A folder with further tasks of lm-evaluation-harness, or ``None``.

    Raises:
        IsodistillError: if the adapter, the student, the data or an option is missing or wrong.
    """
    if data is None and not benchmarks:
        raise IsodistillError("there is nothing to evaluate: give --data, --benchmark or both")
    record = None
    if adapter is not None:
        if not (adapter / "adapter_config.json").is_file():
            raise IsodistillError(
                f"adapter {adapter}: adapter_config.json is missing, so there is no PEFT adapter here"
            )
        record = RunRecord.load(adapter) if (adapter / RUN_FILE).is_file() else None
    if student is None:
        if record is None:
            raise IsodistillError("the student is not known: give --student (for example smollm2-135m)")
        student = record.student
    if options["system_prompt"] is None and record is not None:
        options["system_prompt"] = record.system_prompt
    if out is None and adapter is not None:
        out = adapter / EVALUATION_FILE

    from isodistill.benchmarks import add_benchmark, join
    from isodistill.evaluation import EvaluationConfig, evaluate
    from isodistill.evaluation.evaluate import empty_evaluation
    from isodistill.files import check_writable
    from isodistill.students import load_adapter, load_student

    try:
        config = EvaluationConfig(**options)
    except ValidationError as error:
        raise IsodistillError(f"evaluation option {': '.join(first_fault(error))}") from None
    _check_splits(data, config)
    wanted, tasks = _prepare(benchmarks, config, include)
    if out is not None:
        check_writable(out.parent)
    result = _earlier(out, student, adapter) if data is None else None
    model, tokenizer = load_student(student)
    if adapter is not None:
        model = load_adapter(model, adapter)
    told = None if adapter is None else str(adapter)
    with bars() as progress:
        if data is not None:
            result = evaluate(model, tokenizer, data, config, progress, student=student, adapter=told)
            _save(result, out)
        if result is None:
            result = empty_evaluation(model, config, student=student, adapter=told)
        for benchmark in wanted:
            result = add_benchmark(result, model, tokenizer, benchmark, config, progress)
            _save(result, out)
    for task in tasks:
        result = join(result, task.name, task.run(model, tokenizer, config))
        _save(result, out)
    _tell(result, out)


def _check_splits(data: Path | None, config: EvaluationConfig) -> None:
    from isodistill.evaluation import list_splits

    if data is None:
        if config.splits:
            raise IsodistillError("--split names a split of --data: give --data, or leave --split out")
        return
    available = list_splits(data)
    for split in config.splits or []:
        if split not in available:
            raise IsodistillError(f"data set {data} has no split {split!r}: choose one of {', '.join(available)}")


def _prepare(
    names: Sequence[str], config: EvaluationConfig, include: Path | None
) -> tuple[list[Benchmark], list[HarnessTask]]:
    """Reads every benchmark, so that what is wrong with the last one shows before the first one is evaluated."""
    from isodistill.benchmarks import check_ways, make_benchmark, parse_benchmark

    wanted: list[Benchmark] = []
    tasks: list[HarnessTask] = []
    for name in names:
        kind, argument = parse_benchmark(name)
        if kind.build is not None:
            wanted.append(make_benchmark(kind.name, argument))
        else:
            from isodistill.benchmarks.harness import HarnessTask

            tasks.append(HarnessTask(argument, include))
    if include is not None and not tasks:
        raise IsodistillError("--lm-eval-include goes with --benchmark lm-eval:TASK: name a task of the folder")
    called = [*(benchmark.name for benchmark in wanted), *(task.name for task in tasks)]
    for name in called:
        if called.count(name) > 1:
            raise IsodistillError(f"two benchmarks would be called {name!r} in the results: evaluate one at a time")
    check_ways(wanted, config)
    return wanted, tasks


def _earlier(out: Path | None, student: str, adapter: Path | None) -> Evaluation | None:
    """Reads the evaluation that benchmarks are to join, which must be one of the same student."""
    from isodistill.evaluation import Evaluation

    if out is None or not out.is_file():
        return None
    found = Evaluation.load(out)
    theirs = None if found.adapter is None else Path(found.adapter).resolve()
    # A run's own folder may have been moved, and the demo names an adapter by its method.
    ours = None if adapter is None else adapter.resolve()
    beside = adapter is not None and out.resolve().parent == ours
    if found.student != student or not (beside or theirs == ours):
        raise IsodistillError(
            f"{out} holds the evaluation of student {found.student!r} with adapter {found.adapter!r}, so this one"
            " cannot join it: give another --out"
        )
    return found


def _save(result: Evaluation, out: Path | None) -> None:
    if out is not None:
        result.save(out)


def _tell(result: Evaluation, out: Path | None) -> None:
    lines = []
    for name, split in result.splits.items():
        a = split.accuracy
        consistency = "-" if split.lcs_centred is None else f"{split.lcs_centred.value:.3f}"
        lines.append(
            f"{name:28} accuracy {a.value:.3f} [{a.low:.3f}, {a.high:.3f}]  answered {split.answered:.2f}"
            f"  centred LCS {consistency}"
        )
    lines += [
        f"{name:28} {metric} {value:.4f}"
        for name, benchmark in result.benchmarks.items()
        for metric, value in benchmark.metrics.items()
    ]
    if out is not None:
        lines.append(f"written: {out}")
    for line in lines:
        console().print(line, markup=False, highlight=False)
