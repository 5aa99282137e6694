"""The optimizer of the small students that are taught from scratch."""

from __future__ import annotations

import math

import torch


class PreciseMuon(torch.optim.Optimizer):
    """Muon in the precision of the gradients.

    `torch.optim.Muon` orthogonalises in bfloat16 whatever it is given; a CPU without instructions for that type spends
    most of a step there. Source: K. Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural
    networks"; the same momentum, coefficients and rates as in torch.

    Args:
        params: Matrices.
        lr: Learning rate.
        weight_decay: Share of the weights taken away in a step, times `lr`.
        momentum: Share of the running mean of gradients that a step keeps.
    """

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves every matrix that has a gradient.

        Args:
            closure: Not used.
        """
        for group in self.param_groups:
            rate, kept = group["lr"], group["momentum"]
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                mean = state["mean"].lerp_(weight.grad, 1 - kept)
                update = orthogonalised(weight.grad.lerp(mean, kept))
                weight.mul_(1 - rate * group["weight_decay"])
                weight.sub_(update, alpha=rate * math.sqrt(max(1, weight.shape[0] / weight.shape[1])))


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """Brings the singular values of a matrix near 1 by five steps of a Newton-Schulz iteration.

    Args:
        matrix: A matrix (n, m), float32 or float64.

    Returns:
        A matrix (n, m) with the same singular vectors, its singular values about 0.7 to 1.2.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / wide.norm().clamp(min=1e-7)  # the largest singular value is at most 1
    for _ in range(5):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), wide, beta=3.4445)
    return wide.T if tall else wide
