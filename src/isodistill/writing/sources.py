"""Problems that isomers are written of: text, formulas and an answer that the solver confirms."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from isodistill.errors import IsodistillError
from isodistill.importers import import_folio, read_source
from isodistill.isomers.card import read_card
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.store import available_splits, read_split
from isodistill.logic.canonical import canonical_form
from isodistill.logic.check import CHECK_TIMEOUT_MS
from isodistill.logic.formula import Formula
from isodistill.logic.notation import format_notation, parse_formula
from isodistill.logic.solver import status

FOLIO = "folio:"
"""What a source of FOLIO's rows starts with."""

Progress = Callable[[str, int, int], None]
"""Told the stage, how many are done, and how many there are."""


@dataclass(frozen=True)
class Source:
    """One problem.

    Args:
        isomer_set: The set; new members are added to it.
        member: The member whose words are shown.
        premises: Its premises as formulas.
        question: The statement to judge.
        symbols: The phrase of each symbol in the member's words; none where only the text tells.
    """

    isomer_set: IsomerSet
    member: Member
    premises: tuple[Formula, ...]
    question: Formula
    symbols: Mapping[str, str]

    @property
    def text(self) -> str:
        """The problem in English."""
        return self.member.prompt

    @cached_property
    def canonical(self) -> str:
        """The canonical form of premises and question."""
        return canonical_form(self.premises, self.question)


@dataclass(frozen=True)
class Sources:
    """The problems of a data set.

    Args:
        name: Where they come from.
        license: The licence of the texts.
        splits: The problems of each split.
        dropped: How many of each split cannot be used, by reason.
    """

    name: str
    license: str
    splits: Mapping[str, tuple[Source, ...]]
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_sources(
    name: str,
    splits: tuple[str, ...] = (),
    limit: int | None = None,
    timeout_ms: int = CHECK_TIMEOUT_MS,
    progress: Progress | None = None,
) -> Sources:
    """Reads the problems of a data set, keeping those whose answer z3 finds in their formulas.

    Args:
        name: The directory of a data set (generated, imported from FOLIO, or written by a model), or ``folio:FILE``.
        splits: The splits; by default ``train`` of a data set, and all of a file.
        limit: At most this many problems of each split, picked by a hash of their names: the same ones in every run.
        timeout_ms: The limit of each question to z3, in milliseconds.
        progress: Called after each row of FOLIO.

    Returns:
        The problems.

    Raises:
        IsodistillError: If the data cannot be read, has no such split, has planted cues, or nothing can be used.
    """
    if name.startswith(FOLIO):
        license_id, sets, dropped = _folio(name.removeprefix(FOLIO), splits, timeout_ms, progress)
    else:
        directory = Path(name)
        present = available_splits(directory)
        sets = {
            split: read_split(directory, split) for split in (splits or ("train",) * ("train" in present) or present)
        }
        info, _ = read_card(directory / "README.md")
        license_id = "unknown" if info is None else info.license or "cc0-1.0"
        dropped = {split: Counter[str]() for split in sets}
    found: dict[str, tuple[Source, ...]] = {}
    for split, rows in sets.items():
        usable = []
        for isomer_set in rows:
            source = _source(isomer_set, None if name.startswith(FOLIO) else timeout_ms)  # FOLIO's are checked
            if isinstance(source, str):
                dropped[split][source] += 1
            else:
                usable.append(source)
        if not usable:
            reasons = "; ".join(f"{count} because {reason}" for reason, count in dropped[split].items()) or "no rows"
            raise IsodistillError(
                f"No problem of the split {split!r} of {name} can be written anew: {reasons}; give data with formulas "
                "in first-order logic and the answers True, False and Unknown."
            )
        found[split] = tuple(_limited(usable, limit))
    return Sources(name, license_id, found, {split: dict(counts) for split, counts in dropped.items()})


def _folio(
    place: str, wanted: tuple[str, ...], timeout_ms: int, progress: Progress | None
) -> tuple[str, dict[str, list[IsomerSet]], dict[str, Counter[str]]]:
    read = read_source(place)
    for split in wanted:
        if split not in read:
            raise IsodistillError(f"The source {place} has no split {split!r}; it has {', '.join(read)}.")
    sets: dict[str, list[IsomerSet]] = {}
    dropped: dict[str, Counter[str]] = {}
    for split in wanted or tuple(read):
        where = f"{place}, split {split!r}"
        imported = import_folio(read[split], split, where, timeout_ms, verified_only=True, progress=progress)
        dropped[split] = Counter(imported.dropped)
        sets[split] = [
            IsomerSet(
                set_id=problem.set_id,
                family=problem.family,
                depth=0,
                skeleton="",
                canonical=problem.canonical,
                answer=problem.answer,
                choices=problem.choices,
                members=(Member(domain=problem.domain, prompt=problem.prompt, formal=problem.formal),),
            )
            for problem in imported.problems
        ]
    return "cc-by-sa-4.0", sets, dropped


def _source(isomer_set: IsomerSet, timeout_ms: int | None) -> Source | str:
    """Finds the formulas of a set and, with a time limit, their answer; or tells why the set cannot be used."""
    if any(member.cue for member in isomer_set.members):
        raise IsodistillError(
            f"The set {isomer_set.set_id!r} has a planted cue, which the new members would not have; generate the "
            "source without a shortcut, or name a split without cues."
        )
    if not isomer_set.choices:
        return "its answer is a number"
    try:
        source = _from_skeleton(isomer_set) if isomer_set.skeleton else _from_members(isomer_set)
    except IsodistillError:
        return "its formulas have no form in the notation"
    if source is None:
        return "there are no formulas"
    if timeout_ms is None:
        return source
    try:
        found = status(source.premises, source.question, timeout_ms)
    except IsodistillError:
        return "z3 finds no answer"
    return source if found == isomer_set.answer else "z3 does not reproduce its label"


def _from_skeleton(isomer_set: IsomerSet) -> Source:
    skeleton, first = isomer_set.logic, isomer_set.members[0]
    # What is compared is what a model gets to read, so the formulas pass through the notation once.
    *premises, question = (
        parse_formula(format_notation(formula)) for formula in (*skeleton.premises, skeleton.question)
    )
    lexicon = first.load_formal(isomer_set.set_id).wording.lexicon
    names = [symbol.name for symbol in skeleton.symbols if symbol != skeleton.theme]
    phrases = {name: lexicon[name].replace("-", " ") for name in names}
    return Source(isomer_set, first, tuple(premises), question, phrases)


def _from_members(isomer_set: IsomerSet) -> Source | None:
    """Takes the first member that has its formulas in the notation, as those from FOLIO and from models do."""
    for member in isomer_set.members:
        try:
            formal: Any = json.loads(member.formal)
            premises = tuple(parse_formula(text) for text in formal["premises"])
            symbols = {str(name): str(phrase) for name, phrase in formal.get("symbols", {}).items()}
            return Source(isomer_set, member, premises, parse_formula(formal["question"]), symbols)
        except (IsodistillError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return None


def _limited(sources: list[Source], limit: int | None) -> list[Source]:
    if limit is None:
        return sources

    def rank(source: Source) -> bytes:
        return hashlib.sha256(source.isomer_set.set_id.encode()).digest()

    kept = {source.isomer_set.set_id for source in sorted(sources, key=rank)[:limit]}
    return [source for source in sources if source.isomer_set.set_id in kept]
