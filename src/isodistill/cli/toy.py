"""`isodistill toy`: every method on a problem whose invariant is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def toy(
    methods: Annotated[
        str, typer.Option(help="Comma-separated rows: METHOD, iga/SPACE, either with /shuffled behind; '' for all.")
    ] = "",
    variants: Annotated[str, typer.Option(help="Of shared, own, rotated.")] = "shared,own,rotated",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that are reported.")] = 10,
    tuning_seeds: Annotated[int, typer.Option(min=0, help="Further seeds that choose the trial; 0: no tuning.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of a run.")] = 100,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Keep the raw results here; an unfinished study goes on.")
    ] = None,
) -> None:
    """Shows on a toy problem which methods tell the invariant from the shortcut."""
    import torch
    from rich.table import Table

    from isodistill.cli.progress import bars, console
    from isodistill.cli.values import comma_list
    from isodistill.files import check_writable
    from isodistill.toy.grid import all_cases
    from isodistill.toy.study import SETTINGS, TUNED, StudySettings, rows_of, run_study

    if json_out is not None:
        check_writable(json_out.parent)
    torch.set_num_threads(1)  # matrices of ten numbers gain nothing from more
    settings = StudySettings(seeds=seeds, tuning_seeds=tuning_seeds, steps=steps)
    chosen: Any = comma_list(variants)
    with bars() as progress:
        study = run_study(comma_list(methods) or all_cases(), settings, chosen, json_out, progress)
    for variant, setting in ((v, s) for v in chosen for s in SETTINGS):
        rows = rows_of(study, variant, setting)
        if not rows:
            continue
        told = "tuned" if setting == TUNED else f"default options, {setting}"
        table = Table(title=f"{variant}, {told}: mean ± standard deviation over {seeds} seeds")
        for head in ("method", "cue weight", "random cue", "reversed cue", "chosen")[: 5 if setting == TUNED else 4]:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*row[: len(table.columns)])
        console().print(table)
    if json_out is not None:
        console().print(f"written: {json_out}", markup=False, highlight=False)
