"""The data set that a writing ends in: whole sets, partial ones apart, the card and the account."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from isodistill.importers import Imported, Origin, Problem
from isodistill.logic.check import CHECK_TIMEOUT_MS
from isodistill.logic.notation import format_notation
from isodistill.teachers.base import Teacher
from isodistill.teachers.sampling import Sampling
from isodistill.writing.account import Account
from isodistill.writing.collecting import Order
from isodistill.writing.examine import Proposal
from isodistill.writing.reply import Rejected
from isodistill.writing.sources import Source, Sources

_PARTIAL = {
    "drop": "Sets that lack a domain are dropped.",
    "keep": "Sets that lack a domain are in splits of their own.",
}


@dataclass(frozen=True)
class WritingOptions:
    """How members are written.

    Args:
        domains: The domains to write in.
        sampling: The plan of attempts at a proposal, and at a reading that can be read.
        incomplete: What becomes of a set that got some of the domains and not all: ``"drop"`` it, or ``"keep"`` it in a
            split of its own, named after what is missing.
        timeout_ms: The limit of each question to z3, in milliseconds.
    """

    domains: tuple[str, ...]
    sampling: Sampling = field(default_factory=Sampling)
    incomplete: Literal["drop", "keep"] = "drop"
    timeout_ms: int = CHECK_TIMEOUT_MS


@dataclass(frozen=True)
class WritingReport:
    """What was written.

    Args:
        out: The data set's directory.
        record: The JSON file with the account, beside it.
        account: Every wanted member.
        sets: The number of sets in each split that was written; none where no data set was.
        dropped_sets: Sets that got no new member, or not all of them.
    """

    out: Path
    record: Path
    account: Account
    sets: Mapping[str, int]
    dropped_sets: int


def assemble(
    split: str,
    orders: Sequence[Order],
    found: Sequence[Proposal | Rejected],
    options: WritingOptions,
    splits: dict[str, Imported],
) -> int:
    """Puts the members of each set together: those of the source, then the new ones.

    Args:
        split: The split.
        orders: The members that are wanted.
        found: What has come of each.
        options: The domains, and what becomes of partial sets.
        splits: What is to be written, by split; the sets are added to it.

    Returns:
        How many sets were dropped.
    """
    members: dict[str, list[tuple[Order, Proposal]]] = {}
    for order, result in zip(orders, found, strict=True):
        accepted = members.setdefault(order.source.isomer_set.set_id, [])
        if not isinstance(result, Rejected):
            accepted.append((order, result))
    whole = splits.setdefault(split, Imported())
    dropped = 0
    for accepted in members.values():
        missing = [domain for domain in options.domains if domain not in {order.domain for order, _ in accepted}]
        if not accepted or (missing and options.incomplete == "drop"):
            whole.dropped["sets without any new member" if not accepted else "sets that lack a domain"] += 1
            dropped += 1
            continue
        name = f"{split}__without_{'_'.join(missing)}" if missing else split
        place = splits.setdefault(name, Imported())
        given = accepted[0][0].source
        for member in given.isomer_set.members:
            place.keep(_problem(given, member.domain, member.prompt, member.completion, member.formal))
        for order, proposal in accepted:
            prompt = proposal.prompt(given.isomer_set.choices)
            place.keep(_problem(given, order.domain, prompt, "", _formal(proposal)))
    return dropped


def _problem(source: Source, domain: str, prompt: str, completion: str, formal: str) -> Problem:
    given = source.isomer_set
    return Problem(
        domain=domain,
        prompt=prompt,
        answer=given.answer,
        completion=completion,
        set_id=given.set_id,
        family=given.family,
        choices=given.choices,
        formal=formal,
        canonical=source.canonical,
    )


def _formal(proposal: Proposal) -> str:
    data = {
        "source": "written",
        "premises": [format_notation(premise) for premise in proposal.premises],
        "question": format_notation(proposal.question),
        "symbols": dict(proposal.symbols),
        "sentences": [*proposal.sentences, proposal.conclusion],
    }
    return json.dumps(data, ensure_ascii=False)


def origin_of(sources: Sources, writer: Teacher, reader: Teacher, options: WritingOptions, account: Account) -> Origin:
    """Tells where the data comes from, for its card.

    Args:
        sources: The problems.
        writer: Who wrote.
        reader: Who read back.
        options: The domains, and what becomes of partial sets.
        account: Every wanted member.

    Returns:
        Title, licence, a paragraph and the counts.
    """
    about = (
        f"Members in the domains {', '.join(options.domains)} were written by {writer.name} with their formulas. Each "
        "is a renaming of the source's formulas, has its answer by z3, and was read back from its text by "
        f"{reader.name} into the same canonical form. {_PARTIAL[options.incomplete]}"
    )
    fates = account.fates()
    details: dict[str, Any] = {
        "writer": writer.name,
        "reader": reader.name,
        "prompt_version": writer.prompt_version,
        "domains_written": list(options.domains),
        "members": {fate: fates[fate] for fate in ("kept", "repaired", "dropped")},
        "members_dropped": dict(account.reasons().most_common()),
    }
    return Origin("Isomer sets written by a model", sources.name, sources.license, about, details)


def record_text(
    report: WritingReport, sources: Sources, writer: Teacher, reader: Teacher, options: WritingOptions
) -> str:
    """Writes the account as JSON; equal replies give equal text.

    Args:
        report: What was written.
        sources: The problems.
        writer: Who wrote.
        reader: Who read back.
        options: The domains, and what becomes of partial sets.

    Returns:
        The JSON text: counts of problems, sets, members and replies by reason, and every member.
    """
    data = {
        "source": sources.name,
        "writer": writer.name,
        "reader": reader.name,
        "prompt_version": writer.prompt_version,
        "domains": list(options.domains),
        "incomplete": options.incomplete,
        "problems": {split: len(problems) for split, problems in sources.splits.items()},
        "problems_dropped": {split: dict(counts) for split, counts in sources.dropped.items()},
        "sets": dict(report.sets),
        "sets_dropped": report.dropped_sets,
        **report.account.as_dict(),
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"
