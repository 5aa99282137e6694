"""What IGA tells of its masks: one step's sums over all tensors."""

from __future__ import annotations

import torch

from isodistill.gradients.buckets import Segments
from isodistill.gradients.mask import DomainMoments, conflict_share
from isodistill.methods.base import Diagnostics

_SAMPLE = 1024
"""Entries of each mask that its histogram counts."""


class MaskMeter:
    """Adds up one step's diagnostics over the tensors; nothing is read from the device before the end."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.entries = 0
        self.masks: list[torch.Tensor] = []
        self.energies: list[torch.Tensor] = []
        self.samples: list[torch.Tensor] = []
        self.projections: list[torch.Tensor] = []

    def add_mask(
        self,
        layers: list[str],
        sums: torch.Tensor,
        energies: torch.Tensor,
        sample: torch.Tensor,
        entries: int | None = None,
    ) -> None:
        """Adds the mask of one tensor, or of several side by side.

        Args:
            layers: Each tensor's layer.
            sums: (2,): the sums of the mask and of the squares of the masked mean.
            energies: (2, tensors): the sums of the squared mean and of the variance.
            sample: The mask, or some of its entries.
            entries: The mask's entries; those of `sample` unless given.
        """
        self.layers += layers
        self.entries += sample.numel() if entries is None else entries
        # Copied, because the mask's buffer is used again; about a thousand entries of a tensor will do.
        self.samples.append(sample.flatten()[:: max(1, sample.numel() // (_SAMPLE * len(layers)))].clone())
        self.masks.append(sums)
        self.energies.append(energies)

    def add_projection(self, matrix: torch.Tensor, singular_values: torch.Tensor) -> None:
        """Adds the projection of one layer.

        Args:
            matrix: What was projected, (d_out, d_in).
            singular_values: Those that were kept, (k,).
        """
        self.projections.append(torch.stack((_energy(matrix), _energy(singular_values))))

    def read(self) -> Diagnostics:
        """Sums up what was added."""
        if not self.layers:
            return Diagnostics(mean_mask=1.0, kept_energy=1.0)
        # Not every device knows fp64.
        mask_sum, masked_energy = torch.stack(self.masks).cpu().double().sum(0).tolist()
        energies = torch.cat(self.energies, dim=1).cpu().double()  # (2, tensors)
        mean_energy = float(energies[0].sum())
        shares: dict[str, list[float]] = {}
        for layer, mean, variance in zip(self.layers, *energies.tolist(), strict=True):
            shares.setdefault(layer, []).append(conflict_share(variance, mean))
        residual = None
        if self.projections:
            projected = torch.stack(self.projections).cpu().double()  # (layers, 2)
            # ||G - U S Vᵀ||² = ||G||² - ||S||² for the factors of a projection, without forming the difference.
            lost = (projected[:, 0] - projected[:, 1]).clamp_min(0.0).sum()
            total = float(projected[:, 0].sum())
            residual = (float(lost) / total) ** 0.5 if total > 0 else 0.0
        return Diagnostics(
            mean_mask=mask_sum / self.entries,
            kept_energy=masked_energy / mean_energy if mean_energy > 0 else 1.0,
            projection_residual=residual,
            conflict={layer: sum(each) / len(each) for layer, each in shares.items()},
            mask_histogram=[int(count) for count in torch.histc(torch.cat(self.samples), 10, 0.0, 1.0).tolist()],
        )


def mask_sums(mask_sum: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Forms what `MaskMeter.add_mask` takes as sums, (2,).

    Args:
        mask_sum: The sum of the mask, a scalar.
        masked: The masked mean, any shape.
    """
    return torch.stack((mask_sum, _energy(masked)))


def moment_energies(moments: DomainMoments, segments: Segments | None = None) -> torch.Tensor:
    """Forms what `MaskMeter.add_mask` takes as energies, (2, tensors).

    Args:
        moments: Mean and variance of one tensor, or of several side by side.
        segments: Which entries are whose, for several.
    """
    if segments is None:
        return torch.stack((_energy(moments.mean), moments.variance.sum())).unsqueeze(1)
    return torch.stack((segments.sums(moments.mean.square()), segments.sums(moments.variance)))


def _energy(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.flatten()
    return torch.dot(flat, flat)
