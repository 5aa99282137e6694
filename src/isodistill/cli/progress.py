"""Progress bars and the console, shared by the subcommands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_console = Console(stderr=False)


def console() -> Console:
    """Returns the console that results are printed on."""
    return _console


@contextmanager
def bars(prefix: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """Shows one bar for each stage of a long work.

    Args:
        prefix: Put before each stage's name.

    Yields:
        A function (stage, done, total) that moves the stage's bar.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=_console) as progress:

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(f"{prefix}{stage}", total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield move
