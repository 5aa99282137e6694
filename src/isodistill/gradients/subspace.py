"""The conflict of directions inside the few that the gradients use most: no matrix of the size of a weight is formed.

A filter of all directions of a layer's input takes d_in x d_in moments and their eigenvalues. Here a subspace U,
(d_in, k), is tracked and the domains' moments inside of it; all other directions are dropped. They hold little of the
gradient's energy, but an optimizer that divides by its own second moment lets what is small grow, and a cue comes in
through them (docs/method.md). U is kept by subspace iteration on the running sum of the G_dᵀ G_d, as PowerSGD keeps its
factor. Source: this project, see docs/method.md; subspace iteration with a warm start is PowerSGD's (arXiv 1905.13727).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from isodistill.gradients.inputs import Estimator, Moments, direction_filter, half_of, parse_place, stack_halves
from isodistill.gradients.lazy import WeightGradient

_EARLY_STEPS = 5  # the averages and the subspace move fast at first


@dataclass
class DirectionFilter:
    """P = U p Uᵀ, the filter of a subspace's directions; all others are dropped.

    Attributes:
        basis: U, (d, k), orthonormal.
        inner: p, (k, k).
        mask: Its eigenvalues, (k,), each in (0, 1].
    """

    basis: torch.Tensor
    inner: torch.Tensor
    mask: torch.Tensor

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        """Computes P @ values, (d, n)."""
        return self.basis @ (self.inner @ (self.basis.T @ values))

    def apply_turned(self, values: torch.Tensor) -> torch.Tensor:
        """Computes Pᵀ @ values, (d, n)."""
        return self.basis @ (self.inner.T @ (self.basis.T @ values))


@dataclass
class _Side:
    """What is kept for the input or the output of one layer."""

    basis: torch.Tensor
    image: torch.Tensor
    """The running sum over domains of G_dᵀ G_d U, each domain's scaled to equal energy, (d, k)."""
    moments: Moments = field(default_factory=dict)
    """By domain and half the running Uᵀ G_dᵀ G_d U, (k, k)."""
    filter: DirectionFilter | None = None
    steps: int = 0


