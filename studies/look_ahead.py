"""Measures what a look at the premises near the question answers, by family and depth: `make look-ahead`."""

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
from isodistill.isomers.neighbourhood import lookup_accuracy

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
)
DEPTHS = (1, 2, 3, 4)
PROBLEMS = 4000
SLOW = {"allocation": 1200}
SEED = "look-ahead"


def main() -> int:
    """Draws problems, fills and asks the tables, and writes every accuracy down.

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
            found = asdict(lookup_accuracy(drawn, 1))
            rounded = {key: value if key == "asked" else round(value, 4) for key, value in found.items()}
            rows.append({"family": name, "options": options, "depth": depth, "steps": 1, **rounded})
    content = {"seed": SEED, "versions": {"isodistill": metadata.version("isodistill")}, "rows": rows}
    write_text_atomically(RESULTS, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
