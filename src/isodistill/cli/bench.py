"""`isodistill bench`: what things cost, as ratios within one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from isodistill.bench.timing import BenchTable
    from isodistill.bench.workload import Workload

app = typer.Typer(no_args_is_help=True, help="Measure costs, as ratios within one run.")

Student = Annotated[str, typer.Option(help="The student to time.")]
Tokens = Annotated[int, typer.Option(help="Tokens in one step, as near as whole problems allow.")]
Sequences = Annotated[int | None, typer.Option(help="Sequences in one step. Default: one for 128 tokens, at least 4.")]
Domains = Annotated[int, typer.Option(help="Domains K; a divisor of the number of sequences.")]
Rounds = Annotated[int, typer.Option(help="Counted rounds over all cases, after one that is not counted.")]
Steps = Annotated[int, typer.Option(help="Counted steps of a case in a round.")]
Threads = Annotated[int | None, typer.Option(help="Torch's threads. Default: torch's own choice.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the raw figures to this file.")]


@app.command()
def step(
    student: Student = "smollm2-135m",
    tokens: Tokens = 2048,
    sequences: Sequences = None,
    domains: Domains = 4,
    rank: Annotated[int, typer.Option(min=1, help="LoRA's rank.")] = 8,
    rounds: Rounds = 3,
    steps: Steps = 2,
    threads: Threads = None,
    json_out: Json = None,
) -> None:
    """Times a training step of IGA in each space and of other methods, relative to TRL's own trainer."""
    from isodistill.bench.steps import bench_step

    model, tokenizer, workload = _load(student, tokens, sequences, threads, json_out)
    _finish(bench_step(model, tokenizer, workload, domains, rounds, steps, rank, progress=_say), json_out)


@app.command()
def ways(
    student: Student = "smollm2-135m",
    tokens: Tokens = 1024,
    sequences: Sequences = None,
    domains: Domains = 4,
    rounds: Rounds = 3,
    steps: Steps = 1,
    threads: Threads = None,
    json_out: Json = None,
) -> None:
    """Times the one-pass engine against K dense backward passes with full SVDs, and against TorchJD's jac."""
    from isodistill.bench.steps import bench_ways

    model, tokenizer, workload = _load(student, tokens, sequences, threads, json_out)
    _finish(bench_ways(model, tokenizer, workload, domains, rounds, steps, progress=_say), json_out)


@app.command()
def scaling(
    student: Student = "smollm2-135m",
    tokens: Tokens = 2048,
    sequences: Sequences = None,
    space: Annotated[list[str] | None, typer.Option(help="A mask space; repeatable. Default: factor, weight.")] = None,
    rounds: Rounds = 3,
    steps: Steps = 2,
    threads: Threads = None,
    json_out: Json = None,
) -> None:
    """Times a step under 2, 4, 8 and 16 domains, on the same texts."""
    from isodistill.bench.steps import bench_scaling

    model, tokenizer, workload = _load(student, tokens, sequences, threads, json_out)
    counts = tuple(count for count in (2, 4, 8, 16) if len(workload.sequences) % count == 0)
    spaces = tuple(space or ("factor", "weight"))
    _finish(bench_scaling(model, tokenizer, workload, counts, spaces, rounds, steps, progress=_say), json_out)


@app.command()
def projection(
    size: Annotated[int, typer.Option(help="Rows and columns of the matrix.")] = 4096,
    rank: Annotated[int, typer.Option(help="Rank of the projection.")] = 16,
    rounds: Rounds = 2,
    threads: Threads = None,
    json_out: Json = None,
) -> None:
    """Times the warm-started projection against a full SVD, and measures what it loses."""
    from isodistill.bench.projection import bench_projection

    _prepare(threads, json_out)
    _finish(bench_projection(size, rank, rounds, progress=_say), json_out)


@app.command()
def marginals(rounds: Rounds = 3, threads: Threads = None, json_out: Json = None) -> None:
    """Times the row and column sums of factored space: from the tokens' Gram matrices, and from formed gradients."""
    from isodistill.bench.marginals import bench_marginals

    _prepare(threads, json_out)
    _finish(bench_marginals(rounds=rounds, progress=_say), json_out)


@app.command()
def memory(
    student: Student = "smollm2-135m",
    tokens: Tokens = 2048,
    sequences: Sequences = None,
    domains: Domains = 4,
    rounds: Annotated[int, typer.Option(help="Processes for each case.")] = 2,
    threads: Annotated[int, typer.Option(help="Torch's threads in each process.")] = 2,
    json_out: Json = None,
) -> None:
    """Measures the peak memory of a step, each case in a process of its own."""
    from isodistill.bench.memory import bench_memory

    _prepare(None, json_out)
    table = bench_memory(
        student, tokens, sequences or _sequences(tokens), domains, rounds=rounds, threads=threads, progress=_say
    )
    _finish(table, json_out)


@app.command()
def generation(
    part: Annotated[str, typer.Option(help="families: each of them; large: deduction alone, for its memory.")] = (
        "families"
    ),
    sets: Annotated[int | None, typer.Option(min=1, help="Sets of each family. Default: 200; large: 10,000.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal data.")] = 0,
    max_sets_per_skeleton: Annotated[int, typer.Option(min=1, help="Sets that may share a skeleton.")] = 1,
    json_out: Json = None,
) -> None:
    """Measures what generating isomer sets costs: time, rejected draws, memory, and what the surface tells."""
    from rich.table import Table

    from isodistill.bench.generation import bench_generation
    from isodistill.cli.progress import console
    from isodistill.files import check_writable, write_text_atomically

    if json_out is not None:
        check_writable(json_out.parent)
    costs = bench_generation(part, sets, seed, max_sets_per_skeleton, progress=_say)
    shown = Table("family", "sets", "sets a second", "audit, seconds", "draws", "rejected", "peak, MiB")
    for run in costs.runs:
        rejected = f"{sum(run.rejected.values()) / run.draws:.1%}"
        rate, audit = f"{run.sets_per_second:.2f}", f"{run.audit_seconds:.1f}"
        shown.add_row(run.config["family"], str(run.sets), rate, audit, str(run.draws), rejected, f"{run.peak_mib:.0f}")
    console().print(shown)
    if json_out is not None:
        write_text_atomically(json_out, costs.model_dump_json(indent=1) + "\n")


