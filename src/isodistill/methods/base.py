"""The interface of the gradient methods: mathematics on per-domain gradients, free of any trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from isodistill.gradients.layers import AdaptedLayer

Needs = Literal["nothing", "factor", "weight"]


@dataclass
class Diagnostics:
    """What a method tells about one optimizer step.

    Attributes:
        mean_mask: The mask's mean over all entries, in (0, 1].
        kept_energy: ||aligned gradient||² / ||mean gradient||², in [0, 1].
        projection_residual: ||Gt - Gr|| / ||Gt||, the share that the rank truncation lost; ``None`` without one.
        conflict: For each adapted layer, the variance's share of its gradient energy, in [0, 1].
    """

    mean_mask: float = 1.0
    kept_energy: float = 1.0
    projection_residual: float | None = None
    conflict: dict[str, float] = field(default_factory=dict)


class Method:
    """Combines the gradients of the domains into the one that the optimizer sees.

    A subclass sets `name` and `needs` and overrides the `align` function of its space. Weights w_d are positive
    with sum 1, so that sum_d w_d g_d is the gradient of the plain mean loss.
    """

    name: ClassVar[str]
    min_domains: ClassVar[int] = 1
    """The fewest domains for which the method differs from plain training."""

    @property
    def needs(self) -> Needs:
        """Which per-domain gradients the method reads; ``nothing`` leaves ``.grad`` as autograd made it."""
        return "nothing"

    @property
    def masks_update(self) -> bool:
        """Whether `update_masks` must multiply the optimizer's update instead of the gradient."""
        return False

    def align_factors(
        self, gradients: Mapping[str, torch.Tensor], weights: list[float]
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Combines factor gradients (for `needs` = ``factor``).

        Args:
            gradients: For each factor, the per-domain gradients, (K, *factor.shape), fp32 or fp64.
            weights: w_d, K of them.

        Returns:
            For each factor the aligned gradient (*factor.shape), and the masks for the optimizer's update
            (empty unless `masks_update`).
        """
        raise NotImplementedError

    def align_weight(
        self, layer: AdaptedLayer, gradients: Iterable[torch.Tensor], weights: list[float]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Combines one layer's dense weight gradients (for `needs` = ``weight``).

        Args:
            layer: The layer.
            gradients: K tensors G_d, (d_out, d_in), fp32 or fp64; the iterator may be lazy and is read once.
            weights: w_d, K of them.

        Returns:
            The aligned gradients of A (r, d_in) and of B (d_out, r).
        """
        raise NotImplementedError

    def diagnostics(self) -> Diagnostics:
        """Sums up what was measured since the last call, and forgets it."""
        return Diagnostics()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns what must survive a checkpoint, as named tensors."""
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
