"""reasoning-gym: generated problems of any task, judged by the task's own scorer."""

from __future__ import annotations

from isodistill.benchmarks.base import ANSWER_LINE, Benchmark, BenchmarkKind, item_of
from isodistill.errors import IsodistillError
from isodistill.importers import import_reasoning_gym
from isodistill.importers.reasoning_gym import tasks_of

SIZE = 200
"""How many problems of each task."""

SEED = 1_000_000_000
"""An item is drawn with this seed plus its place, so imported training data (small seeds) shares none of them."""


def build(names: str) -> Benchmark:
    """Generates problems; those without a reference answer on one line are left out.

    Args:
        names: Tasks, or the name of a category such as ``"logic"``, comma-separated.

    Returns:
        The benchmark, with a split ``reasoning-gym/TASK`` for each task.

    Raises:
        IsodistillError: If reasoning-gym is not installed, a task is unknown, or nothing of a task is left.
    """
    tasks = [task for name in names.split(",") for task in tasks_of(name.strip()) or (name.strip(),)]
    items = []
    for task in dict.fromkeys(tasks):
        problems = import_reasoning_gym([task], {"test": SIZE}, SEED)["test"].problems
        if not problems:
            raise IsodistillError(f"The task {task!r} has no problem with an answer on one line; leave it out.")
        items += [item_of(problem, f"{KIND.name}/{task}") for problem in problems]
    return Benchmark(f"{KIND.name}/{names}", KIND.title, names, KIND.license, ANSWER_LINE, tuple(items))


KIND = BenchmarkKind(
    name="reasoning-gym",
    title="reasoning-gym",
    about="Generated problems of any task or category (logic, gsm_symbolic, ...), with the task's own scorer.",
    argument="tasks or categories, comma-separated",
    default="logic",
    ways=("generation",),
    license="apache-2.0",
    build=build,
)
