"""`isodistill show`: one isomer set side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from isodistill.errors import IsodistillError

if TYPE_CHECKING:
    from isodistill.isomers.compare import Cell


def show(
    data: Annotated[Path, typer.Argument(help="A data set.")],
    set_id: Annotated[str | None, typer.Option("--set", help="The set. Default: the first.")] = None,
    split: Annotated[str | None, typer.Option(help="The split. Default: the first that has the set.")] = None,
) -> None:
    """Shows one isomer set side by side; a difference in structure is an error and ends in exit code 1."""
    from rich.table import Column, Table

    from isodistill.cli.progress import console
    from isodistill.isomers.compare import compare_members
    from isodistill.isomers.store import available_splits, iterate_split

    splits = [split] if split else list(available_splits(data))
    found = next(
        (
            (name, isomer_set)
            for name in splits
            for isomer_set in iterate_split(data, name)
            if set_id is None or isomer_set.set_id == set_id
        ),
        None,
    )
    if found is None:
        raise IsodistillError(
            f"The data set {data} has no set {set_id!r} in {', '.join(splits)}; name one of its sets."
        )
    name, isomer_set = found
    rows = compare_members(isomer_set)
    choices = f", choices {', '.join(isomer_set.choices)}" if isomer_set.choices else ""
    screen = console()
    screen.print(
        escape(
            f"set {isomer_set.set_id} of split {name}: {isomer_set.family}, depth {isomer_set.depth}, answer "
            f"{isomer_set.answer}{choices}"
        ),
        highlight=False,
    )
    table = Table("", *(Column(escape(one.domain), overflow="fold") for one in isomer_set.members), show_lines=True)
    for row in rows:
        stated = f"[dim]{escape(row.stated)}[/dim]" if row.stated else ""
        table.add_row(f"{escape(row.place)}\n{stated}", *(_shown(cell) for cell in row.cells))
    if any(member.cue for member in isomer_set.members):
        table.add_row("cue points at", *(escape(member.cue or "-") for member in isomer_set.members))
    if any(member.completion for member in isomer_set.members):
        table.add_row("completion", *(escape(member.completion) for member in isomer_set.members))
    screen.print(table)
    errors = sum(bool(cell.error) for row in rows for cell in row.cells)
    if errors:
        screen.print(f"[bold red]{errors} differences in structure[/bold red]")
        raise typer.Exit(1)
    compared = any(row.stated for row in rows)
    screen.print("the members differ by their words alone" if compared else "no skeleton to compare with")


def _shown(cell: Cell) -> str:
    if cell.error:
        return f"[bold red]{escape(cell.text)}\nERROR: {escape(cell.error)}[/bold red]"
    return escape(cell.text)
