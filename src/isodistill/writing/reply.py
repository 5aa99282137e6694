"""What a model replied: one JSON object of a fixed form, taken from untrusted text, and nothing believed unread."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isodistill.logic.formula import Formula
from isodistill.logic.notation import NotationError
from isodistill.logic.repairs import parse_with_repairs
from isodistill.teachers.judge import MAX_CHARACTERS
from isodistill.validation import first_fault

MAX_SENTENCE, MAX_FORMULA, MAX_PHRASE, MAX_NAME, MAX_PARTS = 800, 2000, 120, 60, 100
"""The most characters of a sentence, a formula, a phrase and a name, and the most premises and symbols of a reply."""


class Rejected(Exception):
    """A reply that is not accepted.

    Args:
        reason: Why, in a few words that are counted.
        detail: What and where, in a sentence; it may quote the reply, which is untrusted text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Mend:
    """One harmless slip that was mended.

    Args:
        what: What was done, in words that are counted.
        where: The part of the reply, for example ``"premise 2"``.
    """

    what: str
    where: str


_FormulaText = Annotated[str, Field(min_length=1, max_length=MAX_FORMULA)]


class Statement(BaseModel):
    """A sentence and its formula.

    Args:
        text: The sentence in English.
        formula: The same in first-order logic.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    text: str = Field(min_length=1, max_length=MAX_SENTENCE)
    formula: _FormulaText


class WrittenProblem(BaseModel):
    """The form of a reply to the task "write"; further fields are passed over.

    Args:
        premises: The premises in the order of the source.
        conclusion: The statement to judge.
        symbols: A phrase for each predicate and constant.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    premises: list[Statement] = Field(min_length=1, max_length=MAX_PARTS)
    conclusion: Statement
    symbols: dict[
        Annotated[str, Field(min_length=1, max_length=MAX_NAME)],
        Annotated[str, Field(min_length=1, max_length=MAX_PHRASE)],
    ] = Field(max_length=MAX_PARTS)


class ReadProblem(BaseModel):
    """The form of a reply to the task "read"; further fields are passed over.

    Args:
        premises: A formula for each sentence.
        conclusion: The conclusion's formula.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    premises: list[_FormulaText] = Field(min_length=1, max_length=MAX_PARTS)
    conclusion: _FormulaText


_Form = TypeVar("_Form", bound=BaseModel)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json)?\s*", re.IGNORECASE)


def load_reply(text: str, finish: str, form: type[_Form]) -> tuple[_Form, tuple[Mend, ...]]:
    """Reads the JSON object of a reply.

    Args:
        text: The reply; untrusted.
        finish: Why it ends, see `isodistill.teachers.Reply`.
        form: The form that it must have.

    Returns:
        The object, and what was mended: a code fence or other text around the object is dropped.

    Raises:
        Rejected: If the reply is too long, is cut off, holds no JSON object, or one of another form.
    """
    if len(text) > MAX_CHARACTERS:
        raise Rejected("too long", f"the reply has more than {MAX_CHARACTERS} characters")
    text = _THOUGHT.sub("", text, count=1)
    start = max(text.find("{"), 0)
    try:
        data, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        if finish == "length":
            raise Rejected("cut off", "the reply ends at the limit of tokens before its JSON object does") from None
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "its depth"
        problem = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be read"
        raise Rejected("no JSON object", f"{problem} ({where}): {_excerpt(text)}") from None
    try:
        value = form.model_validate(data)
    except ValidationError as error:
        place, reason = first_fault(error, "the object", form.model_fields)
        raise Rejected("wrong form", f"{place[:80]}: {reason}") from None
    around = [part for part in (text[:start], text[end:]) if part.strip()]
    if not around:
        return value, ()
    fenced = all(_FENCE.fullmatch(part) for part in around)
    what = "took the object out of a code fence" if fenced else "dropped text around the object"
    return value, (Mend(what, "the reply"),)


def load_formula(text: str, where: str) -> tuple[Formula, tuple[Mend, ...]]:
    """Reads a formula by the grammar of `isodistill.logic`.

    Args:
        text: The formula; untrusted.
        where: For example ``"premise 2"``.

    Returns:
        The formula, and the slips that were mended.

    Raises:
        Rejected: If it is none.
    """
    try:
        formula, repairs = parse_with_repairs(text, where)
    except NotationError as error:
        raise Rejected("no formula", str(error)) from None
    return formula, tuple(Mend(repair.what, where) for repair in repairs)


# A text that names the answer would teach to look for it. Nothing here can match in two ways.
_LEAK = re.compile(
    r"\b(?:answer|label|conclusion|solution)[ \t*_`\"']*[:=]"
    r"|\b(?:answer|conclusion|statement) is (?:true|false|unknown|uncertain|entailed|refuted)\b"
    r"|\btrue, false or unknown\b",
    re.IGNORECASE,
)
_MARKS = re.compile(r"[∀∃¬∧∨⊕⊻→⟶⇒↔⟷⇔⊤⊥{}<>|`]|->|=>")


def require_plain(text: str, where: str) -> str:
    """Looks a piece of English over.

    Args:
        text: The text; untrusted.
        where: For example ``"premise 2"``.

    Returns:
        The text without blanks around it.

    Raises:
        Rejected: If it is empty, or holds control or invisible characters, marks of logic, of markup or of a chat
            template, or something like an answer line.
    """
    text = text.strip()
    if not text:
        raise Rejected("empty text", f"{where} has no words")
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for sign in text):
        raise Rejected("control characters", f"{where} holds a line break, a control or an invisible character")
    if found := _LEAK.search(text):
        raise Rejected("names the answer", f"{where} holds {found[0]!r}")
    if found := _MARKS.search(text):
        raise Rejected("marks in the text", f"{where} holds {found[0]!r}, which is no English")
    return text


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def plain_detail(value: Any) -> str:
    """Writes a detail on one line of at most 300 characters, for reports.

    Args:
        value: Anything; it may quote untrusted text.

    Returns:
        Printable characters only.
    """
    return "".join(sign if sign.isprintable() else " " for sign in str(value))[:300]
