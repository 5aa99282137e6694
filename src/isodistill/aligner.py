"""Gradient alignment for a training loop of your own: record, step, then the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from isodistill.errors import IsodistillError
from isodistill.gradients.collector import GradientStack, Part, Space
from isodistill.gradients.engines import engine_class
from isodistill.gradients.layers import AdaptedLayer, factor_name, find_adapted_layers
from isodistill.methods import Diagnostics, Method, build_method

DomainWeighting = Literal["tokens", "uniform"]


class GradientAligner:
    """Replaces the gradients of a LoRA model by the aligned ones, between backward and optimizer step.

    ::

        aligner = GradientAligner(model, method="iga", mask_space="weight", tau=3.0, projection_rank=None)
        for batch in loader:
            with aligner.record(batch["domain_ids"]):
                loss_of(model, batch).backward()
            aligner.step()
            optimizer.step()
            optimizer.zero_grad()

    With ``mask_stage="update"`` (the default in factor space) call `attach_optimizer` once, because the mask then
    multiplies the optimizer's update.

    Args:
        model: A PEFT model with one trainable LoRA adapter.
        method: A name in `isodistill.methods.METHODS`, or a `Method` object.
        engine: ``tap`` (one backward for the whole batch) or ``loop`` (one `record` block for each domain).
        domain_weighting: w_d = domain d's share of the loss items (``tokens``: tau = 0 is plain training), or 1/K
            (``uniform``).
        accumulation_steps: How many `record` blocks make one optimizer step. With one, weight space streams: each
            layer's dense gradients are formed, aligned and freed inside the backward. With more, they are added up
            first, which is exact and holds K dense copies of every adapted weight.
        **options: The method's own arguments (see `isodistill.methods.IGA`).

    Raises:
        IsodistillError: if the model cannot be aligned right (see `find_adapted_layers`), or an option is wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str | Method = "iga",
        *,
        engine: str = "tap",
        domain_weighting: DomainWeighting = "tokens",
        accumulation_steps: int = 1,
        **options: Any,
    ) -> None:
        if domain_weighting not in ("tokens", "uniform"):
            raise IsodistillError(f"domain_weighting={domain_weighting!r} is unknown: choose 'tokens' or 'uniform'")
        self.method = build_method(method, **options)
        self.domain_weighting = domain_weighting
        self.accumulation_steps = accumulation_steps
        self.layers = find_adapted_layers(model)
        self.engine = None
        self._collector: _WindowCollector | None = None
        if self.method.needs != "nothing":
            self._collector = _WindowCollector(self)
            self.engine = engine_class(engine)(self.layers, self._collector)
        else:
            engine_class(engine)
        self._masks: dict[str, torch.Tensor] = {}
        self._hooks: list[Any] = []
        self._records = 0
        self._items: dict[int, float] = {}

    @contextmanager
    def record(
        self,
        domain_ids: torch.Tensor,
        num_items: torch.Tensor | None = None,
        normalizer: float | None = None,
    ) -> Iterator[None]:
        """Records the per-domain gradients of the forward and backward passes inside the block.

        Args:
            domain_ids: The domain of each sequence, (batch,), integers from 0.
            num_items: How many loss items each sequence brings, (batch,), for example its label tokens; ``None``
                means one each, for a loss that is a mean over sequences of equal weight.
            normalizer: What the loss's sum over items was divided by; ``None`` means the items of this block (a
                mean), which is right for a mean over the batch, and for each domain's own mean in the loop engine.

        Yields:
            Nothing.

        Raises:
            IsodistillError: if the shapes do not fit, or if more blocks come than `accumulation_steps`. If the block
                itself raises, everything recorded since the last `step` is discarded.
        """
        if domain_ids.ndim != 1 or domain_ids.is_floating_point():
            raise IsodistillError(f"domain_ids must be integers of shape (batch,), not {tuple(domain_ids.shape)}")
        items = torch.ones_like(domain_ids) if num_items is None else num_items
        if items.shape != domain_ids.shape:
            raise IsodistillError(
                f"num_items has shape {tuple(items.shape)}, domain_ids {tuple(domain_ids.shape)}: give one for each"
            )
        if self.engine is None or self._collector is None:
            yield
            return
        blocks = self.accumulation_steps * (1 if self.engine.splits_batches else 10**9)
        if self._records >= blocks:
            raise IsodistillError(
                f"record was entered {self._records + 1} times before step: set accumulation_steps to the number of"
                " record blocks in one optimizer step"
            )
        self._records += 1
        counts: dict[int, float] = {}
        for domain, count in zip(domain_ids.tolist(), items.tolist(), strict=True):
            counts[domain] = counts.get(domain, 0.0) + count
        for domain, count in counts.items():
            self._items[domain] = self._items.get(domain, 0.0) + count
        self._collector.scale = float(sum(counts.values()) if normalizer is None else normalizer)
        try:
            with self.engine.record(domain_ids):
                yield
        except BaseException:
            # A block that failed half-way left part of its gradients: the caller may repeat the whole window.
            self._clear_window()
            raise

    def step(self) -> Diagnostics:
        """Writes the aligned gradients to ``.grad`` and closes the window of micro-batches.

        Returns:
            The step's diagnostics.

        Raises:
            IsodistillError: if nothing was recorded, or if the mask is for the optimizer's update and no optimizer
                was attached.
        """
        if self._collector is None:
            return self.method.diagnostics()
        if self.method.masks_update and not self._hooks:
            raise IsodistillError(
                "mask_stage='update' multiplies the optimizer's update: call aligner.attach_optimizer(optimizer) once"
                " before training, or set mask_stage='gradient'"
            )
        gradients = self._collector.finish()
        if not gradients:
            raise IsodistillError(
                "no per-domain gradient was recorded: run forward and backward inside `with aligner.record(domain_ids)`"
            )
        for layer in self.layers:
            for part in ("lora_A", "lora_B"):
                gradient = gradients.get(factor_name(layer, part))
                parameter = layer.factor(part)
                parameter.grad = None if gradient is None else gradient.to(parameter.dtype)
        self._clear_window()
        return self.method.diagnostics()

    def attach_optimizer(self, optimizer: Optimizer) -> None:
        """Lets the mask multiply the optimizer's updates (needed for ``mask_stage="update"``, harmless otherwise).

        The update that is masked is everything the optimizer does to a factor in one step, weight decay included.

        Args:
            optimizer: The torch optimizer that holds the LoRA factors.
        """
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if not self.method.masks_update:
            return
        before: dict[str, torch.Tensor] = {}

        def remember(*_: Any) -> None:
            before.clear()
            for layer in self.layers:
                for part in ("lora_A", "lora_B"):
                    name = factor_name(layer, part)
                    if name in self._masks:
                        before[name] = layer.factor(part).detach().clone()

        @torch.no_grad()
        def mask_update(*_: Any) -> None:
            for layer in self.layers:
                for part in ("lora_A", "lora_B"):
                    name = factor_name(layer, part)
                    if name in before:
                        parameter = layer.factor(part)
                        update = (parameter - before[name]).mul_(self._masks[name].to(parameter.dtype))
                        parameter.copy_(before[name].add_(update))
            before.clear()

        self._hooks = [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(mask_update)]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns what must survive a checkpoint (running averages, warm subspaces), as named tensors."""
        return self.method.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self.method.load_state_dict(state)

    def close(self) -> None:
        """Removes every hook from the model and the optimizer."""
        if self.engine is not None:
            self.engine.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _clear_window(self) -> None:
        self._records = 0
        self._items.clear()
        if self._collector is not None:
            self._collector.clear()

    def _weights(self, domains: list[int]) -> list[float]:
        if self.domain_weighting == "uniform":
            return [1.0 / len(domains)] * len(domains)
        total = sum(self._items[domain] for domain in domains)
        return [self._items[domain] / total for domain in domains]


class _WindowCollector:
    """Receives the engine's gradients for one optimizer step, and aligns them: at once, or at its end.

    What an engine delivers for domain d is (sum over its loss items) / scale; times scale / n_d it is the gradient
    of the domain's mean loss.
    """

    def __init__(self, aligner: GradientAligner) -> None:
        self.aligner = aligner
        self.space: Space = "weight" if aligner.method.needs == "weight" else "factor"
        self.scale = 1.0
        self._stack = GradientStack(self.space)
        self._aligned: dict[str, torch.Tensor] = {}

    @property
    def _streams(self) -> bool:
        engine = self.aligner.engine
        return engine is not None and engine.splits_batches and self.aligner.accumulation_steps == 1

    def add_factor(self, layer: AdaptedLayer, part: Part, gradients: torch.Tensor, domains: list[int]) -> None:
        self._stack.add_factor(layer, part, gradients * self.scale, domains)

    def add_weight(self, layer: AdaptedLayer, gradients: Iterator[torch.Tensor], domains: list[int]) -> None:
        if not self._streams:
            self._stack.add_weight(layer, (gradient.mul_(self.scale) for gradient in gradients), domains)
            return
        if factor_name(layer, "lora_A") in self._aligned:
            raise IsodistillError(
                f"layer {layer.name} ran twice in one backward, which weight space cannot stream: use"
                " mask_space='factor'"
            )
        items = self.aligner._items
        present = [domain for domain in domains if items[domain] > 0]
        means = (
            gradient.mul_(self.scale / items[domain])
            for gradient, domain in zip(gradients, domains, strict=True)
            if items[domain] > 0
        )
        self._align_weight(layer, means, present)

    def _align_weight(self, layer: AdaptedLayer, means: Iterator[torch.Tensor], domains: list[int]) -> None:
        grad_a, grad_b = self.aligner.method.align_weight(layer, means, self.aligner._weights(domains))
        self._aligned[factor_name(layer, "lora_A")] = grad_a
        self._aligned[factor_name(layer, "lora_B")] = grad_b

    def finish(self) -> dict[str, torch.Tensor]:
        """Aligns what was added up, and returns the gradient of each factor."""
        domains = sorted(domain for domain, items in self.aligner._items.items() if items > 0)
        items = self.aligner._items
        if self.space == "weight":
            by_name = {layer.name: layer for layer in self.aligner.layers}
            for name in self._stack.names():
                stacked = self._stack.stacked(name, domains)
                means = (g.div_(items[domain]) for g, domain in zip(stacked, domains, strict=True))
                self._align_weight(by_name[name], means, domains)
        elif self._stack.names():
            counts = torch.tensor([items[domain] for domain in domains])
            stacks = {name: self._stack.stacked(name, domains) for name in self._stack.names()}
            means_by_name = {
                name: stack / counts.to(stack).view(-1, *[1] * (stack.ndim - 1)) for name, stack in stacks.items()
            }
            weights = self.aligner._weights(domains)
            self._aligned, self.aligner._masks = self.aligner.method.align_factors(means_by_name, weights)
        aligned = self._aligned
        self.clear()
        return aligned

    def clear(self) -> None:
        """Forgets the window."""
        self._stack.clear()
        self._aligned = {}
