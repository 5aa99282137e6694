"""Is this reply a chain of thought that a student may learn from? Every reply is untrusted text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from isodistill.answers import format_completion, split_completion
from isodistill.importers.scoring import answers_match
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.traces.record import ACCEPTED

MAX_CHARACTERS = 64 * 1024
"""A longer reply is not read any further."""

Check = Callable[[IsomerSet, Member, str], str | None]
"""A further check of a rationale: it returns why the rationale is rejected, or ``None``."""

# The answer line with what models like to put around it; the line itself is written anew, so its markup is no harm.
# Nothing here can match in two ways: a reply must not make the search slow.
_ANSWER_LINE = re.compile(
    r"^[ \t>#*_-]*(?:final[ \t]+)?answer[ \t*_]*:(?P<answer>[^\n]*)$", re.IGNORECASE | re.MULTILINE
)
_MARKUP = " \t\r*_`\"'()."
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
# Texts that a chat template gives a meaning: as training text they would end the student's turn.
_TEMPLATE_TOKENS = re.compile(r"<[|｜][^<>\n]{1,60}[|｜]>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<\|?eot_id\|?>")


@dataclass(frozen=True)
class Judgement:
    """What is made of a reply.

    Args:
        verdict: ``"accepted"``, or why it is rejected.
        rationale: The chain of thought, without an answer line.
        answer: The final answer, or ``None`` where there is none.
    """

    verdict: str
    rationale: str
    answer: str | None

    @property
    def accepted(self) -> bool:
        """Whether a student may learn from it."""
        return self.verdict == ACCEPTED

    @property
    def right(self) -> bool:
        """Whether at least the answer is right."""
        return self.verdict not in ("no answer", "several answers", "wrong answer", "cut off", "too long")


def judge(
    text: str,
    finish: str,
    isomer_set: IsomerSet,
    member: Member,
    checks: tuple[Check, ...] = (),
    *,
    bare: bool = False,
) -> Judgement:
    """Reads a reply's answer, compares it with the verified one, and looks the rationale over.

    Args:
        text: The reply.
        finish: Why it ends, see `Reply`.
        isomer_set: The set.
        member: The member.
        checks: Further checks of the rationale.
        bare: Whether an answer without any rationale will do.

    Returns:
        The judgement. Two answer lines that differ are "several answers", whatever the last one says. What follows
        the first answer line is dropped.
    """
    if len(text) > MAX_CHARACTERS:
        return Judgement("too long", "", None)
    text = _THOUGHT.sub("", text, count=1).replace("\r\n", "\n")
    lines = list(_ANSWER_LINE.finditer(text))
    answers = [answer for line in lines if (answer := line["answer"].strip(_MARKUP))]
    if not answers:
        return Judgement("cut off" if finish == "length" else "no answer", text.strip(), None)
    rationale, answer = text[: lines[0].start()].strip(), answers[-1]
    if not all(answers_match(isomer_set.family, other, answer) for other in answers):
        return Judgement("several answers", rationale, answer)
    if not answers_match(isomer_set.family, answer, isomer_set.answer):
        return Judgement("wrong answer", rationale, answer)
    if bare and not rationale:
        return Judgement(ACCEPTED, "", answer)
    return Judgement(_flaw(rationale, isomer_set, member, checks) or ACCEPTED, rationale, answer)


def ends_in_answer(text: str) -> bool:
    """Tells whether a text that is being written has its answer, so that no more need be written.

    Args:
        text: What has been written so far.

    Returns:
        Whether an answer line with an answer stands in it and is over.
    """
    body = _THOUGHT.sub("", text, count=1)
    if "<think>" in body:
        return False
    complete, newline, _ = body.rpartition("\n")
    return bool(newline) and any(line["answer"].strip(_MARKUP) for line in _ANSWER_LINE.finditer(complete))


def _flaw(rationale: str, isomer_set: IsomerSet, member: Member, checks: tuple[Check, ...]) -> str | None:
    if not rationale:
        return "no rationale"
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn") for sign in rationale if sign not in "\n\t"):
        return "control characters"
    if _TEMPLATE_TOKENS.search(rationale):
        return "template tokens"
    # Read back as a student's text would be: a rationale may not smuggle in another answer line.
    if split_completion(format_completion(rationale, isomer_set.answer)) != (rationale, isomer_set.answer):
        return "several answers"
    return next((flaw for check in checks if (flaw := check(isomer_set, member, rationale))), None)
