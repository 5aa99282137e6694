"""Word dropout: a data-side baseline that makes single words of the prompt unreliable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.errors import IsodistillError
from isodistill.methods.base import Choice, Method, Needs, Range, RunInfo


class WordDropout(Method):
    """Hides each prompt token from attention with probability p, anew in every step.

    A cue that may be missing at any time is worth less to the student than a premise that is told in many words. The
    completion and the first token are never hidden; the loss is the plain mean.

    Source: Iyyer et al., Deep unordered composition (ACL 2015). Departure: a hidden token keeps its place and is
    masked from attention instead of being removed.

    Args:
        probability: p, in [0, 1).

    Raises:
        IsodistillError: if the probability is out of range.
    """

    name: ClassVar[str] = "word_dropout"
    source: ClassVar[str] = "Iyyer et al., ACL 2015"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"probability": Range(0.05, 0.6)}
    """This project's; the paper's best is 0.3."""
    uses_domains: ClassVar[bool] = False
    micro_batch_exact: ClassVar[bool] = False

    def __init__(self, probability: float = 0.1) -> None:
        if not 0.0 <= probability < 1.0:
            raise IsodistillError(f"probability={probability} is out of range: give a number in [0, 1)")
        self.probability = probability
        self._seed = 0
        self._draws = 0

    @property
    def needs(self) -> Needs:
        """The input batch."""
        return Needs(inputs=True)

    def bind(self, run: RunInfo) -> None:
        """Learns the seed."""
        self._seed = run.seed

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Hides prompt tokens (see `Method.augment`)."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._draws)
        self._draws += 1
        attention, labels = inputs["attention_mask"], inputs["labels"]
        hidden = torch.rand(attention.shape, generator=generator) < self.probability
        # The prompt is what comes before the first label.
        prompt = (labels != -100).cumsum(1) == 0
        prompt[:, 0] = False
        return inputs | {"attention_mask": attention.masked_fill(hidden.to(attention.device) & prompt, 0)}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the number of draws."""
        return {"draws": torch.tensor(self._draws)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the number of draws."""
        self._draws = int(state["draws"])
