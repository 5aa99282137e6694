"""`isodistill bench`: what things cost, as ratios within one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure costs, as ratios within one run.")


@app.command()
def methods(
    data: Annotated[Path, typer.Argument(help="Directory of a distilled data set.")],
    student: Annotated[str, typer.Option(help="The student to time.")] = "smollm2-135m",
    sets: Annotated[int, typer.Option(help="Isomer sets in one step.")] = 2,
    rounds: Annotated[int, typer.Option(help="Rounds over all methods.")] = 3,
    steps: Annotated[int, typer.Option(help="Timed steps of a method in a round, after one untimed.")] = 2,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the raw times to this file.")] = None,
) -> None:
    """Times one training step of every method relative to plain fine-tuning."""
    from rich.table import Table

    from isodistill.bench.methods import measure_method_costs
    from isodistill.cli.progress import console
    from isodistill.files import check_writable, write_text_atomically
    from isodistill.students import load_student
    from isodistill.trainer.run import load_training_split

    if json_out is not None:
        check_writable(str(json_out.parent))
    rows = load_training_split(str(data), "train")
    model, tokenizer = load_student(student)
    table = measure_method_costs(
        student, model, tokenizer, rows, sets, rounds, steps, lambda case: console().print(f"timing {case}")
    )
    shown = Table(title=f"{student}, {table.tokens} tokens a step, {table.threads} threads")
    for column in ("method", "seconds a step", "relative to erm"):
        shown.add_column(column)
    for cost in table.costs:
        shown.add_row(cost.case, f"{cost.median:.2f}", f"{cost.ratio:.2f}")
    console().print(shown)
    if json_out is not None:
        write_text_atomically(json_out, table.model_dump_json(indent=1) + "\n")
