"""`isodistill benchmarks`: what a student can be evaluated on beside its own data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def benchmarks(
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the list to this file.")] = None,
) -> None:
    """Lists the benchmarks that `isodistill evaluate --benchmark` takes."""
    from rich.table import Table

    from isodistill.benchmarks import BENCHMARKS
    from isodistill.cli.progress import console
    from isodistill.files import check_writable, write_text_atomically

    if json_out is not None:
        check_writable(str(json_out.parent))
    table = Table(show_lines=True)
    for column in ("benchmark", "what it asks", "NAME:...", "default", "by", "licence"):
        table.add_column(column, overflow="fold")
    entries = []
    for kind in BENCHMARKS.values():
        by = kind.ways or ("the harness",)
        table.add_row(
            kind.name, f"{kind.title}. {kind.about}", kind.argument, kind.default or "-", "\n".join(by), kind.license
        )
        fields = ("name", "title", "about", "argument", "default", "license")
        entries.append({**{field: getattr(kind, field) for field in fields}, "by": list(kind.ways)})
    console().print(table)
    if json_out is not None:
        write_text_atomically(json_out, json.dumps(entries, indent=1) + "\n")
