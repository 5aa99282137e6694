"""`isodistill evaluate`: everything is checked before the student is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from isodistill.cli.progress import bars, console
from isodistill.errors import IsodistillError
from isodistill.runs import EVALUATION_FILE, RUN_FILE, RunRecord


def evaluate_adapter(
    data: Path, student: str | None, adapter: Path | None, out: Path | None, options: dict[str, Any]
) -> None:
    """Evaluates a student, with or without an adapter, and writes the result as JSON.

    Args:
        data: The data set's directory.
        student: The student's name, or ``None`` for the one the adapter was trained on.
        adapter: The adapter's folder, or ``None``.
        out: The JSON file, or ``None`` for ``evaluation.json`` beside the adapter.
        options: The fields of `EvaluationConfig`.

    Raises:
        IsodistillError: if the adapter, the student, the data or an option is missing or wrong.
    """
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

    from isodistill.evaluation import EvaluationConfig, evaluate, list_splits
    from isodistill.files import check_writable
    from isodistill.students import load_adapter, load_student

    try:
        config = EvaluationConfig(**options)
    except ValidationError as error:
        first = error.errors()[0]
        raise IsodistillError(f"evaluation option {first['loc'][0]}: {first['msg']}") from None
    available = list_splits(data)
    for split in config.splits or []:
        if split not in available:
            raise IsodistillError(f"data set {data} has no split {split!r}: choose one of {', '.join(available)}")
    if out is not None:
        check_writable(out.parent)
    model, tokenizer = load_student(student)
    if adapter is not None:
        model = load_adapter(model, adapter)
    with bars() as progress:
        result = evaluate(
            model, tokenizer, data, config, progress, student=student, adapter=None if adapter is None else str(adapter)
        )
    if out is not None:
        result.save(out)
    for name, split_result in result.splits.items():
        a = split_result.accuracy
        consistency = "-" if split_result.lcs_centred is None else f"{split_result.lcs_centred.value:.3f}"
        console().print(
            f"{name:28} accuracy {a.value:.3f} [{a.low:.3f}, {a.high:.3f}]  answered {split_result.answered:.2f}"
            f"  centred LCS {consistency}",
            markup=False,
            highlight=False,
        )
    if out is not None:
        console().print(f"written: {out}", markup=False, highlight=False)
