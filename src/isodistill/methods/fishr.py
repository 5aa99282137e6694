"""Fishr: match the domains' variances of per-sample gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch

from isodistill.errors import IsodistillError
from isodistill.gradients.layers import as_float32
from isodistill.methods.annealing import AnnealedPenalty
from isodistill.methods.base import Choice, Diagnostics, Needs, Range
from isodistill.methods.forward import Forward


class Fishr(AnnealedPenalty):
    """Penalises differences between domains in the variance of the gradients of single samples.

    ::

        v_d = Var over sequences i of domain d of  grad_i        (entrywise, population variance)
        vhat_d = (ema EMA_d + (1 - ema) v_d) / (1 - ema)         (EMA_d is constant; its update is the numerator)
        vbar   = mean_e vhat_e
        objective = mean loss + lambda mean_d sum (vhat_d - vbar)² / (sum vbar² + eps)    (relative, the denominator
                                                                                           without a gradient)
        objective = mean loss + lambda mean_d mean (vhat_d - vbar)²                       (raw: the original)

    The original takes the gradients of the classifier. A language model's head is frozen under LoRA, so the factors
    A and B of the last adapted layer stand in; grad_i is that of sequence i's mean loss. With x the layer's input,
    a = x Aᵀ and delta_t = dl_i / d(a_t Bᵀ): gB_i = sum_t delta_t a_tᵀ and gA_i = sum_t (Bᵀ delta_t) x_tᵀ. Only the
    part between that layer and the loss is differentiated twice. Beside a method that reads per-domain gradients, the
    occurrence of B in gA is lost, because no activation's gradient shows it.

    Source: Rame et al. (arXiv 2109.02934), as in DomainBed's ``Fishr``: no penalty before the annealing ends,
    optimizer state cleared at the switch, ema 0.95. Departures: the penalty is relative to the variances' own size,
    because the gradients of LoRA factors are so small (B starts at zero) that the original's squared variances, 1e-12
    and less on the lab student, do nothing at any weight in its range; lambda is 1 (1000 there, for the raw penalty
    of a classifier's sum-reduced gradients); the switch is a share of the run, and comes at once by default, because a
    short run has learnt a shortcut by then; under gradient accumulation the penalty is the mean over micro-batches.

    Args:
        penalty_weight: lambda.
        anneal_fraction: The share of the run without the penalty; 0.3 is DomainBed's.
        ema: The decay of the averaged variances, in [0, 1).
        scale: ``"relative"`` or ``"raw"``.

    Raises:
        IsodistillError: if an argument is out of range, naming it.
    """

    name: ClassVar[str] = "fishr"
    source: ClassVar[str] = "arXiv 2109.02934"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {"penalty_weight": Range(0.01, 100.0, log=True)}
    """DomainBed's range is 10 to 10,000, for the raw penalty on a classifier's gradients."""
    min_domains: ClassVar[int] = 2
    micro_batch_exact: ClassVar[bool] = False

    def __init__(
        self,
        penalty_weight: float = 1.0,
        anneal_fraction: float = 0.0,
        ema: float = 0.95,
        scale: Literal["relative", "raw"] = "relative",
    ) -> None:
        super().__init__(penalty_weight, anneal_fraction, before=0.0)
        if not 0.0 <= ema < 1.0:
            raise IsodistillError(f"ema={ema} is out of range: give a number in [0, 1)")
        if scale not in ("relative", "raw"):
            raise IsodistillError(f"scale={scale!r} is unknown: choose 'relative' or 'raw'")
        self.ema = ema
        self.scale = scale
        self._averages: dict[int, torch.Tensor] = {}
        self._values: list[float] = []

    @property
    def needs(self) -> Needs:
        """The forward pass through the last adapted layer, and two sequences of a domain for a variance."""
        return Needs(forward=True, last_layer=True, sequences=2)

    def penalty(self, forward: Forward) -> torch.Tensor | None:
        """Returns lambda times the mean over domains of the mean squared difference of the variances."""
        gradients = per_sample_gradients(forward)  # (S, P)
        variances = {}
        for domain in forward.domain_ids.unique().tolist():
            own = gradients[forward.domain_ids == domain]
            if len(own) >= 2:
                variances[domain] = (own - own.mean(0)).square().mean(0)  # (P,)
        smoothed = []
        for domain, variance in variances.items():
            earlier = self._averages.get(domain)
            if earlier is None:
                earlier = torch.zeros_like(variance)
            average = self.ema * earlier.to(variance) + (1.0 - self.ema) * variance
            self._averages[domain] = average.detach()
            smoothed.append(average / (1.0 - self.ema))
        if len(smoothed) < 2:
            return None
        stacked = torch.stack(smoothed)  # (K, P)
        shared = stacked.mean(0)
        value = (stacked - shared).square().mean()
        if self.scale == "relative":
            value = value / shared.detach().square().mean().clamp_min(torch.finfo(shared.dtype).tiny)
        self._values.append(float(value.detach()))
        if self.penalty_weight == 0.0:
            return None
        return self.penalty_weight * value

    def diagnostics(self) -> Diagnostics:
        """Reports the mean penalty before its weight."""
        values, self._values = self._values, []
        return Diagnostics(values={"fishr_penalty": sum(values) / len(values)} if values else {})

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the step count and the averaged variances."""
        averages = {f"average/{domain}": tensor for domain, tensor in self._averages.items()}
        return super().state_dict() | averages

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        super().load_state_dict(state)
        self._averages = {
            int(key.removeprefix("average/")): tensor.clone()
            for key, tensor in state.items()
            if key.startswith("average/")
        }


def per_sample_gradients(forward: Forward) -> torch.Tensor:
    """Computes each sequence's gradient of the last adapted layer's factors, differentiably.

    Args:
        forward: The forward pass, with `last_layer`.

    Returns:
        (S, P): the gradients of sequence i's mean loss in A and B, flattened, with a graph to all parameters.

    Raises:
        IsodistillError: if the forward pass was given without its last layer.
    """
    layer = forward.last_layer
    if layer is None:
        raise IsodistillError("method='fishr' needs the last adapted layer of the forward pass: pass last_layer")
    # The logits are computed anew, because the fused head cannot be differentiated twice.
    index = torch.arange(len(forward.labels), device=forward.labels.device)
    log_p = torch.log_softmax(as_float32(forward.logits_at(index)), -1)
    token_losses = -log_p.gather(1, forward.labels.unsqueeze(1)).squeeze(1)
    lengths = forward.sequence_lengths().clamp_min(1).to(token_losses)
    losses = forward.sequence_sums(token_losses) / lengths  # (S,)
    (delta,) = torch.autograd.grad(losses.sum(), layer.b, create_graph=True)  # (S, T, d_out)
    delta, a, x = as_float32(delta), as_float32(layer.a), as_float32(layer.x)
    grad_b = delta.transpose(1, 2) @ a  # (S, d_out, r)
    grad_a = (delta @ layer.B.to(delta)).transpose(1, 2) @ x  # (S, r, d_in)
    return torch.cat([grad_a.flatten(1), grad_b.flatten(1)], dim=1)
