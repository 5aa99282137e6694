"""The continuous gradient conflict mask, as pure functions on tensors.

Source: M = exp(-tau V) of Invariant Gradient Alignment (arXiv 2606.05025); the rest is defined in docs/method.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from isodistill.errors import IsodistillError

Normalization = Literal["relative", "bounded", "layer_mean", "raw"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

_RELATIVE_EPS = 1e-12
"""Regularises V / mean² relative to the tensor's mean square, so that the mask stays scale-free."""


@dataclass(frozen=True)
class DomainMoments:
    """Weighted mean and variance of a tensor's gradient across domains.

    Attributes:
        mean: Gbar = sum_d w_d G_d, shape (...).
        variance: V = sum_d w_d (G_d - Gbar)², shape (...), not negative.
    """

    mean: torch.Tensor
    variance: torch.Tensor


def domain_moments(gradients: Iterable[torch.Tensor], weights: Iterable[float]) -> DomainMoments:
    """Computes mean and variance across domains in one pass, holding one domain's gradient at a time.

    Uses West's weighted update (CACM 22(9), 1979), so identical gradients give a variance of exactly zero.

    Args:
        gradients: The per-domain gradients G_d, K tensors of one shape, fp32 or fp64; they are not modified.
        weights: K weights w_d, positive, with sum 1.

    Returns:
        The moments, in the dtype of the gradients.

    Raises:
        ValueError: if there is no gradient.
    """
    mean: torch.Tensor | None = None
    variance: torch.Tensor | None = None
    total = 0.0
    for gradient, weight in zip(gradients, weights, strict=True):
        total += weight
        if mean is None or variance is None:
            mean, variance = gradient.clone(), torch.zeros_like(gradient)
            continue
        difference = gradient - mean
        mean.add_(difference, alpha=weight / total)
        variance.addcmul_(difference, gradient - mean, value=weight)
    if mean is None or variance is None:
        raise ValueError("domain_moments needs the gradient of at least one domain")
    return DomainMoments(mean, variance.clamp_(min=0.0))


def conflict(mean: torch.Tensor, variance: torch.Tensor, normalization: Normalization = "relative") -> torch.Tensor:
    """Normalises the variance across domains to the conflict Z that the mask damps.

    * ``relative``: Z = V / (Gbar² + eps), scale-free; an entry that one of K equal domains uses has Z = K - 1.
    * ``bounded``: Z = V / (V + Gbar²), scale-free and in [0, 1].
    * ``layer_mean``: Z = V / mean(V), scale-free, relative to the tensor's own average.
    * ``raw``: Z = V, the literal reading; it changes with the loss scale and is kept for ablations.

    Args:
        mean: Gbar or its running average, any shape.
        variance: V or its running average, the same shape, not negative.
        normalization: The rule.

    Returns:
        Z, the same shape, not negative.
    """
    if normalization == "raw":
        return variance
    tiny = torch.finfo(mean.dtype).tiny
    if normalization == "layer_mean":
        return variance / variance.mean().clamp_min(tiny)
    squared_mean = mean.square()
    eps = (squared_mean.mean() * _RELATIVE_EPS).clamp_min(tiny)
    if normalization == "relative":
        return variance / squared_mean.add_(eps)
    if normalization == "bounded":
        return variance / (squared_mean.add_(variance).add_(eps))
    raise IsodistillError(f"conflict_normalization={normalization!r} is unknown: choose one of {NORMALIZATIONS}")


def conflict_mask(
    mean: torch.Tensor,
    variance: torch.Tensor,
    tau: float,
    normalization: Normalization = "relative",
) -> torch.Tensor:
    """Computes M = exp(-tau Z), near 1 where the domains agree and near 0 where they conflict.

    Args:
        mean: Gbar or its running average, any shape.
        variance: V or its running average, the same shape.
        tau: The temperature, not negative; 0 switches the mask off (M = 1 exactly).
        normalization: How V becomes the conflict Z (see `conflict`).

    Returns:
        M in (0, 1], the same shape; entries below the dtype's range underflow to its smallest normal number.
    """
    if tau == 0.0:
        return torch.ones_like(mean)
    mask = conflict(mean, variance, normalization).mul(-tau).exp_()
    return mask.clamp_(min=torch.finfo(mask.dtype).tiny)


def conflict_share(moments: DomainMoments) -> float:
    """Measures one tensor's conflict as its variance's share of the energy: sum V / (sum V + sum Gbar²).

    Args:
        moments: The moments of the tensor's per-domain gradients.

    Returns:
        A number from 0 (all domains agree) to 1; 0 for a zero gradient.
    """
    variance = float(moments.variance.sum())
    energy = variance + float(moments.mean.square().sum())
    return variance / energy if energy > 0.0 else 0.0
