"""A toy student under LoRA in pure fp64, and what the references of the methods' tests share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import nn

from isodistill.aligner import GradientAligner
from isodistill.methods import Forward

sys.path.append(str(Path(__file__).parents[1] / "gradients"))
from gradient_helpers import VOCABULARY, Batch, factor_gradients, make_batch, relative_error, tiny_llama

Gradients = dict[str, torch.Tensor]


class ToyStudent(nn.Module):
    """Causal, smooth and without a cast anywhere: it can be differentiated twice, exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.mix = nn.Linear(8, 10)
        self.last = nn.Linear(10, 6)
        self.head = nn.Linear(6, VOCABULARY)

    def forward(self, ids: torch.Tensor, attention: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shown = attention.unsqueeze(-1).to(self.embed.weight.dtype)
        seen = (self.embed(ids) * shown).cumsum(1) / shown.cumsum(1).clamp_min(1.0)
        hidden = torch.tanh(self.last(torch.tanh(self.mix(seen + self.embed(ids)))))
        return self.head(hidden), hidden


def toy_student(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = get_peft_model(ToyStudent(), LoraConfig(r=3, lora_alpha=6, target_modules=["mix", "last"]))
    model = model.to(torch.float64)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.5)
    return model


def factors(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def gradient(value: torch.Tensor, model: nn.Module, create_graph: bool = False) -> Gradients:
    """Plain autograd."""
    found = torch.autograd.grad(
        value, list(factors(model).values()), retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(factors(model).items(), found, strict=True)
    }


def logits_of(model: nn.Module, batch: Batch) -> torch.Tensor:
    return model(batch.ids, batch.attention)[0]


def token_losses(model: nn.Module, batch: Batch) -> torch.Tensor:
    """(S, T - 1), zero where there is no label."""
    logits = logits_of(model, batch)[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), batch.labels[:, 1:], ignore_index=-100, reduction="none")


def mean_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return token_losses(model, batch).sum() / batch.total


def domain_losses(model: nn.Module, batch: Batch) -> list[torch.Tensor]:
    return [mean_loss(model, part) for part in batch.domain_batches()]


def shares(batch: Batch, weighting: str = "tokens") -> list[float]:
    parts = batch.domain_batches()
    return [1.0 / len(parts) if weighting == "uniform" else part.total / batch.total for part in parts]


def summed(weights: list[float], gradients: list[Gradients]) -> Gradients:
    return {name: sum(w * g[name] for w, g in zip(weights, gradients, strict=True)) for name in gradients[0]}


def view(model: nn.Module, batch: Batch, set_ids: torch.Tensor | None = None) -> Forward:
    logits, hidden = model(batch.ids, batch.attention)
    return Forward.from_logits(logits, batch.labels, batch.domains, set_ids, hidden=hidden)


def closure_of(model: nn.Module, batch: Batch, visits: list[int] | None = None) -> Callable[[int], None]:
    def closure(domain: int) -> None:
        if visits is not None:
            visits.append(domain)
        mean_loss(model, batch.rows(batch.domains == domain)).backward()

    return closure


def take_step(
    aligner: GradientAligner, model: nn.Module, batch: Batch, set_ids: torch.Tensor | None = None
) -> Gradients:
    """One step as a training loop of one's own makes it; returns what it left in ``.grad``."""
    model.zero_grad()
    if aligner.replays:
        with aligner.record(batch.domains, batch.items):
            pass
        aligner.step(closure_of(model, batch))
        return factor_gradients(model)
    inputs = {"input_ids": batch.ids, "attention_mask": batch.attention, "labels": batch.labels}
    inputs = aligner.augment(inputs)
    shown = Batch(inputs["input_ids"], inputs["attention_mask"], inputs["labels"], batch.domains)
    with aligner.record(batch.domains, batch.items):
        aligner.objective(view(model, shown, set_ids)).backward()
    aligner.step()
    return factor_gradients(model)


__all__ = [
    "Batch",
    "closure_of",
    "domain_losses",
    "factor_gradients",
    "factors",
    "gradient",
    "logits_of",
    "make_batch",
    "mean_loss",
    "relative_error",
    "shares",
    "summed",
    "take_step",
    "tiny_llama",
    "token_losses",
    "toy_student",
    "view",
]
