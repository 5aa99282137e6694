"""Risk extrapolation: penalise the variance of the domains' losses (V-REx)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from isodistill.methods.annealing import AnnealedPenalty
from isodistill.methods.base import Choice, Needs, Range, Window


class VREx(AnnealedPenalty):
    """Adds lambda times the population variance of the domain losses.

    ::

        objective = sum_d w_d l_d + lambda sum_d w_d (l_d - lbar)²,   lbar = sum_d w_d l_d
        gradient  = sum_d w_d (1 + 2 lambda (l_d - lbar)) g_d

    The second line is the exact gradient of the first, so the penalty costs one weighted sum.

    Source: Krueger et al. (arXiv 2003.00688), as in DomainBed's ``VREx``: lambda 10 after an annealing with weight 1,
    optimizer state cleared at the switch. Departures: domains weigh w_d instead of 1/K unless
    ``domain_weighting="uniform"``; the annealing is a share of the run (see `AnnealedPenalty`).

    Args:
        penalty_weight: lambda.
        anneal_fraction: The share of the run with weight 1 instead of lambda.
    """

    name: ClassVar[str] = "vrex"
    source: ClassVar[str] = "arXiv 2003.00688"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"penalty_weight": Range(0.1, 1e5, log=True)}
    """DomainBed's range."""
    min_domains: ClassVar[int] = 2

    def __init__(self, penalty_weight: float = 10.0, anneal_fraction: float = 0.1) -> None:
        super().__init__(penalty_weight, anneal_fraction, before=1.0)

    @property
    def needs(self) -> Needs:
        """Per-domain losses and gradients."""
        return Needs(gradients="factor", losses=True)

    def domain_scales(self, window: Window) -> list[float]:
        """Returns 1 + 2 lambda (l_d - lbar)."""
        mean = sum(weight * loss for weight, loss in zip(window.weights, window.losses, strict=True))
        return [1.0 + 2.0 * self.penalty_weight * (loss - mean) for loss in window.losses]
