"""Row and column sums of the moments across domains from the tokens' Gram matrices: no matrix of the weight is formed.

With G_d = deltaᵀ x the energy of a row is that of a quadratic form in the tokens, and the same for a column::

    sum_j G_d,ij² = sum_tt' delta_ti (x_t · x_t') delta_t'i

Products with the Gram matrices cost some 2 N² (d_in + d_out), forming the gradients N d_in d_out and many passes over
their memory, so few tokens or wide layers are where it pays. Source: the Gram trick of per-example gradient norms
(Goodfellow, arXiv 1510.01799), taken to rows, columns and domains; see docs/method.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from isodistill.gradients.lazy import WeightGradient


@dataclass(frozen=True)
class Marginals:
    """Sums of the squared mean and of the variance across domains, over one side of the matrix.

    Attributes:
        energy: sum Gbar², by row (d_out,) or by column (d_in,).
        variance: sum V, alike, not negative.
    """

    energy: torch.Tensor
    variance: torch.Tensor


def gram_pays(gradients: Sequence[WeightGradient]) -> bool:
    """Tells whether `token_marginals` costs less than forming the gradients.

    Counts multiplications on one side, those of the formed gradients alone on the other: where both are equal both
    take about as long (docs/performance.md).

    Args:
        gradients: K gradients G_d.
    """
    parts = [gradient.tokens() for gradient in gradients]
    if any(part is None for part in parts):
        return False
    known = [part for part in parts if part is not None]
    count = sum(len(delta) for delta, _ in known)
    d_out, d_in = known[0][0].shape[1], known[0][1].shape[1]
    return (2.0 + 1.0 / len(known)) * count * (d_in + d_out) < d_in * d_out


def token_marginals(gradients: Sequence[WeightGradient], weights: Sequence[float]) -> tuple[Marginals, Marginals]:
    """Computes the marginals of mean and variance across domains from the tokens.

    Args:
        gradients: K gradients G_d, each a sum over tokens.
        weights: K weights w_d, positive, with sum 1.

    Returns:
        Those of the rows, sums over the inputs, and those of the columns.

    Raises:
        ValueError: if a gradient is there already and has no tokens.
    """
    parts = []
    for gradient in gradients:
        part = gradient.tokens()
        if part is None:
            raise ValueError("token_marginals needs gradients that are sums over tokens")
        parts.append(part)
    counts = [len(delta) for delta, _ in parts]
    deltas, tokens = (torch.cat(side) for side in zip(*parts, strict=True))  # (N, d_out), (N, d_in)
    weight = torch.repeat_interleave(deltas.new_tensor(weights), torch.tensor(counts, device=deltas.device))
    rows = _side(deltas, tokens @ tokens.T, weight.unsqueeze(1), counts, weights)
    return rows, _side(tokens, deltas @ deltas.T, weight.unsqueeze(1), counts, weights)


def _side(
    values: torch.Tensor, gram: torch.Tensor, weight: torch.Tensor, counts: list[int], weights: Sequence[float]
) -> Marginals:
    """One side's marginals: its values (N, d), the other side's Gram matrix (N, N), each token's w_d (N, 1)."""
    weighted = weight * values
    energy = (weighted * (gram @ weighted)).sum(0)  # (d,)
    squares = torch.zeros_like(energy)  # sum_d w_d sum G_d²
    start = 0
    for count, share in zip(counts, weights, strict=True):
        own = slice(start, start + count)
        squares.add_((values[own] * (gram[own, own] @ values[own])).sum(0), alpha=share)
        start += count
    return Marginals(energy.clamp_(min=0.0), squares.sub_(energy).clamp_(min=0.0))
