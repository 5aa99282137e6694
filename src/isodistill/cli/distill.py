"""`isodistill distill`: a teacher writes a verified chain of thought for every problem."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isodistill.errors import IsodistillError

if TYPE_CHECKING:
    from isodistill.teachers import Teacher

STORE = Path("traces.sqlite")
"""Where replies are kept unless told otherwise."""


def distill(
    data: Annotated[Path, typer.Argument(help="A generated data set.")],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    teacher: Annotated[str, typer.Option(help="symbolic, hf:PATH (a local model) or openai:MODEL (a server).")] = (
        "symbolic"
    ),
    style: Annotated[
        str, typer.Option(help="Symbolic: 'full' cites premises, 'short' concludes, 'answer' gives no reason.")
    ] = ("full"),
    noise: Annotated[float, typer.Option(help="Share of the training sets to answer wrongly, on purpose.")] = 0.0,
    noise_seed: Annotated[int, typer.Option(help="Equal seeds make the same sets wrong.")] = 0,
    store: Annotated[Path, typer.Option(help="Keeps every reply of a model; share it between runs.")] = STORE,
    base_url: Annotated[str | None, typer.Option(help="Server address, such as http://127.0.0.1:8000/v1.")] = None,
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
    split: Annotated[
        list[str] | None,
        typer.Option(help="A split to fill; repeatable. Default: all (symbolic), train and validation (models)."),
    ] = None,
    limit_sets: Annotated[int | None, typer.Option(min=1, help="At most this many sets of each filled split.")] = None,
    instruction: Annotated[Path | None, typer.Option(help="Text file with another system message.")] = None,
    shots: Annotated[
        Path | None, typer.Option(help="Solved examples to show first: JSON lines with prompt and completion.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of a reply.")] = 512,
    temperature: Annotated[float, typer.Option(help="Of the first attempt; 0 is greedy.")] = 0.0,
    temperature_step: Annotated[float, typer.Option(help="What each retry adds.")] = 0.3,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Nucleus sampling.")] = 1.0,
    samples: Annotated[int, typer.Option(help="Attempts always made at each problem (best of n).")] = 1,
    retries: Annotated[int, typer.Option(help="Further attempts while none is accepted.")] = 3,
    choose: Annotated[str, typer.Option(help="The accepted trace to keep: first or shortest.")] = "first",
    min_agreement: Annotated[float, typer.Option(help="Least share of samples with the right answer.")] = 0.0,
    check_steps: Annotated[bool, typer.Option(help="Reject rationales with a statement that does not follow.")] = False,
    incomplete: Annotated[
        str | None,
        typer.Option(help="A set with a member without trace: 'drop' it (models' default) or 'fail' (symbolic's)."),
    ] = None,
    fill_from: Annotated[str | None, typer.Option(help="A second teacher for such members, such as symbolic.")] = None,
    max_requests: Annotated[int | None, typer.Option(help="Budget of this run: requests sent.")] = None,
    max_tokens_total: Annotated[int | None, typer.Option(help="Budget of this run: tokens read and written.")] = None,
    price: Annotated[str | None, typer.Option(help="Price of a million tokens, READ,WRITTEN: '0.15,0.60'.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = 8,
    timeout: Annotated[float, typer.Option(help="Longest time of one request, in seconds.")] = 300.0,
    max_tries: Annotated[int, typer.Option(help="How often a request is sent that meets errors.")] = 6,
    send_seed: Annotated[bool, typer.Option(help="Send a seed; a few servers refuse the field.")] = True,
    extra_body: Annotated[str | None, typer.Option(help="Further fields of a request, a JSON object.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Problems in a batch of a local model.")] = 16,
    device: Annotated[str, typer.Option(help="Where a local model runs.")] = "cpu",
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Also keep the k likeliest tokens at each place of each trace.")
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Local model that gives them, hf:PATH. Default: the teacher itself.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="The student, for --top-k of a server: its tokens must be the server's.")
    ] = None,
    system_prompt: Annotated[
        str | None, typer.Option(help="System message that the student will be trained with, for --top-k.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds ask for equal samples.")] = 0,
    dry_run: Annotated[bool, typer.Option(help="Print what would be asked, and send nothing.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing data set.")] = False,
) -> None:
    """Has a teacher write a chain of thought for every problem, and checks every answer."""
    from dataclasses import replace

    from isodistill.cli.teaching import make_keeper, score_traces, show_kept, show_plan, show_report, spending_bars
    from isodistill.cli.values import json_object, prices_of
    from isodistill.isomers.noise import LabelNoise
    from isodistill.isomers.store import available_splits, check_target
    from isodistill.teachers import make_teacher
    from isodistill.teachers.collect import Collector
    from isodistill.teachers.distil import DistilOptions, distil
    from isodistill.teachers.instruction import read_instruction
    from isodistill.teachers.meter import Meter
    from isodistill.teachers.sampling import make_sampling
    from isodistill.teachers.server import ServerLimits
    from isodistill.teachers.steps import check_steps as steps
    from isodistill.traces import TraceStore

    check_target(out, overwrite)
    prices, meter = prices_of(price), Meter(max_requests, max_tokens_total)
    told = read_instruction(instruction, shots)
    model = {"instruction": told, "max_tokens": max_tokens, "top_p": top_p, "meter": meter}
    server: dict[str, Any] = {
        "base_url": base_url,
        "key_variable": key_env,
        "send_seed": send_seed,
        "extra": json_object(extra_body),
        "limits": ServerLimits(concurrency, timeout, max_tries),
    }
    of_server = top_k is not None and scorer is None and teacher.startswith("openai:")
    if of_server:
        _check_server_signals(student, fill_from)
        server["top_logprobs"] = top_k
    elif student is not None:
        raise IsodistillError("--student is for --top-k of a server's own distributions: give both, or neither")
    settings: dict[str, dict[str, Any]] = {
        "symbolic": {"style": style},
        "hf": {**model, "batch_size": batch_size, "device": device},
        "openai": {**model, **server},
    }

    def build(name: str) -> Teacher:
        return make_teacher(name, **settings.get(name.partition(":")[0], {}))

    writer = build(teacher)
    second = build(fill_from) if fill_from is not None else None
    scoring = None if of_server else _scorer(top_k, scorer, teacher)
    if incomplete not in (None, "drop", "fail"):
        raise IsodistillError(f"--incomplete {incomplete!r} is neither drop nor fail: choose one")
    splits = tuple(split) if split else _default_splits(available_splits(data), writer)
    options = DistilOptions(
        sampling=make_sampling(
            samples=samples if writer.varies else 1,
            retries=retries,
            temperature=temperature,
            temperature_step=temperature_step,
            choose=choose,
            min_agreement=min_agreement,
            seed=seed,
        ),
        checks=(steps,) if check_steps else (),
        splits=splits,
        limit_sets=limit_sets,
        incomplete="fail" if (incomplete or ("drop" if writer.varies else "fail")) == "fail" else "drop",
        fill_from=second,
        noise=LabelNoise(noise, noise_seed) if noise else None,
    )
    kept = any(each is not None and each.varies for each in (writer, second)) or scoring is not None
    if dry_run:
        # A plan makes no file: without a store there is nothing to find in it either.
        with TraceStore(store, create=False) if kept and store.is_file() else nullcontext() as open_store:
            collector = Collector(writer, options.sampling, open_store, options.checks)
            show_plan(collector, data, options, told.text, max_tokens, prices)
        return
    with TraceStore(store) if kept else nullcontext() as open_store:
        if writer.varies:
            collector = Collector(writer, options.sampling, open_store, options.checks)
            show_plan(collector, data, options, told.text, max_tokens, prices)
        if of_server and open_store is not None and student is not None and top_k is not None:
            options = replace(options, keeper=make_keeper(student, teacher, top_k, open_store, system_prompt))
        with spending_bars(meter, prices) as progress:
            report = distil(data, writer, out, progress, overwrite, options=options, store=open_store)
        if scoring is not None and open_store is not None:
            score_traces(out, splits, scoring, system_prompt, device, batch_size, open_store)
        if options.keeper is not None:
            show_kept(options.keeper)
    show_report(report, meter, prices, writer.varies)


def _default_splits(present: tuple[str, ...], writer: Teacher) -> tuple[str, ...]:
    """A model is paid, and test splits need no completions."""
    return tuple(split for split in present if split in ("train", "validation")) if writer.varies else present


def _check_server_signals(student: str | None, fill_from: str | None) -> None:
    """Refuses what a server's own distributions cannot be kept with."""
    if student is None:
        raise IsodistillError(
            "--top-k of a server needs --student: the server's tokens are kept as tokens of the student; or give a"
            " local --scorer hf:PATH"
        )
    if fill_from is not None:
        raise IsodistillError(
            "--fill-from writes completions that the server has no distributions for; use --incomplete drop, or a local"
            " --scorer hf:PATH for all of them"
        )


def _scorer(top_k: int | None, scorer: str | None, teacher: str) -> tuple[str, int] | None:
    """Finds the local model that scores the traces."""
    if top_k is None:
        if scorer is not None:
            raise IsodistillError("--scorer needs --top-k: how many tokens to keep at each place, for example 32")
        return None
    name = scorer or teacher
    if not name.startswith("hf:"):
        raise IsodistillError(f"--top-k needs a local model as scorer, and {name!r} is none: give --scorer hf:PATH")
    return name.removeprefix("hf:"), top_k
