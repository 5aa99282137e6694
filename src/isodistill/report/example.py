"""One isomer set as all runs answered it, for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isodistill.answers import split_completion
from isodistill.evaluation.results import ItemRecord
from isodistill.report.runs import RunSummary, all_splits

_PREFERRED = ("unseen_domain", "unseen_domain__cue_reversed", "cue_reversed", "cue_absent", "deeper", "iid")
_LONGEST = 1500


@dataclass(frozen=True, slots=True)
class Reply:
    """What one run wrote to one problem.

    Attributes:
        run: The run's name.
        rationale: The rationale, cut if very long; untrusted text.
        answer: The extracted answer, or ``None``; untrusted text.
        correct: Whether it is right.
    """

    run: str
    rationale: str
    answer: str | None
    correct: bool


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the set.

    Attributes:
        domain: Its domain.
        prompt: The problem's text.
        cue: The answer that the cue points at, or empty.
        replies: One per run.
    """

    domain: str
    prompt: str
    cue: str
    replies: list[Reply]


@dataclass(frozen=True, slots=True)
class Example:
    """One isomer set side by side.

    Attributes:
        split: Its split.
        set_id: Its id.
        answer: The verified answer.
        disagreement: Whether some run is right on a member on which another is wrong.
        members: One per domain.
    """

    split: str
    set_id: str
    answer: str
    disagreement: bool
    members: list[Member]


def pick_example(runs: Sequence[RunSummary]) -> Example | None:
    """Picks the set that is shown: the first by id on which the runs disagree, else the first by id.

    Args:
        runs: The runs; only sets that all of them answered are considered.

    Returns:
        The set, from the first of the preferred splits (unseen domains first) that has one, or ``None``.
    """
    splits = [
        split for split in (*_PREFERRED, *all_splits(runs)) if any(split in run.evaluation.splits for run in runs)
    ]
    fallback: Example | None = None
    for split in dict.fromkeys(splits):
        tables = [_by_set(run, split) for run in runs]
        shared = sorted(set.intersection(*(set(table) for table in tables)))
        for set_id in shared:
            example = _example(split, set_id, runs, [table[set_id] for table in tables])
            if example.disagreement:
                return example
            fallback = fallback or example
    return fallback


def _by_set(run: RunSummary, split: str) -> dict[str, dict[str, ItemRecord]]:
    sets: dict[str, dict[str, ItemRecord]] = {}
    for item in run.evaluation.items:
        if item.split == split:
            sets.setdefault(item.set_id, {})[item.domain] = item
    return sets


def _example(split: str, set_id: str, runs: Sequence[RunSummary], tables: Sequence[dict[str, ItemRecord]]) -> Example:
    members = []
    for domain, item in tables[0].items():
        replies = [
            Reply(run.name, _rationale(table[domain].completion), table[domain].extracted, table[domain].correct)
            for run, table in zip(runs, tables, strict=True)
            if domain in table
        ]
        members.append(Member(domain, item.prompt, item.cue, replies))
    disagreement = any(len({reply.correct for reply in member.replies}) > 1 for member in members)
    return Example(split, set_id, next(iter(tables[0].values())).answer, disagreement, members)


def _rationale(completion: str) -> str:
    rationale = split_completion(completion)[0]
    if len(rationale) > _LONGEST:
        return f"{rationale[:_LONGEST]} … ({len(rationale) - _LONGEST} more characters)"
    return rationale
