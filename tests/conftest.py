"""What holds for every test."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Sets the imported packages aside from garbage collection.

    They are some million objects that stay to the end, and accelerate collects at the start of every training: looking
    through them took longer than most trainings here.
    """
    gc.collect()
    gc.freeze()
