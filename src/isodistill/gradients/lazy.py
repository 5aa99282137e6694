"""Per-domain weight gradients that are not formed unless somebody asks: G = factor * deltaᵀ x."""

from __future__ import annotations

from typing import Protocol

import torch

from isodistill.gradients.workspace import Workspace


class WeightGradient(Protocol):
    """One domain's weight gradient G, (d_out, d_in)."""

    def dense(self, scale: float) -> torch.Tensor:
        """Forms scale * G.

        The receiver may overwrite the result, and must be done with it before the next one is formed: all of them may
        share one buffer.
        """
        ...

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """Computes G @ right, (d_out, n), for a matrix (d_in, n)."""
        ...

    def turned_times(self, left: torch.Tensor) -> torch.Tensor:
        """Computes Gᵀ @ left, (d_in, n), for a matrix (d_out, n)."""
        ...

    def tokens(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Gives delta (N, d_out) and x (N, d_in) with G = deltaᵀ x, or ``None`` where there are none."""
        ...


class TokenGradient:
    """A gradient as a sum over tokens; thin products cost N n (d_in + d_out) and never form the matrix.

    Args:
        delta: The output's gradients, (N, d_out).
        tokens: The layer's inputs, (N, d_in).
        factor: A number that the sum is multiplied by.
        workspace: Where the dense matrix is formed.
    """

    def __init__(self, delta: torch.Tensor, tokens: torch.Tensor, factor: float, workspace: Workspace) -> None:
        self._delta, self._tokens, self._factor, self._workspace = delta, tokens, factor, workspace

    def dense(self, scale: float) -> torch.Tensor:
        """Forms scale * G in the workspace's buffer ``product``."""
        out = self._workspace.take("product", (self._delta.shape[1], self._tokens.shape[1]), self._tokens)
        # What stands in the buffer is ignored: beta is 0.
        return torch.addmm(out, self._delta.T, self._tokens, beta=0.0, alpha=self._factor * scale, out=out)

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """Computes G @ right."""
        return (self._delta.T @ (self._tokens @ right)).mul_(self._factor)

    def turned_times(self, left: torch.Tensor) -> torch.Tensor:
        """Computes Gᵀ @ left."""
        return (self._tokens.T @ (self._delta @ left)).mul_(self._factor)

    def tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives delta, with the factor, and x."""
        return self._delta * self._factor, self._tokens


class DenseGradient:
    """A gradient that is there already.

    Args:
        matrix: G, (d_out, d_in); `dense` overwrites it.
    """

    def __init__(self, matrix: torch.Tensor) -> None:
        self._matrix = matrix

    def dense(self, scale: float) -> torch.Tensor:
        """Scales G in place."""
        return self._matrix.mul_(scale)

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """Computes G @ right."""
        return self._matrix @ right

    def turned_times(self, left: torch.Tensor) -> torch.Tensor:
        """Computes Gᵀ @ left."""
        return self._matrix.T @ left

    def tokens(self) -> None:
        """Has none."""
        return None


class ScaledGradient:
    """A gradient times a number.

    Args:
        gradient: G.
        scale: The number.
    """

    def __init__(self, gradient: WeightGradient, scale: float) -> None:
        self._gradient, self._scale = gradient, scale

    def dense(self, scale: float) -> torch.Tensor:
        """Forms it, times `scale` more."""
        return self._gradient.dense(scale * self._scale)

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """Computes G @ right."""
        return self._gradient.times(right).mul_(self._scale)

    def turned_times(self, left: torch.Tensor) -> torch.Tensor:
        """Computes Gᵀ @ left."""
        return self._gradient.turned_times(left).mul_(self._scale)

    def tokens(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Gives delta, with the number, and x."""
        found = self._gradient.tokens()
        return None if found is None else (found[0] * self._scale, found[1])
