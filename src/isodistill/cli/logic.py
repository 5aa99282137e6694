"""`isodistill logic`: what can be asked about formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="First-order logic from text.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """First-order logic from text."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON lines in FOLIO's format.")],
    json_out: Annotated[Path | None, typer.Option("--json", help="Write counts and lists to this file.")] = None,
    timeout_ms: Annotated[int, typer.Option(min=1, help="Limit of each question to z3, in milliseconds.")] = 2000,
) -> None:
    """Parses each row's formulas, repairs slips, solves it with z3 and compares the verdict with the label."""
    from rich.markup import escape

    from isodistill.cli.progress import bars, console
    from isodistill.files import check_writable, write_text_atomically
    from isodistill.logic.check import check_rows
    from isodistill.logic.folio import read_jsonl

    rows = read_jsonl(file)
    if json_out is not None:
        check_writable(json_out.parent)
    with bars() as progress:
        report = check_rows(rows, str(file), timeout_ms, progress).to_json()
    out = console()
    for name, value in report.items():
        if isinstance(value, int):
            out.print(f"{name:14} {value}", highlight=False)
    for entry in report["repaired"]:
        out.print(
            escape(f"repaired: row {entry['row']}, {entry['formula']}, column {entry['column']}: {entry['what']}"),
            highlight=False,
            soft_wrap=True,
        )
    for entry in report["unparsed"]:
        out.print(escape(f"unparsed: row {entry['row']}: {entry['problem']}"), highlight=False, soft_wrap=True)
    for entry in report["disagreeing"]:
        told = f"disagrees: row {entry['row']}: label {entry['label']}, z3 {entry['outcome']}: {entry['conclusion']}"
        out.print(escape(told), highlight=False, soft_wrap=True)
    if json_out is not None:
        write_text_atomically(json_out, json.dumps({"file": str(file), **report}, indent=2, ensure_ascii=False) + "\n")
        out.print(escape(f"written: {json_out}"), highlight=False, soft_wrap=True)
