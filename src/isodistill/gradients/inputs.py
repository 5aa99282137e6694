"""The conflict of directions: a mask in the basis in which the domains differ, not in that of the entries.

The entrywise mask sees a conflict only where a feature has entries of its own. Features are directions, and K domains
whose shortcuts lie along different directions of the input share every entry: their mean looks invariant. Here the unit
is a direction u of a layer's input, and its use by domain d is the energy ||G_d u||² that the domain's gradient has
along it. A direction that all domains use alike is kept; one that a single domain of K uses has conflict K - 1. Given
G_dᵀ, the same holds of the directions of the output.
Source: this project, see docs/method.md.
"""

from __future__ import annotations

import torch

_EARLY_STEPS = 5  # the averages move fast at first


def direction_filter(
    second_moments: torch.Tensor, tau: float, shrinkage: float = 0.1, size: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the linear filter that damps the input directions whose use varies across domains.

    With R_d the second moment of domain d's gradient over the inputs, scaled to the mean eigenvalue 1 and shrunk to
    the identity, R = mean_d R_d and W = R^-1/2::

        Z = mean_d (W R_d W - I)²        (positive semi-definite: a relative variance, now of directions)
        P = W exp(-tau Z) W^-1           Gt = Gbar P

    Args:
        second_moments: G_dᵀ G_d or its running average by domain, (K, d_in, d_in), symmetric; any scale.
        tau: The temperature, not negative; 0 gives the identity.
        shrinkage: What is added to each scaled R_d, times the identity: directions with less energy than that count as
            used alike.
        size: d_in where the moments are those of a subspace that holds about all of the energy: the mean eigenvalue
            is taken over all d_in directions.

    Returns:
        P (d_in, d_in), and the mask's eigenvalues (d_in,), each in (0, 1].
    """
    eye = torch.eye(second_moments.shape[-1], dtype=second_moments.dtype, device=second_moments.device)
    if tau == 0.0 or len(second_moments) < 2:
        return eye, torch.ones_like(eye[0])
    traces = second_moments.diagonal(dim1=1, dim2=2).sum(1).clamp_min(torch.finfo(second_moments.dtype).tiny)
    scaled = second_moments * ((size or len(eye)) / traces).view(-1, 1, 1) + shrinkage * eye
    values, vectors = torch.linalg.eigh(scaled.mean(0))
    roots = values.clamp_min(shrinkage / 2).sqrt()  # not less than the shrinkage but for round-off
    whitener = (vectors / roots) @ vectors.T
    unwhitener = (vectors * roots) @ vectors.T
    conflict = torch.zeros_like(eye)
    for each in scaled:
        excess = whitener @ each @ whitener - eye
        conflict.addmm_(excess, excess, alpha=1.0 / len(scaled))
    values, vectors = torch.linalg.eigh((conflict + conflict.T) / 2)
    mask = values.clamp_min(0.0).mul_(-tau).exp_().clamp_(min=torch.finfo(values.dtype).tiny)
    return whitener @ (vectors * mask) @ vectors.T @ unwhitener, mask


class InputConflict:
    """Running second moments of each layer's per-domain gradients over its inputs, and the filters made of them.

    It keeps K + 1 matrices (d_in, d_in) for each layer. The two eigenvalue decompositions of a filter are the costly
    part, so a filter serves for several steps.

    Args:
        decay: beta of the running averages, in [0, 1).
        refresh: For how many steps a filter serves; the first five each have their own.
        shrinkage: See `direction_filter`.
    """

    def __init__(self, decay: float, refresh: int = 10, shrinkage: float = 0.1) -> None:
        self.decay = decay
        self.refresh = refresh
        self.shrinkage = shrinkage
        self._moments: dict[str, dict[int, torch.Tensor]] = {}
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
        if domain not in known or self.decay == 0.0:
            known[domain] = gradient.T @ gradient
        else:
            kept = known[domain].to(gradient)  # a loaded checkpoint may lie on another device
            known[domain] = torch.addmm(kept, gradient.T, gradient, beta=self.decay, alpha=1.0 - self.decay)

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
            stacked = torch.stack([moments[domain] for domain in sorted(moments)])
            self._filters[name] = direction_filter(stacked, tau, self.shrinkage)
        like = next(iter(moments.values()))
        matrix, mask = self._filters[name]
        return matrix.to(like), mask.to(like)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns moments, filters and step counts as named tensors."""
        state = {f"moment/{d}/{name}": tensor for name, known in self._moments.items() for d, tensor in known.items()}
        for name, (matrix, mask) in self._filters.items():
            state |= {f"filter/0/{name}": matrix, f"mask/0/{name}": mask}
        state |= {f"steps/0/{name}": torch.tensor(steps) for name, steps in self._steps.items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        self._moments, self._filters, self._steps = {}, {}, {}
        for key, tensor in state.items():
            kind, domain, name = key.split("/", 2)
            if kind == "moment":
                self._moments.setdefault(name, {})[int(domain)] = tensor.clone()
            elif kind == "filter":
                self._filters[name] = tensor.clone(), state[f"mask/0/{name}"].clone()
            elif kind == "steps":
                self._steps[name] = int(tensor)
