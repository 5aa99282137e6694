"""The reference engine: one backward for each domain, gradients read from autograd itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from isodistill.errors import IsodistillError
from isodistill.gradients.engines.base import Engine
from isodistill.gradients.layers import AdaptedLayer, as_float32
from isodistill.gradients.lazy import DenseGradient


class LoopEngine(Engine):
    """Reads the gradients that autograd computes for a batch of one domain.

    Each `record` block must hold one domain only; the trainer and the tests loop over the domains' sub-batches.
    Factor gradients are what the block adds to ``.grad``. For weight space a zero matrix D is added to every layer,
    y += s D dropout(x): its gradient, divided by s, is G. It works with every option that autograd works with and
    needs no contraction of ours, so it is the correctness oracle; it costs K small passes, and in weight space a
    dense matrix for each layer.
    """

    name: ClassVar[str] = "loop"
    splits_batches: ClassVar[bool] = False

    @contextmanager
    def _recording(self, domains: list[int], index: torch.Tensor, tokens: torch.Tensor | None) -> Iterator[None]:
        if len(domains) != 1:
            raise IsodistillError(
                f"engine='loop' takes one domain in each record block and got {len(domains)}: run forward and backward"
                " for each domain's rows, or use engine='tap'"
            )
        if self.collector.space == "factor":
            with self._factor_block(domains):
                yield
        else:
            with self._weight_block(domains):
                yield

    @contextmanager
    def _factor_block(self, domains: list[int]) -> Iterator[None]:
        parameters = [(layer, part, layer.factor(part)) for layer in self.layers for part in ("lora_A", "lora_B")]
        before = [parameter.grad for _, _, parameter in parameters]
        for _, _, parameter in parameters:
            parameter.grad = None
        try:
            yield
        except BaseException:
            for (_, _, parameter), earlier in zip(parameters, before, strict=True):
                parameter.grad = earlier
            raise
        for (layer, part, parameter), earlier in zip(parameters, before, strict=True):
            gradient = parameter.grad
            if gradient is not None:
                self.collector.add_factor(layer, part, as_float32(gradient).unsqueeze(0), domains)  # type: ignore[arg-type]
                parameter.grad = gradient if earlier is None else earlier.add_(gradient)
            else:
                parameter.grad = earlier

    @contextmanager
    def _weight_block(self, domains: list[int]) -> Iterator[None]:
        with ExitStack() as stack:
            probes = [(layer, self._add_probe(layer, stack)) for layer in self.layers]
            yield
            for layer, probe in probes:
                if probe.grad is not None:
                    gradient = as_float32(probe.grad).div_(layer.scaling)
                    self.collector.add_weight(layer, iter([DenseGradient(gradient)]), domains)
                    probe.grad = None

    @staticmethod
    def _add_probe(layer: AdaptedLayer, stack: ExitStack) -> torch.Tensor:
        d_out, d_in = layer.B.shape[0], layer.A.shape[1]
        probe = torch.zeros(d_out, d_in, dtype=layer.A.dtype, device=layer.A.device, requires_grad=True)
        pending: list[torch.Tensor] = []

        def keep_input(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            pending[:] = [args[0]]

        def add_probe(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
            return output + F.linear(pending.pop(), probe)

        for handle in (
            layer.lora_A.register_forward_hook(keep_input),
            layer.lora_B.register_forward_hook(add_probe),
        ):
            stack.callback(handle.remove)
        return probe

    def close(self) -> None:
        """Does nothing: the hooks live only inside `record`."""
