"""Isomer sets as rows of a data set."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isodistill.isomers.formal import Formal, formal_from_json
from isodistill.isomers.skeleton import Skeleton, skeleton_from_json

Layout = Literal["set", "pair", "row"]
"""How a set stands on disk: whole in one row, as flat rows that share a name and not the answer, or as one flat row."""


class Member(BaseModel):
    """One problem of a set: the skeleton in the words of one domain.

    Args:
        domain: The id of the domain pack.
        prompt: The problem's text.
        completion: The teacher's rationale and answer line; empty until a teacher has written it.
        formal: JSON of how the text was made, see `Formal`.
        cue: The answer (for numbers: the parity) that the planted cue points at; empty where there is no cue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    domain: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    completion: str = ""
    formal: str
    cue: str = ""

    def load_formal(self, set_id: str) -> Formal:
        """Reads the record of how the text was made.

        Args:
            set_id: The set, named in errors.

        Returns:
            The record.

        Raises:
            IsodistillError: If the record is damaged.
        """
        return formal_from_json(self.formal, f"set {set_id!r}, domain {self.domain!r}")


class IsomerSet(BaseModel):
    """One problem in the words of several domains.

    Args:
        set_id: The set's name, unique in its split; test splits that show the same problem use the same name.
        family: The problem family.
        depth: The number of inference steps.
        skeleton: JSON of the skeleton, see `Skeleton.to_json`.
        canonical: The skeleton's canonical form.
        answer: The verified answer.
        choices: The closed answer set; empty where the answer is a number.
        members: The texts, one per domain.
        layout: How the set stands on disk. Each flat row is read as a set of one member: rows of ``"pair"`` keep the
            name that they share, and ``"row"`` has none, so that it is named by its place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    set_id: str = Field(min_length=1)
    family: str
    depth: int = Field(ge=0)
    skeleton: str
    canonical: str
    answer: str = Field(min_length=1)
    choices: tuple[str, ...]
    members: tuple[Member, ...] = Field(min_length=1)
    layout: Layout = Field(default="set", exclude=True)

    @model_validator(mode="after")
    def _check(self) -> IsomerSet:
        if self.choices and self.answer not in self.choices:
            raise ValueError(f"the answer {self.answer!r} is not among the choices {', '.join(self.choices)}")
        domains = [member.domain for member in self.members]
        if len(set(domains)) != len(domains):
            twice = next(domain for domain in domains if domains.count(domain) > 1)
            raise ValueError(f"the domain {twice!r} has two members")
        return self

    @cached_property
    def logic(self) -> Skeleton:
        """The skeleton, read from its JSON."""
        return skeleton_from_json(self.skeleton, f"the skeleton of set {self.set_id!r}")

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the members, in their order."""
        return tuple(member.domain for member in self.members)
