"""Finds the LoRA-adapted linear layers of a PEFT model, and refuses what cannot be aligned right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from isodistill.errors import IsodistillError


@dataclass(frozen=True)
class AdaptedLayer:
    """One linear layer under LoRA: y = x W0ᵀ + s (dropout(x) Aᵀ) Bᵀ.

    The parameters are looked up on every access, never cached: PEFT may swap or cast them.

    Attributes:
        name: The layer's path inside the base model, for example ``model.layers.3.mlp.up_proj``.
        module: PEFT's LoRA layer.
        adapter: The name of its trainable adapter.
    """

    name: str
    module: Any
    adapter: str

    @property
    def lora_A(self) -> nn.Linear:
        """The submodule that holds A, weight (r, d_in)."""
        return self.module.lora_A[self.adapter]

    @property
    def lora_B(self) -> nn.Linear:
        """The submodule that holds B, weight (d_out, r)."""
        return self.module.lora_B[self.adapter]

    @property
    def A(self) -> nn.Parameter:
        """The down-projection, (r, d_in)."""
        return cast(nn.Parameter, self.lora_A.weight)

    @property
    def B(self) -> nn.Parameter:
        """The up-projection, (d_out, r)."""
        return cast(nn.Parameter, self.lora_B.weight)

    @property
    def scaling(self) -> float:
        """The scale s: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        return float(self.module.scaling[self.adapter])

    def factor(self, part: str) -> nn.Parameter:
        """Returns the factor named ``"lora_A"`` or ``"lora_B"``."""
        return self.A if part == "lora_A" else self.B


def find_adapted_layers(model: nn.Module) -> list[AdaptedLayer]:
    """Lists the adapted layers of a PEFT model in module order.

    Args:
        model: A `PeftModel` (or a model with injected LoRA layers) with exactly one trainable LoRA adapter.

    Returns:
        One `AdaptedLayer` for each LoRA-adapted linear layer.

    Raises:
        IsodistillError: if there is no LoRA layer, or if a trainable parameter or an adapter option exists
            whose per-domain gradients would be wrong or missing; the message names the layer and the option.
    """
    layers: list[AdaptedLayer] = []
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer):
            name = path.removeprefix("base_model.model.")
            layers += [AdaptedLayer(name, module, adapter) for adapter in _trainable_adapters(name, module)]
    if not layers:
        raise IsodistillError(
            "the model has no trainable LoRA layer: wrap it with peft.get_peft_model(model, LoraConfig(...)) or pass"
            " peft_config"
        )
    _refuse_several_adapters(layers)
    _refuse_other_trainables(model, layers)
    return layers


def _trainable_adapters(name: str, module: Any) -> list[str]:
    kind = type(module).__name__
    if kind == "ParamWrapper":
        raise IsodistillError(
            f"layer {name}: LoRA on bare parameters (target_parameters) is not supported; adapt linear layers only"
        )
    if len(module.lora_embedding_A):
        raise IsodistillError(f"layer {name}: LoRA on an embedding is not supported; leave it out of target_modules")
    found = []
    for adapter in module.active_adapters:
        if adapter not in module.lora_A:
            continue
        lora_a, lora_b = module.lora_A[adapter], module.lora_B[adapter]
        if not (isinstance(lora_a, nn.Linear) and isinstance(lora_b, nn.Linear)) or "Multihead" in kind:
            raise IsodistillError(f"layer {name}: LoRA on {kind} is not supported; adapt linear layers only")
        if adapter in module.lora_variant:
            variant = type(module.lora_variant[adapter]).__name__
            option = "use_dora=True" if "dora" in variant.lower() else f"the LoRA variant {variant}"
            raise IsodistillError(
                f"layer {name}: {option} changes the layer's gradient and is not supported; use plain LoRA or rsLoRA"
            )
        if module.lora_bias.get(adapter):
            raise IsodistillError(f"layer {name}: lora_bias=True is not supported; set lora_bias=False")
        if module.merged:
            raise IsodistillError(f"layer {name}: the adapter is merged; call model.unmerge_adapter() before training")
        if lora_a.weight.requires_grad and lora_b.weight.requires_grad:
            found.append(adapter)
    return found


def _refuse_several_adapters(layers: list[AdaptedLayer]) -> None:
    adapters = sorted({layer.adapter for layer in layers})
    if len(adapters) > 1:
        raise IsodistillError(
            f"several adapters are trainable ({', '.join(adapters)}): activate the one to train with model.set_adapter"
        )
    shared = [name for name, count in Counter(id(layer.A) for layer in layers).items() if count > 1]
    if shared:
        raise IsodistillError("some LoRA layers share one factor (tied adapters), which is not supported")


def _refuse_other_trainables(model: nn.Module, layers: list[AdaptedLayer]) -> None:
    known = {id(p) for layer in layers for p in (layer.A, layer.B)}
    for path, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in known:
            option = "modules_to_save" if "modules_to_save" in path else "a trainable parameter outside LoRA"
            raise IsodistillError(
                f"parameter {path} is trainable through {option}: only LoRA factors can be aligned, so freeze it or"
                " remove it from the PEFT configuration"
            )


def factor_name(layer: AdaptedLayer, part: str) -> str:
    """Names a LoRA factor, for example ``model.layers.3.mlp.up_proj.lora_A``."""
    return f"{layer.name}.{part}"


def as_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the tensor in at least fp32, for accumulation (float64 stays float64)."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
