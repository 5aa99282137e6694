"""Where the engines put per-domain gradients: the interface, and the stack that adds up micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import torch

from isodistill.gradients.layers import AdaptedLayer, factor_name
from isodistill.gradients.lazy import WeightGradient

Space = Literal["factor", "weight"]
Part = Literal["lora_A", "lora_B"]


class Collector(Protocol):
    """What an engine needs to know of the receiver of its gradients.

    Attributes:
        space: ``factor`` for the gradients of A and B, ``weight`` for the dense G = deltaᵀ x.
    """

    space: Space

    def add_factor(self, layer: AdaptedLayer, part: Part, gradients: torch.Tensor, domains: list[int]) -> None:
        """Takes one backward's factor gradients, (len(domains), *factor.shape), one row for each domain."""
        ...

    def add_weight(self, layer: AdaptedLayer, gradients: Iterator[WeightGradient], domains: list[int]) -> None:
        """Takes one backward's weight gradients, an iterator over `domains`.

        The iterator is lazy, so that a receiver that streams holds one domain's gradient at a time.
        """
        ...


class GradientStack:
    """Adds up per-domain gradients over the micro-batches of one optimizer step.

    Args:
        space: What is stored: factor gradients, or dense weight gradients (K copies of every adapted weight).
    """

    def __init__(self, space: Space) -> None:
        self.space: Space = space
        self._sums: dict[str, dict[int, torch.Tensor]] = {}
        self._stacks: dict[str, tuple[list[int], torch.Tensor]] = {}

    def add_factor(
        self, layer: AdaptedLayer, part: Part, gradients: torch.Tensor, domains: list[int], scale: float = 1.0
    ) -> None:
        """Adds factor gradients, (len(domains), *factor.shape), times `scale`."""
        name = factor_name(layer, part)
        if name not in self._stacks:
            self._stacks[name] = domains, gradients * scale
            return
        seen, stack = self._stacks[name]
        if seen != domains:
            seen = sorted({*seen, *domains})
            stack = self.stacked(name, seen)
            self._stacks[name] = seen, stack
        for domain, gradient in zip(domains, gradients.unbind(0), strict=True):
            stack[seen.index(domain)].add_(gradient, alpha=scale)

    def add_weight(
        self, layer: AdaptedLayer, gradients: Iterator[WeightGradient], domains: list[int], scale: float = 1.0
    ) -> None:
        """Adds weight gradients, each (d_out, d_in), times `scale`."""
        sums = self._sums.setdefault(layer.name, {})
        for domain, each in zip(domains, gradients, strict=True):
            gradient = each.dense(scale)
            if domain in sums:
                sums[domain].add_(gradient)
            else:
                sums[domain] = gradient.clone()

    def names(self) -> list[str]:
        """Lists the tensors seen, in the order of their first gradient."""
        return [*self._stacks, *self._sums]

    def stacked(self, name: str, domains: list[int]) -> torch.Tensor:
        """Returns one tensor's gradients, (len(domains), ...); a domain that never came gives zeros.

        It may be the memory that the sums are kept in.
        """
        if name in self._stacks:
            seen, stack = self._stacks[name]
            if seen == domains:
                return stack
            rows = dict(zip(seen, stack.unbind(0), strict=True))
        else:
            rows = self._sums[name]
        zero = torch.zeros_like(next(iter(rows.values())))
        return torch.stack([rows.get(domain, zero) for domain in domains])

    def clear(self) -> None:
        """Forgets everything, for the next optimizer step."""
        self._sums.clear()
        self._stacks.clear()
