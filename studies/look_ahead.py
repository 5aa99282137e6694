"""Measures what a look near the question and a count answer, by family and depth: `make look-ahead`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

from tqdm import tqdm

from isodistill.files import write_text_atomically
from isodistill.isomers.families import make_family
from isodistill.isomers.neighbourhood import LookupResult, count_accuracy, lookup_accuracy

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "isomers-look-ahead.json"
FAMILIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("deduction", {}),
    ("deduction", {"distractor_kinds": "mixed"}),
    ("syllogism", {}),
    ("syllogism", {"decoy": False}),
    ("ordering", {}),
    ("ordering", {"decoy": False}),
    ("allocation", {}),
    ("statute", {}),
    ("statute", {"decoy": False}),
)
DEPTHS = (1, 2, 3, 4)
PROBLEMS = 4000
SLOW = {"allocation": 1200}
SEED = "look-ahead"
_SHARED = ("asked", "chance")


def main() -> int:
    """Draws problems, fits and asks the measures, and writes every accuracy down.

    Returns:
        The exit code.
    """
    rows = []
    for name, options in tqdm(FAMILIES, unit="family"):
        family = make_family(name, options)
        for depth in DEPTHS:
            count = SLOW.get(name, PROBLEMS)
            drawn = [
                family.sample(Random(f"{SEED}/{depth}/{place}"), depth, place % len(family.classes))
                for place in range(count)
            ]
            look = _rounded(lookup_accuracy(drawn, 1))
            counts = {key: value for key, value in _rounded(count_accuracy(drawn)).items() if key not in _SHARED}
            rows.append({"family": name, "options": options, "depth": depth, "steps": 1, **look, "counts": counts})
    content = {"seed": SEED, "versions": {"isodistill": metadata.version("isodistill")}, "rows": rows}
    write_text_atomically(RESULTS, json.dumps(content, indent=1) + "\n")
    return 0


def _rounded(result: LookupResult) -> dict[str, Any]:
    return {key: value if key == "asked" else round(value, 4) for key, value in asdict(result).items()}


if __name__ == "__main__":
    sys.exit(main())
