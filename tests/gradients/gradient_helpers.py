"""A tiny Llama under LoRA, batches with padding and unequal domains, and plain-autograd references."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from isodistill.aligner import GradientAligner

VOCABULARY = 50


def tiny_llama(dtype: torch.dtype = torch.float32, checkpointing: bool = False, **lora) -> nn.Module:
    """Grouped-query attention (k and v narrower than q) and an MLP give five shapes of adapted layer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | lora
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(**options)).to(dtype)
    # PEFT starts B at zero, where the gradient of A vanishes and half of every comparison would be empty.
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


@dataclass(frozen=True)
class Batch:
    ids: torch.Tensor
    attention: torch.Tensor
    labels: torch.Tensor
    domains: torch.Tensor

    @property
    def items(self) -> torch.Tensor:
        return (self.labels[:, 1:] != -100).sum(1)

    @property
    def total(self) -> float:
        return float(self.items.sum())

    def rows(self, selection: torch.Tensor | slice) -> Batch:
        return Batch(self.ids[selection], self.attention[selection], self.labels[selection], self.domains[selection])

    def relabelled(self, mapping: list[int]) -> Batch:
        return Batch(self.ids, self.attention, self.labels, torch.tensor(mapping)[self.domains])

    def domain_batches(self) -> list[Batch]:
        return [self.rows(self.domains == domain) for domain in self.domains.unique().tolist()]


def make_batch(domains: tuple[int, ...] = (0, 1, 2, 3, 3, 2, 1, 0, 0), seed: int = 0, length: int = 11) -> Batch:
    """Right-padded sequences of unequal length; prompt and padding carry the label -100."""
    generator = torch.Generator().manual_seed(seed)
    size = len(domains)
    ids = torch.randint(0, VOCABULARY, (size, length), generator=generator)
    ends = torch.randint(length - 4, length + 1, (size, 1), generator=generator)
    starts = torch.randint(1, 5, (size, 1), generator=generator)
    position = torch.arange(length)
    labels = ids.masked_fill((position >= ends) | (position < starts), -100)
    return Batch(ids, (position < ends).long(), labels, torch.tensor(domains))


def loss_of(model: nn.Module, batch: Batch, normalizer: float | None = None, scale: float = 1.0) -> torch.Tensor:
    logits = model(input_ids=batch.ids, attention_mask=batch.attention).logits[:, :-1]
    targets = batch.labels[:, 1:]
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return scale * total / (batch.total if normalizer is None else normalizer)


def factor_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain_gradients(model: nn.Module, batch: Batch, scale: float = 1.0) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss_of(model, batch, scale=scale).backward()
    gradients = factor_gradients(model)
    model.zero_grad()
    return gradients


def backward(aligner: GradientAligner, model: nn.Module, batch: Batch, scale: float = 1.0) -> None:
    """Runs the record blocks of one batch as the aligner's engine wants them."""
    engine = aligner.engine
    parts = [batch] if engine is None or engine.splits_batches else batch.domain_batches()
    for part in parts:
        with aligner.record(part.domains, part.items, batch.total):
            loss_of(model, part, batch.total, scale).backward()


def aligned_gradients(model: nn.Module, batch: Batch, scale: float = 1.0, **options) -> dict[str, torch.Tensor]:
    """One aligned step on a fresh aligner, as gradients by parameter name; the mask acts on the gradient."""
    options = {"mask_stage": "gradient"} | options
    model.zero_grad()
    aligner = GradientAligner(model, **options)
    try:
        backward(aligner, model, batch, scale)
        aligner.step()
    finally:
        aligner.close()
    gradients = factor_gradients(model)
    model.zero_grad()
    return gradients


def relative_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest relative Frobenius error over the tensors, which must have the same names."""
    assert found.keys() == expected.keys()
    assert expected
    return max(float((found[k] - expected[k]).norm() / expected[k].norm()) for k in expected)
