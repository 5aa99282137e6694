"""Where the public data sets lie that tests marked `data` read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def public_data(name: str) -> Path:
    """Finds a data set, or skips the test.

    Args:
        name: The data set's folder, for example ``"folio"``.

    Returns:
        The folder.
    """
    folder = Path(os.environ.get("ISODISTILL_DATA") or ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing; set ISODISTILL_DATA to a folder that holds {name}")
    return folder
