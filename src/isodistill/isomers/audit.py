"""The audit of a data set: proofs, duplicates, balance, and what the surface gives away about the answer."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isodistill.errors import IsodistillError
from isodistill.isomers.card import read_card
from isodistill.isomers.formal import formal_from_json
from isodistill.isomers.probes import (
    Features,
    ProbeResult,
    answer_class,
    ngram_counts,
    probe_texts,
    word_counts,
)
from isodistill.isomers.render import choices_line
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.splits import SPLITS
from isodistill.isomers.store import available_splits, count_sets, iterate_split
from isodistill.isomers.verify import verify_set

MOST_CLASSES = 20
"""Splits with more answer classes are not probed: free answers, of which each text has one of its own."""

AUDIT_SETS = 100
"""Splits with fewer sets are not probed: they are too small to tell."""

FALSE_ALARMS = 0.001
"""The chance that any of the surface tests of an honest data set objects: each is held to its share (Bonferroni)."""

NEAR = 0.75
"""From this share of common sentences on (intersection over union), two texts count as near-duplicates."""

Progress = Callable[[str, int, int], None]
"""Told the split, how many of its sets are read, and how many there are."""


@dataclass(frozen=True)
class LengthGap:
    """How far the lengths of an answer's texts lie from those of the others.

    Args:
        answer: The answer class with the largest gap, relative to its standard error.
        words: The gap between the mean numbers of words.
        z: The gap in standard errors.
    """

    answer: str
    words: float
    z: float


@dataclass(frozen=True)
class SurfaceAudit:
    """What the texts of one domain in one split give away, with planted cues left out.

    Args:
        split: The split.
        domain: The domain.
        texts: The number of texts.
        words: The probe on words; ``None`` where there are too few texts.
        ngrams: The probe on runs of one to three words.
        with_cue: The probe on words that also sees the planted cues; ``None`` where there are none.
        length: The largest gap in length.
        numeric: Whether the answers are numbers, told by their parity, which may show in the numbers of the text
            without giving the number away.
    """

    split: str
    domain: str
    texts: int
    words: ProbeResult | None
    ngrams: ProbeResult | None
    with_cue: ProbeResult | None
    length: LengthGap | None
    numeric: bool


@dataclass
class AuditReport:
    """What an audit found.

    Args:
        claimed: Whether the data set claims to be free of shortcuts, apart from cues that it names.
        surfaces: The surface of each split and domain.
        answers: The number of sets of each answer class, by split.
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


@dataclass
class _Column:
    """The texts of one domain in one split."""

    bare: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    numeric: bool = False


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
    claimed = bool(info is not None and info.config.get("audit"))
    imported = info is None or info.imported
    by_structure = info is not None and info.config.get("split_by") == "structure"
    report = AuditReport(claimed)
    columns: dict[tuple[str, str], _Column] = {}
    repeats = _Repeats(by_structure)
    for split in available_splits(directory):
        total = count_sets(directory, split)
        report.answers[split] = Counter()
        for done, isomer_set in enumerate(iterate_split(directory, split), start=1):
            report.answers[split][answer_class(isomer_set)] += 1
            repeats.add(split, isomer_set)
            for member in isomer_set.members:
                column = columns.setdefault((split, member.domain), _Column())
                column.bare.append(without_cue(member, isomer_set.set_id))
                column.shown.append(member.prompt)
                column.labels.append(answer_class(isomer_set))
                column.numeric = not isomer_set.choices
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
    _balance(report)
    _surfaces(report, columns)
    report.duplicates, report.near_duplicates = repeats.exact, repeats.near()
    report.faults += report.duplicates
    if claimed:
        report.faults += report.near_duplicates
    return report


def without_cue(member: Member, set_id: str) -> str:
    """Takes a planted cue out of a text.

    Args:
        member: The member; where it has no readable record it keeps its text.
        set_id: Its set, named in errors.

    Returns:
        The problem without the cue sentence.
    """
    if not member.cue:
        return member.prompt
    cue = formal_from_json(member.formal, f"set {set_id!r}, domain {member.domain!r}").cue
    if cue is None:
        return member.prompt
    return (
        member.prompt.replace(f"{cue.text} ", "", 1)
        if cue.position == "start"
        else (member.prompt.replace(f" {cue.text}", "", 1))
    )


def length_gap(texts: Sequence[str], labels: Sequence[str]) -> LengthGap | None:
    """Finds the answer class whose texts differ most in length from the others.

    Args:
        texts: The texts.
        labels: The answer class of each.

    Returns:
        The gap, or ``None`` where there is only one class or a class has a single text.
    """
    lengths = [len(text.split()) for text in texts]
    gaps = []
    for label in sorted(set(labels)):
        own = [length for length, name in zip(lengths, labels, strict=True) if name == label]
        rest = [length for length, name in zip(lengths, labels, strict=True) if name != label]
        if len(own) < 2 or len(rest) < 2:
            return None
        gap = statistics.fmean(own) - statistics.fmean(rest)
        error = math.sqrt(statistics.variance(own) / len(own) + statistics.variance(rest) / len(rest))
        gaps.append(LengthGap(label, gap, gap / error if error else math.copysign(math.inf, gap) if gap else 0.0))
    return max(gaps, key=lambda gap: abs(gap.z), default=None)


