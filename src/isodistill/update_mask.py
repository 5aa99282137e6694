"""The mask on an optimizer's update, for optimizers that would undo a mask on the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from isodistill.gradients.layers import AdaptedLayer, factor_name


def mask_updates(
    optimizer: Optimizer, layers: list[AdaptedLayer], masks: Callable[[], dict[str, torch.Tensor]]
) -> list[RemovableHandle]:
    """Multiplies everything that an optimizer does to a factor in one step, weight decay included, by its mask.

    Args:
        optimizer: The optimizer that holds the factors.
        layers: The adapted layers.
        masks: Gives the present masks by the factors' names, each of its factor's shape; a factor without one is left
            alone.

    Returns:
        The handles of the hooks.
    """
    parameters = {factor_name(layer, part): (layer, part) for layer in layers for part in ("lora_A", "lora_B")}
    masked: list[torch.Tensor] = []
    before: list[torch.Tensor] = []
    weights: list[torch.Tensor] = []

    @torch.no_grad()
    def remember(*_: Any) -> None:
        present = masks()
        names = [name for name in parameters if name in present]
        masked[:] = [layer.factor(part) for layer, part in (parameters[name] for name in names)]
        before[:] = [parameter.clone() for parameter in masked]
        weights[:] = [present[name].to(parameter.dtype) for name, parameter in zip(names, masked, strict=True)]

    @torch.no_grad()
    def mask_update(*_: Any) -> None:
        if masked:  # old + M (new - old), for all factors in two calls
            torch._foreach_lerp_(before, masked, weights)
            torch._foreach_copy_(masked, before)
        for kept in (masked, before, weights):
            kept.clear()

    return [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(mask_update)]
