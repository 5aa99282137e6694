"""What a teacher is: requests go in, replies come out in any order, and nothing else is asked of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from isodistill.answers import format_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.sets import IsomerSet, Member
from isodistill.teachers.scored_tokens import ScoredToken


@dataclass(frozen=True)
class Trace:
    """A teacher's chain of thought.

    Args:
        rationale: The reasoning, without an answer line.
        answer: The answer that it ends in.
    """

    rationale: str
    answer: str

    @property
    def completion(self) -> str:
        """The text that a student is trained to write: the rationale and the answer line."""
        return format_completion(self.rationale, self.answer)


@dataclass(frozen=True)
class Request:
    """One chain of thought that is asked for.

    Args:
        isomer_set: The set, with the skeleton and its proof.
        member: One of its members.
        attempt: How often this was asked before.
        temperature: The sampling temperature; 0 is greedy.
        seed: Seed of the sampling.
    """

    isomer_set: IsomerSet
    member: Member
    attempt: int = 0
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Reply:
    """What a teacher wrote.

    Args:
        text: The text; untrusted.
        finish: Why it ends: ``"stop"``, ``"length"``, or what a server says.
        prompt_tokens: Tokens read, 0 where nothing counts them.
        completion_tokens: Tokens written, 0 where nothing counts them.
        seconds: The time it took.
        tokens: Its tokens with their alternatives, where they were asked for and given.
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    tokens: tuple[ScoredToken, ...] | None = None


@dataclass(frozen=True)
class Failure:
    """Why there is no reply.

    Args:
        reason: A short reason, for example ``"rate limit"``.
        detail: One line of detail, free of keys.
        permanent: Whether asking again would fail again, as for a problem that a server refuses.
    """

    reason: str
    detail: str
    permanent: bool = False


class Teacher(Protocol):
    """Writes chains of thought."""

    @property
    def kind(self) -> str:
        """The kind of teacher, for example ``"openai"``."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def name(self) -> str:
        """The teacher's name with its options, as it is recorded on the data card."""

    @property
    def prompt_version(self) -> str:
        """Names the instruction that is put before each problem."""

    @property
    def varies(self) -> bool:
        """Whether another attempt may give another reply."""

    @property
    def patience(self) -> float:
        """The longest time that one reply may take, retries included, in seconds."""

    def parameters(self, request: Request) -> Mapping[str, Any]:
        """Tells what determines the reply beside the problem, the model and the instruction.

        Args:
            request: The request.

        Returns:
            JSON values by name; they are part of the key that the reply is kept under.
        """

    def write(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Answers requests, taking the next one only when it can work on it.

        Args:
            requests: The requests.

        Yields:
            Each request with its reply, or why there is none; in any order.

        Raises:
            IsodistillError: If no request can be answered any more.
        """


class Explainer(ABC):
    """A teacher that explains one member at a time, the same way whenever it is asked."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The teacher's name with its options."""

    @abstractmethod
    def explain(self, isomer_set: IsomerSet, member: Member) -> Trace:
        """Explains one member.

        Args:
            isomer_set: The set, with the skeleton and its proof.
            member: One of its members.

        Returns:
            The chain of thought.

        Raises:
            IsodistillError: If the teacher cannot explain it.
        """

    @property
    def kind(self) -> str:
        """The first word of the name."""
        return self.name.split()[0]

    @property
    def model(self) -> str:
        """The teacher itself is the model."""
        return self.name

    @property
    def prompt_version(self) -> str:
        """There is no instruction."""
        return "none"

    @property
    def varies(self) -> bool:
        """It says the same again."""
        return False

    @property
    def patience(self) -> float:
        """It answers at once."""
        return 60.0

    def parameters(self, request: Request) -> Mapping[str, Any]:
        """Nothing but the problem matters."""
        return {}

    def write(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        """Explains one request after another; see `Teacher.write`."""
        for request in requests:
            started = time.monotonic()
            try:
                trace = self.explain(request.isomer_set, request.member)
            except IsodistillError as error:
                yield request, Failure("cannot explain", str(error), permanent=True)
            else:
                yield request, Reply(trace.completion, seconds=time.monotonic() - started)
