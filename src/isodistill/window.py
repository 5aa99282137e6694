"""One optimizer step's window of micro-batches: what was recorded, summed over processes and combined."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from isodistill.errors import IsodistillError
from isodistill.gradients.buckets import pack
from isodistill.gradients.collector import GradientStack, Part
from isodistill.gradients.collector import Space as EngineSpace
from isodistill.gradients.layers import AdaptedLayer, factor_name
from isodistill.gradients.lazy import DenseGradient, ScaledGradient, WeightGradient
from isodistill.methods import Method, Window

DENSE_SUMS_WARNED_OF = 8 * 2**30
"""Bytes of dense per-domain sums (K matrices for each adapted layer) that a window warns of."""


def num_processes() -> int:
    """Counts the processes of the default group; 1 outside of a distributed run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class WindowCollector:
    """Receives the engine's gradients for one optimizer step, and combines them: at once, or at its end.

    What an engine delivers for domain d is (sum over its loss items) / scale; times scale / n_d it is the gradient
    of the domain's mean loss. Sums, items and losses are added up over all processes before anything that is not
    linear happens, so each process arrives at the same gradient.

    Args:
        method: Combines the gradients.
        penalty: Weighs the domains too, or ``None``.
        layers: The adapted layers.
        uniform: Whether w_d is 1/K instead of the domain's share of the loss items.
        streams: Whether weight gradients are combined inside the backward, layer by layer.
    """

    def __init__(
        self, method: Method, penalty: Method | None, layers: list[AdaptedLayer], uniform: bool, streams: bool
    ) -> None:
        self.method = method
        self.penalty = penalty
        self.layers = {layer.name: layer for layer in layers}
        self.uniform = uniform
        self.streams = streams
        space = method.needs.gradients
        if space == "none" and penalty is not None:
            space = penalty.needs.gradients
        self.space: EngineSpace = "weight" if space == "weight" else "factor"
        self.scale = 1.0
        self.step = 0
        self.items: dict[int, float] = {}
        self.losses: dict[int, float] = {}
        self.masks: dict[str, torch.Tensor] = {}
        self._stack = GradientStack(self.space)
        self._aligned: dict[str, torch.Tensor] = {}
        self._window: Window | None = None
        self._scales: list[float] = []
        self._warned = False

    def add_factor(self, layer: AdaptedLayer, part: Part, gradients: torch.Tensor, domains: list[int]) -> None:
        """Takes factor gradients (see `isodistill.gradients.collector.Collector`)."""
        self._stack.add_factor(layer, part, gradients, domains, self.scale)

    def add_weight(self, layer: AdaptedLayer, gradients: Iterator[WeightGradient], domains: list[int]) -> None:
        """Takes weight gradients (see `isodistill.gradients.collector.Collector`)."""
        if not self.streams:
            self._warn_of_dense_sums(len(domains))
            self._stack.add_weight(layer, gradients, domains, self.scale)
            return
        if factor_name(layer, "lora_A") in self._aligned:
            raise IsodistillError(
                f"layer {layer.name} ran twice in one backward, which weight space cannot stream: use"
                " mask_space='factor'"
            )
        window = self.open_window()
        scales = dict(zip(window.domains, self._scales, strict=True))
        present = (
            ScaledGradient(gradient, self.scale / self.items[domain] * scales[domain])
            for gradient, domain in zip(gradients, domains, strict=True)
            if domain in scales
        )
        self._align_weight(layer, present, window)

    def _warn_of_dense_sums(self, num_domains: int) -> None:
        """Says once what summing dense gradients over micro-batches or processes takes, at the first one."""
        entries = sum(layer.A.shape[1] * layer.B.shape[0] for layer in self.layers.values())
        size = 4 * num_domains * entries
        if size > DENSE_SUMS_WARNED_OF and not self._warned:
            warnings.warn(
                f"over micro-batches or processes the weight space of method={self.method.name!r} keeps a dense sum for"
                f" each of {num_domains} domains and {len(self.layers)} layers, {size / 2**30:.1f} GiB: use one"
                " micro-batch a step on one process, where it streams, or a space without dense gradients, such as"
                " mask_space='factor'",
                stacklevel=2,
            )
        self._warned = True

    def open_window(self) -> Window:
        """Fixes domains, weights, losses and scales, once for a step."""
        if self._window is None:
            domains = sorted(domain for domain, items in self.items.items() if items > 0)
            total = sum(self.items[domain] for domain in domains)
            weights = [1.0 / len(domains) if self.uniform else self.items[domain] / total for domain in domains]
            losses = [self.losses[d] / self.items[d] for d in domains] if self.losses else []
            self._window = Window(domains, weights, losses, self.step)
            self._scales = [1.0] * len(domains)
            for part in (self.method, self.penalty):
                if part is None:
                    continue
                if part.needs.losses and not losses:
                    raise IsodistillError(
                        f"method={part.name!r} needs the domains' losses: compute the loss with aligner.objective"
                    )
                factors = part.domain_scales(self._window)
                if factors is not None:
                    self._scales = [s * factor for s, factor in zip(self._scales, factors, strict=True)]
        return self._window

    def _align_weight(self, layer: AdaptedLayer, means: Iterator[WeightGradient], window: Window) -> None:
        if self.method.needs.thin_products:
            grad_a, grad_b = self.method.align_products(layer, list(means), window)
        else:
            grad_a, grad_b = self.method.align_weight(layer, (mean.dense(1.0) for mean in means), window)
        self._aligned[factor_name(layer, "lora_A")] = grad_a
        self._aligned[factor_name(layer, "lora_B")] = grad_b

    def finish(self) -> dict[str, torch.Tensor]:
        """Combines what was added up.

        Returns:
            The gradient of each factor by name; none if nothing was recorded.
        """
        if num_processes() > 1:
            self._sum_over_processes()
        window = self.open_window()
        if self.space == "weight":
            for name in self._names():
                stacked = self._reduced(name, window.domains)
                means = (
                    DenseGradient(gradient.mul_(scale / self.items[domain]))
                    for gradient, domain, scale in zip(stacked, window.domains, self._scales, strict=True)
                )
                self._align_weight(self.layers[name], means, window)
        elif self._names():
            gradients = pack((name, self._stack.stacked(name, window.domains)) for name in self._names())
            factors = [scale / self.items[d] for d, scale in zip(window.domains, self._scales, strict=True)]
            for bucket in gradients.buckets:
                if num_processes() > 1:
                    dist.all_reduce(bucket.values)
                bucket.values.mul_(bucket.values.new_tensor(factors).unsqueeze(1))
            self._aligned, self.masks = self.method.align_factors(gradients, window)
        return self._aligned

    def _names(self) -> list[str]:
        # The order of the backward may differ between processes in theory; collectives must not.
        return sorted(self._stack.names()) if num_processes() > 1 else self._stack.names()

    def _reduced(self, name: str, domains: list[int]) -> torch.Tensor:
        stacked = self._stack.stacked(name, domains)
        if num_processes() > 1:
            dist.all_reduce(stacked)
        return stacked

    def _sum_over_processes(self) -> None:
        gathered: list[Any] = [None] * num_processes()
        dist.all_gather_object(gathered, (self.items, self.losses))
        self.items, self.losses = {}, {}
        for items, losses in gathered:
            for domain, count in items.items():
                self.items[domain] = self.items.get(domain, 0.0) + count
            for domain, loss in losses.items():
                self.losses[domain] = self.losses.get(domain, 0.0) + loss

    def clear(self) -> None:
        """Forgets the window."""
        self._stack.clear()
        self._aligned = {}
        self._window = None
        self.items = {}
        self.losses = {}
