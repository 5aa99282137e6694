"""Invariant risk minimisation (IRMv1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.methods.annealing import AnnealedPenalty
from isodistill.methods.base import Choice, Diagnostics, Needs, Range
from isodistill.methods.forward import Forward


class IRM(AnnealedPenalty):
    """Penalises domains for which rescaling the classifier would lower the loss.

    With a dummy scale c on the logits z, a domain's risk has the gradient dR/dc at c = 1, and::

        objective = mean_d R_d + lambda mean_d (dR_d/dc on one half)(dR_d/dc on the other half)
        dR/dc = mean over label tokens of  -(log p(label) + H(p))

    The second line is exact for the cross-entropy, so no second backward is needed. The halves are the domain's
    even and odd sequences, whose product estimates the squared gradient without bias.

    Source: Arjovsky et al. (arXiv 1907.02893), as in DomainBed's ``IRM``: lambda 100 after an annealing with weight
    1, optimizer state cleared at the switch. Departures: a risk is a mean over label tokens; the annealing is a
    share of the run (see `AnnealedPenalty`); under gradient accumulation the penalty is the mean over micro-batches,
    each with its own halves; a domain with a single sequence in a micro-batch brings no penalty there.

    Args:
        penalty_weight: lambda.
        anneal_fraction: The share of the run with weight 1 instead of lambda.
    """

    name: ClassVar[str] = "irm"
    source: ClassVar[str] = "arXiv 1907.02893"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"penalty_weight": Range(0.1, 1e5, log=True)}
    """DomainBed's range."""
    min_domains: ClassVar[int] = 2
    micro_batch_exact: ClassVar[bool] = False

    def __init__(self, penalty_weight: float = 100.0, anneal_fraction: float = 0.1) -> None:
        super().__init__(penalty_weight, anneal_fraction, before=1.0)
        self._values: list[float] = []

    @property
    def needs(self) -> Needs:
        """The forward pass, and two sequences of a domain to split."""
        return Needs(forward=True, sequences=2)

    def penalty(self, forward: Forward) -> torch.Tensor | None:
        """Returns lambda times the mean over domains of the product of the halves' gradients."""
        slopes = forward.sequence_sums(-(forward.log_probs + forward.entropy))  # (S,)
        lengths = forward.sequence_lengths().to(slopes)
        products = []
        for domain in forward.domain_ids.unique():
            rows = (forward.domain_ids == domain).nonzero().squeeze(1)
            if len(rows) < 2:
                continue
            first, second = rows[::2], rows[1::2]
            products.append(slopes[first].sum() / lengths[first].sum() * (slopes[second].sum() / lengths[second].sum()))
        if not products:
            return None
        value = torch.stack(products).mean()
        self._values.append(float(value.detach()))
        return self.penalty_weight * value

    def diagnostics(self) -> Diagnostics:
        """Reports the mean penalty before its weight."""
        values, self._values = self._values, []
        return Diagnostics(values={"irm_penalty": sum(values) / len(values)} if values else {})
