"""`isodistill traces`: what stands in a trace store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isodistill.cli.distill import STORE
from isodistill.errors import IsodistillError

if TYPE_CHECKING:
    from isodistill.traces import TraceFilter

app = typer.Typer(help="List, show, export or prune the replies of teachers.", no_args_is_help=True)

Store = Annotated[Path, typer.Option("--store", help="The trace store.")]
Teacher = Annotated[str | None, typer.Option("--teacher", help="Only this kind of teacher: openai, hf.")]
Model = Annotated[str | None, typer.Option("--model", help="Only this model.")]
Prompt = Annotated[str | None, typer.Option("--prompt-version", help="Only this instruction.")]
Family = Annotated[str | None, typer.Option("--family", help="Only this problem family.")]
Domain = Annotated[str | None, typer.Option("--domain", help="Only this domain.")]
Verdict = Annotated[str | None, typer.Option("--verdict", help="accepted, rejected, or a reason like 'wrong answer'.")]
Before = Annotated[str | None, typer.Option("--before", help="Only what was written before this date, 2026-01-31.")]


@app.command("list")
def list_traces(
    store: Store = STORE,
    teacher: Teacher = None,
    model: Model = None,
    prompt_version: Prompt = None,
    family: Family = None,
    domain: Domain = None,
    verdict: Verdict = None,
    before: Before = None,
    rows: Annotated[int, typer.Option(min=0, help="Also print this many of the latest replies.")] = 0,
) -> None:
    """Counts replies by teacher, family and domain, with the reasons why some were rejected."""
    from collections import Counter, defaultdict, deque

    from rich.markup import escape
    from rich.table import Table

    from isodistill.cli.progress import console
    from isodistill.traces import TraceRecord, TraceStore

    wanted = _filter(teacher, model, prompt_version, family, domain, verdict, before)
    groups: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    reasons: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    latest: deque[TraceRecord] = deque(maxlen=rows)
    with TraceStore(store, create=False) as opened:
        for record in opened.select(wanted):
            recipe = record.recipe
            group = (f"{recipe.teacher}:{recipe.model}", recipe.prompt_version, record.family, record.domain)
            counts = groups[group]
            counts[0] += 1
            counts[1] += record.accepted
            counts[2] += record.prompt_tokens + record.completion_tokens
            if not record.accepted:
                reasons[group][record.verdict] += 1
            latest.append(record)
        failures = opened.failures()
        signals, signal_tokens, signal_bytes = opened.signal_sizes()
    table = Table("teacher", "instruction", "family", "domain", "replies", "accepted", "tokens", "rejected because of")
    for named, (replies, accepted, tokens) in sorted(groups.items()):
        why = ", ".join(f"{reason} {count}" for reason, count in reasons[named].most_common())
        table.add_row(*map(escape, named), str(replies), str(accepted), f"{tokens:,}", escape(why))
    screen = console()
    screen.print(table)
    if latest:
        each = Table("key", "set", "domain", "attempt", "verdict", "answer", "expected")
        for record in latest:
            fields = (record.set_id, record.domain, str(record.attempt), record.verdict, record.answer or "–")
            each.add_row(record.key[:12], *(escape(visible(field)) for field in (*fields, record.expected)))
        screen.print(each)
    if failures:
        text = ", ".join(f"{reason} {count}" for reason, count in failures.items())
        screen.print(f"requests without a reply: {text}", markup=False)
    if signals:
        size = signal_bytes / max(signal_tokens, 1)
        screen.print(f"token distributions: {signals} completions, {size:.0f} bytes a token", markup=False)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="The first characters of a reply's key.")], store: Store = STORE
) -> None:
    """Prints one reply with its problem, as plain text."""
    from isodistill.cli.progress import console
    from isodistill.traces import TraceStore

    with TraceStore(store, create=False) as opened:
        found = list(opened.select(key=key))
    if len(found) != 1:
        raise IsodistillError(
            f"{len(found)} replies in {store} have a key that starts with {key!r}: give more of one key"
        )
    (record,) = found
    screen = console()
    facts = record.as_dict()
    for name in ("prompt", "text"):
        facts.pop(name)
    for name, value in facts.items():
        screen.print(f"{name}: {visible(str(value))}", markup=False, highlight=False, soft_wrap=True)
    for name, text in (("problem", record.prompt), ("reply", record.text)):
        screen.print(f"\n--- {name}", markup=False)
        screen.print(visible(text), markup=False, highlight=False, soft_wrap=True)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The file to write, lines of JSON.")],
    store: Store = STORE,
    teacher: Teacher = None,
    model: Model = None,
    prompt_version: Prompt = None,
    family: Family = None,
    domain: Domain = None,
    verdict: Verdict = None,
    before: Before = None,
) -> None:
    """Writes replies with everything that is known of them to a file."""
    from isodistill.cli.progress import console
    from isodistill.traces import TraceStore
    from isodistill.traces.export import export_records

    wanted = _filter(teacher, model, prompt_version, family, domain, verdict, before)
    with TraceStore(store, create=False) as opened:
        count = export_records(opened.select(wanted), out)
    console().print(f"{count} replies: {out}", markup=False)


@app.command()
def prune(
    store: Store = STORE,
    teacher: Teacher = None,
    model: Model = None,
    prompt_version: Prompt = None,
    family: Family = None,
    domain: Domain = None,
    verdict: Verdict = None,
    before: Before = None,
    distributions: Annotated[bool, typer.Option("--distributions", help="Delete all token distributions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only count.")] = False,
) -> None:
    """Deletes the replies that the options name, for good; they cost again if they are needed again."""
    from isodistill.cli.progress import console
    from isodistill.traces import TraceStore

    wanted = _filter(teacher, model, prompt_version, family, domain, verdict, before)
    if wanted.is_empty and not distributions:
        raise IsodistillError("prune needs to know what to delete: give --verdict, --model or another option")
    with TraceStore(store, create=False) as opened:
        count = 0 if wanted.is_empty else opened.prune(wanted) if yes else opened.count(wanted)
        scored = 0 if not distributions else opened.prune_signals() if yes else opened.signal_sizes()[0]
    word = "deleted" if yes else "would be deleted; say --yes to do it"
    console().print(f"{count} replies and {scored} token distributions {word}", markup=False)


def visible(text: str) -> str:
    """Makes control characters visible, so that a reply cannot write over the terminal.

    Args:
        text: Untrusted text.

    Returns:
        The text with everything but line breaks and printable characters as escapes.
    """
    return "".join(sign if sign == "\n" or sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _filter(
    teacher: str | None,
    model: str | None,
    prompt_version: str | None,
    family: str | None,
    domain: str | None,
    verdict: str | None,
    before: str | None,
) -> TraceFilter:
    from isodistill.traces import TraceFilter

    try:
        moment = None if before is None else dt.datetime.fromisoformat(before).timestamp()
    except ValueError:
        raise IsodistillError(f"--before {before!r} is not a date: write it like 2026-01-31") from None
    return TraceFilter(teacher, model, prompt_version, family, domain, verdict, moment)
