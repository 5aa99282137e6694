"""Runs one cell: train, evaluate, measure; what a killed run had finished is kept."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, set_seed

from isodistill.benchmarks import Benchmark, add_benchmark, check_ways, make_benchmark, parse_benchmark
from isodistill.errors import IsodistillError
from isodistill.evaluation import Evaluation, EvaluationConfig, evaluate, ood_accuracy
from isodistill.files import write_text_atomically
from isodistill.runs import EVALUATION_FILE
from isodistill.students import load_adapter, load_student, weights_digest
from isodistill.study.arms import job_options, trainer_config
from isodistill.study.cells import Cell
from isodistill.study.data import StudyData
from isodistill.study.folder import CELL_FILE, METRICS_FILE, StudyFolder
from isodistill.study.memory import PeakMemory
from isodistill.study.weights import WEIGHTS
from isodistill.trainer import TrainJob, run_training

TRAINING_FILE = "training.json"
"""Written once a cell's training is complete; the evaluation may be cut off and begun again."""

PROGRESS_FILE = "progress.json"
"""Written last into each checkpoint of a cell: what the training before it read, and how long it took."""

ORACLE_FILE = "oracle.json"
"""A trial's evaluation on the test sets that are laid aside."""

_WEIGHTS = ("adapter_model.safetensors", "adapter_config.json", "training_args.bin", "README.md")


class Students:
    """Keeps the last student that was asked for, since the cells of a student follow one another."""

    def __init__(self, load: Callable[[str], tuple[Any, Any]] = load_student) -> None:
        self._load = load
        self._name: str | None = None
        self._pair: tuple[Any, Any] | None = None
        self._weights: dict[str, str | None] = {}

    def weights(self, name: str) -> str | None:
        """Names a student's weights (see `isodistill.students.weights_digest`).

        Args:
            name: The student's name.

        Returns:
            The digest, or ``None``.
        """
        if name not in self._weights:
            self._weights[name] = weights_digest(name)
        return self._weights[name]

    def fresh(self, name: str) -> tuple[Any, Any]:
        """Returns a copy of a student and its tokenizer that may be changed.

        Args:
            name: The student's name.

        Returns:
            The model and the tokenizer.
        """
        if self._pair is None or self._name != name:
            self._pair = None  # two students at once may not fit
            self._pair, self._name = self._load(name), name
        return copy.deepcopy(self._pair)


class Progress(TrainerCallback):
    """Notes the sets that the trainer is given, in their order, and the time, over all parts of a training.

    Methods must not differ in the order.

    Args:
        checkpoint: The checkpoint that the training goes on from.
    """

    def __init__(self, checkpoint: Path | None = None) -> None:
        before: dict[str, Any] = {"sets": [], "seconds": 0.0}
        if checkpoint is not None:
            before = json.loads((checkpoint / PROGRESS_FILE).read_text(encoding="utf-8"))
        self.sets: list[list[str]] = before["sets"]
        """The ids of the sets of each micro-batch; the last may be fetched and not trained on."""
        self.seconds_before: float = before["seconds"]
        self._started = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listens to the collator."""
        self._started = time.monotonic()
        loader = kwargs["train_dataloader"]
        loader = getattr(loader, "base_dataloader", loader)  # inside accelerate's wrapper
        collate = loader.collate_fn

        def listen(rows: list[dict[str, Any]]) -> Any:
            self.sets.append([str(row["set_id"]) for row in rows])
            return collate(rows)

        loader.collate_fn = listen

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Completes a checkpoint; one without this file is not gone on from."""
        read = self.sets[: state.global_step * args.gradient_accumulation_steps]
        seconds = self.seconds_before + time.monotonic() - self._started
        place = Path(args.output_dir) / f"checkpoint-{state.global_step}" / PROGRESS_FILE
        write_text_atomically(place, json.dumps({"sets": read, "seconds": seconds}))

    def digest(self, micro_batches: int) -> str:
        """Sums up the order.

        Args:
            micro_batches: How many were trained on.

        Returns:
            16 hexadecimal digits; equal digits mean the same sets in the same order.
        """
        return hashlib.sha256(json.dumps(self.sets[:micro_batches]).encode()).hexdigest()[:16]


def last_checkpoint(place: Path) -> Path | None:
    """Finds the last whole checkpoint of a cell.

    Args:
        place: The cell's folder.

    Returns:
        Its folder, or ``None``.
    """
    whole = [file.parent for file in place.glob(f"checkpoint-*/{PROGRESS_FILE}")]
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


def clear(place: Path) -> None:
    """Makes a cell's folder ready: what a killed run left of a training is deleted but for its last whole checkpoint.

    A complete training is kept.

    Args:
        place: The cell's folder.
    """
    if place.exists() and not (place / TRAINING_FILE).is_file():
        kept = last_checkpoint(place)
        if kept is None:
            shutil.rmtree(place)
        else:
            for folder in set(place.glob("checkpoint-*")) - {kept}:
                shutil.rmtree(folder)
    place.mkdir(parents=True, exist_ok=True)


