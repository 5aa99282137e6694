"""Empirical risk minimisation with domain-balanced reweighting."""

from __future__ import annotations

from typing import ClassVar

from isodistill.methods.base import Method, Needs, Window


class BalancedERM(Method):
    """Gives every domain the same weight, however many tokens it brings: g = (1/K) sum_d g_d.

    Source: the reweighting baseline of Sagawa et al. (arXiv 2005.04345). Departure: the weights are exact in every
    step instead of drawn by a balanced sampler.
    """

    name: ClassVar[str] = "erm_balanced"
    source: ClassVar[str] = "arXiv 2005.04345"
    min_domains: ClassVar[int] = 2

    @property
    def needs(self) -> Needs:
        """Per-domain gradients."""
        return Needs(gradients="factor")

    def domain_scales(self, window: Window) -> list[float]:
        """Returns 1 / (K w_d)."""
        return [1.0 / (len(window.weights) * weight) for weight in window.weights]
