"""Every benchmark by name."""

from __future__ import annotations

from isodistill.benchmarks import folio, gsm8k, harness, isomers, isosci, logicbench, reasoning_gym
from isodistill.benchmarks.base import Benchmark, BenchmarkKind
from isodistill.errors import IsodistillError

BENCHMARKS: dict[str, BenchmarkKind] = {
    kind.name: kind
    for kind in (
        isomers.KIND,
        logicbench.KIND,
        folio.KIND,
        reasoning_gym.KIND,
        gsm8k.KIND,
        isosci.KIND,
        harness.KIND,
    )
}


def parse_benchmark(text: str) -> tuple[BenchmarkKind, str]:
    """Reads a benchmark's name and what stands behind it.

    Args:
        text: ``NAME`` or ``NAME:ARGUMENT``, for example ``"logicbench:data/BQA"``.

    Returns:
        The registry's entry and the argument, its default where none is given.

    Raises:
        IsodistillError: If there is no such benchmark, or it needs an argument.
    """
    name, _, argument = text.partition(":")
    kind = BENCHMARKS.get(name)
    if kind is None:
        raise IsodistillError(f"There is no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}.")
    if not argument and kind.default is None:
        raise IsodistillError(f"The benchmark {name!r} needs more: write {name}:X, where X is {kind.argument}.")
    return kind, argument or kind.default or ""


def make_benchmark(name: str, path: str | None = None) -> Benchmark:
    """Makes a benchmark, reading and checking all of its problems.

    Args:
        name: One of `BENCHMARKS`.
        path: A local path, hub id or task, or ``None`` for the default.

    Returns:
        The benchmark.

    Raises:
        IsodistillError: If there is no such benchmark, its data is missing or damaged, or another harness runs it.
    """
    kind, argument = parse_benchmark(f"{name}:{path or ''}")
    if kind.build is None:
        raise IsodistillError(f"The benchmark {name!r} has no problems of its own; another harness runs it.")
    benchmark = kind.build(argument)
    if not benchmark.items:
        raise IsodistillError(f"No problem of the benchmark {name!r} is left in {argument}; give other data.")
    return benchmark
