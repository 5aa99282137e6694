"""Invariant Gradient Alignment: damp the gradient entries on which the domains disagree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch

from isodistill.gradients.buckets import buckets_of
from isodistill.gradients.inputs import Estimator, InputConflict
from isodistill.gradients.layers import AdaptedLayer, as_float32, factor_name
from isodistill.gradients.lazy import WeightGradient
from isodistill.gradients.marginals import Marginals, gram_pays, token_marginals
from isodistill.gradients.mask import (
    DomainMoments,
    Normalization,
    conflict_mask,
    domain_moments,
)
from isodistill.gradients.projection import Projector, pull_back, tangent_lift
from isodistill.gradients.statistics import RunningMoments
from isodistill.gradients.subspace import SubspaceConflict
from isodistill.gradients.workspace import Workspace
from isodistill.methods.base import Choice, Diagnostics, Method, Needs, Range, RunInfo, Window
from isodistill.methods.iga_options import (
    CLOSING,
    DIRECTIONS,
    MaskSpace,
    MaskStage,
    check_options,
)
from isodistill.methods.mask_meter import MaskMeter, mask_sums, moment_energies


class IGA(Method):
    """The continuous gradient conflict mask with projection onto the LoRA manifold.

    With the per-domain gradients G_d and weights w_d of sum 1::

        Gbar = sum_d w_d G_d            V = sum_d w_d (G_d - Gbar)²          (entrywise)
        Z = EMA(V) / (EMA(Gbar)² + eps)                                      (relative variance)
        M = exp(-tau Z) in (0, 1]       Gt = M * Gbar
        Gr = rank-k truncated SVD of Gt
        grad_B = s Gr Aᵀ                grad_A = s Bᵀ Gr                     (weight space)

    In ``factor`` space the mask acts on the gradients of A and B entrywise and nothing is projected. In ``factored``
    space V and Gbar² are replaced by their row and column sums, so that two vectors are kept in place of two
    matrices, and the mask is an outer product::

        Z_row = EMA(sum_j V_ij) / (EMA-mean's sum_j Gbar_ij² + eps), Z_col alike over i
        Gt = diag(m_row) Gbar diag(m_col),   m = exp(-tau/2 Z)

    In ``tangent`` space the masked gradient is projected onto the tangent space at BA of the matrices of rank r, and
    the factors' gradients are its lift (`tangent_lift`): one step of plain SGD moves BA along the projection. In
    ``inputs`` space the mask acts on directions of the layer's input in place of entries (`direction_filter`), and in
    ``directions`` space on those of its input and of its output, each pair masked by the product. With
    ``mask_stage="update"`` the optimizer sees the plain mean gradient and the mask multiplies its update, because
    an optimizer that divides each entry by its own root mean square (Adam) undoes a mask on the gradient.

    Source: arXiv 2606.05025 (abstract) for M = exp(-tau V) and the SVD projection; everything the abstract leaves
    open (normalisation, running averages, stage, weights) is this project's, see docs/method.md.

    Args:
        tau: The mask's temperature, not negative; 0 with full rank is plain training. ``None`` is `CLOSING` / (K - 1),
            so that what one domain alone uses is damped alike for any number of domains (1 where Z is not relative).
        mask_space: ``weight`` (dense G, one layer at a time), ``factor`` (adapter-sized), ``factored`` (dense G, row
            and column statistics), ``tangent`` (dense G, projected onto the tangent space), ``inputs`` (dense G, its
            input directions masked by how differently the domains use them) or ``directions`` (input and output);
            ``None`` is the last with a ``direction_rank`` of `DIRECTIONS`, unless another is given (docs/method.md).
        mask_stage: ``gradient`` or ``update`` (factor space only); ``None`` picks ``update`` in factor space.
        statistics_decay: beta of the running averages, in [0, 1); 0 uses each step's own statistics.
        conflict_normalization: How V becomes Z: ``relative``, ``bounded``, ``layer_mean`` or ``raw``; ``inputs`` and
            ``directions`` know the first one only.
        projection_rank: k, or ``None`` for full rank (no truncation).
        projection: ``randomized`` (warm-started) or ``exact``.
        conflict_estimator: ``plain``; in ``inputs`` and ``directions`` space also ``cross``, which compares two halves
            of the steps so that noise has no sign, or ``split``, which takes it for none (`direction_filter`).
        direction_rank: ``directions`` space only: how many directions of each side are told apart, those with most
            of the gradients' energy; all others are dropped. No dense gradient is formed. ``None`` for all directions.

    Raises:
        IsodistillError: if an argument is out of range, naming it.
    """

    name: ClassVar[str] = "iga"
    source: ClassVar[str] = "arXiv 2606.05025"
    search_space: ClassVar[Mapping[str, Range | Choice]] = {
        "tau": Range(0.1, 10.0, log=True),
        "statistics_decay": Choice((0.0, 0.9, 0.99)),
    }
    """This project's: the abstract names no values."""
    min_domains: ClassVar[int] = 2

    def __init__(
        self,
        tau: float | None = None,
        mask_space: MaskSpace | None = None,
        mask_stage: MaskStage | None = None,
        statistics_decay: float = 0.95,
        conflict_normalization: Normalization = "relative",
        projection_rank: int | None = None,
        projection: Literal["randomized", "exact"] = "randomized",
        direction_rank: int | None = None,
        conflict_estimator: Estimator = "plain",
    ) -> None:
        if mask_space is None:
            mask_space, direction_rank = "directions", DIRECTIONS if direction_rank is None else direction_rank
        check_options(
            tau, mask_space, mask_stage, statistics_decay, conflict_normalization, projection_rank, projection,
            direction_rank, conflict_estimator,
        )  # fmt: skip
        self.tau = 1.0 if tau is None and conflict_normalization != "relative" else tau
        self._num_domains: int | None = None
        self.mask_space = mask_space
        self.mask_stage = mask_stage or ("update" if mask_space == "factor" else "gradient")
        self.conflict_normalization = conflict_normalization
        self.projector = None if projection_rank is None else Projector(projection_rank, projection)
        self.statistics = RunningMoments(statistics_decay)
        whole = mask_space == "inputs" or (mask_space == "directions" and direction_rank is None)
        self.inputs = InputConflict(statistics_decay, estimator=conflict_estimator) if whole else None
        self.subspace = None
        if direction_rank:
            self.subspace = SubspaceConflict(direction_rank, statistics_decay, estimator=conflict_estimator)
        self._meter, self._workspace = MaskMeter(), Workspace()

    @property
    def needs(self) -> Needs:
        """Factor or weight gradients, by the mask space."""
        gradients: Literal["factor", "weight"] = "factor" if self.mask_space == "factor" else "weight"
        thin = self.subspace is not None or self.mask_space == "factored"
        return Needs(gradients=gradients, thin_products=thin)

    def bind(self, run: RunInfo) -> None:
        """Learns the number of domains and the seed of the random subspaces."""
        self._num_domains = run.num_domains
        for part in (self.projector, self.subspace):
            if part is not None:
                part.seed = run.seed

    def temperature(self, window: Window) -> float:
        """Returns tau, or what stands for it by default: of the run's number of domains, or else the step's."""
        if self.tau is not None:
            return self.tau
        return CLOSING / max(1, (self._num_domains or len(window.domains)) - 1)

    @property
    def masks_update(self) -> bool:
        """Whether the mask multiplies the optimizer's update."""
        return self.mask_stage == "update"

    @property
    def masks_gradient(self) -> bool:
        """Whether the optimizer sees a masked gradient."""
        return self.mask_stage == "gradient" and self.tau != 0.0

    def align_factors(
        self, gradients: Mapping[str, torch.Tensor], window: Window
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Masks each factor's mean gradient entrywise (see `Method.align_factors`)."""
        aligned: dict[str, torch.Tensor] = {}
        masks: dict[str, torch.Tensor] = {}
        for bucket in buckets_of(gradients):
            moments = domain_moments(bucket.values.unbind(0), window.weights)
            averages, correction = self.statistics.advance(bucket.names, bucket.shapes, moments)
            mask = conflict_mask(
                averages.mean,
                averages.variance,
                self.temperature(window),
                self.conflict_normalization,
                correction=correction,
                segments=bucket.segments,
            )
            masked = mask * moments.mean
            layers = [name.rpartition(".")[0] for name in bucket.names]
            self._meter.add_mask(layers, mask_sums(mask.sum(), masked), moment_energies(moments, bucket.segments), mask)
            if self.masks_update:
                masks |= bucket.views(mask)
            elif self.plain_gradients is not None:
                self.plain_gradients |= bucket.views(moments.mean)
            aligned |= bucket.views(moments.mean if self.masks_update else masked)
        return aligned, masks

    def align_weight(
        self, layer: AdaptedLayer, gradients: Iterable[torch.Tensor], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks one layer's dense mean gradient, projects it and pulls it back (see `Method.align_weight`)."""
        if self.mask_space == "factored":
            masked, mean = self._mask_marginals(layer.name, gradients, window)
        elif self.inputs is not None:
            masked, mean = self._mask_directions(layer.name, self.inputs, gradients, window)
        else:
            masked, mean = self._mask(layer.name, gradients, window)
        A, B = layer.A.detach().to(masked.dtype), layer.B.detach().to(masked.dtype)
        if self.plain_gradients is not None:
            plain = pull_back(mean, A, B, layer.scaling)
            names = factor_name(layer, "lora_A"), factor_name(layer, "lora_B")
            self.plain_gradients |= zip(names, plain, strict=True)
        if self.mask_space == "tangent":
            return tangent_lift(masked, A, B, layer.scaling)
        if self.projector is None:
            return pull_back(masked, A, B, layer.scaling)
        factors = self.projector.project(layer.name, masked)
        self._meter.add_projection(masked, factors.S)
        return pull_back(factors, A, B, layer.scaling)

    def _mask(self, name: str, gradients: Iterable[torch.Tensor], window: Window) -> tuple[torch.Tensor, torch.Tensor]:
        moments = domain_moments(gradients, window.weights, self._workspace)
        mean, shape = moments.mean, tuple(moments.mean.shape)
        averages, correction = self.statistics.advance((name,), (shape,), moments)
        mask = conflict_mask(
            averages.mean,
            averages.variance,
            self.temperature(window),
            self.conflict_normalization,
            self._workspace.take("mask", shape, mean),
            correction=correction,
        )
        # The moments' scratch buffer is free again: one large buffer less.
        masked = torch.mul(mask, mean, out=self._workspace.take("scratch", shape, mean))
        self._meter.add_mask([name], mask_sums(mask.sum(), masked), moment_energies(moments), mask)
        return masked, mean

    def _mask_marginals(
        self, name: str, gradients: Iterable[torch.Tensor], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        moments = domain_moments(gradients, window.weights, self._workspace)
        sides = [Marginals(moments.mean.square().sum(axis), moments.variance.sum(axis)) for axis in (1, 0)]
        rows, columns = self._marginal_masks(name, window, *sides)
        out = self._workspace.take("mask", tuple(moments.mean.shape), moments.mean)
        masked = torch.mul(moments.mean, rows.unsqueeze(1), out=out).mul_(columns)
        self._meter_marginals(name, rows, columns, masked, moment_energies(moments))
        return masked, moments.mean

    def _marginal_masks(self, name: str, window: Window, *sides: Marginals) -> list[torch.Tensor]:
        """Masks for the rows (d_out,) and the columns (d_in,), from the running averages of both."""
        masks = []
        for side, marginals in zip(("rows", "columns"), sides, strict=True):
            # The root of the summed squares stands for the mean, so that mean² is the energy of the row or column.
            moments = DomainMoments(marginals.energy.sqrt(), marginals.variance)
            averages = self.statistics.update(f"{name}.{side}", moments)
            tau = self.temperature(window) / 2
            masks.append(conflict_mask(averages.mean, averages.variance, tau, self.conflict_normalization))
        return masks

    def _meter_marginals(
        self, name: str, rows: torch.Tensor, columns: torch.Tensor, masked: torch.Tensor, energies: torch.Tensor
    ) -> None:
        # The sum of an outer product is the product of the sums; a few of its entries stand for all in the histogram.
        sample = torch.outer(rows[:: max(1, len(rows) // 32)], columns[:: max(1, len(columns) // 32)])
        sums = mask_sums(rows.sum() * columns.sum(), masked)
        self._meter.add_mask([name], sums, energies, sample, len(rows) * len(columns))

    def _mask_directions(
        self, name: str, inputs: InputConflict, gradients: Iterable[torch.Tensor], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        outputs = f"{name}.outputs" if self.mask_space == "directions" else None

        def watched() -> Iterator[torch.Tensor]:
            for domain, gradient in zip(window.domains, gradients, strict=True):
                inputs.add(name, domain, gradient)
                if outputs is not None:
                    inputs.add(outputs, domain, gradient.T)
                yield gradient

        moments = domain_moments(watched(), window.weights, self._workspace)
        matrix, mask = inputs.filter(name, self.temperature(window))
        out = self._workspace.take("scratch", tuple(moments.mean.shape), moments.mean)
        masked = torch.mm(moments.mean, matrix, out=out)
        if outputs is not None:
            matrix, rows = inputs.filter(outputs, self.temperature(window))
            masked = torch.mm(matrix.T, masked)
            mask = torch.outer(rows, mask)  # of every pair of directions
        self._meter.add_mask([name], mask_sums(mask.sum(), masked), moment_energies(moments), mask)
        return masked, moments.mean

    def align_products(
        self, layer: AdaptedLayer, gradients: Sequence[WeightGradient], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Filters one layer's directions, or masks its marginals, without forming its gradient."""
        if self.subspace is not None:
            return self._filter_products(self.subspace, layer, gradients, window)
        if not gram_pays(gradients):
            return self.align_weight(layer, (gradient.dense(1.0) for gradient in gradients), window)
        A, B = as_float32(layer.A.detach()), as_float32(layer.B.detach())
        rows, columns = token_marginals(gradients, window.weights)
        row_mask, column_mask = self._marginal_masks(layer.name, window, rows, columns)
        right, left = column_mask.unsqueeze(1) * A.T, row_mask.unsqueeze(1) * B
        masked_a, masked_b, moments = self._thin_means(layer, gradients, window, right, left)
        s = layer.scaling
        grad_a, grad_b = s * (column_mask.unsqueeze(1) * masked_a).T, s * row_mask.unsqueeze(1) * masked_b
        # What is kept is told by B's gradient, since the masked matrix is not there: its energy sets the scale.
        energies = torch.stack((rows.energy.sum(), rows.variance.sum())).unsqueeze(1)
        scale = moment_energies(moments)[0] / energies[0].clamp_min(torch.finfo(energies.dtype).tiny)
        self._meter_marginals(layer.name, row_mask, column_mask, grad_b, scale * energies)
        return grad_a, grad_b

    def _thin_means(
        self,
        layer: AdaptedLayer,
        gradients: Sequence[WeightGradient],
        window: Window,
        right: torch.Tensor,
        left: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, DomainMoments]:
        """Products of the mean with masked factors, and what is told of the plain ones.

        Args:
            layer: The layer.
            gradients: K gradients G_d.
            window: The step.
            right: A as the mask leaves it, turned, (d_in, r).
            left: B as the mask leaves it, (d_out, r).

        Returns:
            Gbarᵀ left (d_in, r), Gbar right (d_out, r), and the moments of B's plain gradient.
        """
        A, B = as_float32(layer.A.detach()), as_float32(layer.B.detach())
        r, s = len(A), layer.scaling
        sides = torch.cat((right, A.T), dim=1), torch.cat((left, B), dim=1)
        masked_a, masked_b = torch.zeros_like(A.T), torch.zeros_like(B)
        plain = []
        for gradient, weight in zip(gradients, window.weights, strict=True):
            on_outputs, on_inputs = gradient.times(sides[0]), gradient.turned_times(sides[1])  # (d_out, 2r), (d_in, 2r)
            masked_b.add_(on_outputs[:, :r], alpha=weight)
            masked_a.add_(on_inputs[:, :r], alpha=weight)
            plain.append((on_inputs[:, r:], on_outputs[:, r:]))
        moments = domain_moments([s * part for _, part in plain], window.weights)
        if self.plain_gradients is not None:
            mean_a = domain_moments([s * part for part, _ in plain], window.weights).mean
            self.plain_gradients[factor_name(layer, "lora_A")] = mean_a.T
            self.plain_gradients[factor_name(layer, "lora_B")] = moments.mean
        return masked_a, masked_b, moments

    def _filter_products(
        self, subspace: SubspaceConflict, layer: AdaptedLayer, gradients: Sequence[WeightGradient], window: Window
    ) -> tuple[torch.Tensor, torch.Tensor]:
        A, B = as_float32(layer.A.detach()), as_float32(layer.B.detach())
        known = (gradients, window.domains, self.temperature(window))
        inputs = subspace.advance(f"{layer.name}.inputs", *known, like=A)
        outputs = subspace.advance(f"{layer.name}.outputs", *known, like=B.T, turned=True)
        masked_a, masked_b, moments = self._thin_means(layer, gradients, window, inputs.apply(A.T), outputs.apply(B))
        s = layer.scaling
        grad_a, grad_b = s * inputs.apply_turned(masked_a).T, s * outputs.apply_turned(masked_b)
        mask = torch.outer(outputs.mask, inputs.mask)
        self._meter.add_mask([layer.name], mask_sums(mask.sum(), grad_b), moment_energies(moments), mask)
        return grad_a, grad_b

    def diagnostics(self) -> Diagnostics:
        """Sums up the masks since the last call."""
        diagnostics, self._meter = self._meter.read(), MaskMeter()
        return diagnostics

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the running averages and the projection's warm subspaces."""
        state = {f"statistics/{key}": tensor for key, tensor in self.statistics.state_dict().items()}
        if self.projector is not None:
            state |= {f"projector/{key}": tensor for key, tensor in self.projector.state_dict().items()}
        if self.inputs is not None:
            state |= {f"inputs/{key}": tensor for key, tensor in self.inputs.state_dict().items()}
        if self.subspace is not None:
            state |= {f"subspace/{key}": tensor for key, tensor in self.subspace.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        parts: dict[str, dict[str, torch.Tensor]] = {"statistics": {}, "projector": {}, "inputs": {}, "subspace": {}}
        for key, tensor in state.items():
            part, rest = key.split("/", 1)
            parts[part][rest] = tensor
        self.statistics.load_state_dict(parts["statistics"])
        if self.projector is not None:
            self.projector.load_state_dict(parts["projector"])
        if self.inputs is not None:
            self.inputs.load_state_dict(parts["inputs"])
        if self.subspace is not None:
            self.subspace.load_state_dict(parts["subspace"])
