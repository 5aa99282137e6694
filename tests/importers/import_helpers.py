"""What the importers' tests share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from isodistill.cli.main import run


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def import_command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Runs `isodistill import` and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["isodistill", "import", *map(str, arguments)])
    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
