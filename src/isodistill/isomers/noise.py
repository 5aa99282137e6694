"""Wrong labels on purpose: a teacher that is sometimes mistaken, to study what students make of its mistakes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from isodistill.answers import format_completion, split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.sets import IsomerSet

NOISY_SPLIT = "train"
"""The only split whose completions are made wrong; what students are measured against stays true everywhere."""

_DESCRIBED = re.compile(
    r"(?P<percent>[0-9.e+-]+)% of the training sets answered wrongly on purpose \(seed (?P<seed>-?\d+)\)"
)


@dataclass(frozen=True)
class LabelNoise:
    """A share of the training sets is answered wrongly, all members of a set alike.

    A teacher that misjudges a problem misjudges its logic, whatever it is told in; so the mistake belongs to the set,
    not to a domain, and no statistic over domains can see it.

    Args:
        share: The probability that a set is answered wrongly, in [0, 1).
        seed: Equal seeds make the same sets wrong; which ones depends on the names of the sets alone.

    Raises:
        IsodistillError: If the share is no probability below 1.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the share."""
        if not 0 <= self.share < 1:
            raise IsodistillError(f"A noise of {self.share} is no share of the sets: give a number from 0 to below 1.")

    def described(self) -> str:
        """Says it in words, for the dataset card."""
        return f"{100 * self.share:g}% of the training sets answered wrongly on purpose (seed {self.seed})"

    def wrong_answer(self, set_id: str, answer: str, choices: tuple[str, ...]) -> str | None:
        """Tells what a set is answered with instead, if it is one of those.

        Of several wrong answers each has the same chance; a number is missed by 1 to 9.

        Args:
            set_id: The set's name.
            answer: The verified answer.
            choices: The closed answer set; empty for a number.

        Returns:
            A wrong answer, or ``None`` for a set that is answered rightly.

        Raises:
            IsodistillError: If the answer is neither one of several choices nor a whole number.
        """
        rng = Random(f"{self.seed}/label noise/{set_id}")
        if rng.random() >= self.share:
            return None
        others = [choice for choice in choices if choice != answer]
        if others:
            return rng.choice(others)
        try:
            return str(int(answer) + rng.choice((-1, 1)) * rng.randint(1, 9))
        except ValueError:
            raise IsodistillError(
                f"Set {set_id!r} has the answer {answer!r} and no choices, so there is no telling a wrong answer; leave"
                " the noise out."
            ) from None

    def applied(self, isomer_set: IsomerSet) -> IsomerSet:
        """Makes the completions of a set wrong, if it is one of those.

        Args:
            isomer_set: A set with completions.

        Returns:
            The set with wrong answer lines, or the set itself. Rationales and the verified ``answer`` stay.

        Raises:
            IsodistillError: If the answer is neither one of several choices nor a whole number.
        """
        wrong = self.wrong_answer(isomer_set.set_id, isomer_set.answer, isomer_set.choices)
        if wrong is None:
            return isomer_set
        members = tuple(
            member.model_copy(update={"completion": format_completion(split_completion(member.completion)[0], wrong)})
            for member in isomer_set.members
        )
        return isomer_set.model_copy(update={"members": members})


def noise_described_in(text: str) -> LabelNoise | None:
    """Reads label noise back from what a card says of its teacher.

    Args:
        text: A text that may contain what `LabelNoise.described` wrote.

    Returns:
        The noise, or ``None`` where the text tells of none.
    """
    found = _DESCRIBED.search(text)
    return None if found is None else LabelNoise(float(found["percent"]) / 100, int(found["seed"]))
