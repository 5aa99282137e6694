"""The signal-to-noise mask on gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from isodistill.errors import IsodistillError
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
        self._mask_sum, self._entries = 0.0, 0

    @property
    def needs(self) -> Needs:
        """Per-domain factor gradients."""
        return Needs(gradients="factor")

    def align_factors(
        self, gradients: Mapping[str, torch.Tensor], window: Window
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Masks each factor's mean gradient (see `Method.align_factors`)."""
        aligned = {}
        for name, stack in gradients.items():
            moments = domain_moments(stack.unbind(0), window.weights)
            averages = self.statistics.update(name, moments)
            signal = averages.mean.square()
            mask = signal / (signal + averages.variance).clamp_min(torch.finfo(signal.dtype).tiny)
            aligned[name] = mask * moments.mean
            self._mask_sum += float(mask.sum())
            self._entries += mask.numel()
        return aligned, {}

    def diagnostics(self) -> Diagnostics:
        """Reports the mean mask since the last call."""
        mean = self._mask_sum / self._entries if self._entries else None
        self._mask_sum, self._entries = 0.0, 0
        return Diagnostics(mean_mask=mean)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the running averages."""
        return self.statistics.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the running averages."""
        self.statistics.load_state_dict(state)
