"""LogicBench (BQA): one inference rule in many scenarios, asked for yes or no (arXiv 2404.15522)."""

from __future__ import annotations

from isodistill.benchmarks.base import Benchmark, BenchmarkKind, ask_for, item_of
from isodistill.importers import import_logicbench, local_folder
from isodistill.importers.logicbench import CHOICES, SPLIT


def build(source: str) -> Benchmark:
    """Reads every rule; a set is one question asked of all scenarios of a rule, so consistency is that of the rule.

    Args:
        source: The local folder ``BQA``, or a hub id.

    Returns:
        The benchmark, with one split ``logicbench``. A domain names a scenario's place, nothing else.

    Raises:
        IsodistillError: If the data is missing or damaged.
    """
    problems = import_logicbench(local_folder(source), members=None)[SPLIT].problems
    return Benchmark(
        name=KIND.name,
        title=KIND.title,
        source=source,
        license=KIND.license,
        instruction=ask_for(CHOICES),
        items=tuple(item_of(problem, KIND.name) for problem in problems),
    )


KIND = BenchmarkKind(
    name="logicbench",
    title="LogicBench BQA",
    about="Yes or no to a question on a scenario; sets are the scenarios of one inference rule.",
    argument="the folder BQA or a hub id",
    default=None,
    ways=("likelihood", "generation"),
    license="mit",
    build=build,
)
