"""Distillation of a data set: a teacher fills every completion, and all else stays as it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isodistill.answers import same_answer, split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.card import CardInfo, read_card
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.store import available_splits, check_target, read_split, write_dataset
from isodistill.teachers.base import Teacher

Progress = Callable[[str, int, int], None]
"""Told the split, how many of its sets are done, and how many there are."""


@dataclass(frozen=True)
class DistilReport:
    """What a teacher has written.

    Args:
        out: The data set's directory.
        teacher: The teacher's name.
        splits: The number of sets in each split.
        members: The number of completions.
        mean_words: Their mean length in words.
        seconds: The time it took.
    """

    out: Path
    teacher: str
    splits: dict[str, int]
    members: int
    mean_words: float
    seconds: float


def distil(
    directory: Path, teacher: Teacher, out: Path, progress: Progress | None = None, overwrite: bool = False
) -> DistilReport:
    """Lets a teacher fill the completions of every member of every split.

    Args:
        directory: The data set to read.
        teacher: Who writes.
        out: The directory to write; with `overwrite` it may be the one that is read.
        progress: Called after each set.
        overwrite: Whether a data set that is already there may be replaced.

    Returns:
        What was written.

    Raises:
        IsodistillError: If the data cannot be read or written, or a trace does not end in the verified answer; nothing
            is written then.
    """
    check_target(out, overwrite)
    started = time.monotonic()
    info, _ = read_card(directory / "README.md")
    filled: dict[str, list[IsomerSet]] = {}
    words = members = 0
    for split in available_splits(directory):
        sets = read_split(directory, split)
        filled[split] = []
        for place, isomer_set in enumerate(sets):
            explained = tuple(_explained(teacher, isomer_set, member) for member in isomer_set.members)
            filled[split].append(isomer_set.model_copy(update={"members": explained}))
            words += sum(len(member.completion.split()) for member in explained)
            members += len(explained)
            if progress is not None:
                progress(split, place + 1, len(sets))
    write_dataset(out, filled, _card_info(info, filled, teacher.name), overwrite)
    return DistilReport(
        out=out,
        teacher=teacher.name,
        splits={split: len(sets) for split, sets in filled.items()},
        members=members,
        mean_words=words / members if members else 0.0,
        seconds=time.monotonic() - started,
    )


def _explained(teacher: Teacher, isomer_set: IsomerSet, member: Member) -> Member:
    trace = teacher.explain(isomer_set, member)
    # Read back as a student's text would be: a rationale may not smuggle in another answer line.
    _, answer = split_completion(trace.completion)
    if not same_answer(trace.answer, isomer_set.answer) or not same_answer(answer, isomer_set.answer):
        raise IsodistillError(
            f"For set {isomer_set.set_id!r}, domain {member.domain!r}, the teacher {teacher.name!r} answers "
            f"{trace.answer!r} instead of {isomer_set.answer!r}; use another teacher or drop the set."
        )
    return member.model_copy(update={"completion": trace.completion})


def _card_info(info: CardInfo | None, splits: dict[str, list[IsomerSet]], teacher: str) -> CardInfo:
    if info is not None:
        return info.model_copy(update={"teacher": teacher})
    # A data set from elsewhere: the card tells what the rows tell.
    sets = [isomer_set for rows in splits.values() for isomer_set in rows]
    families = sorted({isomer_set.family for isomer_set in sets})
    domains = dict.fromkeys(domain for isomer_set in sets for domain in isomer_set.domains)
    family = ", ".join(families)
    return CardInfo(
        title=f"Isomer sets: {family}",
        family=family,
        domains=tuple(domains),
        unseen_domains=(),
        config={},
        teacher=teacher,
    )
