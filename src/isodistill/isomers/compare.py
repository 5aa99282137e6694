"""The members of a set side by side: what each sentence says, and where members differ in structure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.isomers.skeleton import Skeleton
from isodistill.logic.formula import rename
from isodistill.logic.printer import format_formula


@dataclass(frozen=True)
class Cell:
    """One sentence of one member.

    Args:
        text: The sentence; empty where the member has none here.
        reading: What it says, in the skeleton's symbols; empty where it was not read.
        error: Why it is not what the skeleton says here; empty where it is.
    """

    text: str
    reading: str
    error: str


@dataclass(frozen=True)
class Row:
    """One place of a problem in every member.

    Args:
        place: What stands here: a premise with its number, the question, the cue or the choices.
        stated: What the skeleton says here; empty where nothing is compared.
        cells: A cell for each member.
    """

    place: str
    stated: str
    cells: tuple[Cell, ...]


def compare_members(isomer_set: IsomerSet) -> list[Row]:
    """Reads every member from its text alone and sets it against the skeleton, sentence by sentence.

    Args:
        isomer_set: The set. Where it has no skeleton that can be read, its texts are shown and not compared.

    Returns:
        The rows in reading order.
    """
    try:
        skeleton = isomer_set.logic
    except IsodistillError:
        return [Row("text", "", tuple(Cell(member.prompt, "", "") for member in isomer_set.members))]
    wanted = [format_formula(formula) for formula in (*skeleton.premises, skeleton.question)]
    columns = [_column(member, isomer_set.set_id, skeleton) for member in isomer_set.members]
    rows = []
    for place in range(max(len(wanted), *(len(column) for column in columns))):
        stated = wanted[place] if place < len(wanted) else ""
        name = "question" if place == len(wanted) - 1 else f"premise {place + 1}" if stated else "beyond"
        rows.append(Row(name, stated, tuple(_judged(column, place, stated) for column in columns)))
    return rows


def _column(member: Member, set_id: str, skeleton: Skeleton) -> list[tuple[str, str, str]]:
    """Splits a member's text at the same places as the skeleton: sentence, reading in its symbols, error."""
    lines = member.prompt.split("\n")
    try:
        pack = load_pack(member.domain)
        formal = member.load_formal(set_id)
        planted = None if formal.cue is None else formal.cue.text
        cues = {planted, *(cue for group in pack.cues for cue in group)}
        symbols = {word: name for name, word in formal.wording.lexicon.items()}
    except IsodistillError as error:
        return [(member.prompt, "", str(error))]
    sentences = [part for part in re.split(r"(?<=\.) ", lines[0]) if part not in cues]
    asked = "\n".join(lines[1:])
    try:
        reading = parse_prompt(member.prompt, pack, planted)
    except IsodistillError as error:
        return [(text, "", str(error) if place == 0 else "not read") for place, text in enumerate([*sentences, asked])]
    said = [format_formula(rename(premise, symbols)) for premise in reading.premises]
    column = [(text, found, "") for text, found in zip(sentences, said, strict=True)]
    # The question stands last; a premise that is missing is missing before it, one too many stands after it.
    missing, places = ("", "", "missing"), len(skeleton.premises)
    question = (asked, format_formula(rename(reading.question, symbols)), "")
    return [*column[:places], *[missing] * (places - len(column)), question, *column[places:]]


def _judged(column: list[tuple[str, str, str]], place: int, stated: str) -> Cell:
    if place >= len(column):
        return Cell("", "", "missing")
    text, reading, error = column[place]
    if not error and reading != stated:
        error = f"says {reading} instead of {stated}" if stated else "stands here and nowhere else"
    return Cell(text, reading, error)