def run_cell(folder: StudyFolder, cell: Cell, students: Students) -> None:
    """Runs what is missing of a cell; its metrics are written last.

    Args:
        folder: The study.
        cell: The cell, its folder made ready by `clear`; nobody else may be working on it.
        students: Gives the student.
    """
    place = folder.cell_folder(cell.slug)
    write_text_atomically(place / CELL_FILE, cell.model_dump_json(indent=1) + "\n")
    data = StudyData(folder)
    if not (place / TRAINING_FILE).is_file():
        training = {} if cell.arm.kind == "untuned" else _train(cell, place, data.training(cell), students)
        write_text_atomically(place / TRAINING_FILE, _dump(training))
    numbers = json.loads((place / TRAINING_FILE).read_text(encoding="utf-8"))
    if cell.stage == "trial":
        numbers |= _score(cell, place, data, students)
    else:
        numbers |= _test(cell, place, data, students, folder.config.benchmarks)
    if not folder.config.keep_adapters:
        drop_weights(place)
    about = {"threads": torch.get_num_threads(), WEIGHTS: students.weights(cell.student)}
    write_text_atomically(place / METRICS_FILE, _dump(numbers | about))


def drop_weights(place: Path) -> None:
    """Deletes a run's adapter and tokenizer; its record, diagnostics and evaluation stay.

    Args:
        place: The run's folder.
    """
    for file in place.iterdir():
        if file.name in _WEIGHTS or file.name.startswith(("tokenizer", "special_tokens", "chat_template", "vocab")):
            file.unlink()


def _train(cell: Cell, place: Path, data: Path, students: Students) -> dict[str, Any]:
    config = trainer_config(cell.arm, cell.arm.training, str(place), cell.seed)
    checkpoint = last_checkpoint(place)
    job = TrainJob(
        data=str(data), student=cell.student, resume=checkpoint is not None, **job_options(cell.arm.training)
    )
    progress = Progress(checkpoint)
    student = students.fresh(cell.student)
    set_seed(cell.seed)  # the first weights of the adapter hang on it, whatever this process did before
    memory = PeakMemory()
    record, adapted = run_training(job, config, student=student, callbacks=[progress])
    del adapted
    for folder in place.glob("checkpoint-*"):
        shutil.rmtree(folder)
    losses = [row["loss"] for row in record.log_history if "loss" in row]
    steps = max((int(row.get("step", 0)) for row in record.log_history), default=0)
    micro_batches = steps * int(config.gradient_accumulation_steps)
    return {
        "steps": steps,
        "tokens": record.tokens,
        "train_loss": losses[-1] if losses else None,
        "sets_seen": sum(len(batch) for batch in progress.sets[:micro_batches]),
        "data_order": progress.digest(micro_batches),
        "seconds_training": progress.seconds_before + record.seconds,
        "peak_memory": memory.read(),
    }


def _score(cell: Cell, place: Path, data: StudyData, students: Students) -> dict[str, Any]:
    """Scores a trial: never on a test set that a final run counts."""
    found = _evaluate(cell, place, data.validation(cell), place / EVALUATION_FILE, students)
    numbers: dict[str, Any] = {
        "validation": found.splits["validation"].accuracy.value,
        "seconds_evaluation": found.seconds,
    }
    if cell.oracle_share:
        aside = cell.model_copy(update={"evaluation": cell.evaluation.model_copy(update={"splits": None})})
        found = _evaluate(aside, place, data.oracle(cell), place / ORACLE_FILE, students)
        numbers["oracle"] = sum(result.accuracy.value for result in found.splits.values()) / len(found.splits)
        numbers["seconds_evaluation"] += found.seconds
    return numbers


def _test(cell: Cell, place: Path, data: StudyData, students: Students, benchmarks: Sequence[str]) -> dict[str, Any]:
    wanted = study_benchmarks(benchmarks, cell.evaluation)
    found = _evaluate(cell, place, data.test(cell), place / EVALUATION_FILE, students, wanted)
    outside = ood_accuracy(found, samples=100).estimate
    numbers: dict[str, Any] = {"ood_accuracy": None if outside is None else outside.value}
    numbers |= {f"accuracy:{split}": result.accuracy.value for split, result in found.splits.items()}
    return numbers | {"seconds_evaluation": found.seconds}


def study_benchmarks(names: Sequence[str], config: EvaluationConfig) -> list[Benchmark]:
    """Reads the benchmarks of a study.

    Args:
        names: What the study's file calls them.
        config: How they will be evaluated.

    Returns:
        The benchmarks.

    Raises:
        IsodistillError: if one is unknown, cannot be read or cannot be evaluated in that way.
    """
    wanted = []
    for name in names:
        kind, argument = parse_benchmark(name)
        if kind.build is None:
            raise IsodistillError(f"the benchmark {name!r} runs through `isodistill evaluate` only: leave it out here")
        wanted.append(make_benchmark(kind.name, argument))
    check_ways(wanted, config)
    return wanted


def _evaluate(
    cell: Cell, place: Path, data: Path, file: Path, students: Students, benchmarks: Sequence[Benchmark] = ()
) -> Evaluation:
    if file.is_file():
        return Evaluation.load(file)
    model, tokenizer = students.fresh(cell.student)
    if cell.arm.kind != "untuned":
        model = load_adapter(model, place)
    if torch.cuda.is_available():
        model = model.to("cuda")
    found = evaluate(model, tokenizer, data, cell.evaluation, student=cell.student, adapter=cell.arm.label)
    for benchmark in benchmarks:
        found = add_benchmark(found, model, tokenizer, benchmark, cell.evaluation)
    found.save(file)
    return found


def _dump(numbers: dict[str, Any]) -> str:
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in numbers.items()
    }
    return json.dumps(finite, indent=1, allow_nan=False) + "\n"
