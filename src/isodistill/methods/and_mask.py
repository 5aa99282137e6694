"""The AND-mask: keep the gradient entries whose sign the domains share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.errors import IsodistillError
from isodistill.gradients.buckets import buckets_of
from isodistill.methods.base import Choice, Method, Needs, Range, Window, weighted_mean


class ANDMask(Method):
    """Zeroes the entries on which the domains' signs disagree, and rescales the rest.

    For each tensor::

        m = 1[ |mean_d sign g_d| >= tau ]         gradient = m * gbar / (mean(m) + 1e-10)

    Source: Parascandolo et al. (arXiv 2009.00329), as in DomainBed's ``ANDMask``. Departures: gbar weighs the
    domains by w_d; tensors are the LoRA factors. Adam partly undoes a mask on the gradient, here as there.

    Args:
        tau: The agreement asked for, in [0, 1]; 1 asks for all domains.

    Raises:
        IsodistillError: if tau is out of range.
    """

    name: ClassVar[str] = "and_mask"
    source: ClassVar[str] = "arXiv 2009.00329"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"tau": Range(0.5, 1.0)}
    """DomainBed's range."""
    min_domains: ClassVar[int] = 2

    def __init__(self, tau: float = 1.0) -> None:
        if not 0.0 <= tau <= 1.0:
            raise IsodistillError(f"tau={tau} is out of range: give a number in [0, 1]")
        self.tau = tau

    @property
    def needs(self) -> Needs:
        """Per-domain factor gradients."""
        return Needs(gradients="factor")

    def align_factors(
        self, gradients: Mapping[str, torch.Tensor], window: Window
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Masks each factor's mean gradient (see `Method.align_factors`)."""
        aligned: dict[str, torch.Tensor] = {}
        for bucket in buckets_of(gradients):
            stack, segments = bucket.values, bucket.segments
            # A sum of K signs is exact; its division by K may fall short of tau = 1 by a rounding.
            mask = stack.sign().sum(0).abs() >= self.tau * len(stack) - 1e-6
            mask = mask.to(stack.dtype)
            scale = segments.spread(1e-10 + segments.means(mask))
            aligned |= bucket.views(mask.mul_(weighted_mean(stack, window.weights)).div_(scale))
        return aligned, {}
