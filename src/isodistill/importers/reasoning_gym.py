"""reasoning-gym: problems that are generated on the spot, any task by name, each judged by the task's own scorer."""

from __future__ import annotations

import inspect
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np

from isodistill.errors import IsodistillError
from isodistill.importers.harmless import is_harmless
from isodistill.importers.problems import Imported, Problem

SOURCE = "reasoning-gym"
_EVALUATION = re.compile(r"\b(?:eval|exec|parse_expr|parse_latex|sympify)\(")


def task_names() -> tuple[str, ...]:
    """Lists the tasks that can be imported.

    Returns:
        Their names in alphabetical order.

    Raises:
        IsodistillError: If reasoning-gym is not installed.
    """
    return tuple(sorted(_factory().DATASETS))


def tasks_of(category: str) -> tuple[str, ...]:
    """Lists the tasks of a category.

    Args:
        category: A category of reasoning-gym, for example ``"logic"``.

    Returns:
        Their names in alphabetical order; none where there is no such category.

    Raises:
        IsodistillError: If reasoning-gym is not installed.
    """
    datasets = _factory().DATASETS
    return tuple(task for task in task_names() if datasets[task][0].__module__.split(".")[1:2] == [category])


def import_reasoning_gym(
    tasks: Sequence[str],
    sizes: Mapping[str, int],
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Imported]:
    """Generates problems; each task is a domain.

    Args:
        tasks: The tasks' names.
        sizes: How many problems of each task each split gets; the splits share no item of a task's sequence.
        seed: The seed: equal seeds give equal problems, under one version of reasoning-gym.
        options: The tasks' own options, given to every task.

    Returns:
        The problems of each split. The completion is empty. Tasks whose items have no reference answer or one of
        several lines lose these items, and the count says so.

    Raises:
        IsodistillError: If reasoning-gym is not installed, or a task or an option is unknown.
    """
    if not tasks or len(set(tasks)) != len(tasks):
        raise IsodistillError("The tasks must name at least one task of reasoning-gym, and none twice.")
    known = task_names()
    for task in tasks:
        if task not in known:
            raise IsodistillError(f"reasoning-gym has no task {task!r}; it has {', '.join(known)}.")
    config = {**(options or {}), "seed": seed, "size": sum(sizes.values())}
    splits = {split: Imported() for split in sizes}
    for task in tasks:
        place = 0
        for split, size in sizes.items():
            for index in range(place, place + size):
                _import_item(task, config, index, len(tasks) == 1, splits[split])
            place += size
            if size and not any(problem.domain == task for problem in splits[split].problems):
                splits[split].notes.append(f"In {split}, no problem of the task {task!r} is left.")
    return splits


def _import_item(task: str, config: dict[str, Any], index: int, alone: bool, imported: Imported) -> None:
    entry = _item(_dataset(task, json.dumps(config, sort_keys=True)), index)
    if entry["answer"] is None:
        imported.dropped["there is no reference answer"] += 1
        return
    record = {"source": SOURCE, "version": version(SOURCE), "task": task, "config": config, "index": index}
    imported.keep(
        Problem(
            domain=task,
            prompt=str(entry["question"]).strip(),
            answer=str(entry["answer"]).strip(),
            set_id=f"{task}-{index}" if alone else "",
            family=f"{SOURCE}/{task}",
            formal=json.dumps(record),
        )
    )


def score(formal: str, prompt: str, answer: str) -> float:
    """Scores an answer with the task's own scorer.

    The item is generated anew from its record, so that the scorer sees everything that the task keeps about it. Some
    scorers evaluate an answer as Python; what is no plain arithmetic is not handed on to these and scores 0. So does
    an answer that a scorer breaks on.

    Args:
        formal: The problem's column ``formal``.
        prompt: The problem's text, which must be that of the item.
        answer: The answer to score; untrusted text.

    Returns:
        The score in [0, 1]; 1 for a right answer.

    Raises:
        IsodistillError: If reasoning-gym is not installed, the record is damaged, or the item is another one under
            the installed version.
    """
    try:
        record: Any = json.loads(formal)
        task, config, index = record["task"], record["config"], record["index"]
        known = record["source"] == SOURCE and type(index) is int and 0 <= index < config["size"]
        text = json.dumps(config, sort_keys=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known or task not in task_names():
        raise IsodistillError(f"The record {formal[:80]!r} is none of a reasoning-gym problem; import it again.")
    dataset = _dataset(task, text)
    entry = _item(dataset, index)
    if str(entry["question"]).strip() != prompt:
        raise IsodistillError(
            f"Item {index} of the task {task!r} is another problem under reasoning-gym {version(SOURCE)}; import the "
            f"data again, or install version {record.get('version')}."
        )
    evaluates = _EVALUATION.search(inspect.getsource(type(dataset).score_answer)) is not None
    if evaluates and answer != entry["answer"] and not is_harmless(answer):
        return 0.0
    try:
        return float(dataset.score_answer(answer=answer, entry=entry))
    except Exception:
        # Many scorers expect the form that the task asks for, and what a student writes may have any.
        return 0.0


def _item(dataset: Any, index: int) -> dict[str, Any]:
    """Generates an item, the same each time: a few tasks draw from the global generators as well as from their own."""
    states = random.getstate(), np.random.get_state()
    try:
        random.seed(index)
        np.random.seed(index)
        entry: dict[str, Any] = dataset[index]
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return entry


@lru_cache(maxsize=64)
def _dataset(task: str, config: str) -> Any:
    try:
        return _factory().create_dataset(task, **json.loads(config))
    except (TypeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise IsodistillError(f"The task {task!r} of reasoning-gym refuses its options: {reason}; mend them.") from None


def _factory() -> Any:
    try:
        from reasoning_gym import factory
    except ImportError:
        raise IsodistillError(
            "reasoning-gym is not installed; install it with pip install 'isodistill[reasoning-gym]'."
        ) from None
    return factory
