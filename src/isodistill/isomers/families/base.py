"""What a problem family is: a sampler of skeletons with its knobs, and nothing of any domain's words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from isodistill.errors import IsodistillError
from isodistill.isomers.skeleton import Skeleton
from isodistill.validation import first_fault

Verdict = Literal["True", "False", "Unknown"]
VERDICTS: tuple[Verdict, ...] = ("True", "False", "Unknown")


def _verdicts(answers: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    if len(set(answers)) != len(answers) or len(answers) < 2:
        raise ValueError("answers must be two or three different ones of True, False and Unknown")
    return tuple(verdict for verdict in VERDICTS if verdict in answers)


def _range(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError("a range must be (least, most) with 0 <= least <= most")
    return bounds


Verdicts = Annotated[tuple[Verdict, ...], AfterValidator(_verdicts)]
"""Two or three of True, False and Unknown, put into this order."""

Range = Annotated[tuple[int, int], AfterValidator(_range)]
"""The least and the most of a count."""


class Family(BaseModel, ABC):
    """A kind of problem. A subclass is a frozen model whose fields are the family's knobs.

    A new family takes one file with a subclass, one line in `FAMILIES`, and, if its sentences have new shapes, their
    kinds in `STATEMENT_KINDS` and templates in the packs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """The family's name, as it stands in data sets."""

    kinds: ClassVar[tuple[str, ...]]
    """The statement kinds that its problems use."""

    max_depth: ClassVar[int | None] = None
    """The greatest depth that its problems can have, where there is one."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The answer classes between which the data is balanced; for a closed answer set the answers themselves."""

    @abstractmethod
    def sample(self, rng: Random, depth: int, answer_index: int) -> Skeleton:
        """Draws a skeleton.

        Args:
            rng: The only source of chance.
            depth: The number of inference steps, at least 1.
            answer_index: The index in `classes` of the class that the answer must fall into.

        Returns:
            A skeleton with standard names (see `with_standard_names`).
        """

    def shortcut_class(self, skeleton: Skeleton) -> int:
        """Tells which answer class a truthful cue points at.

        Args:
            skeleton: A skeleton of this family.

        Returns:
            An index into `classes`.
        """
        return self.classes.index(skeleton.answer)


class NumericFamily(Family):
    """A family whose answers are numbers, balanced between even and odd."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The parities of the answer."""
        return ("even", "odd")

    def shortcut_class(self, skeleton: Skeleton) -> int:
        """Tells which parity a truthful cue points at.

        Args:
            skeleton: A skeleton of this family.

        Returns:
            0 for an even answer, 1 for an odd one.
        """
        return int(skeleton.answer) % 2


def build_family(family: type[Family], options: dict[str, Any]) -> Family:
    """Sets a family's knobs.

    Args:
        family: The family's class.
        options: Its options by name; what is left out keeps its default.

    Returns:
        The family.

    Raises:
        IsodistillError: If an option is unknown or has a wrong value.
    """
    try:
        return family.model_validate(options)
    except ValidationError as error:
        place, reason = first_fault(error)
        raise IsodistillError(
            f"In the options of family {family.name!r}, {place}: {reason}; "
            f"the options are {', '.join(family.model_fields)}."
        ) from None
