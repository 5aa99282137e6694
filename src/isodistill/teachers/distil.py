"""Distillation of a data set: a teacher fills the completions, and all else stays as it is."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from isodistill.errors import IsodistillError
from isodistill.files import write_text_atomically
from isodistill.isomers.card import CardInfo, read_card
from isodistill.isomers.noise import NOISY_SPLIT, LabelNoise
from isodistill.isomers.sets import IsomerSet
from isodistill.isomers.store import available_splits, check_target, read_split, write_dataset
from isodistill.teachers.base import Teacher
from isodistill.teachers.collect import Collector, Outcome, Problem, require_replies
from isodistill.teachers.judge import Check
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.statistics import Statistics, as_rows, gather
from isodistill.traces import TraceStore

if TYPE_CHECKING:
    from isodistill.teachers.server_signals import SignalKeeper

Progress = Callable[[str, int, int], None]
"""Told the split, how many of its problems are settled, and how many there are."""

STATISTICS_FILE = "distillation.json"
"""What the teacher could and could not do, beside the data set's card."""


@dataclass(frozen=True)
class DistilOptions:
    """How a data set is distilled.

    Args:
        sampling: The plan of attempts.
        checks: Further checks of a rationale.
        splits: The splits to fill, or ``None`` for all; the others are copied as they are.
        limit_sets: At most this many sets of each filled split, or ``None`` for all; the others are left out.
        incomplete: What becomes of a set with a member that no teacher could explain: ``"drop"`` it whole, or
            ``"fail"`` and write nothing.
        fill_from: A second teacher for the members that the first one could not explain, or ``None``.
        noise: Training sets to be answered wrongly on purpose, or ``None``; data that was generated with label noise
            brings its own.
        keeper: Keeps the token distributions that a server returns with its replies, or ``None``.
    """

    sampling: Sampling = field(default_factory=Sampling)
    checks: tuple[Check, ...] = ()
    splits: tuple[str, ...] | None = None
    limit_sets: int | None = None
    incomplete: Literal["drop", "fail"] = "fail"
    fill_from: Teacher | None = None
    noise: LabelNoise | None = None
    keeper: SignalKeeper | None = None


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
        filled: Completions by the second teacher.
        dropped: Sets that were dropped because a member had no trace.
        statistics: The first teacher's outcomes by family and domain.
    """

    out: Path
    teacher: str
    splits: dict[str, int]
    members: int
    mean_words: float
    seconds: float
    filled: int
    dropped: int
    statistics: Statistics


def distil(
    directory: Path,
    teacher: Teacher,
    out: Path,
    progress: Progress | None = None,
    overwrite: bool = False,
    *,
    options: DistilOptions | None = None,
    store: TraceStore | None = None,
) -> DistilReport:
    """Lets a teacher fill the completions of every member of every split, and checks every answer.

    Args:
        directory: The data set to read.
        teacher: Who writes.
        out: The directory to write; with `overwrite` it may be the one that is read.
        progress: Called as problems are settled.
        overwrite: Whether a data set that is already there may be replaced.
        options: How; the defaults fill everything or fail.
        store: Where replies are kept, so that a rerun asks for nothing twice.

    Returns:
        What was written.

    Raises:
        IsodistillError: If the data cannot be read or written, a request got no reply, or a member has no trace that
            ends in the verified answer and sets may not be dropped; no data set is written then, and the store keeps
            every reply.
    """
    options = options or DistilOptions()
    check_target(out, overwrite)
    started = time.monotonic()
    info, _ = read_card(directory / "README.md")
    noise = _noise(info, options, directory)
    work = select_sets(directory, options)
    collector = Collector(teacher, options.sampling, store, options.checks, options.keeper)
    taught: dict[str, list[IsomerSet]] = {}
    asked: list[Outcome] = []
    filled = dropped = 0
    for split, sets in work.items():
        problems = problems_of(sets)
        outcomes = collector.collect(problems, _named(progress, split))
        require_replies(outcomes, teacher, store)
        asked += outcomes
        completions = {outcome.problem.digest: outcome.completion for outcome in outcomes}
        missing = [problem for problem in problems if completions[problem.digest] is None]
        if missing and options.fill_from is not None:
            helper = Collector(options.fill_from, options.sampling, store, options.checks)
            rescued = helper.collect(missing, _named(progress, f"{split}, {options.fill_from.kind}"))
            require_replies(rescued, options.fill_from, store)
            completions |= {outcome.problem.digest: outcome.completion for outcome in rescued}
            filled += sum(outcome.completion is not None for outcome in rescued)
        if options.incomplete == "fail":
            _require_traces(outcomes, completions, teacher)
        taught[split] = [whole for isomer_set in sets if (whole := _with_completions(isomer_set, completions))]
        dropped += len(sets) - len(taught[split])
        if noise is not None and split == NOISY_SPLIT:
            taught[split] = [noise.applied(isomer_set) for isomer_set in taught[split]]
        if sets and not taught[split]:
            raise IsodistillError(
                f"In split {split!r} no set has a trace for every member, so nothing is left of it; see"
                " `isodistill traces list`, then allow more retries, fill from another teacher or take a better one."
            )
    everything = {
        split: taught[split] if split in taught else read_split(directory, split)
        for split in available_splits(directory)
    }
    by = teacher.name if options.fill_from is None else f"{teacher.name}; gaps by {options.fill_from.name}"
    if noise is not None:
        by += f"; {noise.described()}"
    write_dataset(out, everything, _card_info(info, everything, by), overwrite)
    texts = [member.completion for sets in taught.values() for isomer_set in sets for member in isomer_set.members]
    report = DistilReport(
        out=out,
        teacher=teacher.name,
        splits={split: len(sets) for split, sets in everything.items()},
        members=len(texts),
        mean_words=sum(len(text.split()) for text in texts) / len(texts) if texts else 0.0,
        seconds=time.monotonic() - started,
        filled=filled,
        dropped=dropped,
        statistics=gather(asked),
    )
    _write_statistics(report, by)
    return report


def _noise(info: CardInfo | None, options: DistilOptions, directory: Path) -> LabelNoise | None:
    """The wrong labels that the data was generated for, or those that are asked for."""
    share = float(info.config.get("label_noise") or 0.0) if info is not None else 0.0
    if not share:
        return options.noise
    if options.noise is not None:
        raise IsodistillError(
            f"{directory} was generated with label noise of its own ({100 * share:g}%), which its cues follow: leave"
            " the teacher's noise out"
        )
    assert info is not None
    return LabelNoise(share, int(info.config.get("seed", 0)))


def select_sets(directory: Path, options: DistilOptions) -> dict[str, list[IsomerSet]]:
    """Reads the sets that a teacher is to fill.

    Args:
        directory: The data set.
        options: Which splits, and how many sets.

    Returns:
        The sets of each split. A limit picks by a hash of the sets' names: the same ones in every run.

    Raises:
        IsodistillError: If the data cannot be read, or a split does not exist.
    """
    splits = available_splits(directory) if options.splits is None else options.splits
    work = {split: read_split(directory, split) for split in splits}
    if options.limit_sets is None:
        return work
    for split, sets in work.items():
        # Names and not sets: the members of a flat pair are two sets of one name.
        names = {isomer_set.set_id for isomer_set in sets}
        kept = set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[: options.limit_sets])
        work[split] = [isomer_set for isomer_set in sets if isomer_set.set_id in kept]
    return work


def problems_of(sets: list[IsomerSet]) -> list[Problem]:
    """Lists the members of sets as problems.

    Args:
        sets: The sets.

    Returns:
        One problem for each member, in order.
    """
    return [Problem(isomer_set, member) for isomer_set in sets for member in isomer_set.members]


def _named(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(stage, done, total)


def _with_completions(isomer_set: IsomerSet, completions: dict[str, str | None]) -> IsomerSet | None:
    """Fills a set; a set with a gap is none, because a missing domain would bias what is learnt."""
    members = []
    for member in isomer_set.members:
        completion = completions[Problem(isomer_set, member).digest]
        if completion is None:
            return None
        members.append(member.model_copy(update={"completion": completion}))
    return isomer_set.model_copy(update={"members": tuple(members)})


def _require_traces(outcomes: list[Outcome], completions: dict[str, str | None], teacher: Teacher) -> None:
    for outcome in outcomes:
        problem = outcome.problem
        if completions[problem.digest] is not None:
            continue
        isomer_set, where = problem.isomer_set, f"set {problem.isomer_set.set_id!r}, domain {problem.member.domain!r}"
        if outcome.failure is not None:
            raise IsodistillError(f"For {where}, the teacher {teacher.name!r} gives no trace: {outcome.failure.detail}")
        _, last = outcome.attempts[max(outcome.attempts)]
        if last.verdict == "wrong answer":
            raise IsodistillError(
                f"For {where}, the teacher {teacher.name!r} answers {last.answer!r} instead of {isomer_set.answer!r};"
                " use another teacher or drop the set."
            )
        reason = "low agreement" if outcome.lacks_agreement else last.verdict
        raise IsodistillError(
            f"For {where}, the teacher {teacher.name!r} wrote no trace that can be used ({reason}); use another teacher"
            " or drop the set."
        )


def _write_statistics(report: DistilReport, by: str) -> None:
    summary: dict[str, Any] = {
        "teacher": by,
        "completions": report.members,
        "filled_by_the_second_teacher": report.filled,
        "sets_dropped": report.dropped,
        "groups": as_rows(report.statistics),
    }
    write_text_atomically(report.out / STATISTICS_FILE, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


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
