"""What the trace store holds: a reply of a teacher, and the recipe that it is found by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

ACCEPTED = "accepted"
"""The verdict of a reply that passed every check; any other verdict is the reason why it did not."""


def problem_digest(prompt: str, answer: str) -> str:
    """Names a problem by its content.

    Args:
        prompt: The problem's text.
        answer: Its verified answer.

    Returns:
        A SHA-256 digest in hexadecimal; equal texts with equal answers are one problem wherever they stand.
    """
    return _digest([prompt, answer])


def canonical_json(value: Mapping[str, Any]) -> str:
    """Writes plain data so that equal data gives equal text.

    Args:
        value: A mapping of JSON values.

    Returns:
        JSON with sorted keys and no blanks.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a reply; its digest is the reply's key.

    Args:
        problem: The problem, see `problem_digest`.
        teacher: The kind of teacher, for example ``"openai"``.
        model: The model's name.
        parameters: Canonical JSON of the sampling parameters, with the attempt and its seed.
        prompt_version: Names the instruction that was put before the problem.
    """

    problem: str
    teacher: str
    model: str
    parameters: str
    prompt_version: str

    @property
    def key(self) -> str:
        """A SHA-256 digest in hexadecimal."""
        return _digest([self.problem, self.teacher, self.model, self.parameters, self.prompt_version])


@dataclass(frozen=True)
class TraceRecord:
    """One reply of a teacher, right or wrong.

    Args:
        recipe: What it was made from.
        set_id: The isomer set that the problem was met in.
        family: Its problem family.
        domain: Its domain.
        prompt: The problem's text.
        expected: The verified answer.
        attempt: The number of the attempt, from 0.
        text: The reply as it came; untrusted text.
        answer: The final answer that was read from it, or ``None``.
        verdict: `ACCEPTED`, or why it was rejected, when it was written.
        finish: Why the teacher stopped writing: ``"stop"``, ``"length"``, or what a server says.
        prompt_tokens: Tokens read, 0 where nothing counts them.
        completion_tokens: Tokens written, 0 where nothing counts them.
        seconds: The time that the reply took.
        created: When it was written, in seconds since 1970.
    """

    recipe: Recipe
    set_id: str
    family: str
    domain: str
    prompt: str
    expected: str
    attempt: int
    text: str
    answer: str | None
    verdict: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    created: float

    @property
    def key(self) -> str:
        """The recipe's digest."""
        return self.recipe.key

    @property
    def accepted(self) -> bool:
        """Whether it passed every check when it was written."""
        return self.verdict == ACCEPTED

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data for an export, the recipe's fields beside the others."""
        plain = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "recipe"}
        recipe = {field.name: getattr(self.recipe, field.name) for field in fields(self.recipe)}
        return {"key": self.key, **recipe, "parameters": json.loads(self.recipe.parameters), **plain}


@dataclass(frozen=True)
class TraceFilter:
    """Which records are meant; ``None`` means any.

    Args:
        teacher: The kind of teacher.
        model: The model's name.
        prompt_version: The instruction's version.
        family: The problem family.
        domain: The domain.
        verdict: A verdict, or ``"rejected"`` for every verdict but `ACCEPTED`.
        before: Only what was written before this time, in seconds since 1970.
    """

    teacher: str | None = None
    model: str | None = None
    prompt_version: str | None = None
    family: str | None = None
    domain: str | None = None
    verdict: str | None = None
    before: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every record is meant."""
        return all(getattr(self, field.name) is None for field in fields(self))


def _digest(parts: list[str]) -> str:
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
