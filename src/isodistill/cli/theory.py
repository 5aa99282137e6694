"""`isodistill theory`: the bound of finished runs, and the rate of convergence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from isodistill.theory.rate import RateReport
    from isodistill.theory.runs import BoundReport, RunBound

app = typer.Typer(no_args_is_help=True, help="Check the theory: bounds over domains, and the rate of convergence.")

Json = Annotated[Path | None, typer.Option("--json", help="Write the raw numbers to this file.")]


@app.command()
def bound(
    runs: Annotated[list[Path], typer.Argument(help="Folders of evaluated runs, or evaluation files.")],
    split: Annotated[
        list[str] | None, typer.Option(help="A split of unseen domains; repeatable. Default: every unseen_domain....")
    ] = None,
    seen_split: Annotated[str, typer.Option(help="The split with the training domains, for the PAC-Bayes bound.")] = (
        "iid"
    ),
    delta: Annotated[float, typer.Option(help="The probability with which each bound may fail.")] = 0.05,
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the Gaussians around adapter and start; choose it beforehand.")
    ] = 0.01,
    start: Annotated[
        Path | None, typer.Option(help="Folder of the adapter before training. Default: a prior around zero.")
    ] = None,
    json_out: Json = None,
) -> None:
    """Bounds the risk in a new domain, from evaluations of finished runs."""
    from isodistill.cli.progress import console
    from isodistill.files import check_writable, write_text_atomically
    from isodistill.theory.runs import BoundOptions, bound_runs

    if json_out is not None:
        check_writable(json_out.parent)
    options = BoundOptions(tuple(split or ()), seen_split, delta, sigma, start)
    report = bound_runs(runs, options)
    screen = console()
    _print_bounds(report)
    for note in report.notes:
        screen.print(note, markup=False, highlight=False)
    for prior in dict.fromkeys(row.prior for row in report.bounds if row.prior):
        screen.print(
            f"PAC-Bayes: the prior is {prior}, sigma {sigma:g}. The bound is that of the adapter with noise of that"
            " sigma; the risks were measured without, so it holds as far as such noise leaves them as they are.",
            markup=False,
            highlight=False,
        )
    if json_out is not None:
        write_text_atomically(json_out, report.model_dump_json(indent=1) + "\n")
        screen.print(f"written: {json_out}", markup=False, highlight=False)


@app.command()
def rate(
    steps: Annotated[str, typer.Option(help="The numbers of steps T, comma-separated. Default: 128 to 8192.")] = "",
    seeds: Annotated[int, typer.Option(help="Runs for each T; they differ in start and batches.")] = 8,
    tau: Annotated[float, typer.Option(help="The mask's temperature.")] = 1.0,
    step_size: Annotated[
        float | None, typer.Option(help="c of the step size c / sqrt(T). Default: the best for plain SGD elsewhere.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the problem.")] = 0,
    json_out: Json = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the curves to this file, .svg or .png.")] = None,
) -> None:
    """Measures how fast SGD, with and without mask and projection, brings the gradient down (about two minutes)."""
    import torch

    from isodistill.cli.progress import bars, console
    from isodistill.cli.values import comma_list
    from isodistill.errors import IsodistillError
    from isodistill.files import check_writable, write_text_atomically
    from isodistill.theory.chart import rate_chart
    from isodistill.theory.convergence import Problem
    from isodistill.theory.rate import STEPS, measure_rate

    if figure is not None and figure.suffix not in (".svg", ".png"):
        raise IsodistillError(f"--figure {figure}: the picture is an .svg or a .png; name it so")
    for file in (json_out, figure):
        if file is not None:
            check_writable(file.parent)
    try:
        counts = tuple(int(part) for part in comma_list(steps)) or STEPS
    except ValueError:
        raise IsodistillError(f"--steps {steps!r} is not a list of whole numbers: write 128,256,512") from None
    torch.set_num_threads(1)  # matrices of ten numbers gain nothing from more
    with bars() as progress:
        report = measure_rate(Problem(seed=seed), counts, seeds, tau, step_size, progress)
    _print_rates(report)
    if json_out is not None:
        write_text_atomically(json_out, report.model_dump_json(indent=1) + "\n")
        console().print(f"written: {json_out}", markup=False, highlight=False)
    if figure is not None:
        drawn = rate_chart(report)
        if figure.suffix == ".svg":
            write_text_atomically(figure, drawn.svg())
        else:
            figure.write_bytes(drawn.png())
        console().print(f"written: {figure}", markup=False, highlight=False)


def _print_bounds(report: BoundReport) -> None:
    """Prints a table for each split and inequality, so that the runs stand side by side."""
    from rich.markup import escape
    from rich.table import Table

    from isodistill.cli.progress import console
    from isodistill.theory.runs import SAYS_SOMETHING

    kinds = {"unseen": "never trained on", "training": "trained on"}
    for split, domains, name in dict.fromkeys((row.split, row.domains, row.bound.name) for row in report.bounds):
        table = Table(title=f"{escape(split)}, domains {kinds[domains]}: {name}", title_justify="left")
        heads = ["run", "K", "mean risk", *(["KL"] if domains == "training" else []), "bound", "says"]
        for head in (*heads, f"K for < {SAYS_SOMETHING}", "K for < constant"):
            table.add_column(head, overflow="fold")
        for row in report.bounds:
            if (row.split, row.domains, row.bound.name) != (split, domains, name):
                continue
            table.add_row(
                escape(row.run) + (f" ({escape(row.method)})" if row.method else ""),
                str(row.bound.domains),
                f"{row.bound.mean:.3f}",
                *([f"{row.bound.kl:.4g}"] if domains == "training" else []),
                f"{row.bound.value:.4g}",
                _verdict(row),
                _count(row.domains_needed),
                "" if row.constant_risk is None else _count(row.domains_needed_below_constant),
            )
        console().print(table)


def _count(count: int | None) -> str:
    return "none" if count is None else f"{count:,}"


def _verdict(row: RunBound) -> str:
    """What a bound says, in words."""
    if row.vacuous:
        return "vacuous"
    if row.constant_risk is not None and row.bound.value >= row.constant_risk:
        return "above a constant answer"
    return "something"


def _print_rates(report: RateReport) -> None:
    from rich.table import Table

    from isodistill.cli.progress import console
    from isodistill.theory.rate import GOAL, rate_rows

    title = f"slope of log(mean squared norm) on log(T), {report.seeds} seeds, step size {report.step_size:g} / sqrt(T)"
    table = Table(title=title, title_justify="left")
    for head in ("direction", "norm of", "slope", "95% interval", f"at or below {GOAL}"):
        table.add_column(head)
    for row in rate_rows(report):
        table.add_row(*row)
    console().print(table)
