"""Shortcuts on purpose: a phrase of the domain's register that goes with the answer and has nothing to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import Pack
from isodistill.isomers.render import CuePosition

CueMode = Literal["as_trained", "absent", "reversed", "random"]
"""How the cues of a split go with the answers: at the training rate, no cue, always wrong, or by pure chance."""


class Shortcut(BaseModel):
    """A cue sentence in each problem that agrees with the answer class with a given probability.

    It is drawn for each member independently: where it is right in one domain it may be wrong in another. Where it
    does not agree, each wrong class has the same chance.

    Args:
        rate: The probability of agreement, for all domains or by domain. Chance is one over the number of classes.
        position: Whether the cue stands before the first or after the last premise.
        phrases: How many of a pack's sentences for a class are used, or ``None`` for all. The fewer, the more often
            each is seen, and the easier the shortcut is to take.
        sentences_of: The pack whose sentences stand in every domain, unseen ones included: one cue that all domains
            share. ``None``: each domain has its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate: float | dict[str, float]
    position: CuePosition = "start"
    phrases: int | None = Field(default=None, ge=1)
    sentences_of: str | None = None

    @field_validator("rate")
    @classmethod
    def _check(cls, rate: float | dict[str, float]) -> float | dict[str, float]:
        for value in rate.values() if isinstance(rate, dict) else (rate,):
            if not 0 <= value <= 1:
                raise ValueError("a rate must be a probability between 0 and 1")
        return rate

    def rate_in(self, domain: str) -> float:
        """Looks up the rate of a domain.

        Args:
            domain: A training domain.

        Returns:
            The probability of agreement.

        Raises:
            IsodistillError: If the rates are given by domain and this one is missing.
        """
        if not isinstance(self.rate, dict):
            return self.rate
        if domain not in self.rate:
            raise IsodistillError(f"The shortcut has no rate for the domain {domain!r}; add it to shortcut.rate.")
        return self.rate[domain]

    def draw_class(self, rng: Random, true_class: int, classes: int, domain: str, mode: CueMode) -> int:
        """Draws the answer class that a cue points at.

        Args:
            rng: The only source of chance.
            true_class: The index of the answer's class.
            classes: The number of classes.
            domain: The member's domain; its rate counts in the mode ``"as_trained"``.
            mode: How the cue goes with the answer; not ``"absent"``.

        Returns:
            The index of a class.

        Raises:
            ValueError: If the mode is ``"absent"``.
        """
        if mode == "absent":
            raise ValueError("an absent cue points at nothing")
        if mode == "random":
            return rng.randrange(classes)
        if mode == "as_trained" and rng.random() < self.rate_in(domain):
            return true_class
        return rng.choice([index for index in range(classes) if index != true_class])


def cue_text(pack: Pack, cue_class: int, phrase: int) -> str:
    """Looks up a cue sentence.

    Args:
        pack: The domain.
        cue_class: The answer class that it points at.
        phrase: Which of the sentences for that class.

    Returns:
        The sentence.
    """
    return pack.cues[cue_class][phrase]


def check_packs(packs: Sequence[Pack], classes: int) -> None:
    """Makes sure that each pack has cues for each answer class.

    Args:
        packs: The domains.
        classes: The number of answer classes.

    Raises:
        IsodistillError: If a pack has too few.
    """
    for pack in packs:
        if len(pack.cues) < classes:
            raise IsodistillError(
                f"The domain pack {pack.id!r} has cues for {len(pack.cues)} answer classes, but {classes} are needed; "
                "add a group to its cues."
            )
