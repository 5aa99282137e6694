"""Running averages of the domain moments over optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from isodistill.gradients.buckets import Segments, views
from isodistill.gradients.mask import DomainMoments


class RunningMoments:
    """Bias-corrected exponential moving averages of mean and variance, one pair for each named tensor.

    EMA_t = beta EMA_{t-1} + (1 - beta) x_t, divided by 1 - beta^t (Kingma & Ba, arXiv 1412.6980, section 3).
    With beta = 0 nothing is stored. Many small tensors are averaged in one operation when they come side by side
    (`advance`).

    Args:
        decay: beta, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._mean: dict[str, torch.Tensor] = {}
        self._variance: dict[str, torch.Tensor] = {}
        self._steps: dict[str, int] = {}
        # The names averaged together, and their averages side by side; the tensors above are views of these.
        self._flat: dict[tuple[str, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def update(self, name: str, moments: DomainMoments) -> DomainMoments:
        """Adds one step's moments of one tensor and returns the corrected averages.

        Args:
            name: The tensor's name.
            moments: This step's moments, any shape; they are not modified.

        Returns:
            The bias-corrected averages, the same shape; not to be modified.
        """
        averages, correction = self.advance((name,), (tuple(moments.mean.shape),), moments)
        if isinstance(correction, float) and correction == 1.0:
            return averages
        return DomainMoments(averages.mean / correction, averages.variance / correction)

    def advance(
        self, names: Sequence[str], shapes: Sequence[tuple[int, ...]], moments: DomainMoments
    ) -> tuple[DomainMoments, float | torch.Tensor]:
        """Adds one step's moments of several tensors and returns the averages before their correction.

        Args:
            names: The tensors' names.
            shapes: Their shapes.
            moments: This step's moments: (entries,), one tensor after another, or any shape for a single one; they are
                not modified.

        Returns:
            The averages, of the shape of `moments`, not to be modified, and what to divide them by: 1 - beta^t, or
            (entries,) where the tensors have seen different numbers of steps.
        """
        if self.decay == 0.0:
            return moments, 1.0
        mean, variance = self._joined(tuple(names), shapes, moments.mean)
        mean.lerp_(moments.mean.reshape(-1), 1.0 - self.decay)
        variance.lerp_(moments.variance.reshape(-1), 1.0 - self.decay)
        for name in names:
            self._steps[name] = self._steps.get(name, 0) + 1
        # 1 - beta^t is 1.0 to fp64 after some 350 steps at beta = 0.9.
        corrections = [1.0 - self.decay ** self._steps[name] for name in names]
        averages = DomainMoments(mean.view_as(moments.mean), variance.view_as(moments.variance))
        if len(set(corrections)) == 1:
            return averages, corrections[0]
        return averages, Segments([math.prod(shape) for shape in shapes]).spread(mean.new_tensor(corrections))

    def _joined(
        self, key: tuple[str, ...], shapes: Sequence[tuple[int, ...]], like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the flat averages of some names, which are laid out anew when other names come together."""
        pair = self._flat.get(key)
        # A loaded checkpoint may lie on another device.
        if pair is None or pair[0].device != like.device or pair[0].dtype != like.dtype:
            for other in [other for other in self._flat if not set(other).isdisjoint(key)]:
                del self._flat[other]
            pair = self._join(self._mean, key, shapes, like), self._join(self._variance, key, shapes, like)
            self._flat[key] = pair
        return pair

    @staticmethod
    def _join(
        averages: dict[str, torch.Tensor], key: tuple[str, ...], shapes: Sequence[tuple[int, ...]], like: torch.Tensor
    ) -> torch.Tensor:
        flat = torch.zeros(sum(math.prod(shape) for shape in shapes), dtype=like.dtype, device=like.device)
        for name, view in views(key, shapes, flat).items():
            if name in averages:
                view.copy_(averages[name])
            averages[name] = view
        return flat

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
        self._flat = {}
