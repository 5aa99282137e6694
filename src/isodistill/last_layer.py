"""Keeps what a penalty reads of the last adapted layer: its factors' inputs and outputs, with their graph."""

from __future__ import annotations

import torch
from torch import nn

from isodistill.gradients.layers import AdaptedLayer
from isodistill.methods import LastLayer


class LastLayerTap:
    """Keeps the last adapted layer's tensors of a forward pass between `start` and `clear`.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: AdaptedLayer) -> None:
        self._layer = layer
        self._on = False
        self._a: tuple[torch.Tensor, torch.Tensor] | None = None
        self._b: torch.Tensor | None = None

        # Gradient checkpointing runs the hooks again in the backward: the first run's tensors are the graph's own.
        def keep_a(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if self._on and torch.is_grad_enabled() and self._a is None:
                self._a = (args[0], output)

        def keep_b(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if self._on and torch.is_grad_enabled() and self._b is None:
                self._b = output

        self._handles = [layer.lora_A.register_forward_hook(keep_a), layer.lora_B.register_forward_hook(keep_b)]

    def start(self) -> None:
        """Keeps the next forward pass."""
        self._on = True

    def read(self) -> LastLayer | None:
        """Returns the tensors of the pass, or ``None`` before it."""
        if self._a is None or self._b is None:
            return None
        return LastLayer(self._a[0], self._a[1], self._b, self._layer.B)

    def clear(self) -> None:
        """Lets go of the tensors, and of the graph that hangs on them."""
        self._on = False
        self._a = self._b = None

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
