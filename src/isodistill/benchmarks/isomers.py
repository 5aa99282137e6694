"""The test splits of a data set in isodistill's own format, generated or imported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from isodistill.benchmarks.base import Benchmark, BenchmarkKind
from isodistill.errors import IsodistillError
from isodistill.evaluation.items import TRAINING_SPLITS, list_splits, read_items
from isodistill.isomers.card import CardInfo, read_card


def build(source: str) -> Benchmark:
    """Reads every test split.

    Args:
        source: The data set's directory.

    Returns:
        The benchmark, with a split ``isomers/FOLDER/NAME`` for each. The names keep the splits out of the mean over
        the out-of-distribution splits of the student's own data.

    Raises:
        IsodistillError: If the data is missing or damaged, or has no test split.
    """
    folder = Path(source)
    name = f"{KIND.name}/{folder.resolve().name}"
    splits = [split for split in list_splits(folder) if split not in TRAINING_SPLITS]
    if not splits:
        raise IsodistillError(f"{folder} has no test split to evaluate: generate the test splits, or name another.")
    info, _ = read_card(folder / "README.md")
    items = [item for split in splits for item in read_items(folder, split)]
    return Benchmark(
        name=name,
        title=folder.resolve().name if info is None else info.title,
        source=source,
        license=KIND.license if info is not None and not info.imported else _licence(info),
        # The problems ask for their answer as the training's do.
        instruction="",
        items=tuple(replace(item, split=f"{name}/{item.split}") for item in items),
    )


def _licence(info: CardInfo | None) -> str:
    return (info.license if info is not None else "") or "unknown"


KIND = BenchmarkKind(
    name="isomers",
    title="Isomer sets",
    about="The test splits of another data set that was generated or imported here.",
    argument="the data set's directory",
    default=None,
    ways=("likelihood", "generation"),
    license="cc0-1.0",
    build=build,
)
