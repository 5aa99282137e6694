"""The whole chain at a small budget: isomer sets, a teacher, ERM and IGA on a real student, and a report."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from rich.markup import escape
from transformers import TrainerCallback

from isodistill.cli.progress import bars, console
from isodistill.errors import IsodistillError
from isodistill.evaluation import EvaluationConfig, evaluate
from isodistill.files import check_writable, write_text_atomically
from isodistill.isomers.config import make_config
from isodistill.isomers.generate import generate
from isodistill.isomers.store import read_split
from isodistill.report import build_report, judge, summary_table
from isodistill.report.folder import summarise_run
from isodistill.runs import EVALUATION_FILE, RUN_FILE
from isodistill.students import load_adapter, load_student
from isodistill.teachers import make_teacher
from isodistill.teachers.distil import distil
from isodistill.trainer import IsomerConfig, TrainJob, run_training


class DemoConfig(BaseModel):
    """The demo's budget; the defaults fit ten minutes and 4 GiB on two cores.

    Attributes:
        student: The student.
        seed: Seed of the data and of both runs.
        sets: Training sets.
        test_sets: Test problems.
        cue_rate: How often the planted cue agrees with the answer in training.
        steps: Optimizer steps of each run.
        sets_per_step: Isomer sets in a step, each with one problem for every domain.
        learning_rate: Of both runs.
        lora_first_layer: LoRA adapts the layers from here on.
        tau: IGA's temperature.
        system_prompt: A short instruction (the chat template's own default is longer than the problems).
        max_new_tokens: The most tokens that the student writes for a problem.
        splits: The test splits that both runs are evaluated on.
    """

    model_config = ConfigDict(extra="forbid")

    student: str = "smollm2-135m"
    seed: int = 0
    sets: int = Field(default=300, ge=8)
    test_sets: int = Field(default=12, ge=2)
    cue_rate: float = 0.9
    steps: int = Field(default=32, ge=1)
    sets_per_step: int = 3
    learning_rate: float = 1e-3
    lora_first_layer: int = 10
    tau: float = 0.3
    system_prompt: str = "Answer by logic."
    max_new_tokens: int = 40
    splits: tuple[str, ...] = ("iid", "cue_absent", "cue_reversed", "unseen_domain", "unseen_domain__cue_reversed")

    def data(self) -> dict[str, Any]:
        """Returns the generation settings: one rule, one fact, a positive statement, True or False."""
        return {
            "family": "deduction",
            "options": {
                "answers": ("True", "False"),
                "distractors": (0, 0),
                "distractor_kinds": "neutral",
                "negation": False,
                "statement_negation": False,
            },
            "sets": self.sets,
            "validation_sets": 0,
            "test_sets": self.test_sets,
            "depth": (1, 1),
            "deeper": (2, 2),
            "shortcut": {"rate": self.cue_rate},
            # The student learns this form in the demo's time: whether the rule says "no" decides. That is a word, so
            # the audit of word counts would object; the demo asks whether the student takes it or the planted cue.
            "audit": False,
            # One-rule problems have a handful of structures: the splits share them, and never the words.
            "split_by": "wording",
            "max_sets_per_skeleton": 500,
            "seed": self.seed,
        }

    def trainer(self, method: str, out: Path) -> IsomerConfig:
        """Returns one run's trainer options; the runs differ in the method alone."""
        options: dict[str, Any] = {"method": method}
        if method == "iga":
            options |= {"tau": self.tau, "mask_space": "factor", "mask_stage": "update"}
        return IsomerConfig(
            output_dir=str(out),
            max_steps=self.steps,
            per_device_train_batch_size=self.sets_per_step,
            learning_rate=self.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=5,
            gradient_checkpointing=False,
            system_prompt=self.system_prompt,
            seed=self.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **options,
        )


METHODS = ("erm", "iga")


def run_demo(out: Path, config: DemoConfig) -> None:
    """Runs the demo, or what is left of it: finished stages in the folder are kept.

    Args:
        out: The folder for data, adapters, evaluations and ``report.html``.
        config: The budget.

    Raises:
        IsodistillError: if the folder cannot be written, or holds a demo of other settings.
    """
    started = time.monotonic()
    _quiet_libraries()
    check_writable(out)
    settings = config.model_dump_json(indent=1) + "\n"
    settings_file = out / "demo.json"
    if settings_file.is_file() and settings_file.read_text(encoding="utf-8") != settings:
        raise IsodistillError(f"{out} holds a demo with other settings: choose another --out or delete it")
    write_text_atomically(settings_file, settings)

    traces = _make_data(out, config)
    _show_set(traces)
    for method in METHODS:
        _train(out / method, method, traces, config)
        _evaluate(out / method, method, traces, config)
    summaries = [summarise_run(out / method, method) for method in METHODS]
    page = build_report(
        summaries,
        out / "report.html",
        title="Who learnt the logic? SmolLM2-135M, plain fine-tuning against IGA",
        rerun_command=f"isodistill demo --out {out} --seed {config.seed} --steps {config.steps}",
    )
    screen = console()
    screen.print(summary_table(summaries))
    _show_rationales(summaries)
    screen.print(judge(summaries, "erm").sentence, markup=False)
    screen.print(f"report: {page}   ({(time.monotonic() - started) / 60:.1f} minutes)", markup=False)


def _make_data(out: Path, config: DemoConfig) -> Path:
    data, traces = out / "data", out / "traces"
    if not data.exists():
        with bars("isomer sets: ") as progress:
            report = generate(make_config(**config.data()), data, progress)
        console().print(
            f"{report.members} problems in isomer sets, verified by z3 and read back; {report.duplicates} duplicates"
        )
    if not traces.exists():
        with bars("teacher: ") as progress:
            written = distil(data, make_teacher("symbolic", style="short"), traces, progress)
        console().print(f"{written.members} chains of thought by the {written.teacher} teacher")
    return traces


def _show_set(traces: Path) -> None:
    isomer_set = read_split(traces, "train")[0]
    screen = console()
    screen.print(f"\n[bold]One isomer set[/bold] (answer {isomer_set.answer}; the first sentence is the planted cue)")
    for member in isomer_set.members:
        screen.print(f"[bold]{member.domain}[/bold]: {escape(' '.join(member.prompt.split()))}")
        screen.print(f"  [dim]teacher: {escape(' '.join(member.completion.split()))}[/dim]")
    screen.print()


def _train(folder: Path, method: str, traces: Path, config: DemoConfig) -> None:
    if (folder / RUN_FILE).is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    job = TrainJob(data=str(traces), student=config.student, lora_first_layer=config.lora_first_layer)
    with bars(f"train {method}: ") as progress:
        record, _ = run_training(job, config.trainer(method, folder), callbacks=[_Bar(progress)])
    console().print(f"{method}: {record.tokens} tokens, {record.seconds / config.steps:.2f} s a step")
    gc.collect()


def _evaluate(folder: Path, method: str, traces: Path, config: DemoConfig) -> None:
    if (folder / EVALUATION_FILE).is_file():
        return
    model, tokenizer = load_student(config.student)
    model = load_adapter(model, folder)
    options = EvaluationConfig(
        splits=list(config.splits),
        batch_size=32,
        max_new_tokens=config.max_new_tokens,
        system_prompt=config.system_prompt,
        seed=config.seed,
    )
    with bars(f"evaluate {method}: ") as progress:
        result = evaluate(model, tokenizer, traces, options, progress, student=config.student, adapter=method)
    result.save(folder / EVALUATION_FILE)
    del model
    gc.collect()


def _show_rationales(summaries: list[Any]) -> None:
    """Prints what each student wrote for one problem of an unseen domain."""
    screen = console()
    for summary in summaries:
        item = next(record for record in summary.evaluation.items if record.split.startswith("unseen_domain"))
        text = json.dumps(item.completion, ensure_ascii=False)
        screen.print(f"{summary.name} wrote (expected {item.answer}): {text}", markup=False, highlight=False)


class _Bar(TrainerCallback):
    """Moves a progress bar with the optimizer steps and shows the loss."""

    def __init__(self, move: Any) -> None:
        self._move = move

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Moves the bar."""
        self._move("steps", state.global_step, state.max_steps)


def _quiet_libraries() -> None:
    """Keeps other libraries' bars and notices out of the demo's own output."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
