"""The inter-gradient penalty of Koyama and Yamaguchi."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from isodistill.errors import IsodistillError
from isodistill.methods.base import Choice, GradientOf, Method, Needs, Range, Window


class Koyama(Method):
    """Penalises the spread of the domains' gradients.

    ::

        objective = sum_d w_d l_d + lambda sum_d ||g_d - gbar||²,   gbar = sum_d w_d g_d held constant
        gradient  = gbar + 2 lambda sum_d H_d (g_d - gbar),         H_d the Hessian of l_d

    The Hessian-vector products are central differences of the gradient along v_d = g_d - gbar::

        H_d v ~ (g_d(theta + h v) - g_d(theta - h v)) / 2h,   h ||v|| = delta (1 + ||theta||)

    Source: Koyama & Yamaguchi (arXiv 2008.01883), as in DomainBed, which calls the rule "IGA"; lambda 1000 there.
    Departures: central differences instead of a second backward, because the fused attention and the fused
    language-model head cannot be differentiated twice, and neither can a checkpointed layer; the error is of order
    delta² plus round-off / delta, below 1e-4 of the penalty on a small Llama in fp32; domains weigh w_d in gbar. Three
    passes over the data make one step.

    Args:
        penalty_weight: lambda, not negative.
        delta: The relative length of the difference, positive.

    Raises:
        IsodistillError: if an argument is out of range, naming it.
    """

    name: ClassVar[str] = "koyama"
    source: ClassVar[str] = "arXiv 2008.01883"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"penalty_weight": Range(0.1, 1e5, log=True)}
    """DomainBed's range begins at 10; a small student diverges at many of its weights, so it is widened downwards."""
    min_domains: ClassVar[int] = 2
    max_processes: ClassVar[int | None] = 1
    reduced_precision: ClassVar[bool] = False

    def __init__(self, penalty_weight: float = 1000.0, delta: float = 2e-5) -> None:
        if not 0.0 <= penalty_weight < float("inf"):
            raise IsodistillError(
                f"penalty_weight={penalty_weight} is out of range: give a finite number, 0 or greater"
            )
        if not 0.0 < delta < 1.0:
            raise IsodistillError(f"delta={delta} is out of range: give a number in (0, 1)")
        self.penalty_weight = penalty_weight
        self.delta = delta

    @property
    def needs(self) -> Needs:
        """Gradients beside the present parameters."""
        return Needs(replay=True)

    @torch.no_grad()
    def replay(
        self,
        gradient_of: GradientOf,
        parameters: dict[str, nn.Parameter],
        optimizer: Optimizer | None,
        window: Window,
    ) -> dict[str, torch.Tensor]:
        """Returns the gradient of the penalised loss (see `Method.replay`)."""
        start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        by_domain = [gradient_of(domain) for domain in window.domains]
        mean = {
            name: torch.stack([w * g[name] for w, g in zip(window.weights, by_domain, strict=True)]).sum(0)
            for name in start
        }
        total = {name: tensor.clone() for name, tensor in mean.items()}
        size = self.delta * (1.0 + _norm(start))
        for domain, gradients in zip(window.domains, by_domain, strict=True):
            direction = {name: gradients[name] - mean[name] for name in start}
            length = _norm(direction)
            if length == 0.0:
                continue
            h = size / length
            ahead = self._gradient_beside(gradient_of, domain, parameters, start, direction, h)
            behind = self._gradient_beside(gradient_of, domain, parameters, start, direction, -h)
            for name in total:
                total[name].add_(ahead[name] - behind[name], alpha=self.penalty_weight / h)
        return total

    @staticmethod
    def _gradient_beside(
        gradient_of: GradientOf,
        domain: int,
        parameters: dict[str, nn.Parameter],
        start: dict[str, torch.Tensor],
        direction: dict[str, torch.Tensor],
        h: float,
    ) -> dict[str, torch.Tensor]:
        try:
            for name, parameter in parameters.items():
                parameter.copy_(start[name] + h * direction[name])
            return gradient_of(domain)
        finally:
            for name, parameter in parameters.items():
                parameter.copy_(start[name])


def _norm(tensors: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors.values()]).sum().sqrt())
