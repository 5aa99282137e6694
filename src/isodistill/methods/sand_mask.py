"""The SAND-mask: a smoothed AND-mask that also looks at the variance across domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.errors import IsodistillError
from isodistill.gradients.buckets import buckets_of
from isodistill.gradients.mask import domain_moments
from isodistill.methods.base import Choice, Method, Needs, Range, Window, weighted_mean


class SANDMask(Method):
    """Weighs entries by how far their sign agreement exceeds tau, relative to their variance.

    For each tensor::

        m = max(0, tanh( k / var_d(g_d) * (|mean_d sign g_d| - tau) ))      gradient = m * gbar / (mean(m) + 1e-10)

    with the sample variance (divisor K - 1). It is not scale-free: the variance of a language model's gradients is
    tiny, so the tanh saturates and the mask is nearly binary. With three or four domains an agreement that
    is not whole is 0.5 at most: at the default tau of 0.5 this is the AND-mask at its default.

    Source: Shahtalebi et al. (arXiv 2106.02266), as in DomainBed's ``SANDMask``. Departures: tau is 0.5, because
    DomainBed's default of 1 makes the mask identically zero; gbar weighs the domains by w_d.

    Args:
        tau: The agreement above which an entry passes, in [0, 1).
        k: The slope, positive.

    Raises:
        IsodistillError: if an argument is out of range, naming it.
    """

    name: ClassVar[str] = "sand_mask"
    source: ClassVar[str] = "arXiv 2106.02266"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"tau": Range(0.0, 0.99), "k": Range(1e-3, 1e5, log=True)}
    """DomainBed's range, without the tau of 1 that masks everything."""
    min_domains: ClassVar[int] = 2

    def __init__(self, tau: float = 0.5, k: float = 10.0) -> None:
        if not 0.0 <= tau < 1.0:
            raise IsodistillError(f"tau={tau} is out of range: give a number in [0, 1), since 1 masks every entry")
        if not 0.0 < k < float("inf"):
            raise IsodistillError(f"k={k} is out of range: give a finite number above 0")
        self.tau = tau
        self.k = k

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
            mean = weighted_mean(stack, window.weights)
            if len(stack) == 1:
                aligned |= bucket.views(mean)
                continue
            agreement = stack.sign().mean(0).abs() - self.tau
            # Where the variance is zero the tanh is saturated; an agreement of exactly tau gives 0 / 0, which is 0.
            count = len(stack)
            variance = domain_moments(stack.unbind(0), [1.0 / count] * count).variance.mul_(count / (count - 1))
            mask = torch.tanh(self.k * agreement / variance).nan_to_num_(0.0).clamp_(min=0.0)
            scale = segments.spread(1e-10 + segments.means(mask))
            aligned |= bucket.views(mask.mul_(mean).div_(scale))
        return aligned, {}
