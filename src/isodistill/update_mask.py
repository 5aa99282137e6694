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
    before: dict[str, torch.Tensor] = {}
    parameters = {factor_name(layer, part): (layer, part) for layer in layers for part in ("lora_A", "lora_B")}

    def remember(*_: Any) -> None:
        before.clear()
        for name in parameters.keys() & masks().keys():
            layer, part = parameters[name]
            before[name] = layer.factor(part).detach().clone()

    @torch.no_grad()
    def mask_update(*_: Any) -> None:
        for name, old in before.items():
            layer, part = parameters[name]
            parameter = layer.factor(part)
            update = (parameter - old).mul_(masks()[name].to(parameter.dtype))
            parameter.copy_(old.add_(update))
        before.clear()

    return [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(mask_update)]
