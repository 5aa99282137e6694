"""The conflict of directions: a mask in the basis in which the domains differ, not in that of the entries.

The entrywise mask sees a conflict only where a feature has entries of its own. Features are directions, and K domains
whose shortcuts lie along different directions of the input share every entry: their mean looks invariant. Here the unit
is a direction u of a layer's input, and its use by domain d is the energy ||G_d u||² that the domain's gradient has
along it. A direction that all domains use alike is kept; one that a single domain of K uses has conflict K - 1. Given
G_dᵀ, the same holds of the directions of the output.
Source: this project, see docs/method.md.
"""

from __future__ import annotations

from typing import Literal

import torch

_EARLY_STEPS = 5  # the averages move fast at first


def direction_filter(
    second_moments: torch.Tensor, tau: float, shrinkage: float = 0.1, size: int | None = None, floor: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the linear filter that damps the input directions whose use varies across domains.

    With R_d the second moment of domain d's gradient over the inputs, scaled to the mean eigenvalue 1 and shrunk to
    the identity, R = mean_d R_d and W = R^-1/2::

        E_d = W (R_d - R) W
        Z = mean_d E_d²                  (positive semi-definite: a relative variance, now of directions)
        P = W exp(-tau Z) W^-1           Gt = Gbar P

    Sampling noise of the R_d adds to Z: its square in d_in directions at once, which closes the mask on what the
    domains share. From two independent halves of the steps the square becomes a product whose noise has no sign::

        Z = sym mean_d E_d¹ E_d²,        negative eigenvalues counting as 0

    A conflict has no negative eigenvalue, so the most negative one tells how large noise is. With `floor` its size is
    taken from all of them, and what is no larger than noise counts as none; a conflict of that size is then lost too.

    Args:
        second_moments: G_dᵀ G_d or its running average by domain, (K, d_in, d_in), symmetric; any scale. Those of
            two halves, (2, K, d_in, d_in), are compared with each other.
        tau: The temperature, not negative; 0 gives the identity.
        shrinkage: What is added to each scaled R_d, times the identity: directions with less energy than that count as
            used alike.
        size: d_in where the moments are those of a subspace that holds about all of the energy: the mean eigenvalue
            is taken over all d_in directions.
        floor: Of two halves, whether what is no larger than noise counts as none.

    Returns:
        P (d_in, d_in), and the mask's eigenvalues (d_in,), each in (0, 1].
    """
    halves = second_moments if second_moments.ndim == 4 else second_moments.unsqueeze(0)  # (1 or 2, K, d_in, d_in)
    eye = torch.eye(halves.shape[-1], dtype=halves.dtype, device=halves.device)
    if tau == 0.0 or halves.shape[1] < 2:
        return eye, torch.ones_like(eye[0])
    traces = halves.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(torch.finfo(halves.dtype).tiny)
    scaled = halves * ((size or len(eye)) / traces)[..., None, None] + shrinkage * eye
    values, vectors = torch.linalg.eigh(scaled.mean((0, 1)))
    roots = values.clamp_min(shrinkage / 2).sqrt()  # not less than the shrinkage but for round-off
    whitener = (vectors / roots) @ vectors.T
    unwhitener = (vectors * roots) @ vectors.T
    excess = whitener @ (scaled - scaled.mean(1, keepdim=True)) @ whitener
    conflict = (excess[0] @ excess[-1]).mean(0)
    values, vectors = torch.linalg.eigh((conflict + conflict.T) / 2)
    noise = values[0].clamp(max=0.0).neg() if floor and len(halves) == 2 else 0.0
    mask = (values - noise).clamp_min(0.0).mul_(-tau).exp_().clamp_(min=torch.finfo(values.dtype).tiny)
    return whitener @ (vectors * mask) @ vectors.T @ unwhitener, mask


Estimator = Literal["plain", "split", "cross"]
"""How conflict is told from sampling noise: not at all, or by two halves, with a floor (``split``) or without."""

Moments = dict[tuple[int, int], torch.Tensor]
"""Second moments by domain and half."""


def half_of(step: int, estimator: Estimator) -> int:
    """Says which half a step belongs to: its parity, or 0 where all steps are one sample."""
    return 0 if estimator == "plain" else step % 2


def parse_place(text: str) -> tuple[int, int]:
    """Reads ``DOMAIN.HALF``, as it stands in the names of a state."""
    domain, _, half = text.partition(".")
    return int(domain), int(half or 0)


def stack_halves(moments: Moments) -> torch.Tensor:
    """Lays out moments for `direction_filter`.

    Args:
        moments: By domain and half, (d, d) each.

    Returns:
        (2, K, d, d) where at least two domains have both halves (the others are left out), or else (K, d, d).
    """
    domains = sorted({domain for domain, _ in moments})
    both = [domain for domain in domains if (domain, 0) in moments and (domain, 1) in moments]
    if len(both) > 1:
        return torch.stack([torch.stack([moments[domain, half] for domain in both]) for half in (0, 1)])
    return torch.stack([moments[(domain, 0) if (domain, 0) in moments else (domain, 1)] for domain in domains])


class InputConflict:
    """Running second moments of each layer's per-domain gradients over its inputs, and the filters made of them.

    It keeps K + 1 matrices (d_in, d_in) for each layer, or 2 K + 1. The two eigenvalue decompositions of a filter are
    the costly part, so a filter serves for several steps.

    Args:
        decay: beta of the running averages, in [0, 1).
        refresh: For how many steps a filter serves; the first five each have their own.
        shrinkage: See `direction_filter`.
        estimator: Whether even and odd steps are kept apart, as the two halves of `direction_filter`; each half forgets
            at the rate `decay` with its own steps.
    """

    def __init__(self, decay: float, refresh: int = 10, shrinkage: float = 0.1, estimator: Estimator = "plain") -> None:
        self.decay = decay
        self.refresh = refresh
        self.shrinkage = shrinkage
        self.estimator = estimator
        self._moments: dict[str, Moments] = {}
        self._filters: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._steps: dict[str, int] = {}

    def add(self, name: str, domain: int, gradient: torch.Tensor) -> None:
        """Adds one domain's gradient of one step.

        Args:
            name: The layer.
            domain: The domain's id.
            gradient: G_d, (d_out, d_in); it is not modified.
        """
        known = self._moments.setdefault(name, {})
        key = domain, half_of(self._steps.get(name, 0), self.estimator)
        if key not in known or self.decay == 0.0:
            known[key] = gradient.T @ gradient
        else:
            kept = known[key].to(gradient)  # a loaded checkpoint may lie on another device
            known[key] = torch.addmm(kept, gradient.T, gradient, beta=self.decay, alpha=1.0 - self.decay)

    def filter(self, name: str, tau: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a layer's filter, once a step, after the step's gradients were added.

        Args:
            name: The layer.
            tau: The temperature.

        Returns:
            P (d_in, d_in) and the mask's eigenvalues (d_in,).
        """
        step = self._steps.get(name, 0)
        self._steps[name] = step + 1
        moments = self._moments[name]
        if name not in self._filters or step < _EARLY_STEPS or step % self.refresh == 0:
            self._filters[name] = direction_filter(
                stack_halves(moments), tau, self.shrinkage, floor=self.estimator == "split"
            )
        like = next(iter(moments.values()))
        matrix, mask = self._filters[name]
        return matrix.to(like), mask.to(like)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns moments, filters and step counts as named tensors."""
        state = {
            f"moment/{domain}.{half}/{name}": tensor
            for name, known in self._moments.items()
            for (domain, half), tensor in known.items()
        }
        for name, (matrix, mask) in self._filters.items():
            state |= {f"filter/0/{name}": matrix, f"mask/0/{name}": mask}
        state |= {f"steps/0/{name}": torch.tensor(steps) for name, steps in self._steps.items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self._moments, self._filters, self._steps = {}, {}, {}
        for key, tensor in state.items():
            kind, place, name = key.split("/", 2)
            if kind == "moment":
                self._moments.setdefault(name, {})[parse_place(place)] = tensor.clone()
            elif kind == "filter":
                self._filters[name] = tensor.clone(), state[f"mask/0/{name}"].clone()
            elif kind == "steps":
                self._steps[name] = int(tensor)
