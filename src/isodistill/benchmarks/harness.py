"""Any task of lm-evaluation-harness, run by the harness itself on the student with its adapter.

The harness is imported only where it is asked for: it takes seconds to load. A task is a YAML file, and may bring
Python of its own along, so a folder of tasks is code: take it from people you trust.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isodistill.benchmarks.base import BenchmarkKind
from isodistill.errors import IsodistillError
from isodistill.evaluation.encoding import base_model, evaluation_mode
from isodistill.evaluation.evaluate import package_version
from isodistill.evaluation.results import BenchmarkRecord, EvaluationConfig

PACKAGE = "lm_eval"

KIND = BenchmarkKind(
    name="lm-eval",
    title="lm-evaluation-harness",
    about="Any task of the harness by its name, with the task's own prompts, few-shot examples and metrics.",
    argument="a task of the harness",
    default=None,
    ways=(),
    license="unknown",
    build=None,
)


class HarnessTask:
    """A task that is known to the harness and has its data.

    Args:
        task: The name of a task, group or tag.
        include: A folder with task files (YAML) beside the harness's own, or ``None``.

    Raises:
        IsodistillError: If the harness is not installed, knows no such task, or cannot load its data.
    """

    def __init__(self, task: str, include: Path | None = None) -> None:
        if include is not None and not include.is_dir():
            raise IsodistillError(f"There is no folder {include} with tasks of lm-evaluation-harness; name another.")
        try:
            from lm_eval.tasks import TaskManager
        except ImportError:
            raise IsodistillError(
                "lm-evaluation-harness is not installed; install it with pip install 'isodistill[lm-eval]'."
            ) from None
        logging.getLogger(PACKAGE).setLevel(logging.ERROR)
        self.task = task
        self.name = f"{KIND.name}/{task}"
        self._manager = TaskManager(include_path=str(include), include_defaults=False) if include is not None else None
        if self._manager is None or task not in self._manager.all_subtasks:
            # The harness's own tasks are thousands of files, which takes half a minute to read; groups may name them.
            self._manager = TaskManager(include_path=None if include is None else str(include))
        if task not in self._manager.all_tasks:
            raise IsodistillError(
                f"lm-evaluation-harness {package_version(PACKAGE)} has no task {task!r}; `lm-eval ls tasks` lists its "
                "own, and a folder of others can be included."
            )
        try:
            with _random_state():
                self._manager.load([task])
        except Exception as error:
            # A task's data comes from the hub, from files or from its own code, and each fails in its own way.
            reason = " ".join(str(error).split())[:200]
            raise IsodistillError(
                f"The task {task!r} of lm-evaluation-harness cannot be loaded ({type(error).__name__}: {reason}); mend "
                "its file, or make its data available."
            ) from None

    def run(self, model: Any, tokenizer: Any, config: EvaluationConfig) -> BenchmarkRecord:
        """Lets the harness evaluate the student.

        Args:
            model: A transformers causal language model, or a PEFT model around one, whose adapters take part.
            tokenizer: Its tokenizer.
            config: The batch size, and how many documents of each task, the first ones, are evaluated
                (``limit_sets``). All else is the task's own.

        Returns:
            The harness's numbers: ``metric,filter`` for a task, ``subtask/metric,filter`` for a group.
        """
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        started = time.monotonic()
        with evaluation_mode(model), _random_state():
            student = HFLM(pretrained=base_model(model), tokenizer=tokenizer, batch_size=config.batch_size)
            found = simple_evaluate(
                model=student,
                tasks=[self.task],
                limit=config.limit_sets,
                log_samples=False,
                bootstrap_iters=config.bootstrap_samples,
                task_manager=self._manager,
            )
        assert found is not None  # it is None in the further processes of a distributed run alone
        return BenchmarkRecord(
            title=f"{KIND.title}: {self.task}",
            source=self.task,
            license=KIND.license,
            instruction="",
            config=config.model_copy(update={"splits": None}),
            splits=[],
            metrics=_numbers(self.task, found["results"]),
            versions={PACKAGE: package_version(PACKAGE)},
            seconds=time.monotonic() - started,
        )


def _numbers(task: str, results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {
        metric if name == task else f"{name}/{metric}": float(value)
        for name, metrics in results.items()
        for metric, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


@contextmanager
def _random_state() -> Iterator[None]:
    """Puts the global generators back, which the harness seeds."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
