"""The one-pass engine: per-domain gradients from one forward and one backward of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from isodistill.errors import IsodistillError
from isodistill.gradients.collector import Collector, Part
from isodistill.gradients.engines.base import Engine
from isodistill.gradients.layers import AdaptedLayer, as_float32


class TapEngine(Engine):
    """Taps each LoRA factor's input and output gradient during the backward, and contracts them by domain.

    A forward hook passes the factor's output through an identity whose backward sees grad_output beside the saved
    input x. Sequences of a batch do not interact in a dense transformer, so the rows of domain d give exactly
    that domain's gradient: gA_d = sum_t (s Bᵀ delta_t) x_tᵀ, gB_d = sum_t (s delta_t) (A x_t)ᵀ,
    G_d = sum_t delta_t x_tᵀ. The input is kept by `save_for_backward`, so that gradient checkpointing, which runs
    the hooks twice, neither counts twice nor pins memory. See docs/method.md.

    Args:
        layers: The adapted layers.
        collector: The receiver.
    """

    name: ClassVar[str] = "tap"
    splits_batches: ClassVar[bool] = True

    def __init__(self, layers: list[AdaptedLayer], collector: Collector) -> None:
        super().__init__(layers, collector)
        self._domains: list[int] | None = None
        self._index: torch.Tensor | None = None
        self._handles = [handle for layer in layers for handle in self._hook(layer)]

    def _hook(self, layer: AdaptedLayer) -> list[Any]:
        if self.collector.space == "factor":
            return [
                submodule.register_forward_hook(self._factor_hook(layer, part))
                for part, submodule in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B))
            ]
        # lora_A's input waits here until lora_B runs, a moment later in the same layer's forward.
        pending: list[torch.Tensor] = []

        def keep_input(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if self._domains is not None and torch.is_grad_enabled():
                pending[:] = [args[0].detach()]

        def tap_output(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            if not pending:
                return None
            x = pending.pop()
            return _IdentityTap.apply(output, x, lambda x, g: self._contract_weight(layer, x, g))

        return [layer.lora_A.register_forward_hook(keep_input), layer.lora_B.register_forward_hook(tap_output)]

    def _factor_hook(self, layer: AdaptedLayer, part: Any) -> Callable[..., torch.Tensor | None]:
        def tap_output(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            if self._domains is None or not torch.is_grad_enabled():
                return None
            x = args[0].detach()
            return _IdentityTap.apply(output, x, lambda x, g: self._contract_factor(layer, part, x, g))

        return tap_output

    def _contract_factor(self, layer: AdaptedLayer, part: Part, x: torch.Tensor, grad_output: torch.Tensor) -> None:
        domains, index = self._current(layer, x)
        x, grad_output = as_float32(x), as_float32(grad_output)
        # One small product for each sequence, then summed by domain: (S, out, T) @ (S, T, in) -> (S, out, in).
        per_sequence = torch.bmm(grad_output.transpose(1, 2), x)
        member = F.one_hot(index, len(domains)).to(per_sequence.dtype)  # (S, K)
        by_domain = (member.T @ per_sequence.flatten(1)).unflatten(1, per_sequence.shape[1:])  # (K, out, in)
        self.collector.add_factor(layer, part, by_domain, domains)

    def _contract_weight(self, layer: AdaptedLayer, x: torch.Tensor, grad_output: torch.Tensor) -> None:
        domains, index = self._current(layer, x)

        def gradients() -> Iterator[torch.Tensor]:
            for position in range(len(domains)):
                rows = (index == position).nonzero().squeeze(1)
                delta = as_float32(grad_output[rows].flatten(0, 1))  # (N_d, d_out), carries s
                tokens = as_float32(x[rows].flatten(0, 1))  # (N_d, d_in)
                yield (delta.T @ tokens).div_(layer.scaling)  # (d_out, d_in)

        self.collector.add_weight(layer, gradients(), domains)

    def _current(self, layer: AdaptedLayer, x: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        if self._domains is None or self._index is None:
            raise IsodistillError(
                f"layer {layer.name}: backward ran after the record block had ended; call loss.backward() inside"
                " `with aligner.record(domain_ids)`"
            )
        if x.ndim != 3 or x.shape[0] != len(self._index):
            raise IsodistillError(
                f"layer {layer.name}: its input has shape {tuple(x.shape)}, not ({len(self._index)}, tokens, features),"
                " so its rows cannot be assigned to domains (packed or flattened batches are not supported)"
            )
        return self._domains, self._index.to(x.device)

    @contextmanager
    def _recording(self, domains: list[int], index: torch.Tensor) -> Iterator[None]:
        self._domains, self._index = domains, index
        try:
            yield
        finally:
            self._domains = self._index = None

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class _IdentityTap(torch.autograd.Function):
    """Passes a tensor through and calls back with (saved input, gradient of the output) in the backward."""

    @staticmethod
    def forward(
        ctx: Any,
        output: torch.Tensor,
        x: torch.Tensor,
        callback: Callable[[torch.Tensor, torch.Tensor], None],
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.callback = callback
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[torch.Tensor, None, None]:
        (grad_output,) = grad_outputs
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            ctx.callback(x, grad_output)
        return grad_output, None, None
