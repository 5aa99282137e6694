"""From problems to isomer sets: a model writes members, a second reading confirms them, and all of it is counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.importers import Imported, write_import
from isodistill.isomers.store import check_target
from isodistill.teachers.base import Teacher
from isodistill.teachers.collect import Outcome, require_replies
from isodistill.teachers.plan import Plan, make_plan
from isodistill.traces import TraceStore
from isodistill.writing.account import Account, Item
from isodistill.writing.assemble import WritingOptions, WritingReport, assemble, origin_of, record_text
from isodistill.writing.collecting import ExaminingCollector, Order, examine_orders, examine_readings
from isodistill.writing.examine import Proposal, examine_reading, require_agreement
from isodistill.writing.prompt import writing_instruction
from isodistill.writing.reply import Mend, Rejected
from isodistill.writing.sources import Source, Sources

Progress = Callable[[str, int, int], None]
"""Told the stage, how many of its requests are settled, and how many there are."""

_Found = TypeVar("_Found")
_DOMAIN = re.compile(r"[a-z][a-z0-9_]{0,39}")
_LENGTHS = {
    "drop": "Sets that lack a domain are dropped.",
    "keep": "Sets that lack a domain are in splits of their own.",
}


def check_domains(domains: Sequence[str], sources: Sources) -> None:
    """Makes sure that domains can be written in.

    Args:
        domains: The domains.
        sources: The problems.

    Raises:
        IsodistillError: If there is none, one is no name, is named twice, or is a domain of the source.
    """
    if not domains:
        raise IsodistillError("No domain is named to write in; give some, for example --domains medicine,law.")
    for place, domain in enumerate(domains):
        if not _DOMAIN.fullmatch(domain):
            raise IsodistillError(
                f"The domain {domain[:60]!r} is no name of at most 40 small letters, digits and underscores; write it "
                "like sports_law."
            )
        if domain in domains[:place]:
            raise IsodistillError(f"The domain {domain!r} is named twice; name it once.")
        owner = next((s for split in sources.splits.values() for s in split if domain in s.isomer_set.domains), None)
        if owner is not None:
            raise IsodistillError(
                f"The set {owner.isomer_set.set_id!r} already has a member in the domain {domain!r}; name others."
            )


def orders_of(sources: Sequence[Source], options: WritingOptions) -> list[Order]:
    """Lists the members that are wanted.

    Args:
        sources: The problems.
        options: The domains.

    Returns:
        An order for each problem and domain.
    """
    return [Order(source, domain, options.timeout_ms) for source in sources for domain in options.domains]


def writing_collector(
    writer: Teacher, orders: list[Order], options: WritingOptions, store: TraceStore | None
) -> ExaminingCollector:
    """Returns the collector of the proposals.

    Args:
        writer: Who writes.
        orders: Every order.
        options: The plan of attempts.
        store: Where replies are kept.
    """
    return ExaminingCollector(writer, options.sampling, store, examine=examine_orders(orders))


def reading_collector(reader: Teacher, options: WritingOptions, store: TraceStore | None) -> ExaminingCollector:
    """Returns the collector of the readings.

    Args:
        reader: Who reads.
        options: The plan of attempts.
        store: Where replies are kept.
    """
    return ExaminingCollector(reader, options.sampling, store, examine=examine_readings)


def plan_requests(
    sources: Sources,
    writer: Teacher,
    options: WritingOptions,
    reader: Teacher | None,
    store: TraceStore | None,
    max_tokens: int,
) -> tuple[Plan, Plan]:
    """Counts what the store does not have, and asks for nothing.

    Args:
        sources: The problems.
        writer: Who writes.
        options: Domains and attempts.
        reader: Who reads back; the writer itself by default.
        store: Where replies are kept.
        max_tokens: The most tokens of a reply.

    Returns:
        The plan of the proposals, and that of the readings of the proposals that are there already: each proposal that
        is yet to come may take one more reading.

    Raises:
        IsodistillError: If a domain cannot be taken.
    """
    check_domains(options.domains, sources)
    told = writing_instruction().text
    work = {split: orders_of(problems, options) for split, problems in sources.splits.items()}
    orders = [order for split in work.values() for order in split]
    writing = writing_collector(writer, orders, options, store)
    proposed = {split: [order.writing() for order in each] for split, each in work.items()}
    plan = make_plan(writing, proposed, told, max_tokens)
    readings = []
    for order, outcome in zip(orders, writing.replay([order.writing() for order in orders]), strict=True):
        if outcome.chosen is not None:
            proposal = _last(outcome, order.examined)
            assert isinstance(proposal, Proposal)
            readings.append(order.reading(proposal))
    return plan, make_plan(reading_collector(reader or writer, options, store), {"": readings}, told, max_tokens)


def write_isomers(
    sources: Sources,
    writer: Teacher,
    out: Path,
    options: WritingOptions,
    reader: Teacher | None = None,
    store: TraceStore | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> WritingReport:
    """Has a model write members in other domains, keeps those that are proved, and writes an isomer data set.

    A member is accepted if its formulas can be read, have the canonical form of the source's, have the source's answer
    by z3, and if a second request that shows only the text gets formulas of that canonical form.

    Args:
        sources: The problems.
        writer: A model with `isodistill.writing.writing_instruction`.
        out: The data set's directory. The account is written beside it whatever comes, as ``OUT.writing.json``.
        options: Domains and attempts.
        reader: The model that reads back; the writer itself by default.
        store: Where replies are kept, so that a rerun asks for nothing twice.
        progress: Called as requests are settled.
        overwrite: Whether a data set that is already there may be replaced.

    Returns:
        What was written. Where no set is left there is no data set, and `WritingReport.sets` is empty.

    Raises:
        IsodistillError: If a domain cannot be taken, the target cannot be written, the budget is spent or a request
            got no reply; the store keeps every reply.
    """
    check_target(out, overwrite)
    check_domains(options.domains, sources)
    reader = reader or writer
    account = Account()
    splits: dict[str, Imported] = {}
    dropped_sets = 0
    for split, problems in sources.splits.items():
        orders = orders_of(problems, options)
        outcomes = writing_collector(writer, orders, options, store).collect(
            [order.writing() for order in orders], _named(progress, f"{split}: write")
        )
        require_replies(outcomes, writer, store, "requests")
        account.count_replies("write", outcomes)
        proposals = [_last(outcome, order.examined) for order, outcome in zip(orders, outcomes, strict=True)]
        found = _read_back(split, orders, proposals, reader, options, store, progress, account)
        _drop_repeated(problems, orders, found)
        account.items += [_item(split, order, result) for order, result in zip(orders, found, strict=True)]
        dropped_sets += assemble(split, orders, found, options, splits)
    record = out.absolute().with_name(f"{out.name}.writing.json")
    kept = {name: imported for name, imported in splits.items() if imported.problems}
    sets: dict[str, int] = {}
    if kept:
        written = write_import(out, kept, origin_of(sources, writer, reader, options, account), "sets", overwrite)
        sets = dict(written.rows)
    report = WritingReport(out, record, account, sets, dropped_sets)
    write_text_atomically(record, record_text(report, sources, writer, reader, options))
    return report


def _read_back(
    split: str,
    orders: Sequence[Order],
    found: Sequence[Proposal | Rejected],
    reader: Teacher,
    options: WritingOptions,
    store: TraceStore | None,
    progress: Progress | None,
    account: Account,
) -> list[Proposal | Rejected]:
    """Has every proposal read from its text alone, and rejects those that say something else."""
    results = list(found)
    open_ones = [(place, result) for place, result in enumerate(found) if isinstance(result, Proposal)]
    problems = [orders[place].reading(proposal) for place, proposal in open_ones]
    outcomes = reading_collector(reader, options, store).collect(problems, _named(progress, f"{split}: read back"))
    require_replies(outcomes, reader, store, "requests")
    account.count_replies("read", outcomes)
    for (place, proposal), outcome in zip(open_ones, outcomes, strict=True):
        reading = _last(outcome, examine_reading)
        if isinstance(reading, Rejected):
            results[place] = Rejected(f"no back-translation: {reading.reason}", reading.detail)
            continue
        try:
            require_agreement(proposal, reading)
        except Rejected as rejected:
            results[place] = rejected
        else:
            results[place] = _with_mends(proposal, reading.mends)
    return results


def _last(outcome: Outcome, examine: Callable[[str, str], _Found]) -> _Found | Rejected:
    """Examines the reply that counts: the accepted one, or the last of those that were not."""
    if not outcome.attempts:
        detail = "" if outcome.failure is None else f"{outcome.failure.reason}: {outcome.failure.detail}"
        return Rejected("no reply", detail)
    place = outcome.chosen if outcome.chosen is not None else max(outcome.attempts)
    record, _ = outcome.attempts[place]
    try:
        return examine(record.text, record.finish)
    except Rejected as rejected:
        return rejected


def _with_mends(proposal: Proposal, mends: tuple[Mend, ...]) -> Proposal:
    return replace(proposal, mends=(*proposal.mends, *mends)) if mends else proposal


def _drop_repeated(problems: Sequence[Source], orders: Sequence[Order], found: list[Proposal | Rejected]) -> None:
    """Rejects a text that stands in the data set already, as a model that ignores the domain would write it."""
    seen = {member.prompt: member.domain for source in problems for member in source.isomer_set.members}
    for place, result in enumerate(found):
        if isinstance(result, Rejected):
            continue
        order = orders[place]
        text = result.prompt(order.source.isomer_set.choices)
        if text in seen:
            found[place] = Rejected("a text that is there already", f"it is that of a problem in {seen[text]!r}")
        seen.setdefault(text, order.domain)


def _item(split: str, order: Order, result: Proposal | Rejected) -> Item:
    set_id = order.source.isomer_set.set_id
    if isinstance(result, Rejected):
        return Item(split, set_id, order.domain, "dropped", result.reason, result.detail)
    return Item(split, set_id, order.domain, "repaired" if result.mends else "kept", mends=result.mends)


def _named(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(stage, done, total)
