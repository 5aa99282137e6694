"""The fixed answer line that every chain of thought ends in, and how it is read back."""

from __future__ import annotations

import re

ANSWER_PREFIX = "Answer:"
"""What the last line of a chain of thought starts with."""

_ANSWER_LINE = re.compile(r"^[ \t]*Answer:(?P<answer>[^\n]*)$", re.MULTILINE)


def format_completion(rationale: str, answer: str) -> str:
    """Joins a rationale and its answer into the text that a student is trained to write.

    Args:
        rationale: The chain of thought, without an answer line. It may be empty.
        answer: The final answer as it stands in the data set, for example ``"True"`` or ``"42"``.

    Returns:
        The rationale, a line break and ``"Answer: <answer>"``.
    """
    line = f"{ANSWER_PREFIX} {answer}"
    return f"{rationale.rstrip()}\n{line}" if rationale.strip() else line


def split_completion(text: str) -> tuple[str, str | None]:
    """Separates a completion into its rationale and its answer.

    The LAST answer line counts, so that a rationale that quotes an answer line is still read right.

    Args:
        text: A completion, from a teacher or a student; untrusted text.

    Returns:
        ``(rationale, answer)``; ``answer`` is ``None`` if the text has no answer line or an empty one.
    """
    matches = list(_ANSWER_LINE.finditer(text))
    if not matches:
        return text.rstrip(), None
    last = matches[-1]
    # Stripped here and not by the pattern, which would try every split of a long run of blanks.
    answer = last["answer"].strip(" \t").removesuffix(".").rstrip(" \t")
    return text[: last.start()].rstrip(), answer or None


def same_answer(given: str | None, expected: str) -> bool:
    """Tells whether an extracted answer is the expected one, ignoring case and thousands separators.

    Args:
        given: The extracted answer, or ``None`` where there was none.
        expected: The verified answer of the data set.

    Returns:
        ``True`` if both name the same answer.
    """
    if given is None:
        return False
    return _normalise(given) == _normalise(expected)


def _normalise(answer: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3}\b)", "", answer).strip().casefold()