@app.command()
def profile(
    student: Student = "smollm2-135m",
    tokens: Tokens = 2048,
    sequences: Sequences = None,
    domains: Domains = 4,
    mask_space: Annotated[str, typer.Option(help="Where the mask acts.")] = "weight",
    threads: Threads = None,
    json_out: Json = None,
) -> None:
    """Shows the ten costliest operators of one step of IGA."""
    from isodistill.bench.profile import bench_profile

    model, tokenizer, workload = _load(student, tokens, sequences, threads, json_out)
    _finish(bench_profile(model, tokenizer, workload, domains, mask_space=mask_space), json_out)


@app.command()
def methods(
    data: Annotated[Path, typer.Argument(help="Directory of a distilled data set.")],
    student: Student = "smollm2-135m",
    sets: Annotated[int, typer.Option(help="Isomer sets in one step.")] = 2,
    rounds: Rounds = 3,
    steps: Steps = 2,
    json_out: Json = None,
) -> None:
    """Times one training step of every method relative to plain fine-tuning."""
    from rich.table import Table

    from isodistill.bench.methods import measure_method_costs
    from isodistill.cli.progress import console
    from isodistill.files import write_text_atomically
    from isodistill.students import load_student
    from isodistill.trainer.run import load_training_split

    _prepare(None, json_out)
    rows = load_training_split(str(data), "train")
    model, tokenizer = load_student(student)
    table = measure_method_costs(student, model, tokenizer, rows, sets, rounds, steps, _say)
    shown = Table(title=f"{student}, {table.tokens} tokens a step, {table.threads} threads")
    for column in ("method", "seconds a step", "relative to erm"):
        shown.add_column(column)
    for cost in table.costs:
        shown.add_row(cost.case, f"{cost.median:.2f}", f"{cost.ratio:.2f}")
    console().print(shown)
    if json_out is not None:
        write_text_atomically(json_out, table.model_dump_json(indent=1) + "\n")


@app.command()
def chart(
    files: Annotated[list[Path], typer.Argument(help="Files that the other commands have written with --json.")],
    out: Annotated[Path, typer.Option(help="Where the picture goes: .svg or .png.")],
) -> None:
    """Draws the ratios of benchmark files, a panel for each."""
    from pydantic import ValidationError

    from isodistill.bench.chart import cost_chart
    from isodistill.bench.timing import BenchTable
    from isodistill.errors import IsodistillError
    from isodistill.files import check_writable, write_text_atomically

    if out.suffix not in (".svg", ".png"):
        raise IsodistillError(f"--out {out}: the picture is an .svg or a .png; name it so")
    check_writable(str(out.parent))
    tables = []
    for file in files:
        try:
            tables.append(BenchTable.model_validate_json(file.read_text(encoding="utf-8")))
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no benchmark's file"
            raise IsodistillError(f"{file}: {why}; give files that `isodistill bench ... --json` wrote") from None
    if not any(table.timings for table in tables):
        raise IsodistillError("None of these files holds timings; give those of step, ways, scaling or projection.")
    drawn = cost_chart(tables)
    if out.suffix == ".svg":
        write_text_atomically(out, drawn.svg())
    else:
        out.write_bytes(drawn.png())


def _prepare(threads: int | None, json_out: Path | None) -> None:
    import warnings

    import datasets
    import torch
    import transformers

    from isodistill.files import check_writable

    # Dozens of short trainings would each draw their bars and warn of the same thing.
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="'pin_memory'")

    if json_out is not None:
        check_writable(str(json_out.parent))
    if threads is not None:
        torch.set_num_threads(threads)


def _load(
    student: str, tokens: int, sequences: int | None, threads: int | None, json_out: Path | None
) -> tuple[Any, Any, Workload]:
    from isodistill.bench.workload import make_workload
    from isodistill.students import load_student

    _prepare(threads, json_out)
    model, tokenizer = load_student(student)
    return model, tokenizer, make_workload(tokenizer, tokens, sequences or _sequences(tokens))


def _sequences(tokens: int) -> int:
    """A deduction problem with its short rationale has about 128 of the student's tokens."""
    return max(4, tokens // 128 // 4 * 4)


def _say(case: str) -> None:
    from isodistill.cli.progress import console

    console().print(case, highlight=False)


def _finish(table: BenchTable, json_out: Path | None) -> None:
    from rich.table import Table

    from isodistill.cli.progress import console
    from isodistill.files import write_text_atomically

    if table.timings:
        named = f", relative to {table.reference}"
        shown = Table("case", "median seconds", "ratio", "least to most", title=f"{table.benchmark}{named}")
        for timing in table.timings:
            spread = f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}"
            shown.add_row(timing.case, f"{timing.median:.3f}", f"{timing.ratio:.2f}", spread)
        console().print(shown)
    if table.figures:
        shown = Table("figure", "value", title=table.benchmark)
        for name, value in table.figures.items():
            shown.add_row(name, f"{value:.4g}")
        console().print(shown)
    if json_out is not None:
        write_text_atomically(json_out, table.model_dump_json(indent=1) + "\n")
