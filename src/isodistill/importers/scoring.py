"""Whether an answer is right: by the problem's own scorer where its source has one, else by comparing texts."""

from __future__ import annotations

import re
from collections.abc import Callable

from isodistill.answers import same_answer
from isodistill.importers import reasoning_gym

TOLERANCE = 0.01
"""By which share a number in a science answer may be off: the references are rounded."""

_NUMBER = re.compile(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3})?")


def score_answer(family: str, prompt: str, answer: str, formal: str, given: str | None) -> float:
    """Scores an answer.

    Args:
        family: The problem's family, which tells its source.
        prompt: The problem's text as it was imported.
        answer: The reference answer.
        formal: The problem's record for machines.
        given: The answer to score, or ``None`` where there is none; untrusted text.

    Returns:
        The score in [0, 1]; 1 for a right answer. Only reasoning-gym's scorers give a part of the credit.

    Raises:
        IsodistillError: If a problem of reasoning-gym cannot be generated anew.
    """
    if given is None:
        return 0.0
    source = family.partition("/")[0]
    if source == reasoning_gym.SOURCE:
        return reasoning_gym.score(formal, prompt, given)
    return float(answers_match(family, given, answer))


def answers_match(family: str, given: str, expected: str) -> bool:
    """Tells whether two answers are the same for a family's source, its scorer left aside.

    Args:
        family: The problem's family, which tells its source.
        given: An answer; untrusted text.
        expected: The reference answer, or another one.

    Returns:
        ``True`` for equal numbers of GSM8K, equal quantities of IsoSci, equal texts of any other family.
    """
    return _COMPARISONS.get(family.partition("/")[0], same_answer)(given, expected)


def has_scorer(family: str) -> bool:
    """Tells whether answers to a family are judged by a scorer that may give a part of the credit.

    Args:
        family: The family.

    Returns:
        ``True`` for the tasks of reasoning-gym.
    """
    return family.partition("/")[0] == reasoning_gym.SOURCE


def same_number(given: str, expected: str) -> bool:
    """Tells whether the last number of an answer line is the expected one, whatever stands around it.

    Args:
        given: An answer such as ``"$1,024.00"`` or ``"18 dollars"``; untrusted text.
        expected: A number.

    Returns:
        ``True`` if both are equal numbers.
    """
    numbers, wanted = _numbers(given), _numbers(expected)
    return bool(numbers and wanted) and numbers[-1] == wanted[-1]


def same_quantity(given: str, expected: str) -> bool:
    """Tells whether an answer names the expected quantity.

    Args:
        given: An answer; untrusted text.
        expected: A number with or without a unit, or any text.

    Returns:
        ``True`` for equal texts; for expected texts that start with a number also if the answer's first number is
        within `TOLERANCE` of it and the rest of both is equal up to blanks and case, or the answer has no rest.
    """
    if same_answer(given, expected):
        return True
    numbers = [_NUMBER.match(text.strip()) for text in (given, expected)]
    if numbers[0] is None or numbers[1] is None:
        return False
    found, wanted = (_value(match[0]) for match in numbers if match is not None)
    units = [
        "".join(text.strip()[match.end() :].split()).casefold()
        for text, match in zip((given, expected), numbers, strict=True)
        if match is not None
    ]
    return abs(found - wanted) <= TOLERANCE * abs(wanted) and units[0] in ("", units[1])


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {"gsm8k": same_number, "isosci": same_quantity}


def _numbers(text: str) -> list[float]:
    return [_value(number) for number in _NUMBER.findall(text)]


def _value(number: str) -> float:
    return float(number.replace(",", ""))
