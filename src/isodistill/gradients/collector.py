"""Where the engines put per-domain gradients: the interface, and the stack that adds up micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import torch

from isodistill.gradients.layers import AdaptedLayer, factor_name

Space = Literal["factor", "weight"]
Part = Literal["lora_A", "lora_B"]
FormGradient = Callable[[float], torch.Tensor]
"""Forms one domain's weight gradient times a number, (d_out, d_in). The receiver may overwrite the result, and must be
done with it before the next one is formed: all of them may share one buffer."""


class Collector(Protocol):
    """What an engine needs to know of the receiver of its gradients.

    Attributes:
        space: ``factor`` for the gradients of A and B, ``weight`` for the dense G = deltaᵀ x.
    """

    space: Space

    def add_factor(self, layer: AdaptedLayer, part: Part, gradients: torch.Tensor, domains: list[int]) -> None:
        """Takes one backward's factor gradients, (len(domains), *factor.shape), one row for each domain."""
        ...

    def add_weight(self, layer: AdaptedLayer, gradients: Iterator[FormGradient], domains: list[int]) -> None:
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

    def add_factor(self, layer: AdaptedLayer, part: Part, gradients: torch.Tensor, domains: list[int]) -> None:
        """Adds factor gradients, (len(domains), *factor.shape)."""
        self._add(factor_name(layer, part), iter(gradients.unbind(0)), domains)

    def add_weight(
        self, layer: AdaptedLayer, gradients: Iterator[FormGradient], domains: list[int], scale: float = 1.0
    ) -> None:
        """Adds weight gradients, each (d_out, d_in), times `scale`."""
        self._add(layer.name, (form(scale) for form in gradients), domains)

    def _add(self, name: str, gradients: Iterator[torch.Tensor], domains: list[int]) -> None:
        sums = self._sums.setdefault(name, {})
        for domain, gradient in zip(domains, gradients, strict=True):
            if domain in sums:
                sums[domain].add_(gradient)
            else:
                sums[domain] = gradient.clone()

    def names(self) -> list[str]:
        """Lists the tensors seen, in the order of their first gradient."""
        return list(self._sums)

    def stacked(self, name: str, domains: list[int]) -> torch.Tensor:
        """Returns one tensor's gradients, (len(domains), ...); a domain that never came gives zeros."""
        sums = self._sums[name]
        zero = torch.zeros_like(next(iter(sums.values())))
        return torch.stack([sums.get(domain, zero) for domain in domains])

    def clear(self) -> None:
        """Forgets everything, for the next optimizer step."""
        self._sums.clear()
