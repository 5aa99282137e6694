"""FOLIO's validation split: stories by people, and conclusions to judge (arXiv 2209.00840)."""

from __future__ import annotations

from isodistill.benchmarks.base import Benchmark, BenchmarkKind, ask_for
from isodistill.errors import IsodistillError
from isodistill.evaluation.items import EvalItem
from isodistill.importers import read_source
from isodistill.importers.folio import CHOICES, folio_prompt
from isodistill.importers.source import require_columns
from isodistill.logic.folio import folio_row

SPLIT = "validation"


def build(source: str) -> Benchmark:
    """Reads the validation split as it was published, faults of the annotation included, to compare with others.

    The conclusions of one story form a set, so that the bootstrap keeps them together; their answers differ, and a
    domain names a conclusion's place in its story, nothing else.

    Args:
        source: A file or folder with the split ``validation``, or a hub id.

    Returns:
        The benchmark, with one split ``folio``.

    Raises:
        IsodistillError: If the data is missing or damaged.
    """
    splits = read_source(source)
    if SPLIT not in splits:
        raise IsodistillError(
            f"The data set {source} has no split {SPLIT!r} (it has {', '.join(splits)}); name FOLIO's validation file."
        )
    where = f"{source}, split {SPLIT!r}"
    require_columns(splits[SPLIT], ("premises", "conclusion", "label"), where)
    items: list[EvalItem] = []
    stories: dict[tuple[str, ...], int] = {}
    places: dict[int, int] = {}
    for number, data in enumerate(splits[SPLIT]):
        row = folio_row(data, f"row {number} of {where}")
        if row.label is None:
            raise IsodistillError(f"In {where}, row {number} has no label to compare with; take another split.")
        story = stories.setdefault(row.premises, len(stories))
        places[story] = places.get(story, -1) + 1
        items.append(
            EvalItem(
                split=KIND.name,
                set_id=f"folio-story-{story}",
                domain=f"conclusion_{places[story]}",
                family="folio",
                depth=0,
                prompt=folio_prompt(row),
                answer=row.label,
                choices=CHOICES,
            )
        )
    return Benchmark(KIND.name, KIND.title, source, KIND.license, ask_for(CHOICES), tuple(items))


KIND = BenchmarkKind(
    name="folio",
    title="FOLIO, validation",
    about="True, False or Unknown: does a conclusion follow from a story? All published rows.",
    argument="file, folder or hub id",
    default="yale-nlp/FOLIO",
    ways=("likelihood", "generation"),
    license="cc-by-sa-4.0",
    build=build,
)
