"""GSM8K's test split: grade-school word problems (arXiv 2110.14168)."""

from __future__ import annotations

from isodistill.benchmarks.base import Benchmark, BenchmarkKind, item_of
from isodistill.errors import IsodistillError
from isodistill.importers import import_gsm8k, read_source

SPLIT = "test"
INSTRUCTION = "Think step by step, and end with a line 'Answer: X', where X is a number."


def build(source: str) -> Benchmark:
    """Reads the test split.

    Args:
        source: A file or folder with the split ``test``, or a hub id.

    Returns:
        The benchmark, with one split ``gsm8k``; the last number of an answer line counts.

    Raises:
        IsodistillError: If the data is missing or damaged.
    """
    splits = read_source(source, "main")
    if SPLIT not in splits:
        raise IsodistillError(
            f"The data set {source} has no split {SPLIT!r} (it has {', '.join(splits)}); name GSM8K's test file."
        )
    problems = import_gsm8k(splits[SPLIT], SPLIT, f"{source}, split {SPLIT!r}").problems
    items = tuple(item_of(problem, KIND.name) for problem in problems)
    return Benchmark(KIND.name, KIND.title, source, KIND.license, INSTRUCTION, items)


KIND = BenchmarkKind(
    name="gsm8k",
    title="GSM8K, test",
    about="Word problems; the last number of the answer line counts.",
    argument="file, folder or hub id",
    default="openai/gsm8k",
    ways=("generation",),
    license="mit",
    build=build,
)
