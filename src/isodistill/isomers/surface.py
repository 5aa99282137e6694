"""What the surface of a data set's texts gives away about the answer: probes and lengths, domain by domain."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from isodistill.isomers.card import AuditRow
from isodistill.isomers.probes import Features, ProbeResult, ngram_counts, pair_counts, probe_texts, word_counts

MOST_CLASSES = 20
"""Splits with more answer classes are not probed: free answers, of which each text has one of its own."""

AUDIT_SETS = 100
"""Splits with fewer sets are not probed: they are too small to tell."""

FALSE_ALARMS = 0.001
"""The chance that any of the surface tests of an honest data set objects: each is held to its share (Bonferroni)."""

_PENALTIES: dict[Features, float] = {word_counts: 10.0, ngram_counts: 300.0, pair_counts: 300.0}
"""Each probe and the weight of its ridge penalty; thousands of features need a larger one."""


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
        texts: The number of texts, one of each set that is told in the domain.
        chance: The share of the most frequent answer class.
        words: The probe on words; ``None`` where the texts are not probed.
        ngrams: The probe on runs of one to three words.
        pairs: The probe on pairs of a word of the question and one of the premises.
        with_cue: The probe on words that also sees the planted cues; ``None`` where there are none.
        length: The largest gap in length.
        numeric: Whether the answers are numbers, told by their parity, which may show in the numbers of the text
            without giving the number away.
        unprobed: Why the texts are not probed; empty where they are.
    """

    split: str
    domain: str
    texts: int
    chance: float
    words: ProbeResult | None
    ngrams: ProbeResult | None
    pairs: ProbeResult | None
    with_cue: ProbeResult | None
    length: LengthGap | None
    numeric: bool
    unprobed: str = ""


@dataclass
class Column:
    """The texts of one domain in one split.

    Args:
        bare: The texts without planted cues.
        shown: The texts as they stand.
        labels: The answer class of each.
        numeric: Whether the answers are numbers.
    """

    bare: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    numeric: bool = False


def measure_surfaces(columns: Mapping[tuple[str, str], Column]) -> list[SurfaceAudit]:
    """Probes each column once; splits that show the same problems in the same words share the results.

    Args:
        columns: The texts by split and domain.

    Returns:
        What each column gives away, in the order of the columns.
    """
    known: dict[str, tuple[ProbeResult, ...]] = {}
    surfaces = []
    for (split, domain), column in columns.items():
        results: tuple[ProbeResult | None, ...] = (None, None, None)
        with_cue = None
        unprobed = _unprobed(column)
        if not unprobed:
            key = hashlib.sha256("\n".join([domain, *column.bare]).encode()).hexdigest()
            if key not in known:
                known[key] = tuple(
                    probe_texts(column.bare, column.labels, domain, features, penalty=penalty)
                    for features, penalty in _PENALTIES.items()
                )
            results = known[key]
            if column.shown != column.bare:
                with_cue = probe_texts(column.shown, column.labels, domain, word_counts)
        words, ngrams, pairs = results
        gap = length_gap(column.bare, column.labels)
        texts = len(column.bare)
        surfaces.append(
            SurfaceAudit(
                split=split,
                domain=domain,
                texts=texts,
                chance=max(Counter(column.labels).values()) / texts,
                words=words,
                ngrams=ngrams,
                pairs=pairs,
                with_cue=with_cue,
                length=gap,
                numeric=column.numeric,
                unprobed=unprobed,
            )
        )
    return surfaces


def audit_rows(surfaces: Sequence[SurfaceAudit]) -> tuple[AuditRow, ...]:
    """Writes down for a card what was measured.

    Args:
        surfaces: All that the audit measured.

    Returns:
        A row for each, those that were not probed included.
    """
    return tuple(
        AuditRow(
            split=surface.split,
            domain=surface.domain,
            texts=surface.texts,
            chance=round(surface.chance, 4),
            words=_rounded(surface.words),
            ngrams=_rounded(surface.ngrams),
            pairs=_rounded(surface.pairs),
            length_gap=round(surface.length.words, 2) if surface.length else 0.0,
            unprobed=surface.unprobed,
        )
        for surface in surfaces
    )


def surface_threshold(surfaces: Sequence[SurfaceAudit]) -> float:
    """Tells how many standard errors above chance a surface test of an audit must be to object.

    Args:
        surfaces: All that the audit measured. Four tests of each that is judged share `FALSE_ALARMS`: words, runs of
            words, pairs of words, and length.

    Returns:
        The number of standard errors.
    """
    return shared_threshold((len(_PENALTIES) + 1) * sum(_judged(surface) for surface in surfaces))


def surface_faults(surfaces: Sequence[SurfaceAudit]) -> Iterator[str]:
    """Objects to texts whose surface tells the answer beyond doubt; numbers and what is not probed are exempt.

    Args:
        surfaces: All that the audit measured.

    Yields:
        Sentences, one for each test that objects.
    """
    z = surface_threshold(surfaces)
    for surface in surfaces:
        if not _judged(surface):
            continue
        where = f"Split {surface.split}, domain {surface.domain}"
        probes = {"words": surface.words, "runs of words": surface.ngrams, "pairs of words": surface.pairs}
        for name, result in probes.items():
            if result is not None and result.leaks_at(z):
                yield (
                    f"{where}: {name} alone predict the answer with an accuracy of {result.accuracy:.1%} (chance "
                    f"{result.chance:.1%}); find what leaks and take it out."
                )
        gap = surface.length
        if gap is not None and abs(gap.z) > z:
            yield (
                f"{where}: texts with the answer {gap.answer} are {gap.words:+.1f} words longer than the others "
                f"({gap.z:+.1f} standard errors); match the lengths."
            )


def shared_threshold(tests: int) -> float:
    """Tells how many standard errors a test must be off to object, if several tests share `FALSE_ALARMS`.

    Args:
        tests: The number of two-sided tests.

    Returns:
        The number of standard errors.
    """
    return statistics.NormalDist().inv_cdf(1 - FALSE_ALARMS / (2 * max(tests, 1)))


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


def _rounded(result: ProbeResult | None) -> tuple[float, float, float] | None:
    return None if result is None else (round(result.accuracy, 4), round(result.low, 4), round(result.high, 4))


def _judged(surface: SurfaceAudit) -> bool:
    return not surface.unprobed and not surface.numeric


def _unprobed(column: Column) -> str:
    classes = len(set(column.labels))
    if len(column.bare) < AUDIT_SETS:
        return f"{len(column.bare)} sets, too few"
    if classes < 2:
        return "all answers are the same"
    if classes > MOST_CLASSES:
        return f"{classes} different answers, too many"
    return ""
