"""The signal-to-noise mask on gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.errors import IsodistillError
from isodistill.gradients.buckets import buckets_of
from isodistill.gradients.mask import domain_moments
from isodistill.gradients.statistics import RunningMoments
from isodistill.methods.base import Choice, Diagnostics, Method, Needs, Range, Window


class GSNR(Method):
    """Damps each entry by its gradient signal-to-noise ratio across domains.

    ::

        r = EMA(gbar)² / EMA(V)          M = r / (1 + r) = EMA(gbar)² / (EMA(gbar)² + EMA(V))
        gradient = M * gbar

    M is the Wiener filter of a signal gbar in noise of variance V: a cheap relative of IGA's exp(-tau V / gbar²).

    Source: the ratio is that of Liu et al. (arXiv 2001.07384). Departures: its variance is across domains instead of
    samples, and the smooth filter stands for a threshold.

    Args:
        statistics_decay: The decay of the running averages, in [0, 1); 0 uses each step's own statistics.

    Raises:
        IsodistillError: if the decay is out of range.
    """

    name: ClassVar[str] = "gsnr"
    source: ClassVar[str] = "arXiv 2001.07384"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"statistics_decay": Choice((0.0, 0.9, 0.99))}
    """This project's."""
    min_domains: ClassVar[int] = 2

    def __init__(self, statistics_decay: float = 0.9) -> None:
        if not 0.0 <= statistics_decay < 1.0:
            raise IsodistillError(f"statistics_decay={statistics_decay} is out of range: give a number in [0, 1)")
        self.statistics = RunningMoments(statistics_decay)
        self._mask_sums: list[torch.Tensor] = []
        self._entries = 0

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
            moments = domain_moments(bucket.values.unbind(0), window.weights)
            averages, correction = self.statistics.advance(bucket.names, bucket.shapes, moments)
            signal = averages.mean.square()
            # (Gbar / c)² / ((Gbar / c)² + V / c) = Gbar² / (Gbar² + c V)
            energy = (averages.variance * correction).add_(signal).clamp_min_(torch.finfo(signal.dtype).tiny)
            mask = signal.div_(energy)
            self._mask_sums.append(mask.sum())
            self._entries += mask.numel()
            aligned |= bucket.views(mask.mul_(moments.mean))
        return aligned, {}

    def diagnostics(self) -> Diagnostics:
        """Reports the mean mask since the last call."""
        mean = float(torch.stack(self._mask_sums).sum()) / self._entries if self._entries else None
        self._mask_sums, self._entries = [], 0
        return Diagnostics(mean_mask=mean)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the running averages."""
        return self.statistics.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the running averages."""
        self.statistics.load_state_dict(state)
