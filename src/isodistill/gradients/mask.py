"""The continuous gradient conflict mask, as pure functions on tensors.

Source: M = exp(-tau V) of Invariant Gradient Alignment (arXiv 2606.05025); the rest is defined in docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from isodistill.errors import IsodistillError
from isodistill.gradients.buckets import Segments
from isodistill.gradients.workspace import Workspace

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


def domain_moments(
    gradients: Iterable[torch.Tensor], weights: Iterable[float], workspace: Workspace | None = None
) -> DomainMoments:
    """Computes mean and variance across domains in one pass, holding one domain's gradient at a time.

    With the differences D_d = G_d - G_1 to the first domain (so that identical gradients give exactly zero)::

        Gbar = G_1 + sum_d w_d D_d          V = sum_d w_d D_d² - (sum_d w_d D_d)²

    The subtraction is harmless: the first domain's own part of V is w_1 (G_1 - Gbar)² = w_1 (sum_d w_d D_d)², so what
    is subtracted is at most V / w_1, and the relative error of V at most about 1 / w_1 roundings. Source: Chan, Golub &
    LeVeque (The American Statistician 37(3), 1983), "shifted data".

    Args:
        gradients: The per-domain gradients G_d, K tensors of one shape, fp32 or fp64. Without a workspace they are not
            modified; with one they are overwritten, and each may be gone when the next one comes.
        weights: K weights w_d, positive, with sum 1.
        workspace: Where the results are formed; they last until it is used again.

    Returns:
        The moments, in the dtype of the gradients.

    Raises:
        ValueError: if there is no gradient.
    """
    first: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    squares: torch.Tensor | None = None
    for gradient, weight in zip(gradients, weights, strict=True):
        if first is None:
            first = _buffer(workspace, "mean", gradient).copy_(gradient)
            continue
        difference = gradient - first if workspace is None else gradient.sub_(first)
        if shift is None or squares is None:
            shift = torch.mul(difference, weight, out=_buffer(workspace, "scratch", first))
            squares = torch.mul(shift, difference, out=_buffer(workspace, "variance", first))
        else:
            shift.add_(difference, alpha=weight)
            squares.addcmul_(difference, difference, value=weight)
    if first is None:
        raise ValueError("domain_moments needs the gradient of at least one domain")
    if shift is None or squares is None:
        return DomainMoments(first, _buffer(workspace, "variance", first).zero_())
    return DomainMoments(first.add_(shift), squares.addcmul_(shift, shift, value=-1.0).clamp_(min=0.0))


def _buffer(workspace: Workspace | None, name: str, like: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(like) if workspace is None else workspace.take(name, tuple(like.shape), like)


def conflict(
    mean: torch.Tensor,
    variance: torch.Tensor,
    normalization: Normalization = "relative",
    out: torch.Tensor | None = None,
    *,
    correction: float | torch.Tensor = 1.0,
    segments: Segments | None = None,
) -> torch.Tensor:
    """Normalises the variance across domains to the conflict Z that the mask damps.

    * ``relative``: Z = V / (Gbar² + eps), scale-free; an entry that one of K equal domains uses has Z = K - 1.
    * ``bounded``: Z = V / (V + Gbar²), scale-free and in [0, 1].
    * ``layer_mean``: Z = V / mean(V), scale-free, relative to the tensor's own average.
    * ``raw``: Z = V, the literal reading; it changes with the loss scale and is kept for ablations.

    Args:
        mean: Gbar or its running average, any shape.
        variance: V or its running average, the same shape, not negative.
        normalization: The rule.
        out: Where to form it, the same shape; by default a new tensor.
        correction: What mean and variance are still to be divided by, c: a number, or one for each entry.
        segments: The tensors that a flat one holds side by side; means are taken over each of them.

    Returns:
        Z, the same shape, not negative.

    Raises:
        IsodistillError: if there is no such rule.
    """
    if normalization not in NORMALIZATIONS:
        raise IsodistillError(f"conflict_normalization={normalization!r} is unknown: choose one of {NORMALIZATIONS}")
    if out is None:
        out = torch.empty_like(mean)
    if normalization == "raw":
        return torch.div(variance, correction, out=out)
    tiny = torch.finfo(mean.dtype).tiny
    if normalization == "layer_mean":
        return torch.div(variance, _mean(variance, segments, tiny), out=out)
    squared_mean = torch.mul(mean, mean, out=out)
    squared_mean.add_(_mean(squared_mean, segments, tiny, _RELATIVE_EPS))
    # (V / c) / ((Gbar / c)² + eps / c²) = c V / (Gbar² + eps)
    if normalization == "relative":
        torch.div(variance, squared_mean, out=out)
        return out if _is_one(correction) else out.mul_(correction)
    if not _is_one(correction):
        squared_mean.div_(correction)
    return torch.div(variance, squared_mean.add_(variance), out=out)


def _mean(values: torch.Tensor, segments: Segments | None, tiny: float, factor: float = 1.0) -> torch.Tensor:
    """Averages a tensor, or each of those it holds, times `factor`; at least `tiny`."""
    if segments is None:
        return (values.mean() * factor).clamp_min(tiny)
    return segments.spread((segments.means(values) * factor).clamp_min(tiny))


def _is_one(correction: float | torch.Tensor) -> bool:
    return isinstance(correction, float) and correction == 1.0


def conflict_mask(
    mean: torch.Tensor,
    variance: torch.Tensor,
    tau: float,
    normalization: Normalization = "relative",
    out: torch.Tensor | None = None,
    *,
    correction: float | torch.Tensor = 1.0,
    segments: Segments | None = None,
) -> torch.Tensor:
    """Computes M = exp(-tau Z), near 1 where the domains agree and near 0 where they conflict.

    Args:
        mean: Gbar or its running average, any shape.
        variance: V or its running average, the same shape.
        tau: The temperature, not negative; 0 switches the mask off (M = 1 exactly).
        normalization: How V becomes the conflict Z (see `conflict`).
        out: Where to form it, the same shape; by default a new tensor.
        correction: See `conflict`.
        segments: See `conflict`.

    Returns:
        M in (0, 1], the same shape; entries below the dtype's range stay near its smallest normal number.
    """
    if tau == 0.0:
        return torch.ones_like(mean) if out is None else out.fill_(1.0)
    if normalization == "relative" and isinstance(correction, float):
        tau, correction = tau * correction, 1.0  # one pass less
    exponent = conflict(mean, variance, normalization, out, correction=correction, segments=segments).mul_(-tau)
    # Bounded before and not after: exp is several times slower where its result is not a normal number.
    return exponent.clamp_(min=_least_exponent(exponent.dtype)).exp_()


def _least_exponent(dtype: torch.dtype) -> float:
    """Returns an exponent whose exp, rounded as it may be, is no smaller than the smallest normal number."""
    return math.log(torch.finfo(dtype).tiny) * (1.0 - 1e-6)


def conflict_share(variance: float, mean_energy: float) -> float:
    """Measures one tensor's conflict as its variance's share of the energy: sum V / (sum V + sum Gbar²).

    Args:
        variance: sum V.
        mean_energy: sum Gbar².

    Returns:
        A number from 0 (all domains agree) to 1; 0 for a zero gradient.
    """
    energy = variance + mean_energy
    return variance / energy if energy > 0.0 else 0.0
