"""What determines the lab student: its size, what it reads, for how long, and under which seed."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isodistill.errors import IsodistillError
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import Pack, available_packs, load_pack
from isodistill.lab.vocabulary import pack_pieces
from isodistill.validation import first_fault

REVISION = 4
"""Raised whenever the same configuration would give other weights: how text is drawn, or how training goes."""

READING_FAMILY = "deduction"
"""The family whose statement kinds every student reads, whatever its own families: see `isodistill.lab.corpus`."""

_SAMPLERS = {"allocation": 2}
"""Raised whenever a family draws other problems under the options of `isodistill.lab.corpus`."""


class LabConfig(BaseModel):
    """Everything that determines the lab student, beside the domain packs and the families that it reads.

    Args:
        seed: Seed of the first weights and of the text.
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the feed-forward blocks.
        layers: Number of layers.
        heads: Number of attention heads.
        steps: Optimizer steps of pretraining.
        batch_size: Texts in a step.
        learning_rate: Peak learning rate of AdamW; it rises over the first 5% of the steps and falls as a cosine.
        families: The problem families whose solved problems it reads.
        depth: The least and the most depth of the solved problems.
        solved: Share of the texts that are solved problems of those families; the rest are questions about what
            stands in the text.
        remarks: Share of those texts that hold a cue sentence, which goes with no answer but may be asked about.
        ramp: The share of the steps over which these questions grow from the easiest to the hardest.
        nonce: How many packs of invented words, ``nonce:0`` and on, it reads beside the built-in ones, each as often as
            one of those: for data of more domains than there are built-in packs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    hidden_size: int = Field(default=192, ge=16)
    intermediate_size: int = Field(default=384, ge=16)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    steps: int = Field(default=2400, ge=1)
    batch_size: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    families: tuple[str, ...] = ("deduction",)
    depth: tuple[int, int] = (1, 2)
    solved: float = Field(default=0.35, ge=0, le=1)
    remarks: float = Field(default=0.35, ge=0, le=1)
    ramp: float = Field(default=0.25, ge=0, le=1)
    nonce: int = Field(default=0, ge=0, le=128)

    @field_validator("families", "depth", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """Reads ``deduction+ordering`` and ``1+3``, as they stand behind a student's name."""
        return value.split("+") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            raise ValueError("hidden_size must be a multiple of twice the number of heads")
        if not 1 <= self.depth[0] <= self.depth[1]:
            raise ValueError("depth must be (least, most) with 1 <= least <= most")
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown or not self.families:
            raise ValueError(f"families must name at least one of {', '.join(FAMILIES)}")
        return self

    @property
    def packs(self) -> tuple[str, ...]:
        """The domain packs that it reads: all built-in ones, then those of invented words."""
        return (*available_packs(), *(f"nonce:{seed}" for seed in range(self.nonce)))

    def digest(self) -> str:
        """Names the weights that this configuration gives with the packs and families as they are now.

        Of the packs it takes what the student reads: their words, the templates of the kinds that its texts may use,
        and the set of all their word pieces, which is its vocabulary. So a template of another kind may be reworded
        with words that the packs have.

        Returns:
            16 hexadecimal digits.
        """
        kinds = {kind for family in (*self.families, READING_FAMILY) for kind in FAMILIES[family].kinds}
        content = {
            "revision": REVISION,
            "config": self.model_dump(mode="json"),
            "packs": {name: _what_is_read(load_pack(name), kinds) for name in self.packs},
            "pieces": sorted(pack_pieces(self.packs)),
            "families": sorted(FAMILIES),
            "samplers": {name: number for name, number in _SAMPLERS.items() if name in self.families},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _what_is_read(pack: Pack, kinds: set[str]) -> dict[str, Any]:
    # The number of the other kinds' templates steers the draws of the texts that the vocabulary is sampled from.
    templates = {
        kind: list(entries) if kind in kinds else len(entries) for kind, entries in sorted(pack.templates.items())
    }
    return {**pack.model_dump(mode="json"), "templates": templates}


def make_lab_config(**values: object) -> LabConfig:
    """Builds a configuration from plain values, with errors for people.

    Args:
        **values: The fields of `LabConfig`.

    Returns:
        The configuration.

    Raises:
        IsodistillError: If a field is unknown or has a wrong value.
    """
    try:
        return LabConfig.model_validate(values)
    except ValidationError as error:
        place, reason = first_fault(error, known=LabConfig.model_fields)
        raise IsodistillError(f"In the lab student's configuration, {place}: {reason}; mend it.") from None
