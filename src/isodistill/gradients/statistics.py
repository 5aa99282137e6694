"""Running averages of the domain moments over optimizer steps."""

from __future__ import annotations

import torch

from isodistill.gradients.mask import DomainMoments
from isodistill.gradients.workspace import Workspace


class RunningMoments:
    """Bias-corrected exponential moving averages of mean and variance, one pair for each named tensor.

    EMA_t = beta EMA_{t-1} + (1 - beta) x_t, divided by 1 - beta^t (Kingma & Ba, arXiv 1412.6980, section 3).
    With beta = 0 nothing is stored.

    Args:
        decay: beta, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._mean: dict[str, torch.Tensor] = {}
        self._variance: dict[str, torch.Tensor] = {}
        self._steps: dict[str, int] = {}

    def update(self, name: str, moments: DomainMoments, workspace: Workspace | None = None) -> DomainMoments:
        """Adds one step's moments and returns the corrected averages.

        Args:
            name: The tensor's name.
            moments: This step's moments, any shape; they are not modified.
            workspace: Where the corrected averages are formed; they last until it is used again.

        Returns:
            The bias-corrected averages, the same shape; not to be modified.
        """
        if self.decay == 0.0:
            return moments
        if name not in self._mean:
            self._mean[name] = torch.zeros_like(moments.mean)
            self._variance[name] = torch.zeros_like(moments.variance)
            self._steps[name] = 0
        self._steps[name] += 1
        correction = 1.0 - self.decay ** self._steps[name]
        # A loaded checkpoint may lie on another device.
        mean = self._mean[name].to(moments.mean).lerp_(moments.mean, 1.0 - self.decay)
        variance = self._variance[name].to(moments.variance).lerp_(moments.variance, 1.0 - self.decay)
        self._mean[name], self._variance[name] = mean, variance
        if correction == 1.0:  # so it is, to fp64, after some 350 steps at beta = 0.9
            return DomainMoments(mean, variance)
        take = None if workspace is None else workspace.take
        shape = tuple(mean.shape)
        return DomainMoments(
            torch.div(mean, correction, out=None if take is None else take("average mean", shape, mean)),
            torch.div(variance, correction, out=None if take is None else take("average variance", shape, mean)),
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the averages and step counts as named tensors."""
        state = {f"mean/{name}": tensor for name, tensor in self._mean.items()}
        state |= {f"variance/{name}": tensor for name, tensor in self._variance.items()}
        state |= {f"steps/{name}": torch.tensor(steps) for name, steps in self._steps.items()}
        return state

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state_dict` returned."""
        fields: dict[str, dict[str, torch.Tensor]] = {"mean": {}, "variance": {}, "steps": {}}
        for key, tensor in state.items():
            kind, name = key.split("/", 1)
            fields[kind][name] = tensor
        self._mean = {name: tensor.clone() for name, tensor in fields["mean"].items()}
        self._variance = {name: tensor.clone() for name, tensor in fields["variance"].items()}
        self._steps = {name: int(tensor) for name, tensor in fields["steps"].items()}
