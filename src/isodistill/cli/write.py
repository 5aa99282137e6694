"""`isodistill write`: a model writes members of isomer sets in other domains, and the proved ones are kept."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from isodistill.cli.values import json_object, prices_of
from isodistill.errors import IsodistillError

if TYPE_CHECKING:
    from isodistill.teachers import Teacher
    from isodistill.teachers.meter import Prices
    from isodistill.teachers.plan import Plan
    from isodistill.writing import Sources, WritingReport
    from isodistill.writing.account import Account

STORE = Path("writing.sqlite")
"""Where replies are kept unless told otherwise: apart from the traces that `isodistill traces export` gives."""


def write(
    source: Annotated[str, typer.Argument(help="A data set with formulas, or folio:FILE.jsonl.")],
    out: Annotated[Path, typer.Option(help="Directory to write.")],
    teacher: Annotated[str, typer.Option(help="The writer: hf:PATH (a local model) or openai:MODEL (a server).")],
    domains: Annotated[str, typer.Option(help="Domains to write in, comma-separated, such as medicine,law.")],
    reader: Annotated[str | None, typer.Option(help="The model that reads back. Default: the writer.")] = None,
    store: Annotated[Path, typer.Option(help="Keeps every reply; share it between runs.")] = STORE,
    base_url: Annotated[str | None, typer.Option(help="Server address, such as http://127.0.0.1:8000/v1.")] = None,
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "OPENAI_API_KEY",
    split: Annotated[
        list[str] | None, typer.Option(help="A split; repeatable. Default: train of a data set, all of a file.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many problems of each split.")] = None,
    incomplete: Annotated[
        str, typer.Option(help="A set that lacks a domain: 'drop' it, or 'keep' it in a split of its own.")
    ] = "drop",
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of a reply.")] = 2048,
    temperature: Annotated[float, typer.Option(help="Of the first attempt; 0 is greedy.")] = 0.0,
    temperature_step: Annotated[float, typer.Option(help="What each retry adds.")] = 0.3,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Nucleus sampling.")] = 1.0,
    retries: Annotated[
        int, typer.Option(help="Further attempts while a proposal fails, or no reading is readable.")
    ] = 3,
    max_requests: Annotated[int | None, typer.Option(help="Budget of this run: requests sent.")] = None,
    max_tokens_total: Annotated[int | None, typer.Option(help="Budget of this run: tokens read and written.")] = None,
    price: Annotated[str | None, typer.Option(help="Price of a million tokens, READ,WRITTEN: '0.15,0.60'.")] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.")] = 8,
    timeout: Annotated[float, typer.Option(help="Longest time of one request, in seconds.")] = 300.0,
    max_tries: Annotated[int, typer.Option(help="How often a request is sent that meets errors.")] = 6,
    send_seed: Annotated[bool, typer.Option(help="Send a seed; a few servers refuse the field.")] = True,
    extra_body: Annotated[str | None, typer.Option(help="Further fields of a request, a JSON object.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests in a batch of a local model.")] = 8,
    device: Annotated[str, typer.Option(help="Where a local model runs.")] = "cpu",
    timeout_ms: Annotated[int, typer.Option(min=1, help="Limit of each question to z3, in milliseconds.")] = 2000,
    seed: Annotated[int, typer.Option(help="Equal seeds ask for equal samples.")] = 0,
    dry_run: Annotated[bool, typer.Option(help="Print what would be asked, and send nothing.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing data set.")] = False,
) -> None:
    """Has a model write members in other domains; kept is what grammar, solver and a back-translation confirm."""
    from isodistill.cli.progress import bars
    from isodistill.cli.teaching import spending_bars, spent
    from isodistill.cli.values import comma_list
    from isodistill.isomers.store import check_target
    from isodistill.teachers import make_teacher
    from isodistill.teachers.meter import Meter
    from isodistill.teachers.sampling import make_sampling
    from isodistill.teachers.server import ServerLimits
    from isodistill.traces import TraceStore
    from isodistill.writing import WritingOptions, read_sources, write_isomers, writing_instruction
    from isodistill.writing.write import check_domains, plan_requests

    if incomplete not in ("drop", "keep"):
        raise IsodistillError(f"--incomplete {incomplete!r} is neither drop nor keep: choose one")
    for option, name in (("--teacher", teacher), ("--reader", reader)):
        if name is not None and name.partition(":")[0] == "symbolic":
            raise IsodistillError(
                f"{option} symbolic tells proofs and writes no problems: give hf:PATH or openai:MODEL"
            )
    check_target(out, overwrite)
    prices, meter = prices_of(price), Meter(max_requests, max_tokens_total)
    options = WritingOptions(
        domains=comma_list(domains),
        sampling=make_sampling(retries=retries, temperature=temperature, temperature_step=temperature_step, seed=seed),
        incomplete="keep" if incomplete == "keep" else "drop",
        timeout_ms=timeout_ms,
    )
    model = {"instruction": writing_instruction(), "max_tokens": max_tokens, "top_p": top_p, "meter": meter}
    server = {
        "base_url": base_url,
        "key_variable": key_env,
        "send_seed": send_seed,
        "extra": json_object(extra_body),
        "limits": ServerLimits(concurrency, timeout, max_tries),
    }
    settings: dict[str, dict[str, Any]] = {
        "hf": {**model, "batch_size": batch_size, "device": device},
        "openai": {**model, **server},
    }

    def build(name: str) -> Teacher:
        return make_teacher(name, **settings.get(name.partition(":")[0], {}))

    with bars("check ") as progress:
        sources = read_sources(source, tuple(split or ()), limit, timeout_ms, progress)
    check_domains(options.domains, sources)
    writer = build(teacher)
    second = build(reader) if reader is not None and reader != teacher else None
    # A plan makes no file: without a store there is nothing to find in it either.
    with nullcontext() if dry_run and not store.is_file() else TraceStore(store, create=not dry_run) as open_store:
        plans = plan_requests(sources, writer, options, second, open_store, max_tokens)
        _show_plan(sources, (writer, second or writer), plans, retries, prices)
        if dry_run:
            return
        with spending_bars(meter, prices) as move:
            report = write_isomers(sources, writer, out, options, second, open_store, move, overwrite)
    _show_report(report)
    _say(f"{spent(meter, prices)}; account: {report.record}")
    if not report.sets:
        _say("no set is complete, so no data set was written")
        raise typer.Exit(1)


def _show_plan(
    sources: Sources, teachers: tuple[Teacher, Teacher], plans: tuple[Plan, Plan], retries: int, prices: Prices | None
) -> None:
    for split, reasons in sources.dropped.items():
        for reason, count in reasons.items():
            _say(f"{split}: {count} problems cannot be used: {reason}")
    counts = ", ".join(f"{len(problems)} in {split}" for split, problems in sources.splits.items())
    proposals, readings = plans
    writer, reader = (teacher.name for teacher in teachers)
    _say(
        f"plan: {proposals.problems} members of the problems ({counts}) by {writer}, read back by {reader};"
        f" {proposals.settled} proposals and {readings.settled} readings settled by the store"
    )
    coming = proposals.problems - proposals.settled
    for word, requests in (
        ("least", proposals.least_requests + readings.least_requests + coming * min(1, retries)),
        ("most", proposals.most_requests + readings.most_requests + coming * (1 + retries)),
    ):
        # Readings are shorter than proposals, so this is on the high side.
        read, written = proposals.tokens(requests) if proposals.least_requests else readings.tokens(requests)
        basis = "as measured" if proposals.measured else "at most"
        cost = "" if prices is None else f", cost about {prices.cost(read, written):.2f}"
        _say(f"at {word} {requests} requests: about {read:,} tokens read and {written:,} written ({basis}){cost}")


def _show_report(report: WritingReport) -> None:
    from isodistill.cli.progress import console

    console().print(_table(report.account))
    for what, count in report.account.mends().most_common():
        _say(f"repaired: {what}, {count} times")
    for split, count in report.sets.items():
        _say(f"{split}: {count} isomer sets")
    _say(f"{report.dropped_sets} sets dropped" + (f"; written: {report.out}" if report.sets else ""))


def _table(account: Account) -> Any:
    from rich.table import Table

    table = Table("domain", "members", "kept", "repaired", "dropped", "dropped because of")
    for domain in dict.fromkeys(item.domain for item in account.items):
        fates = account.fates(domain)
        reasons = ", ".join(f"{reason} {count}" for reason, count in account.reasons(domain).most_common())
        counts = (sum(fates.values()), fates["kept"], fates["repaired"], fates["dropped"])
        table.add_row(escape(domain), *map(str, counts), escape(reasons))
    return table


def _say(text: str) -> None:
    from isodistill.cli.progress import console

    console().print(text, markup=False, highlight=False, soft_wrap=True)
