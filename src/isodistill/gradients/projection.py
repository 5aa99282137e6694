"""Truncated SVD of a weight gradient, and its pull-back to the LoRA factors.

Source: docs/method.md, "Projection"; the range finder is Halko, Martinsson & Tropp
(arXiv 0909.4061, algorithms 4.4 and 5.1) with the warm start of PowerSGD (arXiv 1905.13727).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class LowRank:
    """A rank-k factorisation U diag(S) Vh.

    Attributes:
        U: (d_out, k), orthonormal columns.
        S: (k,), not negative, descending.
        Vh: (k, d_in), orthonormal rows.
    """

    U: torch.Tensor
    S: torch.Tensor
    Vh: torch.Tensor

    def matrix(self) -> torch.Tensor:
        """Multiplies the factors out, (d_out, d_in)."""
        return (self.U * self.S) @ self.Vh


def exact_truncated_svd(matrix: torch.Tensor, rank: int) -> LowRank:
    """Computes the best rank-k approximation by a full SVD (Eckart-Young): the oracle.

    Args:
        matrix: (d_out, d_in), fp32 or fp64.
        rank: k, at least 1; cut to min(d_out, d_in).

    Returns:
        The k leading singular triplets.
    """
    U, S, Vh = torch.linalg.svd(matrix, full_matrices=False)
    return LowRank(U[:, :rank], S[:rank], Vh[:rank])


def randomized_truncated_svd(
    matrix: torch.Tensor, rank: int, subspace: torch.Tensor, power_iterations: int = 1
) -> tuple[LowRank, torch.Tensor]:
    """Approximates the leading singular triplets from a starting right subspace.

    Args:
        matrix: G, (d_out, d_in), fp32 or fp64.
        rank: k, at least 1.
        subspace: A starting basis of the row space, (d_in, l) with l >= k: random, or last step's.
        power_iterations: How often G Gᵀ is applied before the basis is taken; each costs two products with G.

    Returns:
        The rank-k factorisation, and the refined right basis (d_in, l) to start the next step from.
    """
    sketch = matrix @ subspace  # (d_out, l)
    for _ in range(power_iterations):
        basis = torch.linalg.qr(sketch).Q
        sketch = matrix @ torch.linalg.qr(matrix.T @ basis).Q
    basis = torch.linalg.qr(sketch).Q  # (d_out, l)
    # SVD of basisᵀ G (l, d_in) by a QR of its transpose, so that only an l x l matrix is decomposed.
    right = torch.linalg.qr(matrix.T @ basis)  # Q (d_in, l), R (l, l)
    u, s, vh = torch.linalg.svd(right.R.T)
    factors = LowRank((basis @ u)[:, :rank], s[:rank], (right.Q @ vh.T).T[:rank])
    return factors, right.Q


class Projector:
    """Rank-k projection of many named matrices, each warm-started from its own last right subspace.

    A warm start alone can miss a direction for ever (arXiv 2509.11254), so every ``restart_every`` steps the
    subspace is drawn anew, from a generator seeded by (seed, name, step): the result is reproducible.

    Args:
        rank: k, at least 1.
        algorithm: ``randomized`` or ``exact`` (a full SVD, slow).
        oversampling: Extra columns of the random subspace.
        power_iterations: See `randomized_truncated_svd`; a cold start uses two more.
        restart_every: Steps between cold restarts, at least 1.
        seed: Seeds the random subspaces.
    """

    def __init__(
        self,
        rank: int,
        algorithm: Literal["randomized", "exact"] = "randomized",
        oversampling: int = 8,
        power_iterations: int = 1,
        restart_every: int = 20,
        seed: int = 0,
    ) -> None:
        self.rank = rank
        self.algorithm = algorithm
        self.oversampling = oversampling
        self.power_iterations = power_iterations
        self.restart_every = restart_every
        self.seed = seed
        self._subspace: dict[str, torch.Tensor] = {}
        self._steps: dict[str, int] = {}

    def project(self, name: str, matrix: torch.Tensor) -> LowRank:
        """Projects one matrix onto rank k.

        Args:
            name: The matrix's name, the key of its warm start.
            matrix: (d_out, d_in), fp32 or fp64.

        Returns:
            The rank-k factorisation; with k >= min(d_out, d_in) it is exact.
        """
        width = self.rank + self.oversampling
        if self.algorithm == "exact" or width >= min(matrix.shape):
            return exact_truncated_svd(matrix, self.rank)
        step = self._steps.get(name, 0)
        self._steps[name] = step + 1
        cold = step % self.restart_every == 0
        if cold:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}/{step}".encode()))
            subspace = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype).to(matrix.device)
        else:
            subspace = self._subspace[name].to(matrix)  # a loaded checkpoint may lie on another device
        iterations = self.power_iterations + (2 if cold else 0)
        factors, refined = randomized_truncated_svd(matrix, self.rank, subspace, iterations)
        # Column-major as QR leaves it, it could not be saved as safetensors, and a copy would round differently.
        self._subspace[name] = refined.contiguous()
        return factors

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the warm subspaces and step counts as named tensors."""
        state = {f"subspace/{name}": tensor for name, tensor in self._subspace.items()}
        return state | {f"steps/{name}": torch.tensor(steps) for name, steps in self._steps.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        prefixed = [(key.split("/", 1), tensor) for key, tensor in state.items()]
        self._subspace = {name: tensor.clone() for (kind, name), tensor in prefixed if kind == "subspace"}
        self._steps = {name: int(tensor) for (kind, name), tensor in prefixed if kind == "steps"}


def pull_back(
    gradient: torch.Tensor | LowRank, A: torch.Tensor, B: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns a weight-space gradient G into the gradients of the LoRA factors by the chain rule.

    With W = W0 + s B A: grad_A = s Bᵀ G and grad_B = s G Aᵀ.

    Args:
        gradient: G, (d_out, d_in), dense or factorised (then no dense matrix is formed).
        A: (r, d_in).
        B: (d_out, r).
        scaling: s.

    Returns:
        grad_A (r, d_in) and grad_B (d_out, r).
    """
    if isinstance(gradient, LowRank):
        left = gradient.U * gradient.S  # (d_out, k)
        return scaling * (B.T @ left) @ gradient.Vh, scaling * left @ (gradient.Vh @ A.T)
    # BLAS is faster where the narrow side comes first.
    return scaling * (B.T @ gradient), (scaling * (A @ gradient.T)).T.contiguous()


def tangent_lift(
    gradient: torch.Tensor, A: torch.Tensor, B: torch.Tensor, scaling: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projects G onto the tangent space of the rank-r matrices at B A, and lifts the result to the factors.

    With the projectors P_B onto the columns of B and P_A onto the rows of A, the projection is
    xi = G P_A + P_B G (I - P_A), and the lift (Bdot, Adot) solves s (Bdot A + B Adot) = xi::

        Bdot = G Aᵀ (A Aᵀ)⁺ / s            Adot = (Bᵀ B)⁺ Bᵀ G (I - P_A) / s

    so that a gradient step eta on the factors moves s B A by -eta xi up to eta². Where B = 0, as at PEFT's start,
    Adot = 0. Source: Absil, Mahony & Sepulchre, Optimization Algorithms on Matrix Manifolds (2008); the moved
    factors are themselves the retraction, since one through an SVD differs from them only in eta² and would turn
    the basis in which an optimizer keeps its moments.

    Args:
        gradient: G, (d_out, d_in), fp32 or fp64.
        A: (r, d_in).
        B: (d_out, r).
        scaling: s.

    Returns:
        Adot (r, d_in) and Bdot (d_out, r).
    """
    by_rows = torch.linalg.pinv(A @ A.T, hermitian=True)  # (r, r)
    by_columns = torch.linalg.pinv(B.T @ B, hermitian=True)  # (r, r)
    B_dot = gradient @ A.T @ by_rows / scaling
    left = by_columns @ (B.T @ gradient) / scaling  # (r, d_in)
    return left - left @ A.T @ by_rows @ A, B_dot
