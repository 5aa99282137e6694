"""The audit of a data set: proofs, repetitions, balance, completions, and what the surface tells of the answer."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.card import CardInfo, read_card
from isodistill.isomers.noise import NOISY_SPLIT, LabelNoise, noise_described_in
from isodistill.isomers.probes import answer_class
from isodistill.isomers.repeats import Repeats, without_cue
from isodistill.isomers.sets import IsomerSet
from isodistill.isomers.store import available_splits, count_sets, iterate_split
from isodistill.isomers.surface import (
    AUDIT_SETS,
    Column,
    SurfaceAudit,
    measure_surfaces,
    shared_threshold,
    surface_faults,
)
from isodistill.isomers.verify import verify_set

Progress = Callable[[str, int, int], None]
"""Told the split, how many of its sets are read, and how many there are."""

_Balance = dict[tuple[str, tuple[str, ...]], Counter[str]]
"""How many sets of a split have each of the answers that they can have."""


@dataclass
class AuditReport:
    """What an audit found.

    Args:
        claimed: Whether the data set claims to be free of shortcuts, apart from cues that it names.
        surfaces: The surface of each split and domain.
        answers: The number of sets of each answer class, by split; answers that a set can have and none has count 0.
        verified: How many sets were proved and read back.
        without_proof: How many sets come from elsewhere, without a skeleton that could be proved or read back.
        duplicates: Sets that repeat another, with the place of both.
        near_duplicates: Pairs of texts from different groups of problems that share most of their sentences.
        faults: What must not be, as sentences; empty for a sound data set.
    """

    claimed: bool
    surfaces: list[SurfaceAudit] = field(default_factory=list)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    verified: int = 0
    without_proof: int = 0
    duplicates: list[str] = field(default_factory=list)
    near_duplicates: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def audit_dataset(directory: Path, verify: bool = True, progress: Progress | None = None) -> AuditReport:
    """Audits a data set.

    Args:
        directory: The data set.
        verify: Whether every set is proved and read back again, which takes most of the time.
        progress: Called after each set.

    Returns:
        What was found.

    Raises:
        IsodistillError: If the data set cannot be read.
    """
    info = read_card(directory / "README.md")[0]
    config = info.config if info is not None else {}
    imported = info is None or info.imported
    report = AuditReport(bool(config.get("audit")))
    columns: dict[tuple[str, str], Column] = {}
    balance: _Balance = defaultdict(Counter)
    repeats = Repeats(config.get("split_by") == "structure")
    noise = _noise(info)
    for split in available_splits(directory):
        total = count_sets(directory, split)
        report.answers[split] = Counter()
        for done, isomer_set in enumerate(iterate_split(directory, split), start=1):
            answer, possible = answer_class(isomer_set), _possible(isomer_set)
            for counts in (report.answers[split], balance[split, possible]):
                counts.update(dict.fromkeys(possible, 0))
                counts[answer] += 1
            repeats.add(split, isomer_set)
            for member in isomer_set.members:
                column = columns.setdefault((split, member.domain), Column())
                column.bare.append(without_cue(member, isomer_set.set_id))
                column.shown.append(member.prompt)
                column.labels.append(answer)
                column.numeric = not isomer_set.choices
            report.faults += _completion_faults(isomer_set, split, noise, imported)
            if imported and not isomer_set.skeleton:
                report.without_proof += 1
            elif verify:
                try:
                    verify_set(isomer_set)
                    report.verified += 1
                except IsodistillError as error:
                    report.faults.append(f"Split {split}: {error}")
            if progress is not None:
                progress(split, done, total)
    report.surfaces = measure_surfaces(columns)
    if report.claimed:
        report.faults += [*_balance_faults(balance), *surface_faults(report.surfaces)]
    if not imported and "max_sets_per_skeleton" in config:
        report.faults += repeats.overused(int(config["max_sets_per_skeleton"]))
    report.duplicates, report.near_duplicates = repeats.exact, repeats.near()
    report.faults += report.duplicates
    if report.claimed:
        report.faults += report.near_duplicates
    return report


def _possible(isomer_set: IsomerSet) -> tuple[str, ...]:
    """The answer classes that a set can have, whether or not any has them; none for free answers."""
    if isomer_set.choices:
        return isomer_set.choices
    return ("even", "odd") if answer_class(isomer_set) in ("even", "odd") else ()


def _balance_faults(balance: _Balance) -> list[str]:
    """Objects to answers that are further from balance than chance would have them."""
    z = shared_threshold(len(balance))
    faults = []
    for (split, possible), counts in balance.items():
        total, classes = counts.total(), len(possible)
        if total < AUDIT_SETS or classes < 2:
            continue
        error = math.sqrt(total * (1 / classes) * (1 - 1 / classes))
        answer, count = max(counts.items(), key=lambda item: abs(item[1] - total / classes))
        if abs(count - total / classes) > z * error:
            faults.append(
                f"Split {split}: {count} of {total} sets have the answer {answer}, one of {classes}; balance them."
            )
    return faults


def _noise(info: CardInfo | None) -> LabelNoise | None:
    """The wrong labels that the data was generated for, or else those that its teacher was given."""
    share = float(info.config.get("label_noise") or 0.0) if info is not None else 0.0
    if info is None or not share:
        return noise_described_in(info.teacher) if info is not None else None
    return LabelNoise(share, int(info.config.get("seed", 0)))


def _completion_faults(isomer_set: IsomerSet, split: str, noise: LabelNoise | None, imported: bool) -> list[str]:
    """Objects to completions that do not end in the verified answer; sets marked for a wrong one may end in that."""
    # The package of importers imports this one.
    from isodistill.importers.scoring import answers_match

    answers = [isomer_set.answer]
    if noise is not None and split == NOISY_SPLIT:
        wrong = noise.wrong_answer(isomer_set.set_id, isomer_set.answer, isomer_set.choices)
        answers += [] if wrong is None else [wrong]
    faults = []
    for member in isomer_set.members:
        given = split_completion(member.completion)[1]
        if given is None and (imported or not member.completion):
            # Texts from elsewhere need not have an answer line: they contradict nothing.
            continue
        if given is None or not any(answers_match(isomer_set.family, given, answer) for answer in answers):
            ends = "ends in no answer" if given is None else f"answers {given!r}"
            faults.append(
                f"Split {split}, set {isomer_set.set_id}, domain {member.domain}: the completion {ends} instead of "
                f"{' or '.join(map(repr, answers))}; distil it again or drop the set."
            )
    return faults
