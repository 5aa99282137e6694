"""Fish: align gradients to first order by walking through the domains one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn
from torch.optim import Optimizer

from isodistill.errors import IsodistillError
from isodistill.methods.base import Choice, GradientOf, Method, Needs, Range, RunInfo, Window


class Fish(Method):
    """Takes one optimizer step for each domain and moves a part of the way.

    ::

        phi <- theta;  for d in a random order: phi <- phi - optimizer step on grad l_d(phi)
        theta <- theta + eps (phi - theta)

    To first order in the step size this maximises the inner products of the domains' gradients.

    Source: Shi et al. (arXiv 2104.09937), as in DomainBed's ``Fish``: eps 0.5, the inner optimizer's state persists.
    Departures: the inner optimizer is the run's own (its learning rate, schedule and weight decay), which makes no
    other step, and its state is saved in the checkpoint like any; inner gradients are not clipped.

    Args:
        meta_step: eps, in (0, 1].

    Raises:
        IsodistillError: if meta_step is out of range.
    """

    name: ClassVar[str] = "fish"
    source: ClassVar[str] = "arXiv 2104.09937"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"meta_step": Choice((0.05, 0.1, 0.5))}
    """DomainBed's values."""
    min_domains: ClassVar[int] = 2
    max_processes: ClassVar[int | None] = 1

    def __init__(self, meta_step: float = 0.5) -> None:
        if not 0.0 < meta_step <= 1.0:
            raise IsodistillError(f"meta_step={meta_step} is out of range: give a number in (0, 1]")
        self.meta_step = meta_step
        self._seed = 0

    @property
    def needs(self) -> Needs:
        """Gradients at the parameters of the inner walk."""
        return Needs(replay=True)

    def bind(self, run: RunInfo) -> None:
        """Learns the seed of the domains' order."""
        self._seed = run.seed

    def replay(
        self,
        gradient_of: GradientOf,
        parameters: dict[str, nn.Parameter],
        optimizer: Optimizer | None,
        window: Window,
    ) -> None:
        """Walks through the domains and moves the parameters (see `Method.replay`)."""
        if optimizer is None:
            raise IsodistillError("method='fish' steps with the run's optimizer: call aligner.attach_optimizer first")
        start = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + window.step)
        for position in torch.randperm(len(window.domains), generator=generator).tolist():
            gradients = gradient_of(window.domains[position])
            for name, parameter in parameters.items():
                parameter.grad = gradients.get(name)
            optimizer.step()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.lerp(start[name], parameter, self.meta_step))
                parameter.grad = None
