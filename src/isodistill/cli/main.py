"""The `isodistill` command: one function for each subcommand, each importing only what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from isodistill.cli import bench, importing, logic, packs, theory, traces
from isodistill.cli.audit import audit
from isodistill.cli.benchmarks import benchmarks
from isodistill.cli.compare import compare
from isodistill.cli.distill import distill
from isodistill.cli.methods import methods
from isodistill.cli.report import report
from isodistill.cli.show import show
from isodistill.cli.toy import toy
from isodistill.cli.write import write
from isodistill.errors import IsodistillError

app = typer.Typer(
    name="isodistill",
    help="Distil the logic, not the surface: isomer sets, teachers, gradient alignment and honest evaluation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(bench.app, name="bench")
app.add_typer(logic.app, name="logic")
app.add_typer(importing.app, name="import")
app.add_typer(packs.app, name="packs")
app.add_typer(theory.app, name="theory")
app.add_typer(traces.app, name="traces")
app.command()(audit)
app.command()(benchmarks)
app.command()(compare)
app.command()(distill)
app.command()(methods)
app.command()(report)
app.command()(show)
app.command()(toy)
app.command()(write)

# Options that belong to the trainer's own parser are handed through untouched, --help included.
_PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run() -> None:
    """Runs the command line; a user's mistake ends in one sentence and exit code 2."""
    try:
        app()
    except IsodistillError as error:
        sys.stderr.write(f"isodistill: error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("isodistill: interrupted; finished work is kept\n")
        sys.exit(130)


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist yet.")],
    family: Annotated[str, typer.Option(help="Problem family, for example deduction.")] = "deduction",
    domains: Annotated[str, typer.Option(help="Training domains, comma-separated: packs, nonce:SEED, YAML files.")] = (
        "math,medicine,law,science"
    ),
    unseen_domains: Annotated[str, typer.Option(help="Domains for testing only; '' for none.")] = "finance,cooking",
    sets: Annotated[int, typer.Option(help="Training sets.")] = 500,
    validation_sets: Annotated[int, typer.Option(help="Validation sets.")] = 100,
    test_sets: Annotated[int, typer.Option(help="Test sets, and deeper ones.")] = 200,
    depth: Annotated[str, typer.Option(help="Depth, or least-most.")] = "1-3",
    deeper: Annotated[str | None, typer.Option(help="Depth of the split 'deeper'. Default: the next two.")] = None,
    cue_rate: Annotated[
        float | None, typer.Option(help="Plant a shortcut that agrees with the answer at this rate, in [0, 1].")
    ] = None,
    cue_phrases: Annotated[
        int | None, typer.Option(min=1, help="Sentences of a domain that serve as the shortcut. Default: all it has.")
    ] = None,
    label_noise: Annotated[
        float, typer.Option(help="Share of the training sets that teachers will answer wrongly; cues follow.")
    ] = 0.0,
    told_in: Annotated[
        int | None, typer.Option(min=2, help="Tell each training set in so many of the domains. Default: in all.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="A family option, name=value; repeatable.")] = None,
    max_sets_per_skeleton: Annotated[int, typer.Option(help="Sets that may share a skeleton.")] = 1,
    split_by: Annotated[
        str, typer.Option(help="What train and test may not share: 'structure', or 'wording' for short problems.")
    ] = "structure",
    audit: Annotated[bool, typer.Option(help="Refuse data whose answers a probe on word counts can tell.")] = True,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal data.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing data set.")] = False,
) -> None:
    """Generates isomer sets, verified by a solver, as Parquet with a dataset card."""
    from isodistill.cli.values import comma_list, family_options, span
    from isodistill.isomers.config import make_config
    from isodistill.isomers.generate import generate as generate_sets

    values: dict[str, Any] = {
        "family": family,
        "options": family_options(option or []),
        "domains": comma_list(domains),
        "unseen_domains": comma_list(unseen_domains),
        "sets": sets,
        "validation_sets": validation_sets,
        "test_sets": test_sets,
        "depth": span(depth, "--depth"),
        "deeper": None if deeper is None else span(deeper, "--deeper"),
        "shortcut": None if cue_rate is None else {"rate": cue_rate, "phrases": cue_phrases},
        "label_noise": label_noise,
        "told_in": told_in,
        "max_sets_per_skeleton": max_sets_per_skeleton,
        "split_by": split_by,
        "audit": audit,
        "seed": seed,
    }
    config = make_config(**values)
    from isodistill.cli.progress import bars, console

    with bars() as progress:
        report = generate_sets(config, out, progress, overwrite=overwrite)
    rate = report.members / max(report.seconds, 1e-9) * 60
    taken = f"; {report.resumed} problems were there from an unfinished run" if report.resumed else ""
    console().print(
        f"{report.members} members in {sum(report.splits.values())} sets, all verified, {report.duplicates} duplicates,"
        f" {rate:,.0f} members a minute{taken}: {out}"
    )


@app.command(context_settings=_PASS_THROUGH)
def train(context: typer.Context) -> None:
    """Trains a LoRA student on isomer sets: `isodistill train [CONFIG.yaml] [--option value ...]`."""
    from isodistill.cli.train import train_from_arguments

    train_from_arguments(context.args)


@app.command()
def evaluate(
    data: Annotated[Path | None, typer.Option(help="A data set with test splits.")] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:PATH, hub id or task; see `isodistill benchmarks`. Repeatable."),
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="Built-in name, folder, .gguf file or hub id. Default: the adapter's own.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="A trained adapter; none evaluates the plain student.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A split to evaluate; repeatable. Default: all tests.")
    ] = None,
    by: Annotated[str, typer.Option(help="Let it write ('generation'), compare choices ('likelihood'), or 'both'.")] = (
        "both"
    ),
    limit_sets: Annotated[int | None, typer.Option(help="At most this many sets of each split.")] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences in a batch.")] = 32,
    max_new_tokens: Annotated[int, typer.Option(help="The most tokens of a completion.")] = 256,
    rationale: Annotated[str, typer.Option(help="Score answers after the 'student' rationale, or after 'none'.")] = (
        "student"
    ),
    system_prompt: Annotated[str | None, typer.Option(help="System message. Default: the one of training.")] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Run the student in bf16 autocast, its head excepted.")] = False,
    bootstrap_samples: Annotated[int, typer.Option(help="Resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    lm_eval_include: Annotated[
        Path | None, typer.Option(help="Folder with further tasks (YAML) for --benchmark lm-eval:TASK.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file. Default: evaluation.json beside the adapter.")] = None,
) -> None:
    """Measures accuracy and logical consistency on test splits and benchmarks, with 95% intervals."""
    from isodistill.cli.evaluate import evaluate_adapter

    evaluate_adapter(
        data,
        student,
        adapter,
        out,
        {
            "splits": split or None,
            "by": by,
            "limit_sets": limit_sets,
            "batch_size": batch_size,
            "max_new_tokens": max_new_tokens,
            "rationale": rationale,
            "system_prompt": system_prompt,
            "bf16": bf16,
            "bootstrap_samples": bootstrap_samples,
            "seed": seed,
        },
        benchmark or [],
        lm_eval_include,
    )


@app.command()
def student(
    name: Annotated[str, typer.Argument(help="Built-in name (smollm2-135m, lab) or .gguf file.")] = "smollm2-135m",
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the lab student, name=value; repeatable.")
    ] = None,
) -> None:
    """Prints the folder of a student's weights; on first use it converts a GGUF file or pretrains the lab student."""
    from isodistill.students import LAB, cache_dir, resolve_student

    if option and name != LAB:
        raise IsodistillError(f"--option belongs to the student {LAB!r}, not to {name!r}: leave it out")
    if option:
        from isodistill.cli.values import family_options
        from isodistill.lab import build_lab, make_lab_config

        folder = str(build_lab(make_lab_config(**family_options(option)), cache_dir() / "students"))
    else:
        folder = resolve_student(name)
    sys.stdout.write(folder + "\n")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, adapters and the report.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="Seed of data and training.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of each run.")] = None,
) -> None:
    """Runs the whole idea on a real student: data, teacher, ERM and IGA, evaluation, report."""
    from isodistill.cli.demo import DemoConfig, run_demo

    config = DemoConfig(seed=seed) if steps is None else DemoConfig(seed=seed, steps=steps)
    run_demo(out, config)