class SubspaceConflict:
    """Running subspaces and moments of many layers' inputs and outputs, and the filters made of them.

    For each side of a layer it keeps some K + 2 matrices (k, k), or 2 K + 2, and three (d, k).

    Args:
        rank: k; a side with fewer directions than that is tracked whole.
        decay: beta of the running averages, in [0, 1).
        refresh: For how many steps a filter and a subspace serve; the first five steps each have their own.
        shrinkage: See `direction_filter`.
        estimator: Whether even and odd steps are kept apart, see `InputConflict`.
    """

    def __init__(
        self, rank: int, decay: float, refresh: int = 10, shrinkage: float = 0.1, estimator: Estimator = "plain"
    ) -> None:
        self.rank = rank
        self.decay = decay
        self.refresh = refresh
        self.shrinkage = shrinkage
        self.estimator = estimator
        self.seed = 0
        self._sides: dict[str, _Side] = {}

    def advance(
        self,
        name: str,
        gradients: Sequence[WeightGradient],
        domains: Sequence[int],
        tau: float,
        like: torch.Tensor,
        turned: bool = False,
    ) -> DirectionFilter:
        """Adds one step's gradients to one side, and returns the side's filter.

        Args:
            name: The side's name.
            gradients: K gradients G_d.
            domains: Their domains' ids.
            tau: The temperature.
            like: A tensor whose last dimension is the side's size d, of the dtype and on the device wanted.
            turned: Whether the side is the output: its directions are those of the input of G_dᵀ.

        Returns:
            The filter.
        """
        side = self._side(name, like)
        kept = self.decay if side.steps else 0.0
        for _ in range(0 if side.steps else 2):  # the first subspace is drawn blindly
            side.basis = _orthonormal(_measure(side.basis, gradients, turned)[1])
        moments, image = _measure(side.basis, gradients, turned)
        half = half_of(side.steps, self.estimator)
        for domain, moment in zip(domains, moments, strict=True):
            known = side.moments.get((domain, half))
            side.moments[domain, half] = moment if known is None else known.lerp(moment, 1.0 - kept)
        side.image.lerp_(image, 1.0 - kept)
        if side.filter is None or side.steps < _EARLY_STEPS or side.steps % self.refresh == 0:
            inner, mask = direction_filter(
                stack_halves(side.moments), tau, self.shrinkage, like.shape[-1], floor=self.estimator == "split"
            )
            side.filter = DirectionFilter(side.basis, inner, mask)
            self._turn(side)
        side.steps += 1
        return side.filter

    def _side(self, name: str, like: torch.Tensor) -> _Side:
        size = like.shape[-1]
        if name not in self._sides:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}".encode()))
            drawn = torch.randn(size, min(self.rank, size), generator=generator, dtype=torch.float64)
            basis = _orthonormal(drawn).to(like)
            self._sides[name] = _Side(basis, torch.zeros_like(basis))
        side = self._sides[name]
        if side.basis.device != like.device:  # a loaded checkpoint may lie on another device
            side.basis, side.image = side.basis.to(like), side.image.to(like)
            side.moments = {place: moment.to(like) for place, moment in side.moments.items()}
            if side.filter is not None:
                parts = side.filter.basis, side.filter.inner, side.filter.mask
                side.filter = DirectionFilter(*(part.to(like) for part in parts))
        return side

    @staticmethod
    def _turn(side: _Side) -> None:
        """Takes one step of subspace iteration, and tells the moments in the new basis."""
        basis = _orthonormal(side.image)
        change = basis.T @ side.basis  # (k, k)
        side.moments = {place: change @ moment @ change.T for place, moment in side.moments.items()}
        side.image = side.image @ change.T
        side.basis = basis

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns subspaces, moments, filters and step counts as named tensors."""
        state: dict[str, torch.Tensor] = {}
        for name, side in self._sides.items():
            state |= {f"basis/0/{name}": side.basis, f"image/0/{name}": side.image}
            state |= {f"moment/{domain}.{half}/{name}": moment for (domain, half), moment in side.moments.items()}
            state[f"steps/0/{name}"] = torch.tensor(side.steps)
            if side.filter is not None:
                state |= {f"filter_basis/0/{name}": side.filter.basis, f"filter/0/{name}": side.filter.inner}
                state[f"mask/0/{name}"] = side.filter.mask
        return {key: tensor.contiguous() for key, tensor in state.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self._sides = {}
        for key, tensor in state.items():
            kind, _, name = key.split("/", 2)
            if kind == "basis":
                self._sides[name] = _Side(tensor.clone(), state[f"image/0/{name}"].clone())
        for key, tensor in state.items():
            kind, place, name = key.split("/", 2)
            side = self._sides[name]
            if kind == "moment":
                side.moments[parse_place(place)] = tensor.clone()
            elif kind == "steps":
                side.steps = int(tensor)
            elif kind == "filter":
                parts = state[f"filter_basis/0/{name}"], tensor, state[f"mask/0/{name}"]
                side.filter = DirectionFilter(*(part.clone() for part in parts))


def _measure(
    basis: torch.Tensor, gradients: Sequence[WeightGradient], turned: bool
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Returns each domain's Uᵀ G_dᵀ G_d U (k, k), and the sum of the G_dᵀ G_d U, each scaled to equal energy (d, k)."""
    moments, image = [], torch.zeros_like(basis)
    for gradient in gradients:
        used = gradient.turned_times(basis) if turned else gradient.times(basis)  # (other side, k)
        moment = used.T @ used
        energy = moment.trace().clamp_min(torch.finfo(moment.dtype).tiny)
        image += (gradient.times(used) if turned else gradient.turned_times(used)) / energy
        moments.append(moment)
    return moments, image


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis; laid out as a loaded one is, so that a resumed run multiplies in the same order."""
    return torch.linalg.qr(columns).Q.contiguous()
