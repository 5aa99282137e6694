"""The interface of the gradient methods: mathematics on per-domain gradients and losses, free of any trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from isodistill.gradients.buckets import buckets_of
from isodistill.gradients.layers import AdaptedLayer
from isodistill.gradients.lazy import WeightGradient
from isodistill.gradients.projection import pull_back
from isodistill.methods.forward import Forward

Space = Literal["none", "factor", "weight"]
GradientOf = Callable[[int], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Range:
    """Where a number is searched.

    Attributes:
        low: The least value.
        high: The greatest value.
        log: Whether its logarithm is drawn uniformly.
        integer: Whether it is a whole number.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Choice:
    """What a value is searched among.

    Attributes:
        values: The values, each as likely as the others.
    """

    values: tuple[str | int | float | bool | None, ...]


@dataclass(frozen=True)
class Needs:
    """What a method reads; the trainer and the `GradientAligner` provide that and nothing more.

    Attributes:
        gradients: Per-domain gradients of the LoRA ``factor`` matrices or of the dense ``weight``; ``none`` leaves
            ``.grad`` as autograd made it.
        losses: Each domain's mean loss over the optimizer step.
        forward: The differentiable forward pass (`Forward`), for a penalty on it.
        sets: Paired data: which sequences are members of one isomer set.
        replay: Gradients of a domain at other parameters than the present ones (further passes over the step's data).
        inputs: The batch before the forward pass, to change it.
        last_layer: The input and output of the last adapted layer's factors, in the forward pass.
        sequences: The fewest sequences of a domain in one micro-batch.
        thin_products: Weight gradients as products with thin matrices (`Method.align_products`), never formed whole.
    """

    gradients: Space = "none"
    losses: bool = False
    forward: bool = False
    sets: bool = False
    replay: bool = False
    inputs: bool = False
    last_layer: bool = False
    sequences: int = 1
    thin_products: bool = False

    def described(self) -> list[str]:
        """Lists the needs in words, for `isodistill methods`."""
        words = {
            "domain losses": self.losses,
            "per-domain factor gradients": self.gradients == "factor",
            "per-domain weight gradients": self.gradients == "weight",
            "differentiable forward": self.forward,
            "paired sets": self.sets,
            "further passes": self.replay,
            "input batch": self.inputs,
            "last adapted layer": self.last_layer,
            f"{self.sequences} sequences of a domain in a micro-batch": self.sequences > 1,
        }
        return [word for word, wanted in words.items() if wanted]


@dataclass(frozen=True)
class Window:
    """What is known of one optimizer step when its gradients are combined.

    Attributes:
        domains: The ids of the K domains present, ascending.
        weights: w_d, K positive numbers with sum 1; sum_d w_d g_d is the gradient of the plain mean loss.
        losses: l_d, each domain's mean loss, K numbers; empty unless a method needs them.
        step: How many optimizer steps were aligned before, from 0.
    """

    domains: list[int]
    weights: list[float]
    losses: list[float] = field(default_factory=list)
    step: int = 0


@dataclass(frozen=True)
class RunInfo:
    """What is known before the first step.

    Attributes:
        num_domains: K.
        total_steps: The number of optimizer steps, or ``None`` if unknown.
        seed: The run's seed.
    """

    num_domains: int | None = None
    total_steps: int | None = None
    seed: int = 0


@dataclass
class Diagnostics:
    """What a method tells about one optimizer step.

    Attributes:
        mean_mask: The mask's mean over all entries, in (0, 1]; ``None`` for a method without a mask.
        kept_energy: ||aligned gradient||² / ||mean gradient||²; ``None`` for a method without a mask.
        projection_residual: ||Gt - Gr|| / ||Gt||, the share that the rank truncation lost; ``None`` without one.
        conflict: For each adapted layer, the variance's share of its gradient energy, in [0, 1].
        mask_histogram: How many of the sampled entries of the mask lie in each of ten equal parts of [0, 1]; empty for
            a method without a mask.
        values: Further numbers by name: penalties, coefficients, domain losses.
    """

    mean_mask: float | None = None
    kept_energy: float | None = None
    projection_residual: float | None = None
    conflict: dict[str, float] = field(default_factory=dict)
    mask_histogram: list[int] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)


