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
from isodistill.gradients.lazy import TokenGradient
from isodistill.gradients.workspace import Workspace


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
        self._order: torch.Tensor | None = None
        self._counts: list[int] = []
        self._member: dict[tuple[torch.dtype, torch.device], torch.Tensor] = {}
        self._workspace = Workspace()
        # An input that needs a gradient, so that a tap is called even where nothing below it needs one.
        self._anchor = torch.zeros((), requires_grad=True)
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
            return _IdentityTap.apply(output, x, lambda x, g: self._contract_weight(layer, x, g), self._anchor)

        return [layer.lora_A.register_forward_hook(keep_input), layer.lora_B.register_forward_hook(tap_output)]

    def _factor_hook(self, layer: AdaptedLayer, part: Any) -> Callable[..., torch.Tensor | None]:
        def tap_output(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            if self._domains is None or not torch.is_grad_enabled():
                return None
            x = args[0].detach()
            return _IdentityTap.apply(output, x, lambda x, g: self._contract_factor(layer, part, x, g), self._anchor)

        return tap_output

    def _contract_factor(self, layer: AdaptedLayer, part: Part, x: torch.Tensor, grad_output: torch.Tensor) -> None:
        domains, index = self._current(layer, x)
        x, grad_output = as_float32(x), as_float32(grad_output)
        # One small product for each sequence, then summed by domain. A factor is r wide on one side, and BLAS is
        # several times faster where that side comes first: (S, r, T) @ (S, T, wide) -> (S, r, wide).
        turned = grad_output.shape[2] > x.shape[2]
        narrow, wide = (x, grad_output) if turned else (grad_output, x)
        per_sequence = torch.bmm(narrow.transpose(1, 2), wide)
        by_domain = self._members(index, per_sequence) @ per_sequence.flatten(1)
        by_domain = by_domain.unflatten(1, per_sequence.shape[1:])  # (K, r, wide)
        self.collector.add_factor(layer, part, by_domain.transpose(1, 2) if turned else by_domain, domains)

    def _members(self, index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Says which domain a sequence belongs to, (K, S) of zeros and ones in the dtype of `like`."""
        key = like.dtype, like.device
        if key not in self._member:
            assert self._domains is not None  # _current has seen to it
            self._member[key] = F.one_hot(index, len(self._domains)).T.to(like.dtype)
        return self._member[key]

    def _contract_weight(self, layer: AdaptedLayer, x: torch.Tensor, grad_output: torch.Tensor) -> None:
        domains, _ = self._current(layer, x)
        tokens, deltas = self._by_domain(x), self._by_domain(grad_output)  # (N_d, d_in), (N_d, d_out), which carries s
        pairs = zip(deltas, tokens, strict=True)
        gradients = (TokenGradient(delta, token, 1.0 / layer.scaling, self._workspace) for delta, token in pairs)
        self.collector.add_weight(layer, gradients, domains)

    def _by_domain(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Cuts (batch, length, features) into the domains' tokens, K tensors (N_d, features), padding left out."""
        assert self._index is not None  # _current has seen to it
        if self._order is None:
            self._sort(torch.ones(values.shape[:2], dtype=torch.bool))
        assert self._order is not None
        rows = values.flatten(0, 1)
        self._order = self._order.to(rows.device)  # once a block, unless the layers lie on several devices
        return as_float32(rows[self._order]).split(self._counts)

    def _sort(self, tokens: torch.Tensor) -> None:
        """Lists the positions of a flattened batch domain by domain; `tokens` (batch, length) says which count."""
        assert self._index is not None
        assert self._domains is not None
        keep = tokens.bool().cpu()
        owner = self._index.cpu().unsqueeze(1).expand_as(keep)[keep]  # (N,)
        places = keep.flatten().nonzero().squeeze(1)
        self._order = places[owner.argsort(stable=True)]
        self._counts = owner.bincount(minlength=len(self._domains)).tolist()

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
    def _recording(self, domains: list[int], index: torch.Tensor, tokens: torch.Tensor | None) -> Iterator[None]:
        self._domains, self._index = domains, index
        if tokens is not None and self.collector.space == "weight":
            self._sort(tokens)
        factors = [layer.factor(part) for layer in self.layers for part in ("lora_A", "lora_B")]
        frozen = factors if self.replaces_autograd else []
        for factor in frozen:
            factor.requires_grad_(False)
        try:
            yield
        finally:
            for factor in frozen:
                factor.requires_grad_(True)
            self._domains = self._index = self._order = None
            self._member.clear()

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class _IdentityTap(torch.autograd.Function):
    """Passes a tensor through and calls back with (saved input, gradient of the output) in the backward.

    The last argument only makes the result need a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        output: torch.Tensor,
        x: torch.Tensor,
        callback: Callable[[torch.Tensor, torch.Tensor], None],
        anchor: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.callback = callback
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[torch.Tensor, None, None, None]:
        (grad_output,) = grad_outputs
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            ctx.callback(x, grad_output)
        return grad_output, None, None, None
