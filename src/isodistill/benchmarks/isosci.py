"""IsoSci: pairs of science problems that share their structure and not their answer (arXiv 2607.01431)."""

from __future__ import annotations

from isodistill.benchmarks.base import ANSWER_LINE, Benchmark, BenchmarkKind, item_of
from isodistill.importers import import_isosci, read_source


def build(source: str) -> Benchmark:
    """Reads every split.

    Args:
        source: A file or folder, or a hub id.

    Returns:
        The benchmark, with a split ``isosci/NAME`` for each. A pair is a set: ``set_accuracy`` tells how often both
        problems are answered right.

    Raises:
        IsodistillError: If the data is missing or damaged.
    """
    splits = import_isosci(read_source(source), source)
    items = tuple(
        item_of(problem, f"{KIND.name}/{split}") for split, imported in splits.items() for problem in imported.problems
    )
    return Benchmark(KIND.name, KIND.title, source, KIND.license, ANSWER_LINE, items)


KIND = BenchmarkKind(
    name="isosci",
    title="IsoSci",
    about="Pairs of science problems with one structure; numbers may be 1% off, units must match.",
    argument="file, folder or hub id",
    default="isosci/isosci",
    ways=("generation",),
    license="cc-by-4.0",
    build=build,
)
