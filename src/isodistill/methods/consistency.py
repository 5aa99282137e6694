"""Isomer consistency: the members of a set should be answered alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from isodistill.errors import IsodistillError
from isodistill.gradients.layers import as_float32
from isodistill.methods.base import Choice, Diagnostics, Method, Needs, Range
from isodistill.methods.forward import Forward


class Consistency(Method):
    """Penalises disagreement between the members of an isomer set at their answer token.

    For a set whose K members predict the answer distributions p_1 .. p_K from the hidden states h_1 .. h_K::

        distribution:  D = H(mean_m p_m) - mean_m H(p_m)                       (Jensen-Shannon divergence, in nats)
        hidden:        D = mean over pairs of 1 - cos(h_i, h_j)
        objective = mean loss + lambda mean over sets of D

    It reads which sequences form a set, not their domain labels. A set whose members' answers begin with different
    tokens (an answer told in each domain's own words) brings no distribution penalty.

    Source: the design note of this project; the divergence is Lin's (1991), its use as a regulariser between views of
    one example is AugMix's (arXiv 1912.02781).

    Args:
        penalty_weight: lambda, not negative.
        form: ``distribution`` or ``hidden``.

    Raises:
        IsodistillError: if an argument is out of range, naming it.
    """

    name: ClassVar[str] = "consistency"
    source: ClassVar[str] = "arXiv 1912.02781"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"penalty_weight": Range(1.0, 100.0, log=True)}
    """Around the default; AugMix weighs its divergence by 12."""
    min_domains: ClassVar[int] = 2
    uses_domains: ClassVar[bool] = False

    def __init__(self, penalty_weight: float = 16.0, form: Literal["distribution", "hidden"] = "distribution") -> None:
        if not 0.0 <= penalty_weight < float("inf"):
            raise IsodistillError(
                f"penalty_weight={penalty_weight} is out of range: give a finite number, 0 or greater"
            )
        if form not in ("distribution", "hidden"):
            raise IsodistillError(f"form={form!r} is unknown: choose 'distribution' or 'hidden'")
        self.penalty_weight = penalty_weight
        self.form = form
        self._values: list[float] = []

    @property
    def needs(self) -> Needs:
        """The forward pass of whole sets."""
        return Needs(forward=True, sets=True)

    def penalty(self, forward: Forward) -> torch.Tensor | None:
        """Returns lambda times the mean divergence over the micro-batch's sets."""
        sets, members = forward.set_ids.unique(return_inverse=True)
        one_hot = F.one_hot(members, len(sets)).T.to(forward.log_probs.dtype)  # (sets, S)
        compare = self._hidden if self.form == "hidden" else self._distribution
        value = compare(forward, one_hot).mean()
        self._values.append(float(value.detach()))
        return self.penalty_weight * value

    @staticmethod
    def _distribution(forward: Forward, one_hot: torch.Tensor) -> torch.Tensor:
        log_p = F.log_softmax(as_float32(forward.logits_at(forward.answers)), -1).to(one_hot.dtype)  # (S, V)
        counts = one_hot.sum(1, keepdim=True)
        mixture = one_hot @ log_p.exp() / counts  # (sets, V)
        tiny = torch.finfo(mixture.dtype).tiny
        mixture_entropy = -(mixture * mixture.clamp_min(tiny).log()).sum(-1)
        member_entropy = -(log_p.exp() * log_p).sum(-1)  # (S,)
        divergence = mixture_entropy - (one_hot @ member_entropy) / counts.squeeze(1)
        answers = forward.labels[forward.answers]
        member_of = one_hot.argmax(0)
        differs = torch.zeros(len(one_hot), dtype=torch.bool, device=answers.device)
        first = one_hot.argmax(1)  # the first member of each set
        differs.index_put_((member_of,), answers != answers[first[member_of]], accumulate=True)
        return divergence * (~differs)

    @staticmethod
    def _hidden(forward: Forward, one_hot: torch.Tensor) -> torch.Tensor:
        if forward.hidden is None:
            raise IsodistillError("method='consistency' with form='hidden' needs the hidden states: pass hidden")
        unit = F.normalize(forward.hidden[forward.answers].to(one_hot.dtype), dim=-1)  # (S, H)
        counts = one_hot.sum(1)
        # sum over ordered pairs of cos = ||sum of unit vectors||² - K
        cosines = (one_hot @ unit).square().sum(-1) - counts
        distance = 1.0 - cosines / (counts * (counts - 1.0)).clamp_min(1.0)
        return distance * (counts > 1)  # a member alone has nothing to differ from

    def diagnostics(self) -> Diagnostics:
        """Reports the mean divergence before its weight."""
        values, self._values = self._values, []
        return Diagnostics(values={"consistency_divergence": sum(values) / len(values)} if values else {})
