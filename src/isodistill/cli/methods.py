"""`isodistill methods`: what the gradient methods are, need and take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def methods(
    json_out: Annotated[Path | None, typer.Option("--json", help="Also write the list to this file.")] = None,
) -> None:
    """Lists the gradient methods with their hyperparameters and needs."""
    from rich.table import Table

    from isodistill.cli.progress import console
    from isodistill.files import check_writable, write_text_atomically
    from isodistill.methods.catalogue import catalogue

    if json_out is not None:
        check_writable(str(json_out.parent))
    entries = catalogue()
    table = Table(show_lines=True)
    for column in ("method", "what it does", "options (default)", "needs", "source"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        notes = [] if entry.micro_batch_exact else ["penalty or draw per micro-batch"]
        notes += [] if entry.max_processes is None else [f"at most {entry.max_processes} process"]
        notes += [] if entry.reduced_precision else ["no bf16"]
        notes += ["may be a penalty"] if entry.combines else []
        table.add_row(
            entry.name,
            entry.summary,
            "\n".join(f"{option.name} ({option.default})" for option in entry.options),
            "\n".join(entry.needs + notes),
            entry.source,
        )
    console().print(table)
    if json_out is not None:
        write_text_atomically(json_out, json.dumps([entry.model_dump() for entry in entries], indent=1) + "\n")