class Method:
    """Turns the losses and gradients of the domains into the gradient that the optimizer sees.

    A subclass sets `name` and `needs` and overrides the functions that its needs speak of; whatever it does not
    override does what plain training does. One step calls `augment` and `penalty` for each micro-batch, then, once,
    `domain_scales`, then `align_factors` or `align_weight` (or `replay`), then `end_step`.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    """The paper or the code that defines the method."""
    search_space: ClassVar[Mapping[str, Range | Choice]] = {}
    """Where each of the method's own options is searched; empty for a method without one worth tuning."""
    min_domains: ClassVar[int] = 1
    """The fewest domains for which the method differs from plain training."""
    uses_domains: ClassVar[bool] = True
    """Whether the domain labels change anything, so that shuffling them is a control."""
    micro_batch_exact: ClassVar[bool] = True
    """Whether splitting a step into micro-batches or over processes leaves the update as it is, up to round-off."""
    max_processes: ClassVar[int | None] = None
    """The most processes that the method runs on; ``None`` for any number."""
    reduced_precision: ClassVar[bool] = True
    """Whether the method works under bf16 autocast."""
    plain_gradients: dict[str, torch.Tensor] | None = None
    """Where a method that masks leaves the factors' gradients before the mask, by name; ``None``: nobody asked."""

    @property
    def needs(self) -> Needs:
        """What the method reads."""
        return Needs()

    @property
    def masks_update(self) -> bool:
        """Whether the masks that `align_factors` returns multiply the optimizer's update instead of the gradient."""
        return False

    @property
    def masks_gradient(self) -> bool:
        """Whether the gradient is masked entry by entry or by directions, which Adam would undo."""
        return False

    @property
    def resets_optimizer(self) -> bool:
        """Whether the optimizer must forget its state before this step (at the end of an annealing)."""
        return False

    def bind(self, run: RunInfo) -> None:
        """Learns what is known before the first step.

        Raises:
            IsodistillError: if the method cannot work on this run; the message names what it lacks.
        """

    def augment(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Changes a micro-batch before the forward pass (for ``needs.inputs``).

        Args:
            inputs: input_ids, attention_mask and labels, each (S, T).

        Returns:
            The inputs to use; tensors that change are copies.
        """
        return inputs

    def penalty(self, forward: Forward) -> torch.Tensor | None:
        """Computes what is added to the mean loss, as a mean over the micro-batch (for ``needs.forward``).

        Args:
            forward: The micro-batch's differentiable forward pass.

        Returns:
            A scalar with a gradient, or ``None`` for nothing.
        """
        return None

    def domain_scales(self, window: Window) -> list[float] | None:
        """Weighs the domains: domain d's gradient g_d is multiplied by the d-th number (for ``needs.losses``).

        Args:
            window: The step, with the domains' losses.

        Returns:
            K numbers, or ``None`` for ones.
        """
        return None

    def align_factors(
        self, gradients: Mapping[str, torch.Tensor], window: Window
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Combines factor gradients (for ``needs.gradients="factor"``); unless overridden, their weighted mean.

        Args:
            gradients: For each factor, the per-domain gradients, (K, *factor.shape), fp32 or fp64.
            window: The step, with the weights w_d.

        Returns:
            For each factor the aligned gradient (*factor.shape), and the masks for the optimizer's update
            (empty unless `masks_update`).
        """
        aligned: dict[str, torch.Tensor] = {}
        for bucket in buckets_of(gradients):
            aligned |= bucket.views(weighted_mean(bucket.values, window.weights))
        return aligned, {}

    def align_weight(
        self, layer: AdaptedLayer, gradients: Iterable[torch.Tensor], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Combines one layer's dense weight gradients (for ``needs.gradients="weight"``); else, their weighted mean.

        Args:
            layer: The layer.
            gradients: K tensors G_d, (d_out, d_in), fp32 or fp64; read once, one after another. The method may
                overwrite each, and all of them may share one buffer: what is to last is copied before the next comes.
            window: The step, with the weights w_d.

        Returns:
            The aligned gradients of A (r, d_in) and of B (d_out, r).
        """
        mean: torch.Tensor | None = None
        for gradient, weight in zip(gradients, window.weights, strict=True):
            mean = gradient * weight if mean is None else mean.add_(gradient, alpha=weight)
        assert mean is not None  # an empty window is refused before
        return pull_back(mean, layer.A.detach().to(mean.dtype), layer.B.detach().to(mean.dtype), layer.scaling)

    def align_products(
        self, layer: AdaptedLayer, gradients: Sequence[WeightGradient], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Combines one layer's weight gradients by products with thin matrices (for ``needs.thin_products``).

        Args:
            layer: The layer.
            gradients: K gradients G_d, (d_out, d_in) if they were formed.
            window: The step, with the weights w_d.

        Returns:
            The aligned gradients of A (r, d_in) and of B (d_out, r).
        """
        raise NotImplementedError(f"{type(self).__name__}.needs.thin_products is set without align_products")

    def replay(
        self,
        gradient_of: GradientOf,
        parameters: dict[str, nn.Parameter],
        optimizer: Optimizer | None,
        window: Window,
    ) -> dict[str, torch.Tensor] | None:
        """Makes the step from gradients at parameters of its own choice (for ``needs.replay``).

        Args:
            gradient_of: Gives the gradients of domain d's mean loss at the parameters' present values, by name.
            parameters: The LoRA factors by name; the method may change them and leaves them as it wants them.
            optimizer: The optimizer attached to the aligner, or ``None``.
            window: The step.

        Returns:
            The gradient for the optimizer by factor name, or ``None`` if the parameters have moved already and the
            optimizer must leave them.
        """
        raise NotImplementedError(f"{type(self).__name__}.needs.replay is set without a replay function")

    def end_step(self) -> None:
        """Learns that one optimizer step's gradients are complete."""

    def diagnostics(self) -> Diagnostics:
        """Sums up what was measured since the last call, and forgets it."""
        return Diagnostics()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns what must survive a checkpoint, as named tensors."""
        return {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""


def weighted_mean(stack: torch.Tensor, weights: list[float]) -> torch.Tensor:
    """Averages per-domain gradients.

    Args:
        stack: (K, ...).
        weights: w_d, K numbers.

    Returns:
        sum_d w_d stack_d, (...).
    """
    return torch.tensordot(torch.tensor(weights, dtype=stack.dtype, device=stack.device), stack, dims=1)