def _balance(report: AuditReport) -> None:
    """Objects to answers that are further from balance than chance would have them."""
    if not report.claimed:
        return
    z = _threshold(len(report.answers))
    for split, counts in report.answers.items():
        total, classes = counts.total(), len(counts)
        if total < AUDIT_SETS or classes < 2:
            continue
        error = math.sqrt(total * (1 / classes) * (1 - 1 / classes))
        answer, count = max(counts.items(), key=lambda item: abs(item[1] - total / classes))
        if abs(count - total / classes) > z * error:
            report.faults.append(
                f"Split {split}: {count} of {total} sets have the answer {answer}, one of {classes}; balance them."
            )


def _surfaces(report: AuditReport, columns: dict[tuple[str, str], _Column]) -> None:
    """Probes each column once; splits that show the same problems in the same words share the result."""
    # Three tests for each column: words, runs of words, and length.
    z = _threshold(3 * len(columns))
    known: dict[str, tuple[ProbeResult, ProbeResult]] = {}
    for (split, domain), column in columns.items():
        words = ngrams = with_cue = None
        gap = length_gap(column.bare, column.labels)
        if len(column.bare) >= AUDIT_SETS and 1 < len(set(column.labels)) <= MOST_CLASSES:
            key = hashlib.sha256("\n".join([domain, *column.bare]).encode()).hexdigest()
            if key not in known:
                known[key] = (_probe(column, domain, word_counts), _probe(column, domain, ngram_counts))
            words, ngrams = known[key]
            if column.shown != column.bare:
                with_cue = probe_texts(column.shown, column.labels, domain, word_counts)
        surface = SurfaceAudit(split, domain, len(column.bare), words, ngrams, with_cue, gap, column.numeric)
        report.surfaces.append(surface)
        if not report.claimed or column.numeric or words is None or ngrams is None:
            continue
        for name, result in (("words", words), ("runs of words", ngrams)):
            if result.leaks_at(z):
                report.faults.append(
                    f"Split {split}, domain {domain}: {name} alone predict the answer with an accuracy of "
                    f"{result.accuracy:.1%} (chance {result.chance:.1%}); find what leaks and take it out."
                )
        if gap is not None and abs(gap.z) > z:
            report.faults.append(
                f"Split {split}, domain {domain}: texts with the answer {gap.answer} are {gap.words:+.1f} words longer "
                f"than the others ({gap.z:+.1f} standard errors); match the lengths."
            )


def _probe(column: _Column, domain: str, features: Features) -> ProbeResult:
    return probe_texts(column.bare, column.labels, domain, features, penalty=10.0 if features is word_counts else 300.0)


def _threshold(tests: int) -> float:
    return statistics.NormalDist().inv_cdf(1 - FALSE_ALARMS / (2 * max(tests, 1)))


class _Repeats:
    """Finds what stands twice: texts and structures at once, and near-duplicates when all texts are known."""

    def __init__(self, by_structure: bool) -> None:
        self._by_structure = by_structure
        self._groups = {split.name: "test" if split.group == "deeper" else split.group for split in SPLITS}
        self._texts: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._structures: dict[str, tuple[str, str, str]] = {}
        self._sentences: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._sizes: list[tuple[str, str, str, int]] = []
        self.exact: list[str] = []

    def add(self, split: str, isomer_set: IsomerSet) -> None:
        """Takes a set in and notes what it repeats."""
        group, name = self._groups.get(split, split), isomer_set.set_id
        here = (group, split, name)
        if self._by_structure:
            _, old_split, old = seen = self._structures.setdefault(isomer_set.logic.structure, here)
            if seen[0] != group:
                self.exact.append(
                    f"Set {name} of split {split} has the structure of set {old} of split {old_split}; drop one."
                )
        for member in isomer_set.members:
            text = without_cue(member, name)
            digest = hashlib.sha256(text.encode()).hexdigest()
            place = self._texts.get((member.domain, digest))
            if place is None:
                self._texts[member.domain, digest] = here
                asked = choices_line(isomer_set.choices) if len(isomer_set.choices) > 1 else ""
                self._index(member.domain, text.removesuffix(asked), here)
            elif (place[0], place[2]) != (group, name):
                # The test splits show the same problems on purpose, under the same names.
                self.exact.append(
                    f"Set {name} of split {split} has the {member.domain} text of set {place[2]} of split {place[1]}; "
                    "drop one of them."
                )

    def _index(self, domain: str, text: str, here: tuple[str, str, str]) -> None:
        parts = {part for part in text.replace("\n", ". ").split(". ") if part}
        for part in parts:
            self._sentences[domain, part].append(len(self._sizes))
        self._sizes.append((*here, len(parts)))

    def near(self) -> list[str]:
        """Finds texts of different groups that share most of their sentences."""
        shared: Counter[tuple[int, int]] = Counter()
        for places in self._sentences.values():
            # A sentence that stands everywhere tells no two texts apart, and would take long to pair up.
            if 1 < len(places) <= 50:
                for index, one in enumerate(places):
                    for other in places[index + 1 :]:
                        if self._sizes[one][0] != self._sizes[other][0]:
                            shared[one, other] += 1
        found = []
        for (one, other), count in shared.items():
            first, second = self._sizes[one], self._sizes[other]
            if count >= NEAR * (first[3] + second[3] - count):
                found.append(
                    f"Set {second[2]} of split {second[1]} shares {count} of {second[3]} sentences with set "
                    f"{first[2]} of split {first[1]}; drop one of them."
                )
        return found
