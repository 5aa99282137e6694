"""From text back to formulas: reads a problem from its words alone, knowing only the domain pack."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import Pack, Relation
from isodistill.isomers.packs.schema import template_slots, word_id
from isodistill.isomers.render import choices_line
from isodistill.isomers.statements import STATEMENT_KINDS, StatementKind
from isodistill.logic.canonical import canonical_form
from isodistill.logic.formula import Formula


@dataclass(frozen=True)
class Reading:
    """What a text says.

    Args:
        premises: The premises in order, in the ids of the pack's words.
        question: The question.
        theme: The id of the word for what is ordered or counted, or ``None``.
        choices_line: The line that lists the choices, or nothing.
        cues: The cue sentences in order; they say nothing about the problem.
    """

    premises: tuple[Formula, ...]
    question: Formula
    theme: str | None
    choices_line: str
    cues: tuple[str, ...]

    @property
    def canonical(self) -> str:
        """The canonical form of premises and question."""
        return canonical_form(self.premises, self.question)


@dataclass(frozen=True)
class _Pattern:
    """A template as a regular expression, compiled when a text first may be of its shape.

    Args:
        kind: What it states.
        source: The expression.
        literals: What every text of this shape contains: looked for first, because that is much quicker than a match.
    """

    kind: StatementKind
    source: str
    literals: tuple[str, ...]

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(self.source)


def parse_prompt(text: str, pack: Pack, cue: str | None = None) -> Reading:
    """Reads a problem.

    Args:
        text: What `render` writes, with or without a cue; untrusted.
        pack: The domain that it is written in.
        cue: A cue sentence that may stand there beside the pack's own.

    Returns:
        The formulas.

    Raises:
        IsodistillError: If a sentence has no reading or several, or the sentences differ in what they order or count.
    """
    lines = text.split("\n")
    if len(lines) < 2:
        raise IsodistillError(f"The text has {len(lines)} line, not premises and a question: {text[:80]!r}; add lines.")
    themes: set[str] = set()
    premises, cues = [], []
    for part in _sentences(lines[0]):
        if part == cue or any(part in group for group in pack.cues):
            cues.append(part)
        else:
            premises.append(_read(part.removesuffix("."), pack, "premise", themes))
    choices = ""
    asked = lines[1]
    if len(lines) == 3:
        choices = lines[2]
        lead = next((lead for lead in pack.leads if asked.startswith(f"{lead} ")), None)
        if lead is None or not asked.endswith("."):
            raise IsodistillError(f"The statement to judge has no lead or no full stop: {asked[:80]!r}; mend it.")
        asked = asked.removeprefix(f"{lead} ").removesuffix(".")
    elif len(lines) == 2 and asked.endswith("?"):
        asked = asked.removesuffix("?")
    else:
        raise IsodistillError(f"The question has an unknown layout: {asked[:80]!r}; write it as render does.")
    question = _read(asked, pack, "question", themes)
    if len(themes) > 1:
        raise IsodistillError(f"The text orders or counts several things ({', '.join(sorted(themes))}); keep to one.")
    return Reading(tuple(premises), question, next(iter(themes), None), choices, tuple(cues))


def expected_choices_line(choices: tuple[str, ...]) -> str:
    """Tells which line of choices a text must end in.

    Args:
        choices: The closed answer set, or nothing.

    Returns:
        The line, empty where the answer is a number.
    """
    return choices_line(choices) if choices else ""


def _sentences(paragraph: str) -> list[str]:
    return [part if part.endswith(".") else f"{part}." for part in paragraph.split(". ")]


def _read(text: str, pack: Pack, role: Literal["premise", "question"], themes: set[str]) -> Formula:
    readings: dict[Formula, str | None] = {}
    # A sentence starts with a capital that is not always the word's own.
    spellings = {text, text[:1].lower() + text[1:]}
    for pattern in _grammar(pack, role):
        if not all(literal in text for literal in pattern.literals):
            continue
        for spelling in spellings:
            if match := pattern.regex.fullmatch(spelling):
                found = match.groupdict()
                theme = found.pop("theme", None)
                filling = {slot: _filler(found[slot], sort) for slot, sort in pattern.kind.slots.items()}
                readings[pattern.kind.build(filling)] = _theme_id(theme, pack) if theme else None
    if len(readings) != 1:
        raise IsodistillError(
            f"In the domain {pack.id!r} the {role} {text[:120]!r} has {len(readings)} readings instead of one; "
            "mend the sentence or the pack's templates."
        )
    ((formula, theme),) = readings.items()
    if theme is not None:
        themes.add(theme)
    return formula


def _filler(text: str, sort: str) -> str:
    if sort == "individuals":
        return " ".join(word_id(part) for part in re.split(r", | and ", text))
    return text if sort == "number" else word_id(text)


def _theme_id(phrase: str, pack: Pack) -> str:
    for relation in pack.relations:
        if phrase in (relation.less, relation.greater):
            return word_id(relation)
    return word_id(phrase)


@lru_cache(maxsize=512)
def _grammar(pack: Pack, role: Literal["premise", "question"]) -> tuple[_Pattern, ...]:
    return tuple(
        _pattern(template, kind, pack)
        for kind in STATEMENT_KINDS.values()
        if kind.role == role
        for template in pack.templates[kind.name]
    )


def _pattern(template: str, kind: StatementKind, pack: Pack) -> _Pattern:
    def alternatives(slot: str) -> str:
        if slot in ("less", "greater"):
            return f"(?P<theme>{_any(getattr(relation, slot) for relation in pack.relations)})"
        if slot == "item":
            return f"(?P<theme>{_any(pack.items)})"
        sort = kind.slots[slot]
        if sort == "number":
            return rf"(?P<{slot}>0|[1-9][0-9]{{0,5}})"
        if sort == "individuals":
            word = f"(?:{_any(pack.individuals)})"
            return f"(?P<{slot}>{word}(?:, {word})* and {word})"
        return f"(?P<{slot}>{_any(word for word in pack.words[sort].values() if not isinstance(word, Relation))})"

    regex = re.escape(template)
    for slot in template_slots(template):
        regex = regex.replace(re.escape(f"{{{slot}}}"), alternatives(slot))
    # The first letter of a sentence may be a capital: the first literal is looked for without it.
    literals = [part for part in re.split(r"\{\w+\}", template) if part.strip()]
    if literals and template.startswith(literals[0]):
        literals[0] = literals[0][1:]
    return _Pattern(kind, regex, tuple(literals))


def _any(texts: Iterable[str]) -> str:
    return "|".join(re.escape(text) for text in texts)
