"""What a teacher is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from isodistill.answers import format_completion
from isodistill.isomers.sets import IsomerSet, Member


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


class Teacher(Protocol):
    """Writes a chain of thought for each member of an isomer set."""

    @property
    def name(self) -> str:
        """The teacher's name with its options, as it is recorded on the data card."""

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
