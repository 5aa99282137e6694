"""What `isodistill distill` shows: the plan, the bars with what is spent, the statistics, the token distributions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from isodistill.cli.progress import bars, console
from isodistill.isomers.store import read_split
from isodistill.teachers.collect import Collector
from isodistill.teachers.distil import DistilOptions, DistilReport, problems_of, select_sets
from isodistill.teachers.meter import Meter, Prices
from isodistill.teachers.plan import make_plan
from isodistill.teachers.statistics import Statistics
from isodistill.traces import TraceStore

if TYPE_CHECKING:
    from isodistill.teachers.server_signals import SignalKeeper


def show_plan(
    collector: Collector, data: Path, options: DistilOptions, instruction: str, max_tokens: int, prices: Prices | None
) -> None:
    """Prints what will be asked for, and what it may cost.

    Args:
        collector: The teacher and the store.
        data: The data set.
        options: How it is distilled.
        instruction: The text before each problem.
        max_tokens: The most tokens of a reply.
        prices: The server's prices, or ``None``.
    """
    work = {split: problems_of(sets) for split, sets in select_sets(data, options).items()}
    plan = make_plan(collector, work, instruction, max_tokens)
    counts = ", ".join(f"{len(problems)} in {split}" for split, problems in work.items())
    _say(f"plan: {collector.teacher.name}, {plan.problems} problems ({counts}), {plan.settled} settled by the store")
    if not plan.least_requests:
        _say("nothing to send")
        return
    basis = "as measured" if plan.measured else "at most"
    for word, requests in (("least", plan.least_requests), ("most", plan.most_requests)):
        read, written = plan.tokens(requests)
        cost = "" if prices is None else f", cost about {prices.cost(read, written):.2f}"
        _say(f"at {word} {requests} requests: about {read:,} tokens read and {written:,} written ({basis}){cost}")


@contextmanager
def spending_bars(meter: Meter, prices: Prices | None) -> Iterator[Callable[[str, int, int], None]]:
    """Shows one bar for each split, with the rate, the time left and what the work has taken.

    Args:
        meter: Counts requests and tokens.
        prices: The server's prices, or ``None``.

    Yields:
        A function (split, done, total) that moves the split's bar.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    tasks: dict[str, TaskID] = {}
    first: dict[str, int] = {}
    with Progress(*columns, console=console()) as progress:

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(escape(stage), total=total, note="")
                first[stage] = done  # what the store had says nothing about the rate
            elapsed = progress.tasks[tasks[stage]].elapsed or 0.0
            rate = f"{(done - first[stage]) / elapsed * 60:.0f}/min, " if elapsed > 1 else ""
            note = f"{rate}{spent(meter, prices)}" if meter.tokens else ""
            progress.update(tasks[stage], completed=done, total=total, note=note)

        yield move


def spent(meter: Meter, prices: Prices | None) -> str:
    """Tells what a run has taken so far.

    Args:
        meter: Its meter.
        prices: The server's prices, or ``None``.

    Returns:
        Requests, tokens and, with prices, the cost.
    """
    text = f"{meter.requests} requests, {meter.tokens:,} tokens"
    if prices is None:
        return text
    return f"{text}, cost {prices.cost(meter.prompt_tokens, meter.completion_tokens):.4f}"


def show_report(report: DistilReport, meter: Meter, prices: Prices | None, model: bool) -> None:
    """Prints what a teacher has written, and what it could not do.

    Args:
        report: What `distil` returned.
        meter: Counts requests and tokens.
        prices: The server's prices, or ``None``.
        model: Whether the teacher is a model, whose answers can be wrong.
    """
    if model:
        console().print(statistics_table(report.statistics))
        _say(f"{spent(meter, prices)}; {report.dropped} sets dropped, {report.filled} completions filled in")
    _say(f"{report.members} traces by the {report.teacher} teacher, {report.mean_words:.1f} words each: {report.out}")


def statistics_table(statistics: Statistics) -> Table:
    """Draws what a teacher could and could not do.

    Args:
        statistics: Its outcomes by family and domain.

    Returns:
        A table.
    """
    table = Table("family", "domain", "problems", "pass", "first try", "attempts", "words", "rejected because of")
    for (family, domain), group in statistics.items():
        rates = group.as_dict()
        table.add_row(
            escape(family),
            escape(domain),
            str(group.problems),
            *("–" if rates[name] is None else f"{rates[name]:.0%}" for name in ("pass_rate", "first_try_rate")),
            *("–" if rates[name] is None else f"{rates[name]:.1f}" for name in ("mean_attempts", "mean_words")),
            escape(", ".join(f"{reason} {count}" for reason, count in group.reasons.most_common())),
        )
    return table


def score_traces(
    out: Path,
    splits: tuple[str, ...],
    scoring: tuple[str, int],
    system_prompt: str | None,
    device: str,
    batch_size: int,
    store: TraceStore,
) -> None:
    """Has a local model give its token distributions over every completion that was written.

    Args:
        out: The distilled data set.
        splits: Its filled splits.
        scoring: The model, and how many tokens to keep at each place.
        system_prompt: What the student will be trained with.
        device: Where the model runs.
        batch_size: Completions in a batch.
        store: Where the distributions are kept.
    """
    from isodistill.teachers.scoring import Scorer

    name, k = scoring
    scorer = Scorer.load(name, k, device, system_prompt=system_prompt, batch_size=batch_size, store=store)
    pairs = [
        (member.prompt, member.completion)
        for split in splits
        for isomer_set in read_split(out, split)
        for member in isomer_set.members
    ]
    with bars() as progress:
        signals = scorer.score(pairs, lambda done, total: progress("token distributions", done, total))
    tokens = sum(len(signal.token_ids) for signal in signals)
    size = sum(len(signal.to_bytes()) for signal in signals)
    _say(f"top-{k} distributions by {name}: {tokens} tokens, {size / max(tokens, 1):.0f} bytes a token: {store.path}")


def make_keeper(student: str, teacher: str, k: int, store: TraceStore, system_prompt: str | None) -> SignalKeeper:
    """Prepares the keeping of a server's own token distributions.

    Args:
        student: The student whose tokens they are kept in.
        teacher: The teacher's name, ``openai:MODEL``.
        k: How many tokens to keep at each place.
        store: Where they are kept.
        system_prompt: What the student will be trained with.

    Returns:
        The keeper.
    """
    from isodistill.teachers.server_signals import SignalKeeper

    return SignalKeeper.load(student, teacher, k, store, system_prompt)


def show_kept(keeper: SignalKeeper) -> None:
    """Prints what was kept of a server's token distributions.

    Args:
        keeper: The keeper.
    """
    _, tokens, size = keeper.store.signal_sizes()
    _say(
        f"top-{keeper.k} distributions by {keeper.name}: {keeper.shared} of {keeper.tokens} tokens of this run; the"
        f" store has {tokens} tokens, {size / max(tokens, 1):.0f} bytes each: {keeper.store.path}"
    )


def _say(text: str) -> None:
    # Without emoji=False a model called m turns "openai:m:" into a sign.
    console().print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
