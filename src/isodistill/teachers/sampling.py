"""How often a teacher is asked, and how warm."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isodistill.errors import IsodistillError
from isodistill.validation import first_fault


class Sampling(BaseModel):
    """The plan of attempts at one problem.

    The first `samples` attempts are always made, at the base temperature. If none is accepted, up to `retries` more
    follow, each warmer than the one before.

    Args:
        samples: Attempts that are always made (best of n).
        retries: Attempts after those, while none is accepted.
        temperature: The base temperature; 0 is greedy.
        temperature_step: What each retry adds.
        max_temperature: Where the temperature stops growing.
        choose: Which accepted trace is kept: the ``"first"`` or the ``"shortest"``.
        min_agreement: The least share of the samples that must give the verified answer, in [0, 1].
        seed: Equal seeds ask for equal samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=1, ge=1, le=64)
    retries: int = Field(default=3, ge=0, le=64)
    temperature: float = Field(default=0.0, ge=0, le=2)
    temperature_step: float = Field(default=0.3, ge=0, le=2)
    max_temperature: float = Field(default=1.2, ge=0, le=2)
    choose: Literal["first", "shortest"] = "first"
    min_agreement: float = Field(default=0.0, ge=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Sampling:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several samples at temperature 0 are all alike; raise the temperature")
        return self

    def temperature_of(self, attempt: int) -> float:
        """Tells how warm an attempt is.

        Args:
            attempt: Its number, from 0.

        Returns:
            The temperature.
        """
        warmer = self.temperature + self.temperature_step * max(0, attempt - self.samples + 1)
        return round(max(self.temperature, min(warmer, self.max_temperature)), 6)

    def seed_of(self, problem: str, attempt: int) -> int:
        """Derives an attempt's seed, so that it depends on nothing that another problem does.

        Args:
            problem: The problem's digest.
            attempt: Its number, from 0.

        Returns:
            A seed in [0, 2**31).
        """
        digest = hashlib.sha256(f"{self.seed}/{problem}/{attempt}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1


def make_sampling(**values: object) -> Sampling:
    """Checks sampling options.

    Args:
        **values: The fields of `Sampling`.

    Returns:
        The plan of attempts.

    Raises:
        IsodistillError: If a value is out of range.
    """
    try:
        return Sampling.model_validate(values)
    except ValidationError as error:
        fault = first_fault(error, known=Sampling.model_fields)
        raise IsodistillError(f"the sampling is wrong, {': '.join(fault)}") from None
